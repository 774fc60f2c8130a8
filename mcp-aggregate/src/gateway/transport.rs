//! The transports that a gateway owns.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

type Ending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A transport that is drained and closed with its gateway.
#[derive(Clone)]
pub(super) struct Transport {
    drain: Arc<dyn Fn(Duration) -> Ending<bool> + Send + Sync>,
    close: Arc<dyn Fn() -> Ending<()> + Send + Sync>,
}

impl Transport {
    #[cfg(feature = "http")]
    pub(super) fn http(
        transport: &mcp_core::transport::http::HttpTransport<super::GatewayService>,
    ) -> Self {
        let (draining, closing) = (transport.clone(), transport.clone());
        Self {
            drain: Arc::new(move |deadline| {
                let transport = draining.clone();
                Box::pin(async move { transport.drain(deadline).await })
            }),
            close: Arc::new(move || {
                let transport = closing.clone();
                Box::pin(async move { transport.close().await })
            }),
        }
    }

    pub(super) fn drain(&self, deadline: Duration) -> Ending<bool> {
        (self.drain)(deadline)
    }

    pub(super) fn close(&self) -> Ending<()> {
        (self.close)()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
