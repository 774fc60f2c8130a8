//! The notifications and server-initiated requests that belong to one request, on their way to its client.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use crate::{Error, ErrorKind, Json, Method, Object, lazy};

/// How long a full sink holds its own request up before the request fails.
pub(crate) const STALL: Duration = Duration::from_secs(10);

/// A notification, as it stands in a JSON-RPC message.
#[derive(Clone, Debug)]
pub struct Notification {
    method: Method,
    params: Option<Json>,
}

impl Notification {
    /// Creates a notification.
    #[must_use]
    pub fn new(method: Method, params: Option<Json>) -> Self {
        Self { method, params }
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the parameters.
    #[must_use]
    pub fn params(&self) -> Option<&Json> {
        self.params.as_ref()
    }

    /// Returns the notification with other parameters.
    #[must_use]
    pub fn with_params(mut self, params: Json) -> Self {
        self.params = Some(params);
        self
    }

    /// Returns the notification with one member of `_meta` set (a value) or removed (`None`).
    #[must_use]
    pub fn with_meta(mut self, key: &'static str, value: Option<Json>) -> Self {
        let params = self.params.take().unwrap_or(Json::EMPTY_OBJECT);
        let Ok(mut params) = Object::index(&params) else {
            return Self {
                params: Some(params),
                ..self
            };
        };
        let mut meta = params
            .get("_meta")
            .and_then(|meta| Object::index(&meta).ok())
            .unwrap_or_default();
        match value {
            Some(value) => meta.set(key, value),
            None => meta.remove(key),
        }
        params.set("_meta", meta.into());
        self.params = Some(params.to_json());
        self
    }

    /// Returns the whole JSON-RPC message.
    #[must_use]
    pub fn to_message(&self) -> Json {
        let method = Json::string(self.method.as_str());
        Json::composed(match &self.params {
            Some(params) => {
                format!(r#"{{"jsonrpc":"2.0","method":{method},"params":{params}}}"#)
            }
            None => format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#),
        })
    }
}

/// A bounded, ordered sink for the notifications that belong to one request.
///
/// The transport drains it before it writes the answer, so the client sees everything in the order in which it
/// was sent. Clones share the sink. [`Notifier::none`], the default, discards.
///
/// A caller that attaches a notifier must poll the call and the [`NotificationStream`] together: a call that
/// waits for room while the stream is not read fails after [`Timing::stall`](crate::Timing::stall), or 10 s.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<Sink>>);

struct Sink {
    target: Target,
    sent: AtomicU64,
}

enum Target {
    /// With how long a call waits for room.
    Channel(lazy::Sender<Boxed>, Duration),
    Map(Notifier, Map),
}

type Map = Box<dyn Fn(Notification) -> Option<Notification> + Send + Sync>;

/// As a channel holds it: one has room for dozens from the start.
pub(crate) type Boxed = Box<Outgoing>;

/// What goes to the client before the answer.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Notification(Notification),
    ServerRequest(ServerRequest),
}

/// A request from the server to the client, with the place where its answer is awaited.
pub(crate) struct ServerRequest {
    pub(crate) method: Method,
    pub(crate) params: Option<Json>,
    pub(crate) answer: oneshot::Sender<Result<Json, Error>>,
}

impl Notifier {
    /// Discards every notification.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Creates a sink that holds up to `capacity` notifications, and the stream that reads it.
    #[must_use]
    pub fn channel(capacity: std::num::NonZeroUsize) -> (Self, NotificationStream) {
        Self::channel_within(capacity, STALL)
    }

    /// Creates a sink whose call fails when it has waited so long for room.
    pub(crate) fn channel_within(
        capacity: std::num::NonZeroUsize,
        stall: Duration,
    ) -> (Self, NotificationStream) {
        let (sender, receiver) = lazy::channel(capacity.get());
        (
            Self::to(Target::Channel(sender, stall)),
            NotificationStream(receiver),
        )
    }

    /// Returns a sink that changes, observes or drops (`None`) each notification on its way into this one.
    #[must_use]
    pub fn map(
        &self,
        map: impl Fn(Notification) -> Option<Notification> + Send + Sync + 'static,
    ) -> Self {
        Self::to(Target::Map(self.clone(), Box::new(map)))
    }

    fn to(target: Target) -> Self {
        Self(Some(Arc::new(Sink {
            target,
            sent: AtomicU64::new(0),
        })))
    }

    /// Returns `true` if notifications are discarded.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns how many notifications and server-initiated requests this sink has taken. A call that has sent any must not be
    /// repeated: its client would see them twice.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |sink| sink.sent.load(Ordering::Acquire))
    }

    /// Puts a notification into the sink, waiting for room.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stalled`] when there was no room for as long as a client may stall, [`ErrorKind::Cancelled`] when the reader is
    /// gone. The call that the notification belongs to should end with the same error.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has either sent the notification or not sent it; order is kept.
    pub async fn notify(&self, notification: Notification) -> Result<(), Error> {
        let mut sink = self;
        let mut notification = notification;
        loop {
            let Some(inner) = &sink.0 else { return Ok(()) };
            inner.sent.fetch_add(1, Ordering::AcqRel);
            match &inner.target {
                Target::Channel(sender, stall) => {
                    let item = Box::new(Outgoing::Notification(notification));
                    return send(sender.get(), item, *stall).await;
                }
                Target::Map(next, map) => {
                    let Some(mapped) = map(notification) else {
                        return Ok(());
                    };
                    notification = mapped;
                    sink = next;
                }
            }
        }
    }

    /// Sends a server-initiated request in order with the notifications and awaits the client's answer.
    pub(crate) async fn server_request(
        &self,
        method: Method,
        params: Option<Json>,
    ) -> Result<Json, Error> {
        let mut sink = self;
        let (answer, answered) = oneshot::channel();
        let server_request = ServerRequest {
            method,
            params,
            answer,
        };
        loop {
            let Some(inner) = &sink.0 else {
                return Err(gone());
            };
            inner.sent.fetch_add(1, Ordering::AcqRel);
            match &inner.target {
                Target::Channel(sender, stall) => {
                    let item = Box::new(Outgoing::ServerRequest(server_request));
                    send(sender.get(), item, *stall).await?;
                    return answered.await.unwrap_or_else(|_| Err(gone()));
                }
                Target::Map(next, _) => sink = next,
            }
        }
    }
}

fn send(
    sender: &mpsc::Sender<Boxed>,
    item: Boxed,
    stall: Duration,
) -> impl Future<Output = Result<(), Error>> + Send {
    let ready = sender.try_send(item);
    async move {
        let item = match ready {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(gone()),
            Err(mpsc::error::TrySendError::Full(item)) => item,
        };
        match sender.send_timeout(item, stall).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(gone()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Error::new(
                ErrorKind::Stalled,
                format!(
                    "the client did not read the notifications of this call for {stall:?}; the call was ended"
                ),
            )),
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "the client of this call is gone")
}

impl fmt::Debug for ServerRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRequest")
            .field("method", &self.method)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Notifier(none)"),
            Some(_) => write!(f, "Notifier({} sent)", self.sent()),
        }
    }
}

/// Reads what a [`Notifier`] was given, in order.
#[derive(Debug)]
pub struct NotificationStream(lazy::Receiver<Boxed>);

impl NotificationStream {
    /// Returns the next notification; `None` when every notifier is gone.
    ///
    /// A server-initiated request to the client that arrives here is answered with an error of kind
    /// [`ErrorKind::MissingCapability`], since this reader has no client to send it to.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn recv(&mut self) -> Option<Notification> {
        loop {
            match *self.0.recv().await? {
                Outgoing::Notification(notification) => return Some(notification),
                Outgoing::ServerRequest(server_request) => refuse(server_request),
            }
        }
    }

    /// Returns the next notification if there is one already.
    pub fn try_recv(&mut self) -> Option<Notification> {
        loop {
            match *self.0.try_recv()? {
                Outgoing::Notification(notification) => return Some(notification),
                Outgoing::ServerRequest(server_request) => refuse(server_request),
            }
        }
    }

    /// Returns the next notification or server-initiated request.
    #[allow(dead_code, reason = "the transports use it, and they are features")]
    pub(crate) fn receiver(&mut self) -> &mut lazy::Receiver<Boxed> {
        &mut self.0
    }
}

fn refuse(server_request: ServerRequest) {
    // The asker may be gone, and with it the need for an answer.
    let _ = server_request.answer.send(Err(Error::new(
        ErrorKind::MissingCapability,
        "the client of this call cannot be asked",
    )));
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    fn numbered(n: u32) -> Notification {
        Notification::new(Method::PROGRESS, Some(Json::from(serde_json::json!(n))))
    }

    fn channel(capacity: usize) -> (Notifier, NotificationStream) {
        Notifier::channel(NonZeroUsize::new(capacity).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_sink_fails_its_own_request_after_ten_seconds() {
        let (notifier, _stream) = channel(1);
        notifier.notify(numbered(0)).await.unwrap();
        let start = tokio::time::Instant::now();
        let error = notifier.notify(numbered(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stalled);
        assert_eq!(start.elapsed(), STALL);
    }

    #[tokio::test]
    async fn order_is_kept_and_maps_are_applied() {
        let (notifier, mut stream) = channel(8);
        let even = notifier.map(|n| (n.params()?.as_str() != "1").then_some(n));
        for n in 0..3 {
            even.notify(numbered(n)).await.unwrap();
        }
        assert_eq!(even.sent(), 3);
        assert_eq!(notifier.sent(), 2);
        drop((notifier, even));
        let mut seen = Vec::new();
        while let Some(n) = stream.recv().await {
            seen.push(n.params().unwrap().as_str().to_owned());
        }
        assert_eq!(seen, ["0", "2"]);
    }

    #[tokio::test]
    async fn a_gone_reader_ends_the_call() {
        let (notifier, stream) = channel(1);
        drop(stream);
        let error = notifier.notify(numbered(0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(Notifier::none().notify(numbered(0)).await.is_ok());
    }

    #[tokio::test]
    async fn a_server_initiated_request_to_a_plain_reader_is_refused() {
        let (notifier, mut stream) = channel(4);
        let ask = notifier.server_request(Method::ROOTS_LIST, None);
        let (answer, seen) = tokio::join!(ask, async {
            notifier.notify(numbered(7)).await.unwrap();
            stream.recv().await
        });
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::MissingCapability);
        assert_eq!(seen.unwrap().params().unwrap().as_str(), "7");
    }

    #[test]
    fn meta_members_are_set_and_removed() {
        let n = Notification::new(
            Method::PROGRESS,
            Some(Json::parse(r#"{"a":1,"_meta":{"x":2}}"#).unwrap()),
        );
        let n = n.with_meta("y", Some(Json::NULL)).with_meta("x", None);
        assert_eq!(
            n.params().unwrap().as_str(),
            r#"{"a":1,"_meta":{"y":null}}"#
        );
    }
}
