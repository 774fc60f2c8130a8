use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use jsonschema::Validator;
use mcp_core::{Error, ErrorKind, Json, Request, Response, SchemaSource};
use pin_project_lite::pin_project;
use serde_json::Value;
use tower_layer::Layer;
use tower_service::Service;

use super::schema::{Compiled, SchemaProblem, Shelf};

/// How many faults one error names.
const MOST_FAULTS: usize = 5;
const MAX_FAULT: usize = 200;

/// Applies a [`Validate`].
#[must_use]
#[derive(Debug, Clone)]
pub struct ValidateLayer {
    source: Option<Arc<dyn SchemaSource>>,
    shelf: Arc<Shelf>,
    max_bytes: usize,
    max_depth: usize,
    results: bool,
}

impl ValidateLayer {
    /// Checks arguments and results by the schemas of a source, up to 1 MiB and 64 levels each.
    pub fn new(source: Arc<dyn SchemaSource>) -> Self {
        Self::by(Some(source))
    }

    /// Checks arguments and results by the schemas that each call carries ([`Request::schemas`]), as it does around
    /// `mcp_core::rmcp3::serve`. Calls that carry none pass.
    pub fn by_request() -> Self {
        Self::by(None)
    }

    fn by(source: Option<Arc<dyn SchemaSource>>) -> Self {
        Self {
            source,
            shelf: Arc::default(),
            max_bytes: 1024 * 1024,
            max_depth: 64,
            results: true,
        }
    }

    /// Bounds arguments in bytes. Default is 1 MiB; zero allows none.
    pub const fn with_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Bounds arguments in levels of arrays and objects. Default is 64; zero allows none.
    pub const fn with_max_depth(mut self, levels: usize) -> Self {
        self.max_depth = levels;
        self
    }

    /// Lets results pass unread.
    pub const fn without_results(mut self) -> Self {
        self.results = false;
        self
    }

    /// Lists the parts of schemas that check nothing because they cannot be used, of tools that have been called, by upstream
    /// and tool.
    #[must_use]
    pub fn problems(&self) -> Vec<SchemaProblem> {
        self.shelf.problems()
    }

    fn check_arguments(&self, request: &Request) -> Result<Option<Arc<Compiled>>, Error> {
        let Some(tool) = request.tool() else {
            return Ok(None);
        };
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        if arguments.len() > self.max_bytes {
            let message = format!(
                "the arguments of {tool} have {} bytes; at most {} are allowed",
                arguments.len(),
                self.max_bytes
            );
            return Err(Error::new(ErrorKind::InvalidParams, message));
        }
        if depth(arguments.as_bytes()) > self.max_depth {
            let message = format!(
                "the arguments of {tool} are nested too deeply; at most {} levels are allowed",
                self.max_depth
            );
            return Err(Error::new(ErrorKind::InvalidParams, message));
        }
        let compiled = self.shelf.get(self.source.as_deref(), request);
        if let Some(schema) = compiled
            .as_ref()
            .and_then(|compiled| compiled.input.as_ref())
        {
            let value = arguments.to_value().map_err(|error| {
                let message = format!("the arguments of {tool}: {error}");
                Error::new(ErrorKind::InvalidParams, message)
            })?;
            if let Some(faults) = faults(schema, &value) {
                let message = format!(
                    "the arguments of {tool} do not fit its schema: {}",
                    faults.join("; ")
                );
                let data = serde_json::json!({ "kind": ErrorKind::InvalidParams.name(), "tool": tool, "faults": faults });
                return Err(
                    Error::new(ErrorKind::InvalidParams, message).with_data(Json::from(data))
                );
            }
        }
        Ok(compiled.filter(|compiled| self.results && compiled.output.is_some()))
    }
}

/// The deepest level of arrays and objects in a valid JSON text.
fn depth(text: &[u8]) -> usize {
    let (mut level, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_text => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What is wrong with a value, where; `None` if nothing is.
fn faults(schema: &Validator, value: &Value) -> Option<Vec<String>> {
    if schema.is_valid(value) {
        return None;
    }
    let fault = |error: jsonschema::ValidationError<'_>| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() {
            "(whole)"
        } else {
            place.as_str()
        };
        format!("{place}: {error}")
            .chars()
            .take(MAX_FAULT)
            .collect()
    };
    Some(
        schema
            .iter_errors(value)
            .take(MOST_FAULTS)
            .map(fault)
            .collect(),
    )
}

fn check_result(compiled: &Compiled, response: &Response) -> Result<(), Error> {
    let (Some(schema), false) = (&compiled.output, response.is_tool_error()) else {
        return Ok(());
    };
    if *response.result_type() != mcp_core::ResultType::Complete {
        return Ok(());
    }
    let bad = |message: String| Err(Error::new(ErrorKind::BadUpstream, message));
    let Some(content) = response.result().member("structuredContent") else {
        return bad("the tool promised structured content and answered without".into());
    };
    match faults(schema, &content.decode()?) {
        None => Ok(()),
        Some(faults) => bad(format!(
            "the tool's result does not fit its own schema: {}",
            faults.join("; ")
        )),
    }
}

impl<S> Layer<S> for ValidateLayer {
    type Service = Validate<S>;

    fn layer(&self, inner: S) -> Validate<S> {
        Validate {
            inner,
            layer: self.clone(),
        }
    }
}

/// Checks arguments and results of tools.
#[derive(Debug, Clone)]
pub struct Validate<S> {
    inner: S,
    layer: ValidateLayer,
}

impl<S> Validate<S> {
    mcp_core::inner_service!();
}

impl<S> Service<Request> for Validate<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let state = match self.layer.check_arguments(&request) {
            Ok(compiled) => State::Forward {
                future: self.inner.call(request),
                compiled,
            },
            Err(error) => State::Refused { error: Some(error) },
        };
        ResponseFuture { state }
    }
}

pin_project! {
    /// The answer of a [`Validate`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // The arguments fit; the result is checked if there is something to check it against.
        Forward { #[pin] future: F, compiled: Option<Arc<Compiled>> },
        // The arguments do not fit.
        Refused { error: Option<Error> },
    }
}

impl<F: Future<Output = Result<Response, Error>>> Future for ResponseFuture<F> {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Forward { future, compiled } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(match compiled {
                    Some(compiled) => check_result(compiled, &response).map(|()| response),
                    None => Ok(response),
                })
            }
            StateProj::Refused { error } => {
                Poll::Ready(Err(error.take().expect("polled after it was ready")))
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("validate::ResponseFuture")
    }
}
