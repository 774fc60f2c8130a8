use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};

use super::Pipe;
use crate::{Error, ErrorKind, Json, Method, Notification, Object, Request, Response};

/// What a listener wants to be told (revision 2026-07-28, "Subscriptions").
#[derive(Clone, Debug, Default)]
pub struct Filter {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: Arc<[String]>,
}

impl Filter {
    /// Reads the filter of a `subscriptions/listen` call.
    #[must_use]
    pub fn read(request: &Request) -> Self {
        let filter = request.param("notifications").unwrap_or(Json::EMPTY_OBJECT);
        let flag = |name| {
            filter
                .member(name)
                .is_some_and(|flag| flag.as_str() == "true")
        };
        let uris = filter
            .member("resourceSubscriptions")
            .map(|uris| uris.elements().iter().filter_map(Json::to_text).collect())
            .unwrap_or_default();
        Self {
            tools: flag("toolsListChanged"),
            prompts: flag("promptsListChanged"),
            resources: flag("resourcesListChanged"),
            uris,
        }
    }

    /// Returns the resources that are subscribed to.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Returns whether this is a session's general listener, which also takes what belongs to nobody else.
    #[must_use]
    pub fn is_general(&self) -> bool {
        self.tools || self.prompts || self.resources
    }

    /// Returns whether a notification is wanted.
    #[must_use]
    pub fn wants(&self, notification: &Notification) -> bool {
        match *notification.method() {
            Method::TOOLS_CHANGED => self.tools,
            Method::PROMPTS_CHANGED => self.prompts,
            Method::RESOURCES_CHANGED => self.resources,
            Method::RESOURCE_UPDATED => {
                let uri = notification
                    .params()
                    .and_then(|params| params.member("uri"))
                    .and_then(|uri| uri.to_text());
                uri.is_some_and(|uri| self.uris.contains(&uri))
            }
            _ => self.is_general(),
        }
    }

    /// Returns the filter as `subscriptions/listen` writes it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut filter = Object::default();
        let yes = || Json::from(serde_json::Value::Bool(true));
        for (name, on) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if on {
                filter.set(name, yes());
            }
        }
        if !self.uris.is_empty() {
            let uris: Vec<_> = self.uris.iter().map(String::as_str).collect();
            filter.set("resourceSubscriptions", Json::from(serde_json::json!(uris)));
        }
        filter.to_json()
    }
}

/// Makes one call of the dialect that [`listen`] is spoken over.
pub type Caller<'a> = dyn Fn(Request) -> BoxFuture<'a, Result<Response, Error>> + Send + Sync + 'a;

/// Answers `subscriptions/listen` in terms of the session era: subscribes to each resource, acknowledges, and
/// runs `follow` until it ends or the future is dropped, which ends the subscriptions.
///
/// # Errors
///
/// The server's own error for a resource that it does not let subscribe to; the error of `follow`.
///
/// # Cancel safety
///
/// Dropping the future ends the subscriptions: `unsubscribe` is given each resource.
pub async fn listen(
    request: &Request,
    call: &Caller<'_>,
    follow: BoxFuture<'_, Result<Response, Error>>,
    unsubscribe: impl Fn(&str) + Send + Sync,
) -> Result<Response, Error> {
    let filter = Filter::read(request);
    let mut subscribed = Subscribed(Vec::new(), &unsubscribe);
    // What is sent in answer to the subscription itself must find its listener.
    let mut follow = follow;
    for uri in filter.uris() {
        let mut params = Object::default();
        params.set("uri", Json::string(uri));
        let subscribe = Request::from_object(Method::RESOURCES_SUBSCRIBE, Some(params))?
            .with_context_of(request);
        let mut subscribing = call(subscribe);
        tokio::select! {
            biased;
            ended = &mut follow => return ended,
            answer = &mut subscribing => answer?,
        };
        subscribed.0.push(uri.clone());
    }
    let mut acknowledged = Object::default();
    acknowledged.set("notifications", filter.to_json());
    request
        .notifier()
        .notify(Notification::new(
            Method::ACKNOWLEDGED,
            Some(acknowledged.to_json()),
        ))
        .await?;
    follow.await
}

/// Ends subscriptions when it is dropped.
struct Subscribed<'a>(Vec<String>, &'a (dyn Fn(&str) + Send + Sync));

impl Drop for Subscribed<'_> {
    fn drop(&mut self) {
        for uri in &self.0 {
            (self.1)(uri);
        }
    }
}

impl Pipe {
    /// Answers a call of a client, in terms of a server of the session era.
    ///
    /// # Errors
    ///
    /// As [`Pipe::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pipe::call`].
    pub async fn call_session_era(&self, mut request: Request) -> Result<Response, Error> {
        request.remove_client_meta();
        if request.is_notification() {
            let params = request.params().map(Object::to_json);
            let notification = Notification::new(request.method().clone(), params);
            self.notify(notification).await?;
            return Ok(Response::empty());
        }
        match *request.method() {
            Method::SUBSCRIPTIONS_LISTEN => {
                let follow = self.follow(&request, Filter::read(&request)).boxed();
                let call = |request| self.call(request).boxed();
                listen(&request, &call, follow, |uri| self.unsubscribe(uri)).await
            }
            Method::DISCOVER => Err(Error::new(
                ErrorKind::Internal,
                "a session is discovered when it is opened",
            )),
            _ => self.call(request).await,
        }
    }

    /// Ends a subscription in the background: whoever subscribed is gone.
    fn unsubscribe(&self, uri: &str) {
        let mut params = Object::default();
        params.set("uri", Json::string(uri));
        let Ok(request) = Request::from_object(Method::RESOURCES_UNSUBSCRIBE, Some(params)) else {
            return;
        };
        let pipe = self.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A server that is gone has forgotten the subscription.
                let _ = pipe.call(request).await;
            });
        }
    }
}
