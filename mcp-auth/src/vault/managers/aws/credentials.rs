use std::{fmt, path::Path, path::PathBuf, sync::Arc};

use mcp_core::{http_client::HttpClient, secret::Secret};
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, AssumeRoleWithWebIdentityCredentialProvider, Credential,
    ECSCredentialProvider, EnvCredentialProvider, IMDSv2CredentialProvider,
    ProfileCredentialProvider, RequestSigner, SSOCredentialProvider,
};
use reqsign_core::{Context, Signer};

use crate::vault::managers::roles::{FirstOf, Fixed, Provider, Surroundings};

/// As whom AWS is asked. Clones share nothing but what they are made from.
///
/// The crate `reqsign-aws-v4` gets the credentials when they are needed, keeps them, and gets new ones two minutes before they
/// end; if that fails, calls fail, even while the old ones last. Variables are those that the caller gives, usually
/// [`std::env::vars`]: the environment itself is never read.
///
/// # Metadata services
///
/// Roles of instances and containers come over plain `http` from addresses in the local network (169.254.169.254 for
/// instances, 169.254.170.2 for ECS, 169.254.170.23 for EKS), which no client for addresses of others may reach. They are
/// asked with a client of their own:
///
/// ```no_run
/// use std::sync::Arc;
///
/// use mcp_auth::vault::AwsCredentials;
/// use mcp_core::http_client::GuardedClient;
///
/// # fn main() -> Result<(), mcp_core::ConfigError> {
/// let metadata = GuardedClient::builder()
///     .allow_origin("http://169.254.169.254")?
///     .without_tls()
///     .build()?;
/// let credentials = AwsCredentials::instance(Arc::new(metadata));
/// # let _ = credentials;
/// # Ok(()) }
/// ```
///
/// # Security
///
/// Whatever can send a request with the client for metadata services, or with any other that may reach these addresses,
/// holds the rights of the machine: use it for nothing else. The answers are not encrypted and not authenticated; only the
/// local network vouches for them.
#[derive(Clone)]
pub struct AwsCredentials {
    kind: Kind,
    surroundings: Surroundings,
}

#[derive(Clone)]
enum Kind {
    Keys(Credential),
    Environment,
    Profile(Option<String>),
    WebIdentity { role: String, token_file: PathBuf },
    AssumeRole(Box<Assumed>),
    Container,
    Instance,
    Default,
}

#[derive(Clone)]
struct Assumed {
    role: String,
    session: String,
    external_id: Option<String>,
    source: AwsCredentials,
}

impl AwsCredentials {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            surroundings: Surroundings::default(),
        }
    }

    /// Takes an access key and its secret, with the session token if they are those of a role.
    ///
    /// They are used as they are, until AWS refuses them.
    #[must_use]
    pub fn from_keys(access_key: &str, secret_key: &Secret, session: Option<&Secret>) -> Self {
        Self::of(Kind::Keys(Credential {
            access_key_id: access_key.to_owned(),
            secret_access_key: secret_key.secret().to_owned(),
            session_token: session.map(|token| token.secret().to_owned()),
            expires_in: None,
        }))
    }

    /// Takes the keys in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    #[must_use]
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut own = Self::of(Kind::Environment);
        own.surroundings = own.surroundings.with_variables(variables);
        own
    }

    /// Takes the keys of a profile in `~/.aws/credentials` or `~/.aws/config`.
    ///
    /// Without a name it is the one in `AWS_PROFILE`, else `default`. `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name
    /// other files, `HOME` the folder of the user. A profile that names another by `source_profile`, or a program by
    /// `credential_process`, is not followed.
    #[must_use]
    pub fn from_profile(
        name: Option<&str>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut own = Self::of(Kind::Profile(name.map(str::to_owned)));
        own.surroundings = own.surroundings.with_variables(variables);
        own
    }

    /// Assumes a role with a token of an identity provider, as pods on EKS do (`AssumeRoleWithWebIdentity`). The file is read
    /// again each time, since it is replaced before the token in it ends.
    #[must_use]
    pub fn web_identity(role_arn: &str, token_file: impl AsRef<Path>) -> Self {
        Self::of(Kind::WebIdentity {
            role: role_arn.to_owned(),
            token_file: token_file.as_ref().to_owned(),
        })
    }

    /// Assumes a role with other credentials (`AssumeRole`). Default name of the session is `mcp-auth`.
    #[must_use]
    pub fn assume_role(role_arn: &str, source: Self) -> Self {
        Self::of(Kind::AssumeRole(Box::new(Assumed {
            role: role_arn.to_owned(),
            session: "mcp-auth".to_owned(),
            external_id: None,
            source,
        })))
    }

    /// Names the session of an assumed role, as it is seen in CloudTrail. For other credentials it does nothing.
    #[must_use]
    pub fn with_session_name(mut self, name: &str) -> Self {
        if let Kind::AssumeRole(assumed) = &mut self.kind {
            name.clone_into(&mut assumed.session);
        }
        self
    }

    /// Adds the id that the owner of an assumed role demands of third parties. For other credentials it does nothing.
    #[must_use]
    pub fn with_external_id(mut self, id: &str) -> Self {
        if let Kind::AssumeRole(assumed) = &mut self.kind {
            assumed.external_id = Some(id.to_owned());
        }
        self
    }

    /// Takes the role of an ECS task or an EKS pod: from where `AWS_CONTAINER_CREDENTIALS_FULL_URI` or
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` say, with the token that `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` names.
    #[must_use]
    pub fn container(
        variables: impl IntoIterator<Item = (String, String)>,
        metadata: Arc<dyn HttpClient>,
    ) -> Self {
        let mut own = Self::of(Kind::Container);
        own.surroundings = own.surroundings.with_variables(variables);
        own.surroundings = own.surroundings.with_metadata(metadata);
        own
    }

    /// Takes the role of an EC2 instance, by the metadata service with session tokens (IMDSv2).
    #[must_use]
    pub fn instance(metadata: Arc<dyn HttpClient>) -> Self {
        let mut own = Self::of(Kind::Instance);
        own.surroundings = own.surroundings.with_metadata(metadata);
        own
    }

    /// Takes what there is, in this order: keys in the environment, a profile, a session of IAM Identity Center, a web
    /// identity, the role of a container, the role of the instance.
    #[must_use]
    pub fn default_chain(
        variables: impl IntoIterator<Item = (String, String)>,
        metadata: Arc<dyn HttpClient>,
    ) -> Self {
        let mut own = Self::container(variables, metadata);
        own.kind = Kind::Default;
        own
    }

    /// What signs requests to a service.
    pub(super) fn signer(
        &self,
        service: &str,
        region: &str,
        http: &Arc<dyn HttpClient>,
    ) -> Signer<Credential> {
        let context = self.context(http);
        let provider = self.provider(region, http);
        Signer::new(context, provider, RequestSigner::new(service, region))
    }

    fn context(&self, http: &Arc<dyn HttpClient>) -> Context {
        self.surroundings.context(Arc::clone(http))
    }

    fn provider(&self, region: &str, http: &Arc<dyn HttpClient>) -> Provider<Credential> {
        match &self.kind {
            Kind::Keys(keys) => Arc::new(Fixed(keys.clone())),
            Kind::Environment => Arc::new(EnvCredentialProvider::new()),
            Kind::Profile(name) => {
                let provider = ProfileCredentialProvider::new();
                Arc::new(match name {
                    Some(name) => provider.with_profile(name),
                    None => provider,
                })
            }
            Kind::WebIdentity { role, token_file } => Arc::new(
                web_identity(region)
                    .with_role_arn(role)
                    .with_web_identity_token_file(token_file),
            ),
            Kind::AssumeRole(assumed) => {
                let signer = assumed.source.signer("sts", region, http);
                let provider = AssumeRoleCredentialProvider::new(assumed.role.clone(), signer)
                    .with_role_session_name(assumed.session.clone())
                    .with_region(region.to_owned())
                    .with_regional_sts_endpoint();
                Arc::new(match &assumed.external_id {
                    Some(id) => provider.with_external_id(id.clone()),
                    None => provider,
                })
            }
            Kind::Container => Arc::new(ECSCredentialProvider::new()),
            Kind::Instance => Arc::new(IMDSv2CredentialProvider::new()),
            Kind::Default => Arc::new(FirstOf(vec![
                Arc::new(EnvCredentialProvider::new()),
                Arc::new(ProfileCredentialProvider::new()),
                Arc::new(SSOCredentialProvider::new()),
                Arc::new(web_identity(region)),
                Arc::new(ECSCredentialProvider::new()),
                Arc::new(IMDSv2CredentialProvider::new()),
            ])),
        }
    }
}

/// The role of a web identity, asked for in the region, and not in `us-east-1` for all the world.
fn web_identity(region: &str) -> AssumeRoleWithWebIdentityCredentialProvider {
    AssumeRoleWithWebIdentityCredentialProvider::new()
        .with_region(region.to_owned())
        .with_regional_sts_endpoint()
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Keys(_) => "AwsCredentials(keys)",
            Kind::Environment => "AwsCredentials(environment)",
            Kind::Profile(_) => "AwsCredentials(profile)",
            Kind::WebIdentity { .. } => "AwsCredentials(web identity)",
            Kind::AssumeRole(_) => "AwsCredentials(assumed role)",
            Kind::Container => "AwsCredentials(container)",
            Kind::Instance => "AwsCredentials(instance)",
            Kind::Default => "AwsCredentials(default chain)",
        })
    }
}
