//! Connectors as what a gateway starts and ends.

use std::time::Duration;

use async_trait::async_trait;
use mcp_core::{BoxSeam, Request, UpstreamId};
use tokio::sync::watch;
use tower_service::Service;
use tracing::Instrument;

use crate::{Lifecycle, LifecycleState, attempt};

/// The state of a connector: it runs until it is stopped.
#[derive(Debug)]
pub(super) struct State(watch::Sender<LifecycleState>);

impl Default for State {
    fn default() -> Self {
        Self(watch::Sender::new(LifecycleState::Running))
    }
}

impl State {
    pub(super) fn set(&self, state: LifecycleState) {
        self.0.send_replace(state);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<LifecycleState> {
        self.0.subscribe()
    }
}

macro_rules! lifecycle {
    ($connector:ty) => {
        impl $connector {
            /// Erases the type without another box: a call of a connector is boxed already.
            pub(crate) fn boxed(&self, upstream: &UpstreamId) -> BoxSeam {
                let (connector, upstream) = (self.clone(), upstream.clone());
                BoxSeam::from_fn(move |request| {
                    let span = attempt::span(upstream.as_str(), &request);
                    let call = connector.clone().call(request);
                    match span.is_disabled() {
                        true => call,
                        false => Box::pin(call.instrument(span)),
                    }
                })
            }
        }

        #[async_trait]
        impl Lifecycle for $connector {
            async fn drain(&self, _: Duration) {
                self.lifecycle_state().set(LifecycleState::Draining);
            }

            async fn stop(&self) {
                self.shutdown().await;
                self.lifecycle_state().set(LifecycleState::Stopped);
            }

            fn has_session(&self, request: &Request) -> bool {
                self.has_slot(request)
            }

            fn is_started(&self, request: &Request) -> bool {
                self.has_started(request)
            }

            fn state(&self) -> watch::Receiver<LifecycleState> {
                self.lifecycle_state().subscribe()
            }
        }
    };
}

#[cfg(feature = "http")]
lifecycle!(super::http::HttpConnector);
#[cfg(feature = "stdio")]
lifecycle!(super::stdio::StdioConnector);
