use std::{fmt, num::NonZeroU32, sync::Arc};

use axum::{
    Form, Router,
    extract::{Query, State},
    middleware,
    response::Response,
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mcp_core::{
    AuditEvent, AuditOutcome, AuditSink, ConfigError, Principal,
    clock::{SystemWallClock, WallClock},
    secret::Secret,
};
use serde::Deserialize;
use url::Url;

use super::{
    account,
    browser::{BrowserGuard, Standing},
    host::{check_host, hosts_of},
    pages::{self, Question},
};
use crate::{
    edge::AttemptLimitLayer,
    net,
    oauth::{Manager, OAuthError, Ticket, random},
    peer,
    seal::Sealer,
};

/// The pages and endpoints by which users authorise in their browsers.
///
/// | Path below the base | What it does |
/// |---|---|
/// | `GET /start?ticket=` | asks the user, who must be the one the ticket is for |
/// | `POST /start` | sends the browser to the authorization server |
/// | `GET /callback` | takes its answer, and shows that it worked or did not |
/// | `GET /login` | takes the answer of a login |
/// | `GET /connections` | lists the accounts of whoever has logged in |
/// | `POST /revoke` | disconnects an account |
/// | `GET /client.json` | the client metadata document, if there is one |
///
/// Requests whose `Host` is not that of the base are answered with 421. Every form carries a proof that is bound to the browser's cookie, and the answer of an authorization server is taken
/// only from the browser that was sent there. Pages have no script and cannot be framed.
#[derive(Clone)]
pub struct ConsentPages {
    shared: Arc<Shared>,
}

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) manager: Manager,
    pub(super) guard: Arc<dyn BrowserGuard>,
    sealer: Sealer,
    pub(super) base: Url,
    /// What `Host` may say.
    pub(super) hosts: Vec<String>,
    audit: Option<Arc<dyn AuditSink>>,
    attempts: AttemptLimitLayer,
    wall: Arc<dyn WallClock>,
}

/// How many requests a minute one address may send to the pages.
const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599);

impl ConsentPages {
    /// Serves pages at `base`, the address that browsers reach them at. The manager's redirect address must be
    /// `{base}/callback`. The key, of any length, signs forms: replicas need the same one.
    ///
    /// # Errors
    ///
    /// The two addresses do not fit together.
    pub fn new(
        manager: Manager,
        guard: Arc<dyn BrowserGuard>,
        base: Url,
        key: &Secret,
    ) -> Result<Self, ConfigError> {
        let expected = under(&base, "callback");
        if *manager.redirect() != expected {
            return Err(ConfigError::new(
                "redirect",
                net::shown(manager.redirect()),
                "give the manager the address of the consent pages with /callback",
            ));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                manager,
                guard,
                sealer: Sealer::new(key),
                hosts: hosts_of(&base),
                base,
                audit: None,
                attempts: AttemptLimitLayer::per_minute(ATTEMPTS, peer::address),
                wall: Arc::new(SystemWallClock::new()),
            }),
        })
    }

    /// Records who authorised and disconnected what, and attempts on behalf of others. Default is not to.
    #[must_use]
    pub fn with_audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        Arc::make_mut(&mut self.shared).audit = Some(sink);
        self
    }

    /// Limits how often one address may ask for pages in another way, for instance by a header that one's own proxy sets.
    /// Default is 600 requests a minute from one address, which is that of the connection, where the server tells it
    /// (`mcp_core::serve`, or axum's `into_make_service_with_connect_info`); requests without an address share one count.
    #[must_use]
    pub fn with_attempts(mut self, attempts: AttemptLimitLayer) -> Self {
        Arc::make_mut(&mut self.shared).attempts = attempts;
        self
    }

    /// Accepts another value of `Host`, such as `127.0.0.1:8080`, for a proxy that does not pass on the one that the
    /// browser sent. Default is the host of the base address alone.
    ///
    /// # Security
    ///
    /// Not a name that someone else could point at this server.
    #[must_use]
    pub fn with_host(mut self, host: &str) -> Self {
        Arc::make_mut(&mut self.shared)
            .hosts
            .push(host.to_ascii_lowercase());
        self
    }

    /// Returns the routes, below the path of the base address.
    pub fn router(&self) -> Router {
        let routes = Router::new()
            .route("/start", get(show).post(agree))
            .route("/callback", get(callback))
            .route("/login", get(login))
            .route("/connections", get(account::connections))
            .route("/revoke", post(account::revoke))
            .route("/client.json", get(account::client))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&self.shared),
                check_host,
            ))
            .layer(self.shared.attempts.clone())
            .with_state(Arc::clone(&self.shared));
        match self.shared.base.path().trim_end_matches('/') {
            "" => routes,
            path => Router::new().nest(path, routes),
        }
    }
}

fn under(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}

impl Shared {
    fn cookie_name(&self) -> &'static str {
        match self.base.scheme() {
            "https" => "__Host-mcp-consent",
            _ => "mcp-consent",
        }
    }

    /// Returns the browser's cookie, if it has one.
    pub(super) fn cookie(&self, headers: &HeaderMap) -> Option<Secret> {
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, value)| *name == self.cookie_name() && (20..=128).contains(&value.len()))
            .map(|(_, value)| Secret::new(value))
    }

    pub(super) fn set_cookie(&self, mut response: Response, cookie: &Secret) -> Response {
        let secure = if self.base.scheme() == "https" {
            "; Secure"
        } else {
            ""
        };
        let text = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Lax{secure}",
            self.cookie_name(),
            cookie.secret()
        );
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        response
    }

    pub(super) fn proof(&self, cookie: &Secret, about: &str) -> String {
        let parts = [cookie.secret().as_bytes(), about.as_bytes()];
        self.sealer.sign("consent-form", &parts)
    }

    /// Whether a form was sent by our own page in this browser.
    pub(super) fn is_own(
        &self,
        headers: &HeaderMap,
        cookie: &Secret,
        about: &str,
        proof: &str,
    ) -> bool {
        let site = headers.get("sec-fetch-site");
        let foreign = headers.get(header::ORIGIN).is_some_and(|origin| {
            let own = self.base.origin().ascii_serialization();
            // Browsers say `null` for pages that hide where they are, as extensions make ours do too: `Sec-Fetch-Site`,
            // which no page can set, tells them apart.
            let same = || site.is_some_and(|site| site.as_bytes() == b"same-origin");
            origin.as_bytes() != own.as_bytes() && !(origin.as_bytes() == b"null" && same())
        });
        let cross = site.is_some_and(|site| site.as_bytes() == b"cross-site");
        let parts = [cookie.secret().as_bytes(), about.as_bytes()];
        !foreign && !cross && self.sealer.fits("consent-form", &parts, proof)
    }

    async fn record(
        &self,
        who: &Principal,
        action: &'static str,
        target: &str,
        outcome: AuditOutcome,
    ) -> bool {
        let Some(sink) = &self.audit else {
            return true;
        };
        let mut event = AuditEvent::new(self.wall.now(), who.clone(), action, outcome);
        event.target = Some(target.into());
        match sink.record(&event).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, action, "a consent was not recorded");
                false
            }
        }
    }

    /// Makes sure that the browser is that of the user whom the ticket is for.
    async fn check(&self, cookie: &Secret, ticket: &Ticket, id: &str) -> Result<(), Response> {
        let wanted = ticket.owner.principal();
        match self.guard.standing(cookie, &wanted).await {
            Ok(Standing::Same) => Ok(()),
            Ok(Standing::Other) => {
                let outcome = AuditOutcome::Denied("another user's link".into());
                self.record(&wanted, "consent.open", &ticket.relation, outcome)
                    .await;
                Err(pages::problem(
                    StatusCode::FORBIDDEN,
                    "This link was made for somebody else. Ask for one of your own in your conversation.",
                ))
            }
            Ok(Standing::Unknown) => {
                let back = format!("start?ticket={id}");
                match self.guard.login(cookie, &back).await {
                    Ok(url) => Err(self.set_cookie(redirect(url.as_str()), cookie)),
                    Err(error) => Err(failed(&error)),
                }
            }
            Err(error) => Err(failed(&error)),
        }
    }

    fn question(&self, cookie: &Secret, ticket: &Ticket, id: &str) -> Response {
        let scopes = match self.manager.scopes_of(ticket) {
            Ok(scopes) => scopes,
            Err(error) => return failed(&error),
        };
        let who = ticket.owner.principal();
        let who = match who.subject() {
            "" => "the user of this machine",
            subject => subject,
        };
        pages::question(&Question {
            action: under(&self.base, "start").path(),
            ticket: id,
            proof: &self.proof(cookie, id),
            upstream: &ticket.relation,
            client: ticket.client.as_deref(),
            scopes: &scopes,
            who,
            returns_to: self.base.host_str().unwrap_or_default(),
        })
    }
}

pub(super) fn redirect(to: &str) -> Response {
    let Ok(value) = HeaderValue::try_from(to) else {
        return pages::problem(
            StatusCode::BAD_GATEWAY,
            "The address to go to is malformed.",
        );
    };
    let mut response = pages::page(StatusCode::SEE_OTHER, "Go on", "");
    response.headers_mut().insert(header::LOCATION, value);
    response
}

/// Says what went wrong, in our own words only: what the answer says may be anybody's.
pub(super) fn failed(error: &OAuthError) -> Response {
    tracing::info!(%error, "a consent failed");
    let (status, text) = match error {
        OAuthError::UnknownState => (
            StatusCode::BAD_REQUEST,
            "The link was used already, is too old, or was opened in another browser. Ask for a new one in your conversation.",
        ),
        OAuthError::MixedUp => (
            StatusCode::BAD_REQUEST,
            "The answer came from another place than you were sent to. Nothing was connected.",
        ),
        OAuthError::NotGiven { .. } => (
            StatusCode::FORBIDDEN,
            "The access was not given. Nothing was connected.",
        ),
        error if error.is_transient() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The other side does not answer now. Try again later.",
        ),
        _ => (
            StatusCode::BAD_GATEWAY,
            "The other side cannot be used safely, or refused. Nothing was connected.",
        ),
    };
    pages::problem(status, text)
}

pub(super) fn bad_form() -> Response {
    pages::problem(
        StatusCode::FORBIDDEN,
        "The form was not sent by this page in this browser. Open the link again.",
    )
}

#[derive(Deserialize)]
struct Start {
    ticket: Option<String>,
    provider: Option<String>,
}

async fn show(
    State(own): State<Arc<Shared>>,
    Query(query): Query<Start>,
    headers: HeaderMap,
) -> Response {
    let cookie = own
        .cookie(&headers)
        .unwrap_or_else(|| Secret::new(random(32)));
    let id = match (query.ticket, query.provider) {
        (Some(id), _) => id,
        (None, Some(provider)) => match begin_here(&own, &cookie, &provider).await {
            Ok(id) => id,
            Err(response) => return own.set_cookie(response, &cookie),
        },
        (None, None) => return failed(&OAuthError::UnknownState),
    };
    let ticket = match own.manager.look_at_ticket(&id).await {
        Ok(ticket) => ticket,
        Err(error) => return failed(&error),
    };
    let response = match own.check(&cookie, &ticket, &id).await {
        Ok(()) => own.question(&cookie, &ticket, &id),
        Err(response) => return response,
    };
    own.set_cookie(response, &cookie)
}

/// Writes a ticket for a user who begins in the browser.
async fn begin_here(own: &Shared, cookie: &Secret, provider: &str) -> Result<String, Response> {
    // Before a login, which would keep the text of the query.
    own.manager
        .relation(provider)
        .map_err(|error| failed(&error))?;
    let who = own
        .guard
        .who(cookie)
        .await
        .map_err(|error| failed(&error))?;
    let Some(who) = who else {
        let back = format!(
            "start?provider={}",
            url::form_urlencoded::byte_serialize(provider.as_bytes()).collect::<String>()
        );
        let url = own
            .guard
            .login(cookie, &back)
            .await
            .map_err(|error| failed(&error))?;
        return Err(redirect(url.as_str()));
    };
    own.manager
        .ticket(&who, provider, &[], None)
        .await
        .map_err(|error| failed(&error))
}

#[derive(Deserialize)]
struct Agreed {
    ticket: String,
    proof: String,
}

async fn agree(
    State(own): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<Agreed>,
) -> Response {
    let Some(cookie) = own.cookie(&headers) else {
        return bad_form();
    };
    if !own.is_own(&headers, &cookie, &form.ticket, &form.proof) {
        return bad_form();
    }
    let ticket = match own.manager.look_at_ticket(&form.ticket).await {
        Ok(ticket) => ticket,
        Err(error) => return failed(&error),
    };
    if let Err(response) = own.check(&cookie, &ticket, &form.ticket).await {
        return response;
    }
    let who = ticket.owner.principal();
    if !own
        .record(
            &who,
            "consent.agree",
            &ticket.relation,
            AuditOutcome::Succeeded,
        )
        .await
    {
        return pages::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be recorded now. Try again later.",
        );
    }
    match own.manager.begin(&form.ticket, Some(&cookie)).await {
        Ok(url) => redirect(url.as_str()),
        Err(error) => failed(&error),
    }
}

async fn callback(
    State(own): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let Some(cookie) = own.cookie(&headers) else {
        return failed(&OAuthError::UnknownState);
    };
    match own.manager.finish(&query, Some(&cookie)).await {
        Ok(done) => {
            let outcome = AuditOutcome::Succeeded;
            own.record(&done.principal, "consent.complete", &done.relation, outcome)
                .await;
            pages::success(&done.relation)
        }
        Err(error) => {
            let outcome = AuditOutcome::Denied("the answer was refused".into());
            own.record(&Principal::anonymous(), "consent.complete", "", outcome)
                .await;
            failed(&error)
        }
    }
}

async fn login(
    State(own): State<Arc<Shared>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let Some(cookie) = own.cookie(&headers) else {
        return failed(&OAuthError::UnknownState);
    };
    match own.guard.logged_in(&cookie, &query).await {
        // The way back was written here and begins below our own base: it leads nowhere else.
        Ok((cookie, back)) => {
            let to = format!("{}/{back}", own.base.path().trim_end_matches('/'));
            own.set_cookie(redirect(&to), &cookie)
        }
        Err(error) => failed(&error),
    }
}

impl fmt::Debug for ConsentPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsentPages")
            .field("base", &self.shared.base.as_str())
            .finish_non_exhaustive()
    }
}
