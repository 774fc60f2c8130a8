//! How [`GuardedClient`] keeps, reuses and closes connections over `http`.
#![cfg(feature = "http-client")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use mcp_core::http_client::{GuardedClient, HttpErrorKind, IncomingBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Connection = BufReader<TcpStream>;

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A server whose connections the test itself answers.
struct Server {
    url: String,
    listener: TcpListener,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        Self { url, listener }
    }

    async fn accept(&self) -> Connection {
        let accepted = timeout(Duration::from_secs(5), self.listener.accept());
        BufReader::new(accepted.await.expect("a connection").unwrap().0)
    }

    async fn has_no_other(&self) {
        let accepted = timeout(Duration::from_millis(50), self.listener.accept());
        assert!(accepted.await.is_err(), "another connection");
    }

    fn client(&self) -> GuardedClient {
        GuardedClient::operator(&self.url).unwrap()
    }

    fn post(&self, body: impl Into<Bytes>) -> Request<Bytes> {
        Request::post(&self.url).body(body.into()).unwrap()
    }
}

/// Reads a request; returns its head and body.
async fn read(connection: &mut Connection) -> (String, Vec<u8>) {
    let head = read_head(connection).await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.unwrap();
    (head, body)
}

async fn read_head(connection: &mut Connection) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn write(connection: &mut Connection, text: &str) {
    connection.write_all(text.as_bytes()).await.unwrap();
}

/// Waits until the client has closed the connection.
async fn closed(connection: &mut Connection) {
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(5), connection.read_to_end(&mut rest));
    // A reset is an end as well.
    let _ = end.await.expect("the connection to be closed");
    assert_eq!(rest, b"");
}

async fn text(response: Response<IncomingBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn a_connection_is_used_again_whatever_shape_the_answer_before_had() {
    let server = Server::start().await;
    let client = server.client();
    let shapes = [
        (WHOLE, "hello"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
            "abcde",
        ),
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx",
            "x",
        ),
    ];
    let serving = async {
        let mut connection = server.accept().await;
        for (answer, _) in shapes {
            let (head, body) = read(&mut connection).await;
            assert!(head.starts_with("POST /mcp HTTP/1.1\r\n"), "{head}");
            assert_eq!(head.matches("host: 127.0.0.1:").count(), 1, "{head}");
            assert_eq!(body, b"question");
            write(&mut connection, answer).await;
        }
        server.has_no_other().await;
    };
    let asking = async {
        for (_, expected) in shapes {
            let response = client.request(server.post("question")).await.unwrap();
            assert_eq!(text(response).await, expected);
        }
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_meanwhile_fails_no_request() {
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        for answer in [
            WHOLE,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.0 200 OK\r\n\r\nto the end",
            WHOLE,
        ] {
            let mut connection = server.accept().await;
            read(&mut connection).await;
            write(&mut connection, answer).await;
        }
    };
    let asking = async {
        for expected in ["hello", "no", "to the end", "hello"] {
            let response = client.request(server.post("question")).await.unwrap();
            assert_eq!(text(response).await, expected);
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn a_request_whose_connection_breaks_under_it_is_not_sent_again() {
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
        read(&mut connection).await;
        drop(connection);
        server.has_no_other().await;
    };
    let asking = async {
        text(client.request(server.post("one")).await.unwrap()).await;
        let error = client.request(server.post("two")).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Protocol, "{error}");
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn what_a_server_sends_unasked_is_never_the_answer_to_the_next_request() {
    const UNASKED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad";
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        // With the answer, and a moment after it.
        for pause in [0, 30] {
            let mut connection = server.accept().await;
            read(&mut connection).await;
            if pause == 0 {
                write(&mut connection, &format!("{WHOLE}{UNASKED}")).await;
            } else {
                write(&mut connection, WHOLE).await;
                sleep(Duration::from_millis(pause)).await;
                write(&mut connection, UNASKED).await;
            }
            closed(&mut connection).await;
        }
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
    };
    let asking = async {
        for _ in 0..3 {
            let response = client.request(server.post("question")).await.unwrap();
            assert_eq!(text(response).await, "hello");
            sleep(Duration::from_millis(60)).await;
        }
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn a_body_that_is_dropped_leaves_its_connection_if_all_has_arrived_and_closes_it_otherwise() {
    let server = Server::start().await;
    let client = server.client();
    let (arrived, mut has_arrived) = mpsc::channel(1);
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
        read(&mut connection).await;
        write(
            &mut connection,
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        )
        .await;
        arrived.send(()).await.unwrap();
        closed(&mut connection).await;
        let mut another = server.accept().await;
        read(&mut another).await;
        write(&mut another, WHOLE).await;
    };
    let asking = async {
        drop(client.request(server.post("one")).await.unwrap());
        let mut unfinished = client.request(server.post("two")).await.unwrap();
        has_arrived.recv().await.unwrap();
        let part = unfinished.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), "hello");
        assert!(!unfinished.body().is_end_stream());
        drop(unfinished);
        assert_eq!(
            text(client.request(server.post("three")).await.unwrap()).await,
            "hello"
        );
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        closed(&mut connection).await;
    };
    let asking = async {
        let asked = timeout(
            Duration::from_millis(100),
            client.request(server.post("question")),
        );
        assert!(asked.await.is_err());
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn an_answer_before_the_request_has_been_read_does_not_cut_the_request() {
    const LARGE: usize = 8 << 20;
    let server = Server::start().await;
    let client = server.client();
    let (all_read, mut is_read) = mpsc::channel(1);
    let serving = async {
        let mut connection = server.accept().await;
        let head = read_head(&mut connection).await;
        assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
        write(
            &mut connection,
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        sleep(Duration::from_millis(50)).await;
        let mut body = vec![0; LARGE];
        connection.read_exact(&mut body).await.unwrap();
        assert!(body.iter().all(|byte| *byte == b'x'));
        all_read.send(()).await.unwrap();
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
        server.has_no_other().await;
    };
    let asking = async {
        let response = client
            .request(server.post(vec![b'x'; LARGE]))
            .await
            .unwrap();
        assert_eq!(response.status(), 202);
        drop(response);
        is_read.recv().await.unwrap();
        // Until the client has noticed as well.
        sleep(Duration::from_millis(100)).await;
        text(client.request(server.post("next")).await.unwrap()).await;
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn unused_connections_are_closed_in_time_and_only_so_many_are_kept() {
    let server = Server::start().await;
    let builder = || GuardedClient::builder().allow_origin(&server.url).unwrap();
    let short = Duration::from_millis(100);
    let few = builder().with_idle_connections(short, 1).build().unwrap();
    let none = builder().with_idle_connections(short, 0).build().unwrap();
    for (client, kept) in [(few, 1), (none, 0)] {
        let both = async {
            tokio::join!(
                client.request(server.post("")),
                client.request(server.post(""))
            )
        };
        let serving = async {
            let mut connections = [server.accept().await, server.accept().await];
            for connection in &mut connections {
                read(connection).await;
                write(connection, WHOLE).await;
            }
            connections
        };
        let ((one, two), mut connections) = tokio::join!(both, serving);
        text(one.unwrap()).await;
        text(two.unwrap()).await;
        let mut open = 0;
        for connection in &mut connections {
            let end = timeout(Duration::from_millis(50), connection.read_u8()).await;
            open += usize::from(end.is_err());
        }
        assert_eq!(open, kept);
        for connection in &mut connections {
            closed(connection).await;
        }
    }
}

#[tokio::test]
async fn an_unused_connection_that_its_server_closes_is_let_go() {
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
        connection
    };
    let asking = async { text(client.request(server.post("")).await.unwrap()).await };
    let (mut connection, _) = tokio::join!(serving, asking);
    // Only the direction to the client: it has to close the other.
    connection.shutdown().await.unwrap();
    closed(&mut connection).await;
}

#[tokio::test]
async fn unused_connections_are_closed_with_their_client() {
    let server = Server::start().await;
    let client = server.client();
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(&mut connection, WHOLE).await;
        closed(&mut connection).await;
    };
    let asking = async {
        text(client.request(server.post("")).await.unwrap()).await;
        drop(client);
    };
    tokio::join!(serving, asking);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_be_read_in_another_task_and_given_up_between_its_parts() {
    let server = Server::start().await;
    let client = server.client();
    let (next, mut wanted) = mpsc::channel::<()>(1);
    let serving = async {
        let mut connection = server.accept().await;
        read(&mut connection).await;
        write(
            &mut connection,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
        for part in ["1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n", "0\r\n\r\n"] {
            wanted.recv().await.unwrap();
            write(&mut connection, part).await;
        }
        connection
    };
    let asking = async {
        let mut body = client.request(server.post("")).await.unwrap().into_body();
        next.send(()).await.unwrap();
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "a");
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            loop {
                let Ok(frame) = timeout(Duration::from_millis(20), body.frame()).await else {
                    next.send(()).await.unwrap();
                    continue;
                };
                match frame {
                    Some(frame) => read.extend(frame.unwrap().into_data().unwrap()),
                    None => return read,
                }
            }
        });
        assert_eq!(reading.await.unwrap(), b"bc");
    };
    let _connection = tokio::join!(serving, asking).0;
}

#[test]
fn a_client_outlives_the_runtime_of_its_connections() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let serving = runtime();
    let server = serving.block_on(Server::start());
    let client = server.client();
    let url = server.url.clone();
    let (done, mut is_done) = mpsc::channel::<()>(1);
    let thread = std::thread::spawn(move || {
        serving.block_on(async move {
            let mut kept = Vec::new();
            for _ in 0..2 {
                let mut connection = server.accept().await;
                read(&mut connection).await;
                write(&mut connection, WHOLE).await;
                kept.push(connection);
            }
            is_done.recv().await;
        });
    });
    for _ in 0..2 {
        runtime().block_on(async {
            let request = Request::post(&url).body(Bytes::new()).unwrap();
            assert_eq!(text(client.request(request).await.unwrap()).await, "hello");
        });
    }
    drop(done);
    thread.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_each_get_their_own_answer_over_few_connections() {
    const CALLERS: usize = 32;
    const CALLS: usize = 100;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            tokio::spawn(async move {
                let mut connection = BufReader::new(stream);
                loop {
                    let (_, body) = read(&mut connection).await;
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    write(&mut connection, &head).await;
                    // In two writes, so that the body may come later than the head.
                    tokio::task::yield_now().await;
                    connection.write_all(&body).await.unwrap();
                }
            });
        }
    });
    let client = GuardedClient::operator(&url).unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (client, url) = (client.clone(), url.clone());
        callers.spawn(async move {
            for call in 0..CALLS {
                let body = format!("{caller} {call} ").repeat(1 + caller * call * 7);
                let request = Request::post(&url).body(body.clone().into()).unwrap();
                assert_eq!(text(client.request(request).await.unwrap()).await, body);
            }
        });
    }
    let all = timeout(Duration::from_secs(60), callers.join_all());
    all.await.expect("every answer to come");
    let accepted = accepted.load(SeqCst);
    assert!(accepted <= CALLERS, "{accepted} connections");
}
