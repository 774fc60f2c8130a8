//! The HTTP server: slow clients, the bound on connections, the order of a shutdown.
#![cfg(feature = "serve")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use mcp_core::{
    Bounds, Drain, Error, Json, Method, Request, Response, Timing,
    serve::Server,
    transport::http::{HttpConfig, HttpTransport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tower::service_fn;

const LONG: Duration = Duration::from_secs(30);

/// Notes in which order parts end.
struct Part(&'static str, Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Drain for Part {
    async fn drain(&self, _: Duration) -> bool {
        self.1.lock().unwrap().push(format!("drain {}", self.0));
        true
    }

    async fn close(&self) {
        self.1.lock().unwrap().push(format!("close {}", self.0));
    }
}

struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    abort: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
    /// Says that a call of a tool has begun.
    started: Arc<Notify>,
    /// Lets a call of a tool finish.
    go: Arc<Notify>,
    ended: Arc<Mutex<Vec<String>>>,
}

async fn start(timing: Timing, bounds: Bounds) -> Running {
    let go = Arc::new(Notify::new());
    let started = Arc::new(Notify::new());
    let (waits, begun) = (Arc::clone(&go), Arc::clone(&started));
    let service = service_fn(move |request: Request| {
        let (waits, begun) = (Arc::clone(&waits), Arc::clone(&begun));
        async move {
            if *request.method() == Method::TOOLS_CALL {
                begun.notify_one();
                waits.notified().await;
            }
            Ok::<_, Error>(Response::new(Json::EMPTY_OBJECT))
        }
    });
    let transport = HttpTransport::new(service, HttpConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::default();
    let (stop, stopped) = oneshot::channel();
    let (abort, aborted) = oneshot::channel();
    let server = Server::new(listener)
        .with_timing(timing)
        .with_bounds(bounds)
        .with_part(transport.clone())
        .with_part(Part("first", Arc::clone(&ended)))
        .with_part(Part("second", Arc::clone(&ended)));
    let stopped = async { drop(stopped.await) };
    let aborted = async { drop(aborted.await) };
    Running {
        address,
        stop: Some(stop),
        abort: Some(abort),
        served: tokio::spawn(server.serve_until(transport, stopped, aborted)),
        started,
        go,
        ended,
    }
}

fn request(method: &str, body_len: Option<usize>) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"wait","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    let length = body.len();
    let sent = &body[..body_len.unwrap_or(length)];
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nmcp-protocol-version: 2026-07-28\r\n\
         mcp-method: {method}\r\nmcp-name: wait\r\ncontent-length: {length}\r\n\r\n{sent}"
    )
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads until the answer has come or the connection has ended.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let until = async {
        loop {
            let more = stream.read_buf(&mut read).await.unwrap_or(0);
            if more == 0 || read.ends_with(b"}") {
                return;
            }
        }
    };
    timeout(LONG, until).await.expect("an answer or an end");
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn one_address_has_a_bounded_number_of_connections() {
    let bounds = Bounds::default().with_connections_per_peer(NonZeroUsize::new(2).unwrap());
    let running = start(Timing::default(), bounds).await;
    let list = request("tools/list", None);
    let mut first = send(running.address, &list).await;
    let mut second = send(running.address, &list).await;
    for stream in [&mut first, &mut second] {
        assert!(answer(stream).await.starts_with("HTTP/1.1 200"));
    }
    let mut third = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(answer(&mut third).await, "", "closed at once");
    drop(first);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            // An error says that the server has closed it already.
            let _ = stream.write_all(list.as_bytes()).await;
            if answer(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    timeout(LONG, again).await.expect("there is room again");
}

#[tokio::test]
async fn heads_and_bodies_that_do_not_come_end_their_connection() {
    let timing = Timing::default()
        .with_request_head(Duration::from_millis(100))
        .with_request_body(Duration::from_millis(100));
    let running = start(timing, Bounds::default()).await;
    let mut head = send(running.address, "POST /mcp HT").await;
    let mut body = send(running.address, &request("tools/list", Some(10))).await;
    assert_eq!(answer(&mut head).await, "");
    let refused = answer(&mut body).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    let mut good = send(running.address, &request("tools/list", None)).await;
    assert!(answer(&mut good).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_are_bounded_and_one_that_ends_makes_room() {
    let bounds = Bounds::default().with_connections(NonZeroUsize::MIN);
    let running = start(Timing::default(), bounds).await;
    let mut first = send(running.address, &request("tools/list", None)).await;
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = send(running.address, &request("tools/list", None)).await;
    let waits = timeout(Duration::from_millis(100), second.readable()).await;
    assert!(waits.is_err(), "the first connection is open");
    drop(first);
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_shutdown_lets_calls_finish_and_ends_parts_in_order() {
    let mut running = start(Timing::default(), Bounds::default()).await;
    let mut call = send(running.address, &request("tools/call", None)).await;
    running.started.notified().await;
    drop(running.stop.take());
    let refused = loop {
        let mut late = send(running.address, &request("tools/list", None)).await;
        let answer = answer(&mut late).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    running.go.notify_one();
    let finished = answer(&mut call).await;
    assert!(finished.starts_with("HTTP/1.1 200"), "{finished}");
    timeout(LONG, running.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let ended = running.ended.lock().unwrap().clone();
    assert_eq!(
        ended,
        ["drain first", "drain second", "close first", "close second"]
    );
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let timing = Timing::default()
        .with_drain(Duration::from_secs(3600))
        .with_flush(Duration::from_secs(3600));
    let mut running = start(timing, Bounds::default()).await;
    let mut call = send(running.address, &request("tools/call", None)).await;
    running.started.notified().await;
    drop(running.stop.take());
    drop(running.abort.take());
    timeout(LONG, running.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let closed = ["close first", "close second"];
    assert!(
        running
            .ended
            .lock()
            .unwrap()
            .ends_with(&closed.map(str::to_owned))
    );
    drop(answer(&mut call).await);
}
