//! One gateway, four servers, four ways to be authorised, two users whose tokens never meet.
//!
//! Everything is real but the people: a certified authorization server, four servers that accept tokens for themselves
//! only, the gateway with its consent pages, and browsers that agree to everything.

mod upstream;
mod witness;

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, routing::get};
use client_driver::{Client, browser::Browser};
use mcp_aggregate::{Gateway, Running, Upstream as Member};
use mcp_auth::{
    consent::{AuthenticateLayer, ConsentLayer, ConsentPages, OidcGuard, TOOL},
    oauth::{
        BypassAuth, Exchange, Manager, MasterOauth, OAuthClient, Provider, Relation, UserOauth,
    },
    server::{JwtScheme, ResourceServer},
    testing::AuthorizationServer,
    vault::{ValueKey, Vault},
};
use mcp_core::{
    CredentialProvider, Principal,
    http_client::{GuardedClient, HttpClient},
    secret::Secret,
    serve::Server,
    store::MemoryStore,
    transport::http::HttpConfig,
};
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

use self::witness::Witness;
pub use self::{
    upstream::{Print, Shown, Upstream, print},
    witness::Given,
};

/// What can go wrong here.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The upstreams, by the strategy that each has.
pub const STRATEGIES: [&str; 4] = ["bypass", "delegate", "master", "proxy"];

/// Everything at work.
#[derive(Debug)]
pub struct World {
    url: Url,
    /// The servers behind the gateway, by strategy.
    pub upstreams: BTreeMap<&'static str, Upstream>,
    running: Running,
    given: Arc<Mutex<Given>>,
    /// Logs users in, as any client of the gateway does.
    login: Manager,
    _authorization: AuthorizationServer,
}

fn gw() -> OAuthClient {
    OAuthClient::with_secret("gw", Secret::new("gw-secret"))
}

async fn vault(key: &str) -> Outcome<Vault> {
    let key = ValueKey::new(Secret::new(format!("{key:-<32}")));
    Ok(Vault::open(Arc::new(MemoryStore::default()), &key).await?)
}

impl World {
    /// Starts everything on free ports.
    ///
    /// # Errors
    ///
    /// Something does not start.
    ///
    /// # Panics
    ///
    /// If the packages of the authorization server are not installed.
    pub async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin: Url = format!("http://{}", listener.local_addr()?).parse()?;
        let at = |path: &str| origin.join(path);
        let redirects = ["/oauth/callback", "/oauth/login", "/client"];
        let redirects: Vec<_> = redirects.into_iter().map(at).collect::<Result<_, _>>()?;
        let redirects: Vec<_> = redirects.iter().map(Url::as_str).collect();
        let server = AuthorizationServer::start(&redirects, 300, "").await;
        let issuer = server.issuer();
        let http: Arc<dyn HttpClient> =
            Arc::new(GuardedClient::builder().insecure_allow_loopback().build()?);
        let mut upstreams = BTreeMap::new();
        for name in STRATEGIES {
            let wants = (name != "bypass").then_some(&*issuer);
            upstreams.insert(name, Upstream::start(wants, Arc::clone(&http)).await?);
        }
        let url = at("/mcp")?;
        let base = at("/oauth")?;
        let store = vault("gateway").await?;
        let manager = manager(&upstreams, &issuer, &base, &http, &store)?;
        let given = Arc::default();
        let running = gateway(&upstreams, &manager, &issuer, &base, &given)?;
        let guard = OidcGuard::new(&issuer, gw(), &base, Arc::clone(&http), store)?;
        let pages = ConsentPages::new(manager, Arc::new(guard), base, &Secret::new("signs forms"))?;
        let auth = ResourceServer::builder(url.as_str())
            .authorization_server(&issuer)
            .scheme(JwtScheme::new(&issuer, url.as_str(), Arc::clone(&http)))
            .build()?;
        let app = Router::new()
            .route_service("/mcp", running.http(HttpConfig::default()))
            .layer(auth.layer())
            .merge(auth.router())
            .merge(pages.router())
            .route("/client", get(|| async { "logged in" }));
        tokio::spawn(Server::new(listener).serve(app, std::future::pending()));
        let relation = Relation::provider("gateway", Provider::oidc(&issuer), gw())
            .with_scopes(["mcp:read", "mcp:write"])
            .with_resource(url.as_str());
        let login = Manager::builder(at("/client")?, http, vault("client").await?)
            .relation(relation)
            .build()?;
        Ok(Self {
            url,
            upstreams,
            running,
            given,
            login,
            _authorization: server,
        })
    }

    /// Logs a user in, connects their accounts, and asks every server who it thinks that the user is.
    ///
    /// # Errors
    ///
    /// Something on the way fails.
    pub async fn ask_as(&self, user: &str, version: &str) -> Outcome<BTreeMap<String, String>> {
        let token = self.token_of(user).await?;
        let known = Some((user, token.secret()));
        let mut client = Client::open_as(self.url.as_str(), version, true, known).await?;
        for provider in ["delegate", "proxy"] {
            let tools = client.list("tools/list", "tools").await?;
            let arguments = json!({ "provider": provider });
            let connected = client.call_tool(&tools, TOOL, arguments).await;
            connected.map_err(|error| format!("connecting {provider}: {error}"))?;
        }
        let tools = client.list("tools/list", "tools").await?;
        let mut answers = BTreeMap::new();
        for name in STRATEGIES {
            let tool = format!("{name}__whoami");
            let answer = client.call_tool(&tools, &tool, json!({})).await;
            let answer = answer.map_err(|error| format!("{name}: {error}"))?;
            let text = answer["content"][0]["text"].as_str().unwrap_or_default();
            answers.insert(name.to_owned(), text.to_owned());
        }
        client.close().await;
        Ok(answers)
    }

    /// Returns the token that a user's client has for the gateway.
    ///
    /// # Errors
    ///
    /// The login fails.
    pub async fn token_of(&self, user: &str) -> Outcome<Secret> {
        let who = Principal::authenticated("client", user);
        if let Some(token) = self.login.token(&who, "gateway").await? {
            return Ok(token);
        }
        let ticket = self.login.ticket(&who, "gateway", &[], None).await?;
        let url = self.login.begin(&ticket, None).await?;
        let page = Browser::new(user)?.visit(url.as_str()).await?;
        let answer: Vec<_> = page.url.query_pairs().into_owned().collect();
        self.login.finish(&answer, None).await?;
        let token = self.login.token(&who, "gateway").await?;
        token.ok_or_else(|| "the login brought no token".into())
    }

    /// Returns the address of the gateway's endpoint.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns for whom the gateway gave out each token, up to now.
    #[must_use]
    pub fn given(&self) -> Given {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.clone()
    }

    /// Stops the gateway.
    pub async fn stop(self) {
        self.running.shutdown().await;
    }
}

fn manager(
    upstreams: &BTreeMap<&'static str, Upstream>,
    issuer: &str,
    base: &Url,
    http: &Arc<dyn HttpClient>,
    vault: &Vault,
) -> Outcome<Manager> {
    let delegate = Relation::provider("delegate", Provider::oidc(issuer), gw())
        .with_scopes(["mcp:read"])
        .with_resource(upstreams["delegate"].url.as_str());
    let proxy = Relation::mcp("proxy", upstreams["proxy"].url.clone());
    let redirect = base.join("/oauth/callback")?;
    let manager = Manager::builder(redirect, Arc::clone(http), vault.clone())
        .relation(delegate)
        .relation(proxy)
        .build()?;
    Ok(manager)
}

fn gateway(
    upstreams: &BTreeMap<&'static str, Upstream>,
    manager: &Manager,
    issuer: &str,
    base: &Url,
    given: &Arc<Mutex<Given>>,
) -> Outcome<Running> {
    let mut builder = Gateway::builder("mixed");
    for (name, upstream) in upstreams {
        let url = upstream.url.as_str();
        let credentials: Arc<dyn CredentialProvider> = match *name {
            "bypass" => Arc::new(BypassAuth::none()),
            "master" => Arc::new(MasterOauth::exchange(
                manager.clone(),
                issuer,
                gw(),
                Exchange::for_resource(url).with_scopes(["mcp:read"]),
            )),
            "delegate" => Arc::new(UserOauth::delegate(manager.clone(), name, base.clone())),
            _ => Arc::new(UserOauth::proxy(manager.clone(), name, base.clone())),
        };
        let witness = Arc::new(Witness::new(credentials, given));
        builder = builder.upstream(Member::http(name, url).credentials(witness));
    }
    let consent = ConsentLayer::new(manager.clone(), &Secret::new("signs questions"));
    let gateway = builder
        .layer(consent.with_patience(Duration::from_secs(20)))
        .layer(AuthenticateLayer::new(manager.clone(), base.clone()))
        .build()?;
    Ok(gateway.start())
}
