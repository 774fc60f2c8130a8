//! Calls that their client can cancel by their id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    exchange::{Exchange, Step},
    lifecycle::{self, InFlight},
};
use crate::{Error, ErrorKind, Request, Seam, jsonrpc::Id};

/// The calls in flight of one session or connection.
pub(super) struct Calls {
    most: usize,
    calls: Mutex<HashMap<Id, oneshot::Sender<()>>>,
}

impl Calls {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            calls: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, oneshot::Sender<()>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "http")]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Registers a call. Fails for an id that another call in flight has, and where there are too many.
    pub(super) fn begin(self: &Arc<Self>, id: &Id) -> Result<Cancellation, Error> {
        let mut calls = self.lock();
        if calls.contains_key(id) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "a request with this id is in flight",
            ));
        }
        if calls.len() >= self.most {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "too many requests are in flight; wait for an answer first",
            ));
        }
        let (cancel, cancelled) = oneshot::channel();
        calls.insert(id.clone(), cancel);
        drop(calls);
        Ok(Cancellation {
            calls: Arc::clone(self),
            id: id.clone(),
            cancelled,
        })
    }

    /// Cancels a call. An id that is not in flight is ignored, as the specification says.
    pub(super) fn cancel(&self, id: &Id) {
        if let Some(call) = self.lock().remove(id) {
            // An error says that the call is just over.
            let _ = call.send(());
        }
    }

    /// Ends all calls because their session has ended.
    pub(super) fn clear(&self) {
        // A sender that is dropped says so.
        self.lock().clear();
    }
}

/// The place of a call among those in flight. Dropping it gives the place up.
pub(super) struct Cancellation {
    calls: Arc<Calls>,
    id: Id,
    cancelled: oneshot::Receiver<()>,
}

impl Cancellation {
    /// Runs a future unless the client cancels or the session ends.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            cancelled = &mut self.cancelled => Err(match cancelled {
                Ok(()) => Stopped::Cancelled,
                Err(_) => Stopped::Closed,
            }),
            done = work => Ok(done),
        }
    }

    /// Runs what answers a call; `None` when the client cancels, which wants no answer.
    pub(super) async fn answer<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        match self.unless(work).await {
            Ok(answer) => Some(answer),
            Err(Stopped::Closed) => Some(Err(lifecycle::closed())),
            Err(Stopped::Cancelled) => None,
        }
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.id);
    }
}

/// The client has cancelled the call.
pub(super) struct Cancelled;

/// Why a call did not come to its end.
pub(super) enum Stopped {
    /// The client has cancelled it.
    Cancelled,
    /// Its session has ended.
    Closed,
}

/// A call in flight, which its client can cancel. Dropping it cancels it too.
pub(super) struct Call {
    exchange: Exchange,
    cancellation: Cancellation,
    in_flight: InFlight,
}

impl Call {
    /// Starts a call; its client can be asked back if `ask`.
    pub(super) fn start<S: Seam>(
        service: &S,
        request: Request,
        (cancellation, in_flight): (Cancellation, InFlight),
        ask: bool,
    ) -> Self {
        Self {
            exchange: Exchange::start_within(in_flight.lifecycle().stall(), service, request, ask),
            cancellation,
            in_flight,
        }
    }

    /// Returns the transport that the call counts for.
    pub(super) fn lifecycle(&self) -> &lifecycle::Lifecycle {
        self.in_flight.lifecycle()
    }

    /// Returns the next step, the answer last.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn next(&mut self) -> Result<Step, Cancelled> {
        match self.cancellation.unless(self.exchange.next()).await {
            Ok(step) => Ok(step),
            Err(Stopped::Closed) => Ok(Step::Answer(Err(lifecycle::closed()))),
            Err(Stopped::Cancelled) => Err(Cancelled),
        }
    }
}
