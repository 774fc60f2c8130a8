/// What is wrong with a configuration, found before anything starts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An upstream's id has characters that are not allowed.
    #[error("upstream id {0:?} is not 1 to 32 of the characters a-z, 0-9 and '-'")]
    UpstreamId(String),
    /// Two upstreams have the same id.
    #[error("two upstreams are named {0:?}; ids must differ")]
    DuplicateUpstream(String),
    /// An allowed host or origin is malformed.
    #[error("allowed {what} {value:?} is malformed: {remedy}")]
    Allowed {
        /// `host` or `origin`.
        what: &'static str,
        /// The value as it was given.
        value: String,
        /// What it should look like.
        remedy: &'static str,
    },
    /// An option's value makes no sense.
    #[error("{option} = {value}: {remedy}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// The value as it was given.
        value: String,
        /// What to give instead.
        remedy: &'static str,
    },
    /// TLS has no cryptography provider.
    #[error("no TLS provider: enable the feature `tls-aws-lc` or pass a rustls provider")]
    NoTlsProvider,
    /// TLS cannot be set up: the provider is unfit, or the system's root certificates cannot be read.
    #[error("TLS cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}
