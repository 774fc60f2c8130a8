//! The conformance fixture as an upstream that can be killed.

use std::{net::SocketAddr, time::Duration};

use conformance_server::{Fixture, FixtureOptions, HttpOptions, router};
use mcp_aggregate::{Bare, Gateway, Running, Upstream};
use tokio::runtime::Runtime;

/// A server whose connections and sessions are gone when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts a fixture at a free port.
    pub(crate) async fn fixture() -> Self {
        Self::fixture_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a fixture where another one was.
    pub(crate) async fn fixture_at(address: SocketAddr) -> Self {
        let fixture = Fixture::new(FixtureOptions::default());
        Self::serve(address, router(&fixture, &HttpOptions::default())).await
    }

    /// Serves an application at an address.
    pub(crate) async fn serve(address: SocketAddr, app: axum::Router) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.into_std().unwrap();
        // A runtime of its own: dropping it drops every connection.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, app).await
        });
        Self {
            address,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub(crate) fn upstream(&self, id: &str) -> Upstream {
        Upstream::http(id, &self.url())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts a gateway and waits until it knows its upstreams.
pub(crate) async fn start(upstreams: impl IntoIterator<Item = Upstream>) -> Running {
    settled(unsettled(upstreams)).await
}

/// Starts a gateway.
pub(crate) fn unsettled(upstreams: impl IntoIterator<Item = Upstream>) -> Running {
    let builder = upstreams
        .into_iter()
        .fold(Gateway::builder("gateway"), |gateway, upstream| {
            gateway.upstream(upstream)
        });
    builder.build().unwrap().start()
}

/// Starts a gateway that leaves names as they are.
pub(crate) async fn start_bare(upstream: Upstream) -> Running {
    let builder = Gateway::builder("gateway").upstream(upstream);
    settled(builder.naming(Bare).build().unwrap().start()).await
}

async fn settled(running: Running) -> Running {
    assert!(running.settled(Duration::from_secs(20)).await);
    running
}
