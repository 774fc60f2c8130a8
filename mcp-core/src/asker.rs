use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{Error, Json, Method, Notifier};

/// Puts a request to the client of the very call that it belongs to: sampling, elicitation, roots.
///
/// Present only on calls of session-era clients. The server-initiated request travels in order with the notifications of the
/// call. Dropping the future withdraws the request: the client gets `notifications/cancelled`.
#[derive(Clone)]
pub struct Asker(Arc<dyn Ask>);

/// How a server-initiated request reaches the client. A layer implements it to see or refuse server-initiated requests.
#[async_trait]
pub trait Ask: Send + Sync + 'static {
    /// Sends a request and awaits the result.
    ///
    /// # Errors
    ///
    /// The client's own JSON-RPC error as it was sent, or why there is no answer.
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error>;
}

impl Asker {
    /// Wraps an implementation.
    pub fn new(ask: impl Ask) -> Self {
        Self(Arc::new(ask))
    }

    /// Sends a request to the client and awaits the result.
    ///
    /// # Errors
    ///
    /// The client's own JSON-RPC error as it was sent, or why there is no answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request.
    pub async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        self.0.ask(method, params).await
    }
}

#[async_trait]
impl Ask for Notifier {
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        self.server_request(method, params).await
    }
}

impl From<Notifier> for Asker {
    /// Sends server-initiated requests through the sink of the call's notifications.
    fn from(notifier: Notifier) -> Self {
        Self::new(notifier)
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}
