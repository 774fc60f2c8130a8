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
