use std::io;

use axum::Router;
use mcp_core::{serve::Server, transport::http::HttpTransport};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::Outcome;

/// A gateway's endpoint as it is served.
pub(crate) struct Serving {
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// Serves the transport of `router`.
    pub(crate) fn start<S>(
        listener: TcpListener,
        router: Router,
        transport: HttpTransport<S>,
    ) -> Self
    where
        HttpTransport<S>: mcp_core::Drain + 'static,
    {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = Server::new(listener).with_part(transport);
        let task = tokio::spawn(server.serve(router, stopped));
        Self { stop, task }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) -> Outcome<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}
