use std::convert::Infallible;

use tower::BoxError;

use super::{Error, ErrorKind};
use crate::JsonError;

impl From<BoxError> for Error {
    /// Lifts an error of ours out of a stock tower layer, or names what the layer did.
    fn from(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => foreign(error),
        }
    }
}

fn foreign(error: BoxError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return ours.clone();
        }
        if let Some(named) = name(error) {
            return named;
        }
        cause = error.source();
    }
    Error::new(
        ErrorKind::Internal,
        "a layer failed; see the log of the server",
    )
    .with_source(error)
}

/// Names the errors of tower's own layers.
fn name(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    use tower::{buffer::error::Closed, load_shed::error::Overloaded, timeout::error::Elapsed};

    if error.is::<Elapsed>() {
        return Some(Error::new(
            ErrorKind::Timeout,
            "the call took longer than it may; try again with less work in one call",
        ));
    }
    if error.is::<Overloaded>() {
        return Some(Error::new(
            ErrorKind::Overloaded,
            "too many calls are in flight; try again later",
        ));
    }
    error
        .is::<Closed>()
        .then(|| Error::new(ErrorKind::NotSent, "the service has been shut down"))
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<JsonError> for Error {
    /// Bad JSON in what a caller gave: kind [`ErrorKind::InvalidParams`].
    fn from(error: JsonError) -> Self {
        Self::new(ErrorKind::InvalidParams, error.to_string()).with_source(error)
    }
}
