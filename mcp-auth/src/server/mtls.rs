//! Who is at the other end of a TLS connection.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::extract::connect_info::{ConnectInfo, Connected};
use mcp_core::Principal;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Identity, Presented, Refusal, Scheme};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How many handshakes may be in progress at once.
const HANDSHAKES: usize = 1024;

/// The certificate of the client of a connection, which the TLS handshake has verified.
///
/// A listener puts it into the extensions of each request of the connection: [`TlsListener`] does so with axum's
/// `into_make_service_with_connect_info::<PeerCertificate>()`.
#[derive(Clone)]
pub struct PeerCertificate(Option<Arc<[u8]>>);

impl PeerCertificate {
    /// States that the peer of a connection has proved to own a certificate, given in DER.
    ///
    /// # Security
    ///
    /// Only for code that has the certificate from a completed handshake whose verifier checked it.
    #[must_use]
    pub fn verified(der: &[u8]) -> Self {
        Self(Some(der.into()))
    }

    /// States that the peer has shown none.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    fn der(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }

    /// Finds the certificate of the connection that a request came over.
    pub(super) fn of(extensions: &http::Extensions) -> Option<&Self> {
        let own = extensions.get::<Self>();
        own.or_else(|| extensions.get::<ConnectInfo<Self>>().map(|info| &info.0))
            .filter(|peer| peer.0.is_some())
    }

    /// SHA-256 of the certificate (RFC 8705, section 3.1).
    pub(super) fn thumbprint(&self) -> Option<[u8; 32]> {
        Some(Sha256::digest(self.der()?).into())
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCertificate({})", self.0.is_some())
    }
}

/// Which name of a certificate is the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateName {
    /// The first URI among the alternative names, such as a SPIFFE id.
    Uri,
    /// The first DNS name among the alternative names.
    Dns,
    /// The first e-mail address among the alternative names.
    Email,
    /// The common name of the subject.
    CommonName,
}

/// Judges client certificates. A request that carries a token is left to the other schemes.
#[derive(Debug)]
pub struct MtlsScheme {
    issuer: String,
    name: CertificateName,
    scopes: Vec<String>,
}

impl MtlsScheme {
    /// Takes a name of the certificate for the subject, vouched for by `issuer`, which names the authority whose
    /// certificates the listener accepts.
    #[must_use]
    pub fn new(issuer: &str, name: CertificateName) -> Self {
        Self {
            issuer: issuer.to_owned(),
            name,
            scopes: Vec::new(),
        }
    }

    /// Grants scopes to every certificate. Default is none.
    #[must_use]
    pub fn with_scopes<'a>(mut self, scopes: impl IntoIterator<Item = &'a str>) -> Self {
        self.scopes = scopes.into_iter().map(str::to_owned).collect();
        self
    }

    fn subject(&self, certificate: &X509Certificate<'_>) -> Option<String> {
        if self.name == CertificateName::CommonName {
            let mut names = certificate.subject().iter_common_name();
            return names.next()?.as_str().ok().map(str::to_owned);
        }
        let names = certificate.subject_alternative_name().ok()??;
        names
            .value
            .general_names
            .iter()
            .find_map(|name| match (self.name, name) {
                (CertificateName::Uri, GeneralName::URI(name))
                | (CertificateName::Dns, GeneralName::DNSName(name))
                | (CertificateName::Email, GeneralName::RFC822Name(name)) => {
                    Some((*name).to_owned())
                }
                _ => None,
            })
    }
}

#[async_trait]
impl Scheme for MtlsScheme {
    fn name(&self) -> &'static str {
        "mtls"
    }

    fn takes(&self, presented: &Presented<'_>) -> bool {
        presented.bearer.is_none() && PeerCertificate::of(presented.extensions).is_some()
    }

    async fn verify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        const UNREADABLE: Refusal = Refusal::invalid("the client certificate has no such name");
        let peer = PeerCertificate::of(presented.extensions).and_then(PeerCertificate::der);
        let (_, certificate) =
            X509Certificate::from_der(peer.ok_or(UNREADABLE)?).map_err(|_| UNREADABLE)?;
        let subject = self
            .subject(&certificate)
            .filter(|subject| !subject.is_empty())
            .ok_or(UNREADABLE)?;
        let principal = Principal::authenticated(&self.issuer, &subject)
            .with_scopes(self.scopes.iter().map(String::as_str));
        let mut identity = Identity::new(principal);
        let end = u64::try_from(certificate.validity().not_after.timestamp());
        // An end before 1970 is one all the same.
        let end = Duration::from_secs(end.unwrap_or_default());
        identity.expires = Some(std::time::SystemTime::UNIX_EPOCH + end);
        Ok(identity)
    }
}

/// Accepts TLS connections for `axum::serve` and knows the certificates of their clients.
///
/// A client that is slow to shake hands holds up no one else. Dropping the listener stops it.
#[derive(Debug)]
pub struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: AbortHandle,
}

impl TlsListener {
    /// Accepts connections by a TLS configuration, which decides whether and which client certificates are taken.
    ///
    /// # Errors
    ///
    /// The listener has no address.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(64);
        let acceptor = TlsAcceptor::from(config);
        let accepting = tokio::spawn(accept_all(listener, acceptor, sender)).abort_handle();
        Ok(Self {
            address,
            ready,
            accepting,
        })
    }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.len() >= HANDSHAKES {
            handshakes.join_next().await;
        }
        while handshakes.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, for instance: give others the time to close some.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        handshakes.spawn(async move {
            // Small answers must not wait for others.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
                Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The task that accepts ends with this listener, and not before.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Connected<axum::serve::IncomingStream<'_, TlsListener>> for PeerCertificate {
    fn connect_info(stream: axum::serve::IncomingStream<'_, TlsListener>) -> Self {
        let (_, connection) = stream.io().get_ref();
        let first = connection.peer_certificates().and_then(<[_]>::first);
        first.map_or(Self::none(), |der| Self::verified(der))
    }
}
