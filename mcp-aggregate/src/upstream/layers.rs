//! Layers of a description: shared, applied as often as wanted, and known by an identity.

use std::{fmt, sync::Arc};

use mcp_core::{BoxSeam, IntoSeam, Seam};
use tower_layer::Layer;

use crate::digest::{Digester, Identity};

/// Layers in the order in which a call passes them.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<SharedLayer>);

#[derive(Clone)]
struct SharedLayer {
    identity: Identity,
    layer: Arc<dyn Layer<BoxSeam, Service = BoxSeam> + Send + Sync>,
}

impl Layers {
    /// Adds a layer inside those that are there.
    pub(crate) fn push<L>(&mut self, identity: Identity, layer: L)
    where
        L: Layer<BoxSeam> + Send + Sync + 'static,
        IntoSeam<L::Service>: Seam,
    {
        let layer = Arc::new(Erasing(layer));
        self.0.push(SharedLayer { identity, layer });
    }

    /// Puts the layers around a service. The first is the outermost.
    pub(crate) fn around(&self, service: BoxSeam) -> BoxSeam {
        let inside_out = self.0.iter().rev();
        inside_out.fold(service, |inner, shared| shared.layer.layer(inner))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn put_in(&self, digester: &mut Digester) {
        for shared in &self.0 {
            shared.identity.put_in(digester);
        }
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities = self.0.iter().map(|shared| &shared.identity);
        f.debug_list().entries(identities).finish()
    }
}

/// Erases the type of the service that a layer makes.
struct Erasing<L>(L);

impl<L> Layer<BoxSeam> for Erasing<L>
where
    L: Layer<BoxSeam>,
    IntoSeam<L::Service>: Seam,
{
    type Service = BoxSeam;

    fn layer(&self, inner: BoxSeam) -> BoxSeam {
        BoxSeam::new(IntoSeam::new(self.0.layer(inner)))
    }
}
