//! Browser and captcha tools behind authentication, rate limit, budget and circuit breaker.
//!
//! Two rmcp servers in this process, each inside of layers of its own, behind one endpoint. [`build`] makes all of it.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request as HttpRequest, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use mcp_aggregate::{Bare, Gateway, Running, Upstream};
use mcp_browser::{
    BrowserConfig, BrowserLimits, BrowserService, BrowserTools, Capability, DriverConfig,
    OriginPolicy,
};
use mcp_captcha::{
    Captcha, CaptchaTools, Failover, Limits, Preference, Sites, Solver, Spending, Vendor,
    VendorClient,
};
use mcp_core::{
    Account, Amount, Principal, Request,
    front::http::HttpConfig,
    http_client::GuardedClient,
    secret::Secret,
    store::{Namespace, RedbStore, StateStore},
};
use mcp_ratelimit::{
    breaker::{Breaker, BreakerConfig, BreakerLayer},
    budget::{BudgetLayer, BudgetPlan, Period, StoreBudget},
    rate_limit::{KeyPart, Limit, Quota, RateLimitLayer},
    timeout::TimeoutLayer,
};

/// What the gateway is made of.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Node, the driver and the browser.
    pub driver: DriverConfig,
    /// Who may call: name and token.
    pub users: Vec<(String, Secret)>,
    /// Origins that may be reached; none for every public one.
    pub origins: Vec<String>,
    /// Origins on private addresses that may be reached.
    pub private_origins: Vec<String>,
    /// Origins whose captchas may be solved.
    pub captcha_sites: Vec<String>,
    /// Captcha services: vendor and key.
    pub captcha_keys: Vec<(Vendor, Secret)>,
    /// Where accounts are kept.
    pub state: PathBuf,
    /// How many calls of each tool a user may make in a minute.
    pub per_minute: u32,
    /// How many sessions a user may create in a day.
    pub sessions_per_day: u32,
    /// What a user may spend on captchas in a day.
    pub captcha_per_day: Amount,
}

impl Settings {
    /// Everything at its default but what has none.
    #[must_use]
    pub fn new(driver: DriverConfig, users: Vec<(String, Secret)>, state: PathBuf) -> Self {
        Self {
            driver,
            users,
            origins: Vec::new(),
            private_origins: Vec::new(),
            captcha_sites: Vec::new(),
            captcha_keys: Vec::new(),
            state,
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
    running: Running,
    browsers: BrowserService,
}

impl App {
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
/// A setting is malformed, something is not installed, or the file for accounts cannot be opened.
pub async fn build(settings: Settings) -> Result<App, Box<dyn Error>> {
    let store: Arc<dyn StateStore> = Arc::new(RedbStore::open(&settings.state).await?);
    let sites = Sites::only(settings.captcha_sites.iter().map(String::as_str))?;
    let captcha = captcha(&settings, &sites, &store)?;
    let browsers = BrowserService::new(browser_config(&settings)?)?;
    browsers.warm_up().await?;
    let tools = BrowserTools::new(browsers.clone())
        .with([Capability::Extract, Capability::Tabs, Capability::Logs])
        .with_captcha(captcha.clone(), sites);

    // The first layer is the outermost: who is over the rate does not spend budget, and what the budget refuses does
    // not count as a failure of the browser.
    let browser = Upstream::rmcp("browser", move || Ok(tools.clone()))?
        .layer(RateLimitLayer::new(rate(&settings)?))
        .layer(BudgetLayer::new(
            session_budget(&settings, &store)?,
            session_cost,
        ))
        .layer(BreakerLayer::new(Breaker::new(
            "browser",
            BreakerConfig::default(),
        )))
        .layer(TimeoutLayer::new(Duration::from_secs(120)));
    let mut gateway = Gateway::builder("browser-gateway")
        .naming(Bare::default())
        .upstream(browser);
    if let Some(captcha) = captcha {
        let tools = CaptchaTools::new(captcha);
        let solver = Upstream::rmcp("captcha", move || Ok(tools.clone()))?
            .layer(RateLimitLayer::new(rate(&settings)?))
            .layer(BreakerLayer::new(Breaker::new(
                "captcha",
                BreakerConfig::default(),
            )))
            .layer(TimeoutLayer::new(Duration::from_secs(310)));
        gateway = gateway.upstream(solver);
    }
    let running = gateway.build()?.start();
    running.settled(Duration::from_secs(30)).await;
    let users = Arc::new(settings.users);
    let router = Router::new()
        .route_service("/mcp", running.http(HttpConfig::default()))
        .layer(from_fn_with_state(users, authenticate));
    Ok(App {
        router,
        running,
        browsers,
    })
}

fn browser_config(settings: &Settings) -> Result<BrowserConfig, Box<dyn Error>> {
    let origins = settings.origins.iter().map(String::as_str);
    let policy = match settings.origins.is_empty() {
        true => OriginPolicy::public(),
        false => OriginPolicy::only(origins)?,
    };
    let policy = policy.allow_private(settings.private_origins.iter().map(String::as_str))?;
    Ok(BrowserConfig::new(settings.driver.clone())
        .with_policy(policy)
        .with_limits(BrowserLimits::new().with_memory(4 << 30))
        .with_captcha_callbacks()
        .with_warm_contexts(1))
}

fn captcha(
    settings: &Settings,
    sites: &Sites,
    store: &Arc<dyn StateStore>,
) -> Result<Option<Captcha>, Box<dyn Error>> {
    if settings.captcha_keys.is_empty() {
        return Ok(None);
    }
    let http = Arc::new(GuardedClient::builder().build()?);
    let services = settings.captcha_keys.iter().map(|(vendor, key)| {
        Arc::new(VendorClient::new(
            *vendor,
            Arc::<GuardedClient>::clone(&http),
            key.clone(),
        )) as Arc<dyn Solver>
    });
    let solver = Failover::new(services.collect(), Preference::Price)?;
    let spending = Spending::new(Arc::clone(store), Namespace::new("captcha")?)
        .with_principal_limits(Limits::new().with_day(settings.captcha_per_day));
    Ok(Some(
        Captcha::new(Arc::new(solver))
            .with_sites(sites.clone())
            .with_spending(spending),
    ))
}

fn rate(settings: &Settings) -> Result<Limit, Box<dyn Error>> {
    let quota = Quota::per_minute(settings.per_minute)?;
    Ok(Limit::new("calls", quota).per([KeyPart::Principal, KeyPart::Tool]))
}

fn session_budget(
    settings: &Settings,
    store: &Arc<dyn StateStore>,
) -> Result<Arc<StoreBudget>, Box<dyn Error>> {
    let plan = BudgetPlan::new(Period::Day, Amount::units(settings.sessions_per_day));
    Ok(Arc::new(StoreBudget::new(
        Arc::clone(store),
        Namespace::new("sessions")?,
        plan,
    )))
}

/// A session costs one unit; what is done in it costs nothing.
fn session_cost(request: &Request) -> Option<(Account, Amount)> {
    let creates = request.tool() == Some("browser_create_session");
    creates.then(|| {
        (
            Account::new(request.principal().partition(), "sessions"),
            Amount::units(1),
        )
    })
}

/// Lets through who has a token (RFC 6750, section 2.1), as the principal whose it is.
async fn authenticate(
    State(users): State<Arc<Vec<(String, Secret)>>>,
    mut request: HttpRequest,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = given
        .and_then(|given| given.strip_prefix("Bearer "))
        .map(Secret::new);
    // Every token is compared, each in constant time: how long it takes does not tell which was close.
    let known = users
        .iter()
        .fold(None, |known, (name, secret)| match &token {
            Some(token) if token == secret => Some(name),
            _ => known,
        });
    let Some(name) = known else {
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            "a token is needed\n",
        )
            .into_response();
    };
    let principal = Principal::authenticated("browser-gateway", name);
    request.extensions_mut().insert(principal);
    next.run(request).await
}
