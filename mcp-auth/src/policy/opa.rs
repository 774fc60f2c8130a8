use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request as HttpRequest, header};
use mcp_core::{
    ConfigError, Error, ErrorKind, PolicyDecision, PolicyEngine, Principal, Request, Verdict,
    Visibility, http_client::HttpClient, secret::Secret,
};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{entries, kind_of};

/// The largest decision that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// How long a decision is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks an Open Policy Agent about every call, by its Data API (`POST /v1/data/{path}`).
///
/// `input` has `principal` (`kind`, `issuer`, `subject`, `tenant`, `scopes`, `actors`), `method`, `entries` (`kind`, `name`),
/// `arguments`, `upstream` and `annotations`. The result is `true` or `false`, or an object with `allow` and, if wanted, `rule`,
/// `reason` and `scopes` (which the credential lacks).
///
/// Whatever is no such result refuses the call, as do arguments that name a member twice: an undefined document, an agent that does not answer within 2 s, another
/// status. Lists are not asked about, since that would be a question for each entry: what is refused is listed all the same.
///
/// # Security
///
/// Arguments go to the agent. Use `https`, or an agent on this machine.
pub struct OpaEngine {
    http: Arc<dyn HttpClient>,
    url: Url,
    token: Option<Secret>,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Decision>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Decision {
    Plain(bool),
    Told {
        allow: bool,
        rule: Option<String>,
        reason: Option<String>,
        #[serde(default)]
        scopes: Vec<String>,
    },
}

impl OpaEngine {
    /// Asks an agent for the document at a path, for instance `mcp/allow`.
    ///
    /// # Errors
    ///
    /// The address is neither `https` nor on this machine.
    pub fn new(http: Arc<dyn HttpClient>, agent: &Url, path: &str) -> Result<Self, ConfigError> {
        let loopback = match agent.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if agent.scheme() != "https" && !(agent.scheme() == "http" && loopback) {
            return Err(ConfigError::new(
                "agent",
                agent.origin().ascii_serialization(),
                "give an https address, or an http one of this machine",
            ));
        }
        let mut url = agent.clone();
        let base = agent.path().trim_end_matches('/');
        url.set_path(&format!("{base}/v1/data/{}", path.trim_matches('/')));
        Ok(Self {
            http,
            url,
            token: None,
        })
    }

    /// Sends a bearer token. Default is none.
    #[must_use]
    pub fn with_token(mut self, token: Secret) -> Self {
        self.token = Some(token);
        self
    }

    async fn ask(&self, input: Value) -> Result<Decision, Error> {
        let away = |what: &'static str| Error::new(ErrorKind::Unavailable, what);
        let body = Bytes::from(json!({ "input": input }).to_string());
        let mut request = HttpRequest::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self
            .url
            .as_str()
            .parse()
            .map_err(|_| away("the policy agent cannot be asked"))?;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.secret()));
            let mut value =
                value.map_err(|_| away("the token of the policy agent is malformed"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let answer = async {
            let response = self.http.send(request).await?;
            let status = response.status();
            let body = response.into_body().collect(MAX_ANSWER).await?;
            Ok::<_, mcp_core::http_client::HttpError>((status, body))
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer =
            answer.map_err(|_| away("the policy agent does not answer; try again later"))?;
        let (status, body) = answer.map_err(|error| {
            away("the policy agent does not answer; try again later").with_source(error)
        })?;
        if !status.is_success() {
            tracing::warn!(%status, "the policy agent refuses to decide");
            return Err(away("the policy agent does not decide; try again later"));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            away("the policy agent answers something that is no decision").with_source(error)
        })?;
        Ok(answer.result.unwrap_or(Decision::Plain(false)))
    }
}

/// Describes a call; `None` for arguments that name a member twice: the server may read another of the two than the agent.
fn input(request: &Request) -> Option<Value> {
    let who = request.principal();
    let entries: Vec<_> = entries(request)
        .into_iter()
        .map(|(kind, name)| json!({ "kind": format!("{kind:?}").to_lowercase(), "name": name }))
        .collect();
    let arguments = match request.param("arguments") {
        Some(own) => Some(own.to_value().ok()?),
        None => None,
    };
    let hints = request.annotations();
    Some(json!({
        "principal": {
            "kind": kind_of(who), "issuer": who.issuer(), "subject": who.subject(), "tenant": who.tenant(),
            "scopes": who.scopes().collect::<Vec<_>>(), "actors": who.actors().collect::<Vec<_>>(),
        },
        "method": request.method().as_str(),
        "entries": entries,
        "arguments": arguments,
        "upstream": request.upstream().map(|own| own.as_str()),
        "annotations": hints.map(|own| json!({
            "readOnlyHint": own.read_only, "destructiveHint": own.destructive,
            "idempotentHint": own.idempotent, "openWorldHint": own.open_world,
        })),
    }))
}

#[async_trait]
impl PolicyEngine for OpaEngine {
    async fn decide(&self, request: &Request) -> Result<PolicyDecision, Error> {
        let short = |text: String| text.chars().take(500).collect::<String>();
        let verdict = |rule: Option<String>, reason: Option<String>, allow: bool| {
            let usual = match allow {
                true => "the policy agent allows this",
                false => "the policy agent refuses this",
            };
            let rule = rule.map_or("opa".to_owned(), |rule| format!("opa:{}", short(rule)));
            Verdict::new(rule, reason.map_or(usual.to_owned(), short))
        };
        let Some(input) = input(request) else {
            let reason = "the arguments name a member twice";
            return Ok(PolicyDecision::Deny(Verdict::new("opa:arguments", reason)));
        };
        Ok(match self.ask(input).await? {
            Decision::Plain(true) => PolicyDecision::Allow(verdict(None, None, true)),
            Decision::Plain(false) => PolicyDecision::Deny(verdict(None, None, false)),
            Decision::Told {
                allow,
                rule,
                reason,
                scopes,
            } => {
                let verdict = verdict(rule, reason, allow);
                match (allow, scopes.is_empty()) {
                    (true, _) => PolicyDecision::Allow(verdict),
                    (false, true) => PolicyDecision::Deny(verdict),
                    (false, false) => PolicyDecision::NeedScopes(verdict, scopes),
                }
            }
        })
    }

    fn visibility(&self, _: &Principal) -> Visibility {
        Visibility::all()
    }
}

impl fmt::Debug for OpaEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaEngine")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}
