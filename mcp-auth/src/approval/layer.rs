use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, Era, Error, ErrorClass, ErrorKind, Json, Method, Request,
    Response, Seam,
    clock::{SystemWallClock, WallClock},
    secret::Secret,
    store::{StateStore, StoreError},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ApprovalQueue,
    queue::{Turn, life},
    rule::{digest, may_destroy},
};
use crate::seal::Sealer;

/// The key of our request among the input requests of a result.
const INPUT: &str = "mcp-auth-approval";

/// What our request state begins with.
const OURS: &str = "mcpapproval1.";

/// How soon a caller may look again at the queue.
const AGAIN: Duration = Duration::from_secs(15);

type Rule = Arc<dyn Fn(&Request) -> bool + Send + Sync>;

/// Holds calls until a person approves exactly them. See the [module](super).
#[derive(Clone)]
pub struct ApprovalLayer {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    store: Arc<dyn StateStore>,
    sealer: Sealer,
    rule: Rule,
    ask_client: bool,
    queue: Option<ApprovalQueue>,
    audit: Option<Arc<dyn AuditSink>>,
    wall: Arc<dyn WallClock>,
}

impl ApprovalLayer {
    /// Asks clients about calls that may destroy something. The store remembers which approvals were used; the secret signs
    /// what goes through clients and back. Replicas need the same of both.
    #[must_use]
    pub fn new(store: Arc<dyn StateStore>, secret: &Secret) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                sealer: Sealer::new(secret),
                rule: Arc::new(may_destroy),
                ask_client: true,
                queue: None,
                audit: None,
                wall: Arc::new(SystemWallClock::new()),
            }),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }

    /// Chooses the calls of tools that need an approval. Default is those that may destroy something by their annotations.
    #[must_use]
    pub fn with_rule(self, rule: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.with(|own| own.rule = Arc::new(rule))
    }

    /// Has calls of clients that cannot be asked wait for an administrator. Default is to refuse them.
    #[must_use]
    pub fn with_queue(self, queue: ApprovalQueue) -> Self {
        self.with(|own| own.queue = Some(queue))
    }

    /// Requires an administrator's approval for all calls: callers cannot approve their own.
    #[must_use]
    pub fn by_administrator(self, queue: ApprovalQueue) -> Self {
        self.with(|own| {
            own.queue = Some(queue);
            own.ask_client = false;
        })
    }

    /// Records what was approved and refused. Default is not to.
    #[must_use]
    pub fn with_audit(self, sink: Arc<dyn AuditSink>) -> Self {
        self.with(|own| own.audit = Some(sink))
    }

    /// Uses another clock for dates.
    #[must_use]
    pub fn with_wall_clock(self, wall: Arc<dyn WallClock>) -> Self {
        self.with(|own| own.wall = wall)
    }
}

/// What goes through a client of revision 2026-07-28: which call it is about, and what the call carried.
#[derive(Serialize, Deserialize)]
struct Sealed {
    digest: [u8; 32],
    ends: u64,
    nonce: String,
    state: Option<String>,
    responses: Option<Value>,
}

/// Whether a call proceeds.
enum Verdict {
    Goes(Request),
    Ask(Response),
}

fn away(error: StoreError) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "approvals cannot be looked up now; try again later",
    )
    .with_source(error)
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::PermissionDenied, message)
}

/// Whether a client can be asked by a form (`elicitation`, with `form` or without any mode).
fn can_be_asked(request: &Request) -> bool {
    let capabilities = request.capabilities().as_json();
    capabilities
        .member("elicitation")
        .is_some_and(|own| own.member("form").is_some() || own.member("url").is_none())
}

/// How many characters of the arguments a form shows.
const SHOWN: usize = 2000;

fn form(request: &Request) -> Value {
    let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
    let mut shown: String = arguments.as_str().chars().take(SHOWN).collect();
    let rest = arguments.len() - shown.len();
    if rest > 0 {
        shown.push_str(&format!(
            " and {rest} more bytes, which are NOT shown here,"
        ));
    }
    let tool = request.tool().unwrap_or_default();
    json!({
        "mode": "form",
        "message": format!("Allow the call of {tool} with {shown}?"),
        "requestedSchema": {
            "type": "object",
            "properties": { "approve": {
                "type": "boolean", "title": "Allow this call once",
            }},
            "required": ["approve"],
        },
    })
}

/// Reads the answer to a form: whether the call was approved.
fn is_yes(answer: &Json) -> bool {
    let action = answer.member("action").and_then(|own| own.to_text());
    let approve = answer
        .member("content")
        .and_then(|own| own.member("approve"))
        .and_then(|own| own.decode::<bool>().ok());
    action.as_deref() == Some("accept") && approve == Some(true)
}

impl Shared {
    fn now(&self) -> u64 {
        let since = self.wall.now().duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }

    async fn judge(&self, request: Request) -> Result<Verdict, Error> {
        if !(self.rule)(&request) {
            return Ok(Verdict::Goes(request));
        }
        if !self.ask_client || !can_be_asked(&request) {
            return self.wait(request).await.map(Verdict::Goes);
        }
        if request.era() == Era::Stateless {
            return self.by_retry(request).await;
        }
        let Some(asker) = request.asker().cloned() else {
            return self.wait(request).await.map(Verdict::Goes);
        };
        let method = Method::new("elicitation/create");
        let answer = asker.ask(method, Some(form(&request).into())).await?;
        self.decided(&request, is_yes(&answer)).await?;
        Ok(Verdict::Goes(request))
    }

    /// Records a decision, and refuses what was not approved.
    async fn decided(&self, request: &Request, approved: bool) -> Result<(), Error> {
        self.record(request, approved).await?;
        match approved {
            true => Ok(()),
            false => Err(refused("the call was not approved; do not try it again")),
        }
    }

    async fn record(&self, request: &Request, approved: bool) -> Result<(), Error> {
        let outcome = match approved {
            true => AuditOutcome::Succeeded,
            false => AuditOutcome::Denied("not approved".into()),
        };
        if let Some(sink) = &self.audit {
            let who = request.principal().clone();
            let mut event = AuditEvent::new(self.wall.now(), who, "call.approval", outcome);
            event.request_id = request.request_id();
            event.target = request.tool().map(Into::into);
            event.upstream = request.upstream().cloned();
            event.digest = Some(digest(request));
            sink.record(&event).await?;
        }
        Ok(())
    }

    /// Has a call wait for an administrator.
    async fn wait(&self, request: Request) -> Result<Request, Error> {
        let Some(queue) = &self.queue else {
            return Err(refused(
                "this call needs a person's approval, and the client cannot be asked for it (elicitation)",
            ));
        };
        match queue.turn(&request).await.map_err(away)? {
            Turn::Goes => {
                self.decided(&request, true).await?;
                Ok(request)
            }
            Turn::Refused => {
                self.record(&request, false).await?;
                Err(refused("an administrator has refused this call"))
            }
            Turn::Waits => Err(refused(
                "this call waits for an administrator's approval; make the same call again later",
            )
            .with_class(ErrorClass::RateLimited)
            .with_retry_after(AGAIN)),
            Turn::NoRoom => Err(refused(
                "too many calls of yours wait for approval, or this one is too large to be shown",
            )),
        }
    }

    /// Asks by a result, or takes the answer that came with a retry.
    async fn by_retry(&self, mut request: Request) -> Result<Verdict, Error> {
        let state = request.param("requestState").and_then(|own| own.to_text());
        let Some(sealed) = state.as_deref().and_then(|own| own.strip_prefix(OURS)) else {
            return self.ask(&request).map(Verdict::Ask);
        };
        let sealed = self.unseal(&request, sealed)?;
        let answer = request
            .param("inputResponses")
            .and_then(|own| own.member(INPUT));
        let params = request.params_mut();
        match &sealed.state {
            Some(inner) => params.set("requestState", Json::string(inner)),
            None => params.remove("requestState"),
        }
        match &sealed.responses {
            Some(inner) => params.set("inputResponses", Json::from(inner.clone())),
            None => params.remove("inputResponses"),
        }
        let fits = sealed.digest == digest(&request) && self.now() < sealed.ends;
        let Some(answer) = answer.filter(|_| fits) else {
            // Another call, or too late: this one has to be approved itself.
            return self.ask(&request).map(Verdict::Ask);
        };
        let owner = request.principal().partition().to_string();
        let once = ApprovalQueue::use_once(&self.store, &owner, &sealed.nonce);
        if !once.await.map_err(away)? {
            return self.ask(&request).map(Verdict::Ask);
        }
        self.decided(&request, is_yes(&answer)).await?;
        Ok(Verdict::Goes(request))
    }

    fn ask(&self, request: &Request) -> Result<Response, Error> {
        let mut nonce = [0; 16];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut nonce);
        let sealed = Sealed {
            digest: digest(request),
            ends: self.now().saturating_add(life()),
            nonce: URL_SAFE_NO_PAD.encode(nonce),
            state: request.param("requestState").and_then(|own| own.to_text()),
            responses: request
                .param("inputResponses")
                .and_then(|own| own.decode().ok()),
        };
        let text = serde_json::to_vec(&sealed)
            .map_err(|error| Error::new(ErrorKind::Internal, "the state").with_source(error))?;
        let owner = request.principal().partition();
        let signature = self.sealer.sign("approval", &[&text, owner.as_bytes()]);
        let state = format!("{OURS}{}.{signature}", URL_SAFE_NO_PAD.encode(&text));
        let result = json!({
            "resultType": "input_required",
            "inputRequests": { INPUT: {
                "method": "elicitation/create",
                "params": form(request),
            }},
            "requestState": state,
        });
        Ok(Response::new(result.into()))
    }

    fn unseal(&self, request: &Request, sealed: &str) -> Result<Sealed, Error> {
        let forged = || {
            Error::new(
                ErrorKind::InvalidParams,
                "`params.requestState` was not issued here",
            )
        };
        let (text, signature) = sealed.split_once('.').ok_or_else(forged)?;
        let text = URL_SAFE_NO_PAD.decode(text).map_err(|_| forged())?;
        let owner = request.principal().partition();
        let parts = [&text[..], owner.as_bytes()];
        if !self.sealer.fits("approval", &parts, signature) {
            return Err(forged());
        }
        serde_json::from_slice(&text).map_err(|_| forged())
    }
}

impl<S> Layer<S> for ApprovalLayer {
    type Service = Approval<S>;

    fn layer(&self, inner: S) -> Approval<S> {
        Approval {
            inner,
            layer: self.clone(),
        }
    }
}

/// Applies an [`ApprovalLayer`].
#[derive(Clone, Debug)]
pub struct Approval<S> {
    inner: S,
    layer: ApprovalLayer,
}

impl<S> Approval<S> {
    mcp_core::inner_service!();
}

impl<S: Seam> Service<Request> for Approval<S> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits persons and stores.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.tool().is_none() {
            return Box::pin(self.inner.call(request));
        }
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.layer.shared);
        Box::pin(async move {
            match shared.judge(request).await? {
                Verdict::Goes(request) => inner.call(request).await,
                Verdict::Ask(answer) => Ok(answer),
            }
        })
    }
}

impl fmt::Debug for ApprovalLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApprovalLayer")
            .field("ask_client", &self.shared.ask_client)
            .field("queue", &self.shared.queue)
            .finish_non_exhaustive()
    }
}
