//! The gateway as a service of the seam.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use mcp_core::{BoxSeam, Error, ErrorKind, Request, Response};
use tower::ServiceExt;
use tower_service::Service;

use super::{core::Core, router::Router};
use crate::{catalogue::ListKind, upstream::Layers};

/// A gateway as a service of the seam, with its layers. Clones share it; it stays the same service whatever the graph is.
///
/// It is always ready. Once the gateway drains, new calls are refused with [`ErrorKind::Unavailable`].
#[derive(Clone)]
pub struct GatewayService(Arc<Shared>);

struct Shared {
    core: Arc<Core>,
    router: Router,
    /// The router inside the gateway's layers, if there are any.
    layered: ArcSwapOption<BoxSeam>,
}

impl GatewayService {
    pub(super) fn new(core: Arc<Core>, layers: &Layers) -> Self {
        let router = Router::new(Arc::clone(&core));
        let service = Self(Arc::new(Shared {
            core,
            router,
            layered: ArcSwapOption::empty(),
        }));
        service.put_layers(layers);
        service
    }

    /// Exchanges the layers around the router. Calls in flight finish in the old ones.
    pub(super) fn put_layers(&self, layers: &Layers) {
        let layered = match layers.is_empty() {
            true => None,
            false => {
                let router = self.0.router.clone();
                let router = BoxSeam::from_fn(move |request| router.clone().call(request));
                Some(Arc::new(layers.around(router)))
            }
        };
        self.0.layered.store(layered);
    }

    /// Puts what the catalogue knows about a tool into the request, for the layers around the router.
    fn annotated(&self, request: Request) -> Request {
        let Some(tool) = request.tool() else {
            return request;
        };
        let snapshot = self.0.core.snapshot_now(&request);
        match snapshot.find(ListKind::Tools, tool) {
            Some(entry) => request
                .with_annotations(entry.annotations)
                .with_schemas(Arc::clone(entry.schemas())),
            None => request,
        }
    }
}

impl Service<Request> for GatewayService {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits upstreams whose types have been erased.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if self.0.core.is_draining() && !request.is_notification() {
            return Box::pin(std::future::ready(Err(Error::new(
                ErrorKind::Unavailable,
                "the gateway is shutting down; call again on another connection",
            ))));
        }
        match &*self.0.layered.load() {
            None => self.0.router.clone().call(request),
            Some(layered) => {
                let layered = BoxSeam::clone(layered);
                Box::pin(layered.oneshot(self.annotated(request)))
            }
        }
    }
}

impl fmt::Debug for GatewayService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GatewayService")
    }
}
