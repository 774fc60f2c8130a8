//! The same behind a gateway that authorises at the server, in the way that a scenario is about.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::Router;
use mcp_aggregate::{Bare, Gateway, Upstream};
use mcp_auth::{
    consent::{AuthenticateLayer, ConsentLayer, ConsentPages, LinkGuard, TOOL},
    oauth::{
        AssertionKey, ClientAuth, EnterpriseIdp, Manager, ManagerBuilder, MasterOauth, OAuthClient,
        OAuthError, Provider, Relation, TokenSet, UserOauth, WorkloadIdentity, WorkloadTokenSource,
    },
    vault::{ValueKey, Vault},
};
use mcp_core::{
    CredentialProvider, Principal, http_client::GuardedClient, secret::Secret, store::MemoryStore,
    transport::http::HttpConfig,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

use crate::{Client, Outcome, Plan, Serving, Used, text, use_all};

/// The name of the server behind the gateway.
const SERVER: &str = "server";

/// The address that the suite expects a client to be named by.
const DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";

/// How a scenario wants the gateway to authorise.
enum Way {
    User,
    Own,
    Enterprise,
    Workload,
}

impl Way {
    fn of_scenario(scenario: &str) -> Self {
        match scenario {
            _ if scenario.contains("client-credentials") => Self::Own,
            _ if scenario.contains("enterprise-managed") => Self::Enterprise,
            _ if scenario.contains("wif-jwt-bearer") => Self::Workload,
            _ => Self::User,
        }
    }
}

/// The token that the suite issues to the workload that the gateway is.
struct Issued(Secret);

#[async_trait]
impl WorkloadTokenSource for Issued {
    async fn token(&self) -> Result<Secret, OAuthError> {
        Ok(self.0.clone())
    }
}

/// Starts a gateway that authorises at a server, and uses the server through it.
///
/// # Errors
///
/// The gateway does not start, or something that the server offers cannot be used.
pub async fn run(
    server: &str,
    version: &str,
    scenario: &str,
    context: &Value,
    plan: &Plan,
) -> Outcome<Used> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base: Url = format!("http://{}/oauth", listener.local_addr()?).parse()?;
    let http = Arc::new(GuardedClient::builder().insecure_allow_loopback().build()?);
    let key = ValueKey::new(Secret::new("a key for the time of one scenario"));
    let vault = Vault::open(Arc::new(MemoryStore::default()), &key).await?;
    let redirect = base.join("/oauth/callback")?;
    let builder = Manager::builder(redirect, http, vault).client_document(DOCUMENT.parse()?);
    let manager = relations(builder, server, scenario, context)?.build()?;
    let credentials = credentials(&manager, scenario, context, &base).await?;
    let running = Gateway::builder("driver")
        .upstream(Upstream::http(SERVER, server).credentials(credentials))
        .naming(Bare)
        .layer(
            ConsentLayer::new(manager.clone(), &Secret::new("signs everything here"))
                .with_patience(Duration::from_secs(10)),
        )
        .layer(AuthenticateLayer::new(manager.clone(), base.clone()))
        .build()?
        .start();
    let pages = ConsentPages::new(
        manager,
        Arc::new(LinkGuard::new()),
        base.clone(),
        &Secret::new("signs everything here"),
    )?;
    let transport = running.http(HttpConfig::default().single_user());
    let app = Router::new()
        .route_service("/mcp", transport.clone())
        .merge(pages.router());
    let serving = Serving::start(listener, app, transport);
    let url = base.join("/mcp")?;
    let used = async {
        let mut client = Client::open_with(url.as_str(), version, true).await?;
        let connected = connect(&mut client, &Way::of_scenario(scenario)).await;
        let used = match connected {
            Ok(()) => use_all(&mut client, plan).await,
            Err(error) => Err(error),
        };
        client.close().await;
        used
    }
    .await;
    serving.stop().await?;
    running.shutdown().await;
    used
}

/// Asks for the lists, and for an account to be connected as long as there are none.
async fn connect(client: &mut Client, way: &Way) -> Outcome<()> {
    for _ in 0..3 {
        let tools = client.list("tools/list", "tools").await?;
        if tools.iter().any(|tool| tool["name"] != TOOL) {
            return Ok(());
        }
        if !matches!(way, Way::User) {
            return Err("the server lists no tools".into());
        }
        let arguments = json!({ "provider": SERVER });
        let result = client.call_tool(&tools, TOOL, arguments).await?;
        if result["isError"] == true {
            return Err(format!("not connected: {}", text(&result["content"][0], "text")).into());
        }
    }
    // A server may have nothing to offer but what it asks authorisation for.
    Ok(())
}

fn relations(
    builder: ManagerBuilder,
    server: &str,
    scenario: &str,
    context: &Value,
) -> Outcome<ManagerBuilder> {
    let mut relation = Relation::mcp(SERVER, server.parse()?);
    if let Some(client) = client_of(context)? {
        relation = relation.with_client_anywhere(client);
    }
    if scenario.contains("2025-03-26") {
        relation = relation.allow_2025_03_26();
    }
    let mut builder = builder.relation(relation);
    if let Some(issuer) = context["idp_issuer"].as_str() {
        let client = OAuthClient::public(&text(context, "idp_client_id"));
        builder = builder.relation(Relation::provider("login", Provider::oidc(issuer), client));
    }
    Ok(builder)
}

fn client_of(context: &Value) -> Outcome<Option<OAuthClient>> {
    let Some(id) = context["client_id"].as_str() else {
        return Ok(None);
    };
    let pem = context["private_key_pem"].as_str();
    let secret = context["client_secret"].as_str();
    let auth = match (pem, secret) {
        (Some(pem), _) => {
            let algorithm = text(context, "signing_algorithm");
            let key = AssertionKey::from_pem(&Secret::new(pem), &algorithm, None)?;
            ClientAuth::Assertion(Arc::new(key))
        }
        (None, Some(secret)) => ClientAuth::Basic(Secret::new(secret)),
        (None, None) => ClientAuth::None,
    };
    Ok(Some(OAuthClient::new(id, auth)))
}

async fn credentials(
    manager: &Manager,
    scenario: &str,
    context: &Value,
    base: &Url,
) -> Outcome<Arc<dyn CredentialProvider>> {
    let manager = manager.clone();
    Ok(match Way::of_scenario(scenario) {
        Way::User => Arc::new(UserOauth::proxy(manager, SERVER, base.clone())),
        Way::Own => Arc::new(MasterOauth::client_credentials(manager, SERVER, &[])),
        Way::Enterprise => {
            let issuer = text(context, "idp_issuer");
            let client = OAuthClient::public(&text(context, "idp_client_id"));
            let token = text(context, "idp_token_endpoint").parse()?;
            let login = TokenSet::new(Secret::new("not used"))
                .with_id(Secret::new(text(context, "idp_id_token")));
            let user = Principal::local();
            manager.import(&user, "login", &issuer, login).await?;
            let idp = EnterpriseIdp::new(&issuer, token, client);
            Arc::new(MasterOauth::enterprise(manager, SERVER, idp, "login"))
        }
        Way::Workload => {
            let identity = WorkloadIdentity::new(Issued(Secret::new(text(context, "valid_jwt"))));
            Arc::new(MasterOauth::workload(manager, SERVER, identity, &[]))
        }
    })
}
