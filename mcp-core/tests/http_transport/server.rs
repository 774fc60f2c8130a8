//! A server for the tests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request as HttpRequest,
    middleware::{self, Next},
    response::Response as HttpResponse,
};
use mcp_core::{
    AuthContext, BoxSeam, Error, ErrorKind, Json, Method, Notification, Object, Principal, Request,
    Response,
    transport::http::{HttpConfig, HttpTransport, PeerAddr},
};
use serde_json::json;
use tokio::sync::{
    Mutex,
    mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tower::service_fn;

use crate::raw::Raw;

/// What the authentication layer knows about a caller.
#[derive(Clone, Copy)]
struct Fact(usize);

/// Says that a call was dropped.
struct Dropped(UnboundedSender<String>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped".to_owned());
    }
}

fn progress(request: &Request, done: u32) -> Notification {
    let mut params = Object::default();
    params.set(
        "progressToken",
        request.progress_token().unwrap_or(Json::NULL),
    );
    params.set("progress", Json::from(json!(done)));
    Notification::new(Method::PROGRESS, Some(params.to_json()))
}

/// Sends progress without an end.
async fn flood(request: &Request) -> Result<Response, Error> {
    let mut params = Object::default();
    params.set("progressToken", request.progress_token().unwrap());
    params.set("message", Json::string(&"x".repeat(64 << 10)));
    loop {
        let sent = Notification::new(Method::PROGRESS, Some(params.to_json()));
        request.notifier().notify(sent).await?;
    }
}

async fn tool(request: Request, events: UnboundedSender<String>) -> Result<Response, Error> {
    match request.tool().unwrap_or_default() {
        "progress" => {
            for done in 1..=3 {
                request.notifier().notify(progress(&request, done)).await?;
            }
            Ok(Response::parse(r#"{"content":[]}"#)?)
        }
        "slow" => {
            for done in 1..=3 {
                request.notifier().notify(progress(&request, done)).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let _ = events.send("finished".to_owned());
            Ok(Response::parse(r#"{"content":[]}"#)?)
        }
        "large" => {
            request.notifier().notify(progress(&request, 1)).await?;
            let text = "x".repeat(1 << 20);
            Ok(Response::new(json!({ "content": text }).into()))
        }
        "flood" => {
            let _dropped = Dropped(events);
            flood(&request).await
        }
        "wait" => {
            let _dropped = Dropped(events.clone());
            let _ = events.send("started".to_owned());
            request.notifier().notify(progress(&request, 0)).await?;
            std::future::pending().await
        }
        "ask" => {
            let asker = request.asker().ok_or_else(|| {
                Error::new(ErrorKind::MissingCapability, "the client cannot be asked")
            })?;
            Ok(Response::new(asker.ask(Method::ROOTS_LIST, None).await?))
        }
        "error" => {
            let error = request.param("arguments").unwrap();
            Err(Error::from_rpc(error))
        }
        "scopes" => {
            let scopes: Vec<_> = request.principal().scopes().collect();
            let fact = request.auth_context().get::<Fact>().map(|fact| fact.0);
            Ok(Response::new(
                json!({ "scopes": scopes, "fact": fact }).into(),
            ))
        }
        "limited" => Err(Error::new(ErrorKind::RateLimited, "too fast")
            .with_retry_after(Duration::from_millis(1_200))),
        _ => Ok(Response::new(
            request.param("arguments").unwrap_or(Json::NULL),
        )),
    }
}

async fn answer(request: Request, events: UnboundedSender<String>) -> Result<Response, Error> {
    if request.is_notification() {
        let _ = events.send(format!("notified {}", request.method()));
        return Ok(Response::empty());
    }
    match request.method().as_str() {
        "tools/call" => tool(request, events).await,
        "server/discover" => Ok(Response::parse(
            r#"{"capabilities":{"tools":{"listChanged":true}}}"#,
        )?),
        "tools/list" => {
            let who = request.principal();
            let who = format!("{:?} {}", who.kind(), who.subject());
            Ok(Response::new(Json::from(json!({ "who": who }))))
        }
        "vendor/params" => Ok(Response::new(request.params().unwrap().to_json())),
        "subscriptions/listen" => {
            let filter = request.param("notifications").unwrap_or(Json::NULL);
            let mut honoured = Object::default();
            honoured.set("notifications", filter);
            let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(honoured.to_json()));
            request.notifier().notify(acknowledged).await?;
            let changed = Notification::new(Method::TOOLS_CHANGED, None);
            request.notifier().notify(changed).await?;
            std::future::pending().await
        }
        method => Err(Error::new(
            ErrorKind::MethodNotFound,
            format!("{method} does not exist"),
        )),
    }
}

/// A transport at an address, whose clients say who they are.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) transport: HttpTransport<BoxSeam>,
    events: Arc<Mutex<UnboundedReceiver<String>>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(HttpConfig::default()).await
    }

    pub(crate) async fn with(config: HttpConfig) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let service = service_fn(move |request| answer(request, sender.clone()));
        let transport = HttpTransport::new(BoxSeam::new(service), config);
        let app = Router::new()
            .route_service("/mcp", transport.clone())
            .layer(middleware::from_fn(authenticate));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            transport,
            events: Arc::new(Mutex::new(events)),
        }
    }

    pub(crate) async fn event(&self) -> String {
        let mut events = self.events.lock().await;
        tokio::time::timeout(Duration::from_secs(5), events.recv())
            .await
            .expect("something happens")
            .unwrap()
    }

    /// Opens a session and returns its id.
    pub(crate) async fn open(&self, version: &str, user: Option<&str>) -> String {
        let mut raw = Raw::post(opening(version));
        if let Some(user) = user {
            raw = raw.with("x-user", user);
        }
        let reply = raw.send(self.address).await;
        assert_eq!(reply.json()["result"]["protocolVersion"], version);
        reply.header("mcp-session-id").unwrap().to_owned()
    }
}

/// The body of `initialize`.
pub(crate) fn opening(version: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
    )
}
async fn authenticate(mut request: HttpRequest, next: Next) -> HttpResponse {
    let peer = request.headers().get("x-peer");
    if let Some(peer) = peer.and_then(|peer| peer.to_str().ok()?.parse().ok()) {
        request.extensions_mut().insert(PeerAddr(peer));
    }
    let user = request.headers().get("x-user");
    if let Some(user) = user.and_then(|user| user.to_str().ok()) {
        let mut principal = Principal::authenticated("https://issuer.example", user);
        let scopes = request.headers().get("x-scopes");
        if let Some(scopes) = scopes.and_then(|scopes| scopes.to_str().ok()) {
            principal = principal.with_scopes(scopes.split(' '));
            let context = AuthContext::new().with(Fact(scopes.len()));
            request.extensions_mut().insert(context);
        }
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}
