//! Browser and captcha tools behind authentication, rate limit, budget, circuit breaker and audit.
//!
//! Two rmcp servers in this process, each behind layers of its own, behind one endpoint that `mcp-auth` protects.
//! [`build`] makes all of it; everything that outlives the process is in one folder, a [`State`].

mod extras;
mod layers;
mod state;

use std::{error::Error, sync::Arc, time::Duration};

use axum::Router;
use mcp_aggregate::{Bare, Gateway, GatewayService, Running, Upstream};
use mcp_auth::{
    audit::AuditLayer,
    server::{JwtScheme, ResourceServer},
};
use mcp_browser::{
    BrowserConfig, BrowserLimits, BrowserService, BrowserTools, Capability, DriverConfig,
    Isolation, OriginPolicy, Secrets,
};
use mcp_captcha::{
    Captcha, CaptchaTools, Failover, Limits, Preference, Sites, Solver, Spending, Vendor,
    VendorClient,
};
use mcp_core::{
    Amount,
    http_client::GuardedClient,
    secret::Secret,
    store::Namespace,
    transport::http::{HttpConfig, HttpTransport},
};
use url::Url;

pub use self::{extras::Extra, state::State};

/// What can go wrong here.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the gateway is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Node, the driver and the browser.
    pub driver: DriverConfig,
    /// The address of the endpoint as clients know it, `https` or on this machine.
    pub url: Url,
    /// Also accepts tokens (JWT) of this issuer that are meant for the address above. Default is keys only.
    pub issuer: Option<String>,
    /// Origins that may be reached; none for every public one.
    pub origins: Vec<String>,
    /// Origins on private addresses that may be reached, beside the public ones.
    pub private_origins: Vec<String>,
    /// Origins that may be reached wherever their addresses are; where there are any, they and `origins` are all.
    pub allowed: Vec<String>,
    /// What is switched on beside the basic tools, extraction and logs.
    pub extras: Vec<Extra>,
    /// Secrets that sessions may type: name, and an origin where it may be typed.
    pub secrets: Vec<(String, String)>,
    /// Gives each user a browser process of their own. Default is one for all.
    pub browser_each: bool,
    /// Origins whose captchas may be solved.
    pub captcha_sites: Vec<String>,
    /// Captcha services: vendor and key.
    pub captcha_keys: Vec<(Vendor, Secret)>,
    /// How many calls of each tool a user may make in a minute. Default is 120.
    pub per_minute: u32,
    /// How many sessions a user may create in a day. Default is 200.
    pub sessions_per_day: u32,
    /// What a user may spend on captchas in a day. Default is one US dollar.
    pub captcha_per_day: Amount,
}

impl Settings {
    /// Everything at its default but what has none.
    #[must_use]
    pub fn new(driver: DriverConfig, url: Url) -> Self {
        Self {
            driver,
            url,
            issuer: None,
            origins: Vec::new(),
            private_origins: Vec::new(),
            allowed: Vec::new(),
            extras: Vec::new(),
            secrets: Vec::new(),
            browser_each: false,
            captcha_sites: Vec::new(),
            captcha_keys: Vec::new(),
            per_minute: 120,
            sessions_per_day: 200,
            captcha_per_day: Amount::units(1),
        }
    }
}

/// A gateway that has been built and started.
#[derive(Debug)]
#[non_exhaustive]
pub struct App {
    /// What to serve.
    pub router: Router,
    /// What is drained first when the program stops.
    pub transport: HttpTransport<GatewayService>,
    running: Running,
    browsers: BrowserService,
}

impl App {
    /// What a transport of its own is put in front of. Without the layers that authenticate, the caller is the one who
    /// started the program.
    #[must_use]
    pub fn service(&self) -> GatewayService {
        self.running.service()
    }

    /// Closes sessions, browsers and the gateway.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
        self.browsers.shutdown().await;
    }
}

/// Builds and starts the gateway. The driver is started, too, so that what is missing is known at once.
///
/// # Errors
///
/// A setting is malformed, or something is not installed.
pub async fn build(settings: Settings, state: &State) -> Outcome<App> {
    let sites = Sites::only(settings.captcha_sites.iter().map(String::as_str))?;
    let captcha = captcha(&settings, &sites, state)?;
    let browsers = BrowserService::new(browser_config(&settings, state)?)?;
    browsers.warm_up().await?;
    let running = gateway(&settings, state, &browsers, captcha, sites)?;
    running.settled(Duration::from_secs(30)).await;
    let mut config = HttpConfig::default();
    if let Some(host) = settings.url.host_str() {
        config = config.with_allowed_host(host)?;
    }
    let auth = authentication(&settings, state)?;
    let transport = running.http(config);
    let router = Router::new()
        .route_service("/mcp", transport.clone())
        .layer(auth.layer());
    Ok(App {
        router,
        transport,
        running,
        browsers,
    })
}

/// Who calls: by a key of this gateway, or a token of an issuer.
fn authentication(settings: &Settings, state: &State) -> Outcome<ResourceServer> {
    // The document has to name an issuer (RFC 9728, and MCP's authorization). With keys alone that is the gateway,
    // which issues them on its command line.
    let own = settings.url.origin().ascii_serialization();
    let mut auth = ResourceServer::builder(settings.url.as_str())
        .authorization_server(settings.issuer.as_deref().unwrap_or(&own))
        .scheme(state.scheme()?)
        .audit(state.audit.clone());
    if let Some(issuer) = &settings.issuer {
        let http = Arc::new(GuardedClient::builder().build()?);
        auth = auth.scheme(JwtScheme::new(issuer, settings.url.as_str(), http));
    }
    Ok(auth.build()?)
}

fn gateway(
    settings: &Settings,
    state: &State,
    browsers: &BrowserService,
    captcha: Option<Captcha>,
    sites: Sites,
) -> Outcome<Running> {
    let basic = [Capability::Extract, Capability::Logs].into_iter();
    let extras = settings
        .extras
        .iter()
        .filter_map(|extra| extra.capability());
    let tools = BrowserTools::new(browsers.clone())
        .with(basic.chain(extras))
        .with_captcha(captcha.clone(), sites);
    // The first layer is the outermost: who is over the rate does not spend budget, and what the budget refuses does
    // not count as a failure of the browser.
    let browser = Upstream::rmcp("browser", move || Ok(tools.clone()))
        .layer(layers::rate(settings.per_minute)?)
        .layer(layers::sessions(&state.store, settings.sessions_per_day)?)
        .layer(layers::browser_breaker())
        .layer(layers::timeout(120));
    let mut gateway = Gateway::builder("browser-gateway")
        .naming(Bare)
        .layer(AuditLayer::new(state.audit.clone()))
        .upstream(browser);
    if let Some(captcha) = captcha {
        let tools = CaptchaTools::new(captcha);
        let solver = Upstream::rmcp("captcha", move || Ok(tools.clone()))
            .layer(layers::rate(settings.per_minute)?)
            .layer(layers::captcha_breaker())
            .layer(layers::timeout(310));
        gateway = gateway.upstream(solver);
    }
    Ok(gateway.build()?.start())
}

fn browser_config(settings: &Settings, state: &State) -> Outcome<BrowserConfig> {
    let both = |list: &'_ [String]| {
        let all = list.iter().chain(&settings.allowed);
        all.cloned().collect::<Vec<_>>()
    };
    let origins = both(&settings.origins);
    let policy = match origins.is_empty() {
        true => OriginPolicy::public(),
        false => OriginPolicy::only(origins.iter().map(String::as_str))?,
    };
    let private = both(&settings.private_origins);
    let policy = policy.allow_private(private.iter().map(String::as_str))?;
    let mut secrets = Secrets::new(state.vault.clone(), state::secrets()?);
    for (name, _) in &settings.secrets {
        let origins = settings.secrets.iter().filter(|(other, _)| other == name);
        secrets = secrets.grant(name, origins.map(|(_, origin)| origin.as_str()))?;
    }
    let isolation = match settings.browser_each {
        true => Isolation::PerPrincipal,
        false => Isolation::Shared,
    };
    let config = BrowserConfig::new(settings.driver.clone());
    Ok(extras::apply(config, &settings.extras, state)?
        .with_policy(policy)
        .with_isolation(isolation)
        .with_limits(BrowserLimits::new().with_memory(4 << 30))
        .with_secrets(secrets)
        .with_audit(state.audit.clone())
        .with_captcha_callbacks()
        .with_warm_contexts(1))
}

fn captcha(settings: &Settings, sites: &Sites, state: &State) -> Outcome<Option<Captcha>> {
    if settings.captcha_keys.is_empty() {
        return Ok(None);
    }
    let http = Arc::new(GuardedClient::builder().build()?);
    let services = settings.captcha_keys.iter().map(|(vendor, key)| {
        let client = VendorClient::new(*vendor, Arc::<GuardedClient>::clone(&http), key.clone());
        Arc::new(client) as Arc<dyn Solver>
    });
    let solver = Failover::new(services.collect(), Preference::Price)?;
    let spending = Spending::new(Arc::clone(&state.store), Namespace::new("captcha")?)
        .with_principal_limits(Limits::new().with_day(settings.captcha_per_day));
    Ok(Some(
        Captcha::new(Arc::new(solver))
            .with_sites(sites.clone())
            .with_spending(spending)
            .with_audit(state.audit.clone()),
    ))
}
