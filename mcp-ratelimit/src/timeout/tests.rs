use std::time::Duration;

use mcp_core::{Deadline, Error, ErrorKind, Method, Notification, Notifier, Request, Response};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::{HttpTimeoutLayer, TimeoutLayer};

const SECOND: Duration = Duration::from_secs(1);

/// Sends progress every second for `steps` seconds, then answers.
async fn works(request: Request, steps: u32) -> Result<Response, Error> {
    for _ in 0..steps {
        sleep(SECOND).await;
        request
            .notifier()
            .notify(Notification::new(Method::PROGRESS, None))
            .await?;
    }
    sleep(SECOND).await;
    Ok(Response::empty())
}

fn ping() -> Request {
    Request::new(Method::PING, None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn progress_resets_the_idle_time_but_not_the_deadline() {
    let (notifier, _stream) = Notifier::channel(100.try_into().unwrap());
    let run = |layer: TimeoutLayer, request: Request, steps| async move {
        let start = Instant::now();
        let result = layer
            .layer(service_fn(move |r| works(r, steps)))
            .oneshot(request)
            .await;
        (
            result.err().map(|error| error.kind()),
            start.elapsed().as_secs(),
        )
    };
    let noisy = || ping().with_notifier(notifier.clone());
    let idle = TimeoutLayer::by_request().with_idle(SECOND * 2);
    assert_eq!(run(idle, noisy(), 9).await, (None, 10));
    assert_eq!(
        run(idle, ping(), 9).await,
        (Some(ErrorKind::Timeout), 2),
        "nobody sees the progress"
    );
    let both = TimeoutLayer::new(SECOND * 5).with_idle(SECOND * 2);
    assert_eq!(run(both, noisy(), 9).await, (Some(ErrorKind::Timeout), 5));
    let carried = noisy().with_deadline(Deadline::after(SECOND * 3));
    assert_eq!(run(both, carried, 9).await, (Some(ErrorKind::Timeout), 3));
    assert_eq!(run(TimeoutLayer::by_request(), ping(), 9).await, (None, 10));
    assert_eq!(
        run(
            TimeoutLayer::new(Duration::MAX).with_idle(Duration::MAX),
            ping(),
            1
        )
        .await,
        (None, 2)
    );
    let past = ping().with_deadline(Deadline::at(Instant::now() - SECOND));
    assert_eq!(
        run(TimeoutLayer::by_request(), past, 9).await,
        (Some(ErrorKind::Timeout), 0)
    );
}

/// Answers after a time, as a person does.
struct Person(Duration);

#[async_trait::async_trait]
impl mcp_core::Ask for Person {
    async fn ask(&self, _: Method, _: Option<mcp_core::Json>) -> Result<mcp_core::Json, Error> {
        sleep(self.0).await;
        Ok(mcp_core::Json::EMPTY_OBJECT)
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_a_person_is_asked_does_not_count() {
    // One second of work, an answer of the client, one second of work.
    let asks = |method: Method| {
        service_fn(move |request: Request| {
            let method = method.clone();
            async move {
                sleep(SECOND).await;
                if let Some(asker) = request.asker() {
                    asker.ask(method, None).await?;
                }
                sleep(SECOND).await;
                Ok::<_, Error>(Response::empty())
            }
        })
    };
    let run = async |layer: TimeoutLayer, method: &str, request: Request| {
        let start = Instant::now();
        let person = mcp_core::Asker::new(Person(SECOND * 60));
        let service = layer.layer(asks(Method::new(method)));
        let result = service.oneshot(request.with_asker(person)).await;
        let kind = result.err().map(|error| error.kind());
        (kind, start.elapsed().as_secs())
    };
    let layer = TimeoutLayer::new(SECOND * 3).with_idle(SECOND * 2);
    let late = Some(ErrorKind::Timeout);
    for asked in ["elicitation/create", "sampling/createMessage"] {
        assert_eq!(run(layer, asked, ping()).await, (None, 62), "{asked}");
    }
    assert_eq!(run(layer, "roots/list", ping()).await, (late, 2));
    let whole = TimeoutLayer::new(SECOND * 3);
    assert_eq!(run(whole, "elicitation/create", ping()).await, (None, 62));
    let bounded = whole.with_longest_pause(SECOND * 10);
    assert_eq!(run(bounded, "elicitation/create", ping()).await, (late, 13));
    let never = whole.with_longest_pause(Duration::ZERO);
    assert_eq!(run(never, "elicitation/create", ping()).await, (late, 3));
    // The client's own deadline is the client's.
    let carried = ping().with_deadline(Deadline::after(SECOND * 5));
    assert_eq!(run(layer, "elicitation/create", carried).await, (late, 5));
}

#[tokio::test(start_paused = true)]
async fn plain_http_is_answered_504() {
    let slow = service_fn(|_: http::Request<()>| async {
        sleep(SECOND).await;
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    for (longest, status) in [(SECOND * 2, 200), (SECOND / 2, 504)] {
        let answer = HttpTimeoutLayer::new(longest)
            .layer(slow)
            .oneshot(http::Request::new(()))
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
    }
}
