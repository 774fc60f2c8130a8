use std::{fmt, sync::Arc};

use async_trait::async_trait;
use mcp_core::{
    Error, Object, PolicyDecision, PolicyEngine, Principal, Request, Verdict, Visibility,
};

/// Has several engines decide, in order.
///
/// The first that does not allow ends it. An engine that lets a call continue with other parameters is a mutator: those that
/// follow see what it made of the call. An error of any engine refuses the call.
#[derive(Clone, Default)]
#[must_use]
pub struct PolicyChain {
    engines: Arc<Vec<(String, Arc<dyn PolicyEngine>)>>,
}

/// What one engine would decide.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The engine.
    pub engine: String,
    /// What it would decide; `None` where it reached no decision, which refuses the call.
    pub decision: Option<PolicyDecision>,
    /// Whether the call would get as far as this engine.
    pub reached: bool,
}

impl PolicyChain {
    /// Begins without engines: everything is allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an engine after those there are. The name is for explanations.
    pub fn then(mut self, name: &str, engine: Arc<dyn PolicyEngine>) -> Self {
        Arc::make_mut(&mut self.engines).push((name.to_owned(), engine));
        self
    }

    /// Says what every engine would decide about a call, without making it: those after a refusal too, as if the refusal
    /// had been an allowance.
    pub async fn explain(&self, principal: &Principal, request: &Request) -> Vec<Explanation> {
        let mut request = request.clone().with_principal(principal.clone());
        let mut reached = true;
        let mut all = Vec::with_capacity(self.engines.len());
        for (name, engine) in self.engines.iter() {
            let decision = engine.decide(&request).await.ok();
            if let Some(PolicyDecision::Modify(_, params)) = &decision {
                // What cannot be applied refuses the call; the rest is explained as it stands.
                let _ = replace(&mut request, params.clone());
            }
            let goes_on = decision.as_ref().is_some_and(PolicyDecision::allows);
            all.push(Explanation {
                engine: name.clone(),
                decision,
                reached,
            });
            reached &= goes_on;
        }
        all
    }
}

/// Puts other parameters into a call. What it acts on may not change.
pub(super) fn replace(request: &mut Request, params: mcp_core::Json) -> Result<(), Error> {
    let params = Object::try_from(params)?;
    let fresh = Request::from_object(request.method().clone(), Some(params.clone()))?;
    if fresh.name() != request.name() {
        return Err(Error::new(
            mcp_core::ErrorKind::Internal,
            "a policy may change the arguments of a call and not what is called",
        ));
    }
    *request.params_mut() = params;
    Ok(())
}

#[async_trait]
impl PolicyEngine for PolicyChain {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        let mut changed: Option<Request> = None;
        let mut last = Verdict::new("chain", "no engine objects");
        for (_, engine) in self.engines.iter() {
            match engine.decide(changed.as_ref().unwrap_or(request)).await? {
                PolicyDecision::Allow(verdict) => last = verdict,
                PolicyDecision::Modify(verdict, params) => {
                    let mut own = changed.take().unwrap_or_else(|| request.clone());
                    replace(&mut own, params)?;
                    changed = Some(own);
                    last = verdict;
                }
                refusal => return Ok(refusal),
            }
        }
        Ok(
            match changed.and_then(|own| own.params().map(Object::to_json)) {
                Some(params) => PolicyDecision::Modify(last, params),
                None => PolicyDecision::Allow(last),
            },
        )
    }

    fn visibility(&self, principal: &Principal) -> Visibility {
        self.engines
            .iter()
            .fold(Visibility::all(), |all, (_, engine)| {
                let own = engine.visibility(principal);
                match own.is_all() {
                    true => all,
                    false => all.and(move |entry| own.allows(entry)),
                }
            })
    }
}

impl fmt::Debug for PolicyChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.engines.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}
