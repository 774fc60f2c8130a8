use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use mcp_core::{Error, ErrorKind, PolicyDecision, PolicyEngine, Request, Response, Seam};
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

use super::{ambiguous, chain::replace};

/// What asks a client for scopes: the error with its challenge.
type Challenges = Arc<dyn Fn(&[String]) -> Error + Send + Sync>;

/// Applies a [`PolicyEngine`] to every call, and hides from lists what it refuses.
///
/// A refused call is answered with 403 and the rule and reason of the verdict. One that needs more scopes is answered with
/// what [`with_challenges`](PolicyLayer::with_challenges) makes of them. An engine that fails refuses the call.
///
/// Put it outside the router of a gateway: it then sees the names that clients see.
#[derive(Clone)]
pub struct PolicyLayer {
    engine: Arc<dyn PolicyEngine>,
    challenges: Option<Challenges>,
}

impl PolicyLayer {
    /// Applies an engine.
    #[must_use]
    pub fn new(engine: Arc<dyn PolicyEngine>) -> Self {
        Self {
            engine,
            challenges: None,
        }
    }

    /// Sets how a client is asked for more scopes:
    /// [`ProtectedResource::insufficient_scope`](crate::server::ProtectedResource::insufficient_scope) makes the error
    /// that the specification wants.
    #[must_use]
    pub fn with_challenges(
        mut self,
        challenge: impl Fn(&[String]) -> Error + Send + Sync + 'static,
    ) -> Self {
        self.challenges = Some(Arc::new(challenge));
        self
    }

    fn refuse(&self, decision: &PolicyDecision) -> Error {
        if let (PolicyDecision::NeedScopes(_, scopes), Some(challenge)) =
            (decision, &self.challenges)
        {
            return challenge(scopes);
        }
        let verdict = decision.verdict();
        let mut data = json!({ "kind": "permission_denied", "rule": verdict.rule() });
        if let PolicyDecision::NeedScopes(_, scopes) = decision {
            data["requiredScopes"] = json!(scopes);
        }
        Error::new(ErrorKind::PermissionDenied, verdict.reason().to_owned()).with_data(data.into())
    }
}

impl<S> Layer<S> for PolicyLayer {
    type Service = Policy<S>;

    fn layer(&self, inner: S) -> Policy<S> {
        Policy {
            inner,
            layer: self.clone(),
        }
    }
}

/// Applies a [`PolicyLayer`].
#[derive(Clone)]
pub struct Policy<S> {
    inner: S,
    layer: PolicyLayer,
}

impl<S> Policy<S> {
    mcp_core::inner_service!();
}

impl<S: Seam> Service<Request> for Policy<S> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits an engine whose type is not known.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            if let Some(refusal) = ambiguous(&request) {
                return Err(layer.refuse(&PolicyDecision::Deny(refusal)));
            }
            let decision = layer.engine.decide(&request).await?;
            let mut request = request;
            match decision {
                PolicyDecision::Allow(_) => {}
                PolicyDecision::Modify(_, params) => replace(&mut request, params)?,
                refusal => return Err(layer.refuse(&refusal)),
            }
            let own = layer.engine.visibility(request.principal());
            if !own.is_all() {
                let all = request.visibility().clone();
                request = request.with_visibility(all.and(move |entry| own.allows(entry)));
            }
            inner.call(request).await
        })
    }
}

impl fmt::Debug for PolicyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for Policy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
