use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use mcp_core::{
    Consent, Era, Error, ErrorKind, Json, Method, Notification, Request, Response, Seam,
    secret::Secret,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower::ServiceExt as _;
use tower_layer::Layer;
use tower_service::Service;

use crate::{oauth::Manager, seal::Sealer};

/// The key of our question among the input requests of a result.
const QUESTION: &str = "mcp-auth-consent";

/// What our request state begins with.
const OURS: &str = "mcpauth1.";

/// How many authorisations one call may ask for.
const ROUNDS: usize = 4;

/// Asks the user for an authorisation in the middle of a call, and continues with the call.
///
/// Put it outside all upstreams. A call that fails because the user has to authorise is answered, by the client's era:
///
/// 1. 2026-07-28 with URL elicitation: an `input_required` result that asks to open the consent page. The client's retry
///    waits for the authorisation, and then makes the call.
/// 2. A session whose client has URL elicitation: the question is put within the call, which waits and then continues;
///    the client is told that the elicitation is complete.
/// 3. Any other client: the error, with the address of the page in its message and its data.
#[derive(Clone)]
pub struct ConsentLayer {
    shared: Arc<Shared>,
}

struct Shared {
    manager: Manager,
    sealer: Sealer,
    patience: Duration,
}

impl ConsentLayer {
    /// Asks for what a manager's relations need. The key, of any length, signs what goes through the client and
    /// back: replicas need the same one.
    #[must_use]
    pub fn new(manager: Manager, key: &Secret) -> Self {
        let shared = Shared {
            manager,
            sealer: Sealer::new(key),
            patience: Duration::from_secs(300),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sets how long a call waits for the user. Default is 5 minutes; it never waits beyond its deadline.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        let shared = Shared {
            manager: self.shared.manager.clone(),
            sealer: self.shared.sealer.clone(),
            patience,
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl<S> Layer<S> for ConsentLayer {
    type Service = ConsentService<S>;

    fn layer(&self, inner: S) -> ConsentService<S> {
        ConsentService {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Applies a [`ConsentLayer`].
#[derive(Clone)]
pub struct ConsentService<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What goes through a client of revision 2026-07-28: which authorisation it is about, and what the call carried.
#[derive(Serialize, Deserialize)]
struct State {
    ticket: String,
    state: Option<String>,
    responses: Option<serde_json::Value>,
}

impl<S> ConsentService<S> {
    mcp_core::inner_service!();
}

impl<S: Seam> Service<Request> for ConsentService<S> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits users.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.is_notification() {
            return Box::pin(self.inner.call(request));
        }
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.answer(inner, request).await })
    }
}

/// Whether a client can be asked to open an address (`elicitation.url`, since 2025-11-25).
pub(super) fn can_open(request: &Request) -> bool {
    let capabilities = request.capabilities().as_json();
    capabilities
        .member("elicitation")
        .is_some_and(|own| own.member("url").is_some())
}

/// Whether results of a method may ask for input (revision 2026-07-28, multi round-trip requests).
fn may_ask(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "tools/call" | "prompts/get" | "resources/read"
    )
}

impl Shared {
    async fn answer<S: Seam>(&self, mut inner: S, request: Request) -> Result<Response, Error> {
        let mut request = match self.take_up(request).await? {
            Taken::Call(request) => request,
            Taken::AskAgain(consent, request) => return self.question(&consent, &request),
        };
        for _ in 0..ROUNDS {
            let answer = inner.call(request.clone()).await;
            let error = match answer {
                Err(error) if error.consent().is_some() => error,
                answer => return answer,
            };
            let Some(consent) = error.consent() else {
                return Err(error);
            };
            if !can_open(&request) || request.notifier().sent() > 0 {
                return Err(error);
            }
            if request.era() == Era::Stateless {
                return match may_ask(request.method()) {
                    true => self.question(consent, &request),
                    false => Err(error),
                };
            }
            request = match self.ask(consent, request).await {
                Ok(Some(request)) => request,
                Ok(None) => return Err(error),
                Err(other) => return Err(other),
            };
            inner.ready().await?;
        }
        Err(Error::new(
            ErrorKind::ConsentRequired,
            "the call needs more authorisations than can be asked for at once",
        ))
    }

    /// The signature binds our state to who calls and to what is called.
    fn binding(request: &Request) -> [Vec<u8>; 3] {
        [
            request.principal().partition().as_bytes().to_vec(),
            request.method().as_str().as_bytes().to_vec(),
            request.name().unwrap_or_default().as_bytes().to_vec(),
        ]
    }

    fn question(&self, consent: &Consent, request: &Request) -> Result<Response, Error> {
        let responses = request.param("inputResponses");
        let state = State {
            ticket: consent.id.to_string(),
            state: request
                .param("requestState")
                .and_then(|state| state.to_text()),
            responses: responses.and_then(|own| own.decode().ok()),
        };
        let text = serde_json::to_vec(&(&state, consent.url.as_str(), &*consent.message))
            .map_err(|error| Error::new(ErrorKind::Internal, "the state").with_source(error))?;
        let binding = Self::binding(request);
        let parts = [&text[..], &binding[0], &binding[1], &binding[2]];
        let sealed = format!(
            "{OURS}{}.{}",
            URL_SAFE_NO_PAD.encode(&text),
            self.sealer.sign("request-state", &parts)
        );
        let result = json!({
            "resultType": "input_required",
            "inputRequests": { QUESTION: {
                "method": "elicitation/create",
                "params": {
                    "mode": "url",
                    "message": &*consent.message,
                    "url": consent.url.as_str(),
                },
            }},
            "requestState": sealed,
        });
        Ok(Response::new(result.into()))
    }

    /// Continues with a call that we had answered with a question.
    async fn take_up(&self, mut request: Request) -> Result<Taken, Error> {
        let state = request.param("requestState").and_then(|own| own.to_text());
        let Some(sealed) = state.as_deref().and_then(|own| own.strip_prefix(OURS)) else {
            return Ok(Taken::Call(request));
        };
        let forged = || {
            Error::new(
                ErrorKind::InvalidParams,
                "`params.requestState` was not issued here",
            )
        };
        let (text, signature) = sealed.split_once('.').ok_or_else(forged)?;
        let text = URL_SAFE_NO_PAD.decode(text).map_err(|_| forged())?;
        let binding = Self::binding(&request);
        let parts = [&text[..], &binding[0], &binding[1], &binding[2]];
        if !self.sealer.fits("request-state", &parts, signature) {
            return Err(forged());
        }
        let (state, url, message): (State, url::Url, String) =
            serde_json::from_slice(&text).map_err(|_| forged())?;
        let action = request
            .param("inputResponses")
            .and_then(|own| own.member(QUESTION))
            .and_then(|own| own.member("action"))
            .and_then(|action| action.to_text());
        let params = request.params_mut();
        match &state.state {
            Some(inner) => params.set("requestState", Json::string(inner)),
            None => params.remove("requestState"),
        }
        match &state.responses {
            Some(inner) => params.set("inputResponses", Json::encode(inner)?),
            None => params.remove("inputResponses"),
        }
        let consent = Consent::new(&state.ticket, &message, url);
        match action.as_deref() {
            Some("accept") => match self.wait(&state.ticket, &request).await? {
                Some(true) => Ok(Taken::Call(request)),
                Some(false) => Err(refused()),
                None => Ok(Taken::AskAgain(consent, request)),
            },
            Some(_) => Err(refused()),
            None => Ok(Taken::AskAgain(consent, request)),
        }
    }

    /// Puts the question within the call; `None` if the client cannot be asked.
    async fn ask(&self, consent: &Consent, request: Request) -> Result<Option<Request>, Error> {
        let Some(asker) = request.asker() else {
            return Ok(None);
        };
        let params = json!({
            "mode": "url",
            "message": &*consent.message,
            "url": consent.url.as_str(),
            "elicitationId": &*consent.id,
        });
        let answer = asker
            .ask(Method::new("elicitation/create"), Some(params.into()))
            .await?;
        let action = answer.member("action").and_then(|action| action.to_text());
        if action.as_deref() != Some("accept") {
            return Err(refused());
        }
        match self.wait(&consent.id, &request).await? {
            Some(true) => {}
            Some(false) => return Err(refused()),
            None => return Err(Error::consent_required(consent.clone())),
        }
        let complete = json!({ "elicitationId": &*consent.id });
        let notification = Notification::new(Method::ELICITATION_COMPLETE, Some(complete.into()));
        // A client that does not listen any more has its answer all the same.
        let _ = request.notifier().notify(notification).await;
        Ok(Some(request))
    }

    /// Waits for what becomes of an authorisation; `None` if nothing does in time.
    async fn wait(&self, ticket: &str, request: &Request) -> Result<Option<bool>, Error> {
        let left = request.deadline().map(|deadline| {
            deadline
                .instant()
                .saturating_duration_since(tokio::time::Instant::now())
        });
        let longest = left.map_or(self.patience, |left| left.min(self.patience));
        Ok(self.manager.outcome(ticket, longest).await?)
    }
}

enum Taken {
    Call(Request),
    AskAgain(Consent, Request),
}

fn refused() -> Error {
    Error::new(
        ErrorKind::ConsentRequired,
        "the user did not authorise the access that this call needs",
    )
}

impl fmt::Debug for ConsentLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for ConsentService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
