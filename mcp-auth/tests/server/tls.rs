//! Client certificates over a real TLS connection.

use std::sync::Arc;

use axum::{Extension, Router, routing::get};
use mcp_auth::server::{CertificateName, MtlsScheme, PeerCertificate, ResourceServer, TlsListener};
use mcp_core::Principal;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        server::WebPkiClientVerifier,
    },
};

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn authority() -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.der().clone())
}

fn leaf(issuer: &Issuer<'_, KeyPair>, names: Vec<SanType>) -> Pair {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (
        certificate.der().clone(),
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
}

async fn ask(port: u16, root: &CertificateDer<'static>, own: Option<Pair>) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .ok()?;
    let request = "GET /who HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Serves whoever shows a certificate of an authority, or none, and says who that is.
async fn serve(server: Pair, root: &CertificateDer<'static>) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.0], server.1)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let auth = ResourceServer::builder("https://gw.example/mcp")
        .authorization_server("https://as.example")
        .scheme(MtlsScheme::new("spiffe://example", CertificateName::Uri))
        .build()
        .unwrap();
    let who = |who: Extension<Principal>| async move { who.subject().to_owned() };
    let app = Router::new().route("/who", get(who)).layer(auth.layer());
    let listener = TlsListener::new(listener, Arc::new(config)).unwrap();
    let app = app.into_make_service_with_connect_info::<PeerCertificate>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test]
async fn a_certificate_of_the_authority_names_its_owner() {
    let (issuer, root) = authority();
    let (stranger, _) = authority();
    let names = vec![SanType::DnsName("localhost".try_into().unwrap())];
    let port = serve(leaf(&issuer, names), &root).await;
    // A client that never shakes hands must not hold up the others.
    let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let uri = |name: &str| vec![SanType::URI(name.try_into().unwrap())];
    let known = ask(
        port,
        &root,
        Some(leaf(&issuer, uri("spiffe://example/robot"))),
    )
    .await
    .unwrap();
    assert!(
        known.starts_with("HTTP/1.1 200") && known.ends_with("spiffe://example/robot"),
        "{known}"
    );
    let nameless = ask(port, &root, Some(leaf(&issuer, Vec::new())))
        .await
        .unwrap();
    assert!(nameless.starts_with("HTTP/1.1 401"), "{nameless}");
    let nobody = ask(port, &root, None).await.unwrap();
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
    let foreign = ask(
        port,
        &root,
        Some(leaf(&stranger, uri("spiffe://example/robot"))),
    )
    .await;
    assert!(foreign.is_none_or(|answer| !answer.contains("200")));
}
