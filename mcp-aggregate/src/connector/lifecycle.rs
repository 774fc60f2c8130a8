//! Connectors as what a gateway starts and ends.

use std::time::Duration;

use async_trait::async_trait;
use mcp_core::{BoxSeam, Request};
use tokio::sync::watch;
use tower_service::Service;

use crate::{Lifecycle, LifecycleState};

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
            pub(crate) fn boxed(&self) -> BoxSeam {
                let connector = self.clone();
                BoxSeam::from_fn(move |request| connector.clone().call(request))
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
