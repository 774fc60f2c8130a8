//! A scripted upstream that records what reaches it, and requests of clients.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use mcp_aggregate::{Gateway, GatewayBuilder, Running, Upstream};
use mcp_core::{
    ClientCapabilities, Error, ErrorKind, Json, Method, Notification, NotificationStream, Notifier,
    Principal, ProtocolVersion, Request, Response, SessionKey,
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::{ServiceExt, service_fn};

type Script = dyn Fn(&Request) -> Result<Value, Error> + Send + Sync;

/// An upstream in this process.
#[derive(Clone)]
pub(crate) struct Server {
    script: Arc<Script>,
    capabilities: Arc<Value>,
    seen: Arc<Mutex<Vec<Seen>>>,
    listeners: Arc<Mutex<Vec<Notifier>>>,
    /// How long it takes to answer anything.
    pub(crate) slowness: Duration,
    /// Whether it acknowledges listeners.
    pub(crate) listens: bool,
}

/// A request that reached an upstream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) session: Option<SessionKey>,
}

impl Server {
    /// A server with these capabilities that answers as a function says.
    pub(crate) fn new(
        capabilities: Value,
        script: impl Fn(&Request) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Arc::new(script),
            capabilities: Arc::new(capabilities),
            seen: Arc::default(),
            listeners: Arc::default(),
            slowness: Duration::ZERO,
            listens: true,
        }
    }

    /// A server with one tool of this name that says its own name.
    pub(crate) fn with_tool(name: &'static str) -> Self {
        Self::new(
            json!({ "tools": { "listChanged": true } }),
            move |request| match *request.method() {
                Method::TOOLS_LIST => Ok(json!({ "tools": [tool(name)] })),
                Method::TOOLS_CALL => Ok(json!({ "content": [{ "type": "text", "text": name }] })),
                _ => Err(no_such_method(request)),
            },
        )
    }

    pub(crate) fn upstream(&self, id: &str) -> Upstream {
        let server = self.clone();
        let service = service_fn(move |request| server.clone().answer(request));
        Upstream::service(id, service)
    }

    /// Returns the requests of a method that reached it.
    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        let of_method = seen.iter().filter(|one| one.method == method);
        of_method.cloned().collect()
    }

    /// The methods of all requests.
    pub(crate) fn seen_at_all(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|one| one.method.clone()).collect()
    }

    /// Sends a notification to every listener.
    pub(crate) async fn announce(&self, method: Method) {
        let listeners = self.listeners.lock().unwrap().clone();
        for listener in listeners {
            // An error says that the listener is gone.
            let _ = listener
                .notify(Notification::new(method.clone(), None))
                .await;
        }
    }

    pub(crate) fn listeners(&self) -> usize {
        self.listeners.lock().unwrap().len()
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        let params = request
            .params()
            .map_or(Json::EMPTY_OBJECT, |own| own.to_json());
        self.seen.lock().unwrap().push(Seen {
            method: request.method().to_string(),
            params: params.decode().unwrap(),
            session: request.session().cloned(),
        });
        sleep(self.slowness).await;
        match *request.method() {
            Method::DISCOVER => {
                let result = json!({ "capabilities": *self.capabilities });
                Ok(Response::new(result.into()))
            }
            Method::SUBSCRIPTIONS_LISTEN if self.listens => {
                self.listeners
                    .lock()
                    .unwrap()
                    .push(request.notifier().clone());
                let acknowledged = Notification::new(Method::ACKNOWLEDGED, None);
                request.notifier().notify(acknowledged).await?;
                std::future::pending().await
            }
            _ => Ok(Response::new((self.script)(&request)?.into())),
        }
    }
}

pub(crate) fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

pub(crate) fn no_such_method(request: &Request) -> Error {
    Error::from_rpc(
        Json::parse(format!(
            r#"{{"code":-32601,"message":"no {}"}}"#,
            request.method()
        ))
        .unwrap(),
    )
}

/// Starts a gateway and waits until it knows its upstreams.
pub(crate) async fn start(builder: GatewayBuilder) -> Running {
    let running = builder.build().unwrap().start();
    assert!(running.settled(Duration::from_secs(60)).await);
    running
}

pub(crate) async fn start_with(servers: &[(&str, &Server)]) -> Running {
    let builder = servers
        .iter()
        .fold(Gateway::builder("gw"), |builder, (id, server)| {
            builder.upstream(server.upstream(id))
        });
    start(builder).await
}

/// A client of the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    context: Request,
}

impl Client {
    pub(crate) fn session(user: &str) -> Self {
        let session = SessionKey::new(&format!("{user}-{:x}", rand_id()));
        let client = Self::stateless(user);
        Self {
            context: client
                .context
                .with_session(session)
                .with_version(ProtocolVersion::V_2025_11_25),
        }
    }

    pub(crate) fn stateless(user: &str) -> Self {
        Self {
            context: Request::new(Method::PING, None)
                .unwrap()
                .with_principal(Principal::authenticated("https://issuer.example", user)),
        }
    }

    pub(crate) fn with_capabilities(self, capabilities: Value) -> Self {
        let capabilities = ClientCapabilities::new(capabilities.into());
        Self {
            context: self.context.with_capabilities(capabilities),
        }
    }

    pub(crate) fn session_key(&self) -> &SessionKey {
        self.context.session().unwrap()
    }

    pub(crate) fn request(&self, method: &str, params: Value) -> Request {
        Request::new(Method::new(method), Some(params.into()))
            .unwrap()
            .with_context_of(&self.context)
    }

    /// Makes a call and returns its result.
    pub(crate) async fn call(
        &self,
        running: &Running,
        method: &str,
        params: Value,
    ) -> Result<Value, Error> {
        let request = self.request(method, params);
        let answer = running.service().oneshot(request).await?;
        Ok(answer.result().decode().unwrap())
    }

    /// Returns the names of the tools that are listed.
    pub(crate) async fn tools(&self, running: &Running) -> Vec<String> {
        let list = self.call(running, "tools/list", json!({})).await.unwrap();
        let tools = list["tools"].as_array().unwrap().iter();
        tools
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Listens to all lists, or to resources. Returns once the gateway has acknowledged.
    pub(crate) async fn listen(&self, running: &Running, filter: Value) -> Result<Heard, Error> {
        let (notifier, stream) = Notifier::channel(NonZeroUsize::new(64).unwrap());
        let request = self
            .request("subscriptions/listen", json!({ "notifications": filter }))
            .with_notifier(notifier);
        let call = tokio::spawn(running.service().oneshot(request));
        let mut heard = Heard { stream };
        while let Some(notification) = heard.stream.recv().await {
            if *notification.method() == Method::ACKNOWLEDGED {
                return Ok(heard);
            }
        }
        match call.await.unwrap() {
            Ok(_) => Err(Error::new(ErrorKind::Internal, "the listener ended")),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn everything() -> Value {
    json!({ "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true })
}

fn rand_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// What a listener hears.
pub(crate) struct Heard {
    stream: NotificationStream,
}

impl Heard {
    /// Waits for a notification of a method.
    pub(crate) async fn next(&mut self, method: &str) -> Notification {
        let wanted = async {
            loop {
                let notification = self.stream.recv().await.expect("the listener goes on");
                if notification.method().as_str() == method {
                    return notification;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wanted)
            .await
            .unwrap_or_else(|_| panic!("{method} comes"))
    }

    /// Returns what comes within a time.
    pub(crate) async fn within(&mut self, time: Duration) -> Vec<String> {
        let mut heard = Vec::new();
        let collecting = async {
            while let Some(notification) = self.stream.recv().await {
                heard.push(notification.method().to_string());
            }
        };
        let _ = tokio::time::timeout(time, collecting).await;
        heard
    }
}
