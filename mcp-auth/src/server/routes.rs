use axum::{
    Router,
    body::{Body, Bytes},
    routing::any,
};
use http::{Request, Response};

use super::{ResourceServer, layer::document};

impl ResourceServer {
    /// Returns routes for the metadata document (RFC 9728, section 3.1): at the root and under this server's path. Merge them
    /// into the router that the challenges lead to, outside of the layer.
    ///
    /// A router that is merged with others loses the layer around its fallback, and the document is 404 where no route has its
    /// path. Without an authorization server there is no document and no route.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use mcp_auth::server::{ApiKeyScheme, ApiKeys, MemoryApiKeys, ResourceServer};
    /// # let keys = ApiKeys::new("gw", mcp_core::secret::Secret::new("pepper"));
    /// # let scheme = ApiKeyScheme::new("keys", keys, Arc::new(MemoryApiKeys::default()));
    /// let auth = ResourceServer::builder("https://gw.example/mcp")
    ///     .authorization_server("https://as.example")
    ///     .scheme(scheme)
    ///     .build()?;
    /// let app: axum::Router = axum::Router::new()
    ///     // .route_service("/mcp", transport)
    ///     .layer(auth.layer())
    ///     .merge(auth.router());
    /// # let _ = app;
    /// # Ok::<(), mcp_core::ConfigError>(())
    /// ```
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mut paths = self.resource().paths().to_vec();
        paths.dedup();
        let mut router = Router::new();
        for path in paths {
            let server = self.clone();
            let answer = move |request: Request<Body>| async move {
                let document = document(server.resource(), &request);
                document
                    .unwrap_or_else(|| Response::new(Bytes::new()))
                    .map(Body::from)
            };
            router = router.route(&path, any(answer));
        }
        router
    }
}
