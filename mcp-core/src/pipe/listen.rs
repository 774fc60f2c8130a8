use futures_util::{FutureExt, future::BoxFuture};

use super::Pipe;
use crate::{
    Error, ErrorKind, Json, Method, Notification, Object, Request, Response, SubscriptionFilter,
};

/// Makes a call in the session that [`Listening`] runs over.
pub type SessionCall<'a, E> =
    dyn Fn(Request) -> BoxFuture<'a, Result<Response, E>> + Send + Sync + 'a;

/// A `subscriptions/listen` call in terms of the session era, over one session with the server or over several in a row.
///
/// The client is sent the acknowledgement by the first. By each later one it is sent a change of everything that it listens
/// to, since the server may have announced changes while there was no session.
#[derive(Debug, Default)]
pub struct Listening {
    acknowledged: bool,
}

impl Listening {
    /// Returns whether the client has been sent the acknowledgement.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Subscribes to each resource, acknowledges, and runs `follow` until it ends or the future is dropped, which ends the
    /// subscriptions.
    ///
    /// # Errors
    ///
    /// The server's own error for a resource that it does not let subscribe to; the error of `follow`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the subscriptions: `unsubscribe` is given each resource.
    pub async fn run<E: From<Error> + Send>(
        &mut self,
        request: &Request,
        call: &SessionCall<'_, E>,
        mut follow: BoxFuture<'_, Result<Response, E>>,
        unsubscribe: impl Fn(&str) + Send + Sync,
    ) -> Result<Response, E> {
        let filter = SubscriptionFilter::read(request);
        let mut subscribed = Subscribed(Vec::new(), &unsubscribe);
        for uri in filter.uris() {
            let mut subscribing = call(about(Method::RESOURCES_SUBSCRIBE, uri, request)?);
            tokio::select! {
                biased;
                // What is sent in answer to the subscription itself must find its listener.
                ended = &mut follow => return ended,
                answer = &mut subscribing => answer?,
            };
            subscribed.0.push(uri.clone());
        }
        if std::mem::replace(&mut self.acknowledged, true) {
            tell_of_gap(request, &filter).await?;
        } else {
            let mut params = Object::default();
            params.set("notifications", filter.to_json());
            let acknowledged = Notification::new(Method::ACKNOWLEDGED, Some(params.to_json()));
            request.notifier().notify(acknowledged).await?;
        }
        follow.await
    }
}

/// Composes a request about one resource, for the client of another request.
fn about(method: Method, uri: &str, of: &Request) -> Result<Request, Error> {
    let mut params = Object::default();
    params.set("uri", Json::string(uri));
    Ok(Request::from_object(method, Some(params))?.with_context_of(of))
}

/// Says that whatever the client listens to may have changed while there was no session.
async fn tell_of_gap(request: &Request, filter: &SubscriptionFilter) -> Result<(), Error> {
    let lists = Method::LIST_CHANGES
        .into_iter()
        .map(|method| Notification::new(method, None));
    let resources = filter.uris().iter().map(|uri| {
        let mut params = Object::default();
        params.set("uri", Json::string(uri));
        Notification::new(Method::RESOURCE_UPDATED, Some(params.to_json()))
    });
    for notification in lists.chain(resources) {
        if filter.wants(&notification) {
            request.notifier().notify(notification).await?;
        }
    }
    Ok(())
}

/// Composes the request that ends the subscription to a resource, for the client of another request.
///
/// # Errors
///
/// The resource cannot be named in a request.
pub fn unsubscribing(uri: &str, of: &Request) -> Result<Request, Error> {
    about(Method::RESOURCES_UNSUBSCRIBE, uri, of)
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
                let follow = self
                    .follow(&request, SubscriptionFilter::read(&request))
                    .boxed();
                let call = |request| self.call(request).boxed();
                let unsubscribe = |uri: &str| self.unsubscribe(uri, &request);
                let mut listening = Listening::default();
                listening.run(&request, &call, follow, unsubscribe).await
            }
            Method::DISCOVER => Err(Error::new(
                ErrorKind::Internal,
                "a session is discovered when it is opened",
            )),
            _ => self.call(request).await,
        }
    }

    /// Ends a subscription in the background: the call that subscribed is over.
    fn unsubscribe(&self, uri: &str, of: &Request) {
        let Ok(request) = unsubscribing(uri, of) else {
            return;
        };
        let (pipe, request) = (self.clone(), request.without_call());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A server that is gone has forgotten the subscription.
                let _ = pipe.call(request).await;
            });
        }
    }
}
