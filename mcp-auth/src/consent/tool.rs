use std::{
    fmt,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use mcp_core::{
    Consent, Entry, EntryKind, Era, Error, ErrorKind, Json, Method, Object, Request, Response, Seam,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_layer::Layer;
use tower_service::Service;
use url::Url;

use super::layer::can_open;
use crate::{
    oauth::{Manager, link},
    server::VerifiedIdentity,
};

/// The name of the tool.
pub const TOOL: &str = "oauth_authenticate";

/// Offers the tool `oauth_authenticate`, by which a model can have the user connect an account.
///
/// Put it inside a [`ConsentLayer`](super::ConsentLayer). A client that cannot be asked to open an address gets it as
/// the text of the result.
#[derive(Clone, Debug)]
pub struct AuthenticateLayer {
    manager: Manager,
    consent: Url,
}

impl AuthenticateLayer {
    /// Offers a manager's relations. `consent` is where the consent pages are.
    #[must_use]
    pub const fn new(manager: Manager, consent: Url) -> Self {
        Self { manager, consent }
    }

    fn describe(&self) -> Value {
        json!({
            "name": TOOL,
            "title": "Connect an account",
            "description": "Asks the user to connect an account of theirs, so that the tools of that provider work. \
                            Returns at once if it is connected already.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "provider": {
                        "type": "string",
                        "enum": self.manager.relations(),
                        "description": "Which account.",
                    },
                    "scopes": {
                        "type": "array",
                        "items": { "type": "string" },
                        "description": "Permissions beyond the usual ones.",
                    },
                },
                "required": ["provider"],
                "additionalProperties": false,
            },
            "annotations": { "readOnlyHint": false, "destructiveHint": false, "idempotentHint": true },
        })
    }

    async fn authenticate(&self, request: &Request) -> Result<Response, Error> {
        #[derive(Deserialize)]
        struct Arguments {
            provider: String,
            #[serde(default)]
            scopes: Vec<String>,
        }
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        let arguments: Arguments = arguments.decode().map_err(|error| {
            Error::new(
                ErrorKind::InvalidParams,
                "`provider` is missing or malformed",
            )
            .with_source(error)
        })?;
        let plain = |scope: &String| {
            !scope.is_empty()
                && scope
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"\"\\".contains(&b))
        };
        if self.manager.relation(&arguments.provider).is_err()
            || !arguments.scopes.iter().all(plain)
        {
            return Ok(text(
                "There is no such provider, or a scope is malformed.",
                true,
            ));
        }
        let principal = request.principal();
        let manager = &self.manager;
        if manager
            .covers(principal, &arguments.provider, &arguments.scopes)
            .await?
        {
            return Ok(text(
                &format!("{} is connected.", arguments.provider),
                false,
            ));
        }
        let identity = request.auth_context().get::<VerifiedIdentity>();
        let client = identity.and_then(|own| own.identity().client.as_deref());
        let id = manager
            .ticket(principal, &arguments.provider, &arguments.scopes, client)
            .await?;
        let url = link(&self.consent, &id);
        if can_open(request) {
            let message = format!("Connect {} to go on", arguments.provider);
            return Err(Error::consent_required(Consent::new(&id, &message, url)));
        }
        let hint = format!("Ask the user to open {url} in a browser, then call this tool again.");
        Ok(text(&hint, false))
    }

    /// Whether a list that wants a consent is answered with the tool that asks for it: lists cannot ask by themselves, and
    /// a client that cannot open an address would have nothing else to go by.
    fn stands_in_for(&self, error: &Error, request: &Request) -> bool {
        let can_be_asked = request.era() == Era::Session && can_open(request);
        error.consent().is_some() && !can_be_asked && !self.manager.relations().is_empty()
    }

    /// Adds the tool to the first page of a list.
    fn add(&self, answer: Response, request: &Request) -> Response {
        let hidden = !request
            .visibility()
            .allows(&Entry::new(EntryKind::Tool, TOOL));
        let first = request
            .param("cursor")
            .is_none_or(|cursor| cursor.is_null());
        if hidden || !first || self.manager.relations().is_empty() {
            return answer;
        }
        let Ok(mut page) = Object::try_from(answer.result().clone()) else {
            return answer;
        };
        let mut tools = page
            .get("tools")
            .map(|tools| tools.elements())
            .unwrap_or_default();
        tools.push(self.describe().into());
        let texts: Vec<_> = tools.iter().map(Json::as_str).collect();
        let Ok(list) = Json::parse(format!("[{}]", texts.join(","))) else {
            return answer;
        };
        page.set("tools", list);
        answer.with_result(page.to_json())
    }
}

/// A list without an entry, which is not to be kept: there will be more once the consent is given.
fn no_tools(era: Era) -> Response {
    let list = match era {
        Era::Session => json!({ "tools": [] }),
        Era::Stateless => {
            json!({ "resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private" })
        }
    };
    Response::new(list.into())
}

fn text(text: &str, is_error: bool) -> Response {
    let result = json!({
        "resultType": "complete",
        "content": [{ "type": "text", "text": text }],
        "isError": is_error,
    });
    Response::new(result.into())
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = Authenticate<S>;

    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate {
            inner,
            layer: self.clone(),
        }
    }
}

/// Applies an [`AuthenticateLayer`].
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    layer: AuthenticateLayer,
}

impl<S> Authenticate<S> {
    mcp_core::inner_service!();
}

impl<S: Seam> Service<Request> for Authenticate<S> {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits the vault.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let layer = self.layer.clone();
        if request.tool() == Some(TOOL) {
            return Box::pin(async move {
                // Hidden is as good as not there.
                match request
                    .visibility()
                    .allows(&Entry::new(EntryKind::Tool, TOOL))
                {
                    true => layer.authenticate(&request).await,
                    false => Err(Error::new(
                        ErrorKind::InvalidParams,
                        format!("unknown tool: {TOOL}"),
                    )),
                }
            });
        }
        if *request.method() == Method::TOOLS_LIST {
            let facts = request.clone();
            let answer = self.inner.call(request);
            return Box::pin(async move {
                match answer.await {
                    Ok(answer) => Ok(layer.add(answer, &facts)),
                    Err(error) if layer.stands_in_for(&error, &facts) => {
                        Ok(layer.add(no_tools(facts.era()), &facts))
                    }
                    Err(error) => Err(error),
                }
            });
        }
        Box::pin(self.inner.call(request))
    }
}

impl<S> fmt::Debug for Authenticate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").finish_non_exhaustive()
    }
}
