use std::{num::NonZeroUsize, sync::Mutex, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{Asker, Notifier, SessionKey, jsonrpc};

/// Records what leaves.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn push(&self, text: Vec<u8>) {
        self.0
            .lock()
            .unwrap()
            .push(String::from_utf8(text).unwrap());
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl Wire for Recorder {
    fn request<'a>(&'a self, id: u64, request: &'a Request) -> BoxFuture<'a, Result<(), Error>> {
        self.push(jsonrpc::write_request(
            &Id::number(id),
            request.method(),
            request.params(),
        ));
        Box::pin(async { Ok(()) })
    }
}

impl Replies for Recorder {
    fn send(&self, message: Outbound) -> BoxFuture<'_, Result<(), Error>> {
        self.try_send(message);
        Box::pin(async { Ok(()) })
    }

    fn try_send(&self, message: Outbound) {
        self.push(message.to_message().to_vec());
    }
}

fn message(text: &str) -> Message {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn call(params: &str) -> Request {
    Request::new(
        Method::new("x"),
        Some(Json::parse(params.to_owned()).unwrap()),
    )
    .unwrap()
}

fn listened(request: Request) -> (Request, crate::NotificationStream) {
    let (notifier, stream) = Notifier::channel(NonZeroUsize::new(64).unwrap());
    let request = request
        .with_asker(Asker::from(notifier.clone()))
        .with_notifier(notifier);
    (request, stream)
}

#[tokio::test]
async fn progress_comes_back_under_the_clients_token_and_before_the_answer() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone());
    let (request, mut stream) = listened(call(r#"{"_meta":{"progressToken":"mine"}}"#));
    let task = {
        let pipe = pipe.clone();
        tokio::spawn(async move { pipe.call(request).await })
    };
    tokio::task::yield_now().await;
    assert!(
        wire.last().contains(r#""progressToken":1"#),
        "{}",
        wire.last()
    );
    for n in 0..3 {
        pipe.receive(
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{n}}}}}"#
            )),
            None,
        );
    }
    pipe.receive(
        message(r#"{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}"#),
        None,
    );
    let answer = task.await.unwrap().unwrap();
    assert_eq!(answer.result().as_str(), r#"{"a":1.0}"#);
    for n in 0..3 {
        let seen = stream.try_recv().unwrap();
        assert_eq!(
            seen.params().unwrap().as_str(),
            format!(r#"{{"progressToken":"mine","progress":{n}}}"#)
        );
    }
    // A second answer and late progress are no one's.
    pipe.receive(message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
    assert!(pipe.inbox().is_empty());
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_an_answered_one_is_not() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone());
    {
        let call = pipe.call(call("{}"));
        tokio::pin!(call);
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    assert!(wire.last().contains("notifications/cancelled"));
    assert!(wire.last().contains(r#""requestId":1"#));
    let answered = pipe.call(call("{}"));
    tokio::pin!(answered);
    assert!(futures_util::poll!(&mut answered).is_pending());
    pipe.receive(
        message(r#"{"jsonrpc":"2.0","id":2,"error":{"code":-7,"message":"m"}}"#),
        None,
    );
    let error = answered.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Answered);
    assert!(!wire.last().contains("cancelled"));
}

#[tokio::test]
async fn a_question_goes_to_the_one_client_it_can_be_for() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone());
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
    // No one is there.
    pipe.receive(message(question), None);
    assert!(wire.last().contains("-32601"), "{}", wire.last());

    let a = SessionKey::new("a");
    let (request, mut stream) = listened(call("{}").with_session(a.clone()));
    let call_a = {
        let pipe = pipe.clone();
        tokio::spawn(async move { pipe.call(request).await })
    };
    tokio::task::yield_now().await;
    pipe.receive(message(question), None);
    let asked = stream.receiver().recv().await.unwrap();
    let crate::notifier::Outgoing::ServerRequest(asked) = *asked else {
        panic!("{asked:?}")
    };
    asked
        .answer
        .send(Ok(Json::parse(r#"{"roots":[]}"#).unwrap()))
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), async {
        while !wire.last().contains(r#""result":{"roots":[]}"#) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    // With a second client in progress no one can tell whose question it is.
    let (request, _other) = listened(call("{}").with_session(SessionKey::new("b")));
    let call_b = {
        let pipe = pipe.clone();
        tokio::spawn(async move { pipe.call(request).await })
    };
    tokio::task::yield_now().await;
    pipe.receive(message(question), None);
    assert!(wire.last().contains("-32601"), "{}", wire.last());
    // Unless the transport knows.
    pipe.receive(message(question), Some(1));
    assert!(stream.receiver().recv().await.is_some());
    call_a.abort();
    call_b.abort();
}

#[tokio::test]
async fn a_question_of_one_of_several_calls_outlives_the_call_it_was_put_through() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone());
    let session = SessionKey::new("a");
    let mut calls = Vec::new();
    for _ in 0..2 {
        let (request, stream) = listened(call("{}").with_session(session.clone()));
        let pipe = pipe.clone();
        calls.push((
            tokio::spawn(async move { pipe.call(request).await }),
            stream,
        ));
        tokio::task::yield_now().await;
    }
    let (newest, mut stream) = calls.pop().unwrap();
    for id in ["q", "withdrawn"] {
        pipe.receive(
            message(&format!(
                r#"{{"jsonrpc":"2.0","id":"{id}","method":"roots/list"}}"#
            )),
            None,
        );
    }
    let mut asked = Vec::new();
    for _ in 0..2 {
        match *stream.receiver().recv().await.unwrap() {
            crate::notifier::Outgoing::ServerRequest(question) => asked.push(question),
            other @ crate::notifier::Outgoing::Notification(_) => panic!("{other:?}"),
        }
    }
    pipe.receive(message(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), None);
    newest.await.unwrap().unwrap();
    let mut withdrawn = asked.pop().unwrap();
    assert!(!withdrawn.answer.is_closed());
    pipe.receive(
        message(
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"withdrawn"}}"#,
        ),
        None,
    );
    let patience = Duration::from_secs(5);
    tokio::time::timeout(patience, withdrawn.answer.closed())
        .await
        .unwrap();
    let roots = Json::parse(r#"{"roots":[]}"#).unwrap();
    asked.pop().unwrap().answer.send(Ok(roots)).unwrap();
    tokio::time::timeout(patience, async {
        while !wire.last().contains(r#""id":"q","result":{"roots":[]}"#) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    calls.pop().unwrap().0.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_ends_its_own_call_only() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone());
    let (slow, _unread) = listened(call(r#"{"_meta":{"progressToken":1}}"#));
    let slow = pipe.call(slow);
    tokio::pin!(slow);
    assert!(futures_util::poll!(&mut slow).is_pending());
    for _ in 0..=WAITING {
        pipe.receive(
            message(r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#),
            None,
        );
    }
    let other = pipe.call(call("{}"));
    tokio::pin!(other);
    assert!(futures_util::poll!(&mut other).is_pending());
    pipe.receive(message(r#"{"jsonrpc":"2.0","id":2,"result":{}}"#), None);
    assert!(other.await.is_ok());
}

#[tokio::test]
async fn a_closed_conversation_fails_what_is_in_progress_and_what_comes() {
    let pipe = Pipe::new(Recorder::default());
    let first = pipe.call(call("{}"));
    tokio::pin!(first);
    assert!(futures_util::poll!(&mut first).is_pending());
    pipe.close(&Error::new(ErrorKind::Unavailable, "exited"));
    assert_eq!(first.await.unwrap_err().kind(), ErrorKind::Unavailable);
    let later = pipe.call(call("{}")).await.unwrap_err();
    assert_eq!(later.kind(), ErrorKind::NotSent);
}

#[tokio::test]
async fn list_changes_reach_every_listener_and_updates_only_theirs() {
    let pipe = Pipe::new(Recorder::default());
    let listen = |filter: &str| {
        let request = Request::new(
            Method::SUBSCRIPTIONS_LISTEN,
            Some(Json::parse(format!(r#"{{"notifications":{filter}}}"#)).unwrap()),
        )
        .unwrap();
        let (request, stream) = listened(request);
        let pipe = pipe.clone();
        let task = tokio::spawn(async move {
            pipe.follow(&request, SubscriptionFilter::read(&request))
                .await
        });
        (task, stream)
    };
    let (task_a, mut a) = listen(r#"{"toolsListChanged":true}"#);
    let (task_b, mut b) = listen(r#"{"resourceSubscriptions":["r:1"]}"#);
    tokio::task::yield_now().await;
    for (method, params) in [
        ("notifications/tools/list_changed", "{}"),
        ("notifications/resources/updated", r#"{"uri":"r:2"}"#),
        ("notifications/resources/updated", r#"{"uri":"r:1"}"#),
    ] {
        pipe.receive(
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#
            )),
            None,
        );
    }
    assert_eq!(*a.recv().await.unwrap().method(), Method::TOOLS_CHANGED);
    let update = b.recv().await.unwrap();
    assert_eq!(update.params().unwrap().as_str(), r#"{"uri":"r:1"}"#);
    assert!(a.try_recv().is_none() && b.try_recv().is_none());
    task_a.abort();
    task_b.abort();
}

#[tokio::test]
async fn log_messages_of_the_standing_stream_go_to_its_listener() {
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}"#;
    let inbox = Inbox::new();
    let session = SessionKey::new("s");
    let of = |request: Request| request.with_session(session.clone());
    let speaks = of(call("{}")).with_log_level(Some(crate::LogLevel::Debug));
    let mut calling = inbox.admit(&speaks).unwrap();
    inbox.deliver_apart(message(log));
    assert!(calling.try_arrival().is_some(), "nobody listens");
    let all = r#"{"notifications":{"toolsListChanged":true}}"#;
    let listens = of(call(all));
    let mut listening = inbox
        .attach(&listens, SubscriptionFilter::read(&listens))
        .unwrap();
    inbox.deliver_apart(message(log));
    assert!(calling.try_arrival().is_none());
    assert!(listening.try_arrival().is_some());
    inbox.deliver(message(log), None);
    assert!(calling.try_arrival().is_some(), "one stream for all");
    let other = call(all).with_session(SessionKey::new("other"));
    let mut foreign = inbox
        .attach(&other, SubscriptionFilter::read(&other))
        .unwrap();
    drop(calling);
    inbox.deliver_apart(message(log));
    assert!(listening.try_arrival().is_none(), "it may be the other's");
    assert!(foreign.try_arrival().is_none());
}

#[tokio::test]
async fn what_changes_before_anybody_listens_is_told_to_the_first_who_does() {
    let changed = |list: &str| {
        let method = format!("notifications/{list}/list_changed");
        message(&format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#))
    };
    let inbox = Inbox::new();
    let mut calling = inbox.admit(&call("{}")).unwrap();
    for list in ["tools", "tools", "prompts"] {
        inbox.deliver(changed(list), None);
    }
    assert!(calling.try_arrival().is_none(), "no call caused it");
    let told = |filter: &str| {
        let listens = call(&format!(r#"{{"notifications":{filter}}}"#));
        let mut ticket = inbox
            .attach(&listens, SubscriptionFilter::read(&listens))
            .unwrap();
        let mut methods = Vec::new();
        while let Some(Arrival::Notification(notification)) = ticket.try_arrival() {
            methods.push(notification.method().clone());
        }
        methods
    };
    assert!(told(r#"{"resourceSubscriptions":["r:1"]}"#).is_empty());
    assert_eq!(
        told(r#"{"toolsListChanged":true}"#),
        [Method::TOOLS_CHANGED]
    );
    assert_eq!(
        told(r#"{"toolsListChanged":true,"promptsListChanged":true}"#),
        [Method::PROMPTS_CHANGED],
        "each is told once"
    );
}

#[tokio::test]
async fn a_question_passes_a_listing_of_the_gateways_own_by_and_no_call_of_another_client() {
    let question = || message(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#);
    let inbox = Inbox::new();
    let of = |request: Request, session: &str| request.with_session(SessionKey::new(session));
    let (asked, _stream) = listened(of(call("{}"), "a"));
    let mut asked = inbox.admit(&asked).unwrap();
    let mut listing = inbox.admit(&of(call("{}"), "a")).unwrap();
    assert!(inbox.deliver(question(), None).is_none());
    assert!(listing.try_arrival().is_none());
    let arrival = asked.try_arrival();
    assert!(
        matches!(arrival, Some(Arrival::Request { shared: false, .. })),
        "{arrival:?}"
    );
    // Another client that cannot be asked may be meant all the same.
    let _foreign = inbox.admit(&of(call("{}"), "b")).unwrap();
    assert!(inbox.deliver(question(), None).is_some(), "refused");
    assert!(asked.try_arrival().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_client_in_time_is_refused() {
    let wire = Recorder::default();
    let pipe = Pipe::new(wire.clone()).for_client(Some(SessionKey::new("a")));
    let question = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;
    pipe.receive(message(question), None);
    sleep(HOLD - Duration::from_millis(10)).await;
    assert_eq!(wire.last(), "", "it is held");
    sleep(Duration::from_millis(20)).await;
    assert!(wire.last().contains("-32601"), "{}", wire.last());
}

#[tokio::test]
async fn an_answer_that_names_its_call_as_text_is_its_answer() {
    for (answer, ok) in [
        (r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, true),
        (
            r#"{"jsonrpc":"2.0","id":"1","error":{"code":-7,"message":"m"}}"#,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"m"}}"#,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{"code":-7,"message":"m"}}"#,
            false,
        ),
    ] {
        let pipe = Pipe::new(Recorder::default());
        let asked = pipe.call(call("{}"));
        tokio::pin!(asked);
        assert!(futures_util::poll!(&mut asked).is_pending());
        pipe.receive(message(answer), None);
        let answered = asked.now_or_never().expect("it is answered");
        assert_eq!(answered.is_ok(), ok, "{answer}");
    }
}

#[tokio::test]
async fn an_error_that_names_no_call_is_for_the_only_one_or_the_one_it_came_with() {
    let pipe = Pipe::new(Recorder::default());
    let unnamed = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-7,"message":"m"}}"#;
    let (mut first, mut second) = (
        Box::pin(pipe.call(call("{}"))),
        Box::pin(pipe.call(call("{}"))),
    );
    for pending in [&mut first, &mut second] {
        assert!(futures_util::poll!(pending).is_pending());
    }
    pipe.receive(message(unnamed), None);
    assert!(
        futures_util::poll!(&mut first).is_pending(),
        "either may be meant"
    );
    pipe.receive(message(unnamed), Some(2));
    assert_eq!(second.await.unwrap_err().kind(), ErrorKind::Answered);
    pipe.receive(message(unnamed), None);
    assert_eq!(first.await.unwrap_err().kind(), ErrorKind::Answered);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_the_named_call_or_the_oldest() {
    let pipe = Pipe::new(Recorder::default());
    let mut calls: Vec<_> = (0..3).map(|_| Box::pin(pipe.call(call("{}")))).collect();
    for pending in &mut calls {
        assert!(futures_util::poll!(pending).is_pending());
    }
    let error = || Error::new(ErrorKind::TooLarge, "t");
    pipe.inbox().fail(Some(2), error());
    pipe.inbox().fail(None, error());
    let ended: Vec<_> = calls
        .iter_mut()
        .map(|call| call.now_or_never().is_some())
        .collect();
    assert_eq!(ended, [true, true, false]);
}

#[tokio::test]
async fn progress_under_a_token_that_came_back_as_text_reaches_its_call() {
    let pipe = Pipe::new(Recorder::default());
    let (request, mut stream) = listened(call(r#"{"_meta":{"progressToken":"mine"}}"#));
    let mut asked = Box::pin(pipe.call(request));
    assert!(futures_util::poll!(&mut asked).is_pending());
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"1","progress":1}}"#;
    pipe.receive(message(progress), None);
    assert!(futures_util::poll!(&mut asked).is_pending());
    assert!(stream.try_recv().is_some());
}
