//! Calls that their client can cancel by their id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::exchange::{Exchange, Step};
use crate::{Error, ErrorKind, Request, Seam, jsonrpc::Id};

/// The calls in progress of one session or connection.
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

    /// Notes a call. Fails for an id that another call in progress has, and where there are too many.
    pub(super) fn begin(self: &Arc<Self>, id: &Id) -> Result<Cancellation, Error> {
        let mut calls = self.lock();
        if calls.contains_key(id) {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "a request with this id is in progress",
            ));
        }
        if calls.len() >= self.most {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "too many requests are in progress; wait for an answer first",
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

    /// Cancels a call. An id that is not in progress is ignored, as the specification says.
    pub(super) fn cancel(&self, id: &Id) {
        if let Some(call) = self.lock().remove(id) {
            // An error says that the call is just over.
            let _ = call.send(());
        }
    }

    /// Cancels all calls.
    pub(super) fn clear(&self) {
        // Dropping a sender cancels.
        self.lock().clear();
    }
}

/// The place of a call among those in progress. Dropping it gives the place up.
pub(super) struct Cancellation {
    calls: Arc<Calls>,
    id: Id,
    cancelled: oneshot::Receiver<()>,
}

impl Cancellation {
    /// Runs a future unless the client cancels.
    pub(super) async fn unless<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Cancelled> {
        tokio::select! {
            biased;
            _ = &mut self.cancelled => Err(Cancelled),
            done = work => Ok(done),
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

/// A call in progress, which its client can cancel. Dropping it cancels it too.
pub(super) struct Call {
    exchange: Exchange,
    cancellation: Cancellation,
}

impl Call {
    /// Starts a call; its client can be asked back if `ask`.
    pub(super) fn start<S: Seam>(
        service: &S,
        request: Request,
        cancellation: Cancellation,
        ask: bool,
    ) -> Self {
        Self {
            exchange: Exchange::start(service, request, ask),
            cancellation,
        }
    }

    /// Returns the next step, the answer last.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn next(&mut self) -> Result<Step, Cancelled> {
        self.cancellation.unless(self.exchange.next()).await
    }
}
