use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{GuardedClient, GuardedClientBuilder, Resolve};
use crate::http_client::{HttpClient, HttpError, HttpErrorKind as Kind};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers every name with the local machine.
#[derive(Debug)]
struct Local;

#[async_trait]
impl Resolve for Local {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![LOCAL])
    }
}

type Heads = Arc<Mutex<Vec<String>>>;

/// Answers one request for each connection with what `answer` makes of its head.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    heads: Heads,
    answer: Arc<dyn Fn(&str) -> String + Send + Sync>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let text = answer(&head);
    heads.lock().unwrap().push(head);
    stream.write_all(text.as_bytes()).await?;
    if text.contains("slow") {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    stream.shutdown().await
}

struct Server {
    port: u16,
    heads: Heads,
    tls: Option<rustls::ClientConfig>,
}

impl Server {
    async fn start(tls: bool, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, client) = if tls {
            Some(tls_pair()).unzip()
        } else {
            (None, None)
        };
        let (heads, answer) = (Heads::default(), Arc::new(answer) as Arc<_>);
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer, acceptor) =
                    (Arc::clone(&seen), Arc::clone(&answer), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => serve(acceptor.accept(stream).await?, seen, answer).await,
                        None => serve(stream, seen, answer).await,
                    }
                });
            }
        });
        Self {
            port,
            heads,
            tls: client,
        }
    }

    fn url(&self, host: &str, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}{path}", self.port)
    }

    /// A client to which this machine is public.
    fn builder(&self) -> GuardedClientBuilder {
        let builder = GuardedClient::builder()
            .with_resolver(Arc::new(Local))
            .insecure_allow_addresses(|address| address == LOCAL);
        match &self.tls {
            Some(tls) => builder.with_tls(tls.clone()),
            None => builder,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn tls_pair() -> (TlsAcceptor, rustls::ClientConfig) {
    let names = ["a.test", "b.test"].map(String::from).to_vec();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), client)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

async fn get(client: &GuardedClient, url: &str) -> Result<Bytes, HttpError> {
    let request = Request::get(url)
        .header("authorization", "Bearer t")
        .header("x-api-key", "k")
        .header("accept", "text/plain")
        .body(Bytes::new())
        .unwrap();
    client
        .send(request)
        .await?
        .into_body()
        .collect(1 << 20)
        .await
}

async fn kind(client: &GuardedClient, url: &str) -> Kind {
    get(client, url).await.unwrap_err().kind()
}

#[tokio::test]
async fn nothing_inside_is_reached() {
    let server = Server::start(false, |_| ok("secret")).await;
    let client = GuardedClient::builder()
        .with_resolver(Arc::new(Local))
        .build()
        .unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "[::1]",
        "[::ffff:7f00:1]",
        "localhost",
        "any.test",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "0",
    ] {
        let url = format!("https://{host}:{}/", server.port);
        assert_eq!(kind(&client, &url).await, Kind::Blocked, "{url}");
    }
    assert_eq!(
        kind(&client, &server.url("127.0.0.1", "/")).await,
        Kind::Blocked,
        "http is refused"
    );
    for (url, expected) in [
        ("https://u:p@a.test/", Kind::InvalidRequest),
        ("/path", Kind::InvalidRequest),
        ("ftp://a.test/", Kind::InvalidRequest),
    ] {
        assert_eq!(kind(&client, url).await, expected, "{url}");
    }
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn the_operator_is_taken_at_their_word() {
    let server = Server::start(false, |_| ok("inside")).await;
    let client = GuardedClient::operator(&server.url("127.0.0.1", "/mcp?x")).unwrap();
    assert_eq!(
        get(&client, &server.url("127.0.0.1", "/other"))
            .await
            .unwrap(),
        "inside"
    );
    let request = Request::get(server.url("127.0.0.1", "/"))
        .body(Bytes::new())
        .unwrap();
    let body = client
        .request(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(body.to_bytes(), "inside");
    assert_eq!(
        kind(&client, &server.url("localhost", "/")).await,
        Kind::Blocked
    );
    assert_eq!(
        kind(&client, &format!("http://127.0.0.1:{}/", server.port ^ 1)).await,
        Kind::Blocked
    );
    assert_eq!(
        kind(&client, &format!("https://127.0.0.1:{}/", server.port)).await,
        Kind::Blocked
    );
    assert_eq!(
        kind(&client, "https://example.test/").await,
        Kind::Blocked,
        "an operator's http address comes without TLS"
    );
    for bad in ["", "mcp", "ftp://h/", "http://u:hunter2@h/"] {
        let error = GuardedClient::operator(bad).unwrap_err();
        assert!(error.key() == "origin", "{bad}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_name_that_changes_its_answer_gains_nothing() {
    #[derive(Debug, Default)]
    struct Rebinding(AtomicUsize);

    #[async_trait]
    impl Resolve for Rebinding {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => vec![LOCAL],
                1 => vec![IpAddr::from([10, 0, 0, 1])],
                _ => vec![LOCAL, IpAddr::from([169, 254, 169, 254])],
            })
        }
    }

    let server = Server::start(true, |_| ok("public")).await;
    let client = server
        .builder()
        .with_resolver(Arc::<Rebinding>::default())
        .build()
        .unwrap();
    let url = server.url("a.test", "/");
    assert_eq!(get(&client, &url).await.unwrap(), "public");
    assert_eq!(
        kind(&client, &url).await,
        Kind::Blocked,
        "the second answer is private"
    );
    assert_eq!(
        kind(&client, &url).await,
        Kind::Blocked,
        "one bad address spoils the answer"
    );
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let inside = Server::start(false, |_| ok("inside")).await;
    let private = inside.url("127.0.0.1", "/");
    let server = Server::start(true, move |head| {
        let path = head.split(' ').nth(1).unwrap();
        match path.split_at(2) {
            ("/n", "0") => ok("end"),
            ("/n", n) => to(302, &format!("/n{}", n.parse::<u32>().unwrap() - 1)),
            ("/x", port) => to(302, &format!("https://b.test:{port}/n0")),
            ("/p", port) => to(307, &format!("https://b.test:{port}/n0")),
            ("/h", _) => to(302, "http://a.test/"),
            ("/i", _) => to(302, &private),
            ("/m", _) => to(302, "https://169.254.169.254/latest"),
            ("/u", port) => to(302, &format!("https://u:p@a.test:{port}/n0")),
            ("/f", _) => to(302, "file:///etc/passwd"),
            _ => to(302, "https://:bad"),
        }
    })
    .await;
    let client = server.builder().build().unwrap();
    let url = |path: &str| server.url("a.test", path);
    assert_eq!(get(&client, &url("/n3")).await.unwrap(), "end");
    assert_eq!(kind(&client, &url("/n4")).await, Kind::Redirect);
    assert!(
        server.heads().iter().all(|head| head.contains("Bearer t")),
        "same origin keeps credentials"
    );

    get(&client, &url(&format!("/x{}", server.port)))
        .await
        .unwrap();
    let last = server.heads().pop().unwrap();
    assert!(
        last.contains("b.test") && last.contains("accept: text/plain"),
        "{last}"
    );
    assert!(
        !last.contains("authorization") && !last.contains("x-api-key"),
        "{last}"
    );

    for path in ["/h", "/i", "/u1", "/f", "/z"] {
        assert_eq!(kind(&client, &url(path)).await, Kind::Redirect, "{path}");
    }
    assert_eq!(kind(&client, &url("/m")).await, Kind::Blocked);
    let post = Request::post(url(&format!("/p{}", server.port)))
        .body(Bytes::from_static(b"secret"))
        .unwrap();
    assert_eq!(client.send(post).await.unwrap_err().kind(), Kind::Redirect);
}

#[tokio::test]
async fn no_redirect_crosses_the_border_of_an_allowed_origin() {
    let inside = Server::start(false, |_| ok("inside")).await;
    let private = inside.url("127.0.0.1", "/");
    let server = Server::start(true, move |head| match head.split(' ').nth(1).unwrap() {
        "/in" => to(302, &private),
        port => to(302, &format!("https://b.test:{}/", &port[1..])),
    })
    .await;
    let url = |path: &str| server.url("a.test", path);
    let both = server
        .builder()
        .allow_origin(&inside.url("127.0.0.1", "/"))
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(
        kind(&both, &url("/in")).await,
        Kind::Redirect,
        "no way to the operator's origin"
    );
    let mine = server
        .builder()
        .allow_origin(&url("/"))
        .unwrap()
        .build()
        .unwrap();
    let away = url(&format!("/{}", server.port));
    assert_eq!(kind(&mine, &away).await, Kind::Redirect, "no way from it");
    assert!(inside.heads().is_empty());
}

#[tokio::test]
async fn a_post_that_is_sent_elsewhere_becomes_a_get() {
    let server = Server::start(false, |head| {
        if head.starts_with("POST") {
            to(303, "/done")
        } else {
            ok("done")
        }
    })
    .await;
    let client = GuardedClient::operator(&server.url("127.0.0.1", "")).unwrap();
    let request = Request::builder()
        .method(Method::POST)
        .uri(server.url("127.0.0.1", "/"))
        .header("content-type", "text/plain")
        .header("host", "elsewhere.test")
        .body(Bytes::new())
        .unwrap();
    let body = client
        .send(request)
        .await
        .unwrap()
        .into_body()
        .collect(10)
        .await
        .unwrap();
    assert_eq!(body, "done");
    let heads = server.heads();
    assert!(
        heads[1].starts_with("GET /done") && !heads[1].contains("content-type"),
        "{}",
        heads[1]
    );
    assert!(
        heads.iter().all(|head| !head.contains("elsewhere")),
        "the address names the host"
    );
}

#[tokio::test]
async fn size_and_time_are_bounded() {
    let server = Server::start(false, |head| match head.split(' ').nth(1).unwrap() {
        "/big" => ok(&"x".repeat(2000)),
        "/chunked" => format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
            "x".repeat(2000)
        ),
        "/body" => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow".into(),
        "/headers" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200)),
        "/junk" => "slow? no: not HTTP\r\n\r\n".replace("slow", "what"),
        _ => "HTTP/1.1 200 slow".into(),
    })
    .await;
    let client = GuardedClient::builder()
        .allow_origin(&server.url("127.0.0.1", ""))
        .unwrap()
        .with_max_body(1000)
        .with_total_timeout(Some(Duration::from_millis(200)))
        .build()
        .unwrap();
    for (path, expected) in [
        ("/big", Kind::TooLarge),
        ("/chunked", Kind::TooLarge),
        ("/body", Kind::Timeout),
        ("/head", Kind::Timeout),
        ("/headers", Kind::Protocol),
        ("/junk", Kind::Protocol),
    ] {
        assert_eq!(
            kind(&client, &server.url("127.0.0.1", path)).await,
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn connecting_is_bounded() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Accepts, and never answers the TLS handshake.
    let client = GuardedClient::builder()
        .allow_origin(&format!("https://127.0.0.1:{port}"))
        .unwrap()
        .with_connect_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    assert_eq!(
        kind(&client, &format!("https://127.0.0.1:{port}/")).await,
        Kind::Timeout
    );
    drop(listener);
    assert_eq!(
        kind(&client, &format!("https://127.0.0.1:{port}/")).await,
        Kind::Connect
    );
}

#[tokio::test]
async fn an_answer_is_asked_for_without_a_coding_and_one_that_has_one_is_named() {
    let server = Server::start(false, |head| {
        assert!(head.contains("accept-encoding: identity"), "{head}");
        match head.split(' ').nth(1) {
            Some("/gzip") => {
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx".into()
            }
            _ => ok("plain"),
        }
    })
    .await;
    let client = GuardedClient::operator(&server.url("127.0.0.1", "")).unwrap();
    let plain = get(&client, &server.url("127.0.0.1", "/")).await;
    assert_eq!(plain.unwrap(), "plain");
    let error = get(&client, &server.url("127.0.0.1", "/gzip"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol);
    assert!(error.to_string().contains("gzip"), "{error}");
}

#[tokio::test]
async fn each_step_of_a_connection_fails_in_its_own_words() {
    #[derive(Debug)]
    struct Nowhere;

    #[async_trait]
    impl Resolve for Nowhere {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::Error::other("no such name"))
        }
    }

    let distrusted = Server::start(true, |_| ok("never read")).await;
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let nowhere = distrusted.builder().with_resolver(Arc::new(Nowhere));
    let (_, tls) = tls_pair();
    for (builder, url, parts) in [
        (
            nowhere,
            "https://a.test/".to_owned(),
            ["resolve the host name a.test", "no such name"],
        ),
        (
            distrusted.builder(),
            format!("https://a.test:{}/", closed.port()),
            ["cannot connect to 127.0.0.1", "refused"],
        ),
        (
            distrusted.builder(),
            format!("https://a.test:{}/", distrusted.port),
            ["TLS handshake failed", "certificate"],
        ),
    ] {
        let client = builder.with_tls(tls.clone()).build().unwrap();
        let error = get(&client, &url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Connect, "{error:?}");
        for part in parts {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn only_307_and_308_to_the_same_origin_move_a_request() {
    let sent = "http://a.test/mcp".parse().unwrap();
    for (status, location, moved) in [
        (307, "/mcp/", Some("http://a.test/mcp/")),
        (308, "http://a.test:80/mcp/?x", Some("http://a.test/mcp/?x")),
        (308, "http://b.test/mcp/", None),
        (308, "https://a.test/mcp/", None),
        (308, "http://u:p@a.test/", None),
        (301, "/mcp/", None),
        (303, "/mcp/", None),
        (200, "/mcp/", None),
    ] {
        let answer = http::Response::builder()
            .status(status)
            .header("location", location)
            .body(())
            .unwrap();
        let found = crate::http_client::moved_to(&sent, &answer);
        assert_eq!(
            found,
            moved.map(|uri| uri.parse().unwrap()),
            "{status} {location}"
        );
    }
}
