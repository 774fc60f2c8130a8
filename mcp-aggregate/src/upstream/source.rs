//! Where an upstream's service comes from.

use std::sync::Arc;

use mcp_core::{BoxSeam, ConfigCheck, Timing, UpstreamId};

use super::Shared;

use crate::{
    Lifecycle, SessionScope,
    digest::{Digester, Identity},
    node::{Lists, Sharing},
};

/// A source, as the operator describes it.
#[derive(Clone)]
pub(super) enum Source {
    #[cfg(feature = "http")]
    Http(Box<Http>),
    #[cfg(feature = "stdio")]
    Command(crate::connector::stdio::Command),
    Service {
        service: BoxSeam,
        lifecycle: Option<Arc<dyn Lifecycle>>,
        identity: Identity,
    },
}

/// A server over Streamable HTTP.
#[cfg(feature = "http")]
#[derive(Clone)]
pub(super) struct Http {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) credentials: Option<(Identity, Arc<dyn mcp_core::CredentialProvider>)>,
    pub(super) client: Option<(Identity, mcp_core::http_client::GuardedClient)>,
}

/// Settings of an upstream that its connector needs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) scope: Option<SessionScope>,
    pub(super) message_limit: Option<std::num::NonZeroUsize>,
    pub(super) one_call_at_a_time: bool,
}

/// A service with what ends it.
pub(super) struct Connected {
    pub(super) service: BoxSeam,
    pub(super) lifecycle: Option<Arc<dyn Lifecycle>>,
    pub(super) sharing: Sharing,
}

impl Source {
    pub(super) fn put_in(&self, digester: &mut Digester) {
        match self {
            #[cfg(feature = "http")]
            Self::Http(http) => http.put_in(digester),
            #[cfg(feature = "stdio")]
            Self::Command(command) => {
                digester.put(b"command");
                command.put_in(digester);
            }
            Self::Service { identity, .. } => identity.put_in(digester.put(b"service")),
        }
    }

    /// Makes the service. Nothing is started.
    pub(super) fn connect(
        &self,
        id: &UpstreamId,
        settings: &Settings,
        timing: &Timing,
        shared: &Shared,
        check: &mut ConfigCheck,
    ) -> Option<Connected> {
        match self {
            #[cfg(feature = "http")]
            Self::Http(http) => http.connect(id, settings, timing, shared, check),
            #[cfg(feature = "stdio")]
            Self::Command(command) => run(command, id, settings, timing, shared, check),
            Self::Service {
                service, lifecycle, ..
            } => {
                let _ = (timing, shared);
                check.require(
                    !settings.one_call_at_a_time,
                    "one_call_at_a_time",
                    true,
                    "false for a service in this process; put a concurrency limit around it",
                );
                check.require(
                    settings.scope.is_none(),
                    "scope",
                    format_args!("{:?}", settings.scope),
                    "no scope for a service in this process, which keeps its own sessions",
                );
                check.require(
                    settings.message_limit.is_none(),
                    "message_limit",
                    settings
                        .message_limit
                        .map_or(0, std::num::NonZeroUsize::get),
                    "no message limit for a service in this process",
                );
                Some(Connected {
                    service: service.clone(),
                    lifecycle: lifecycle.clone(),
                    sharing: Sharing {
                        lists: Lists::Capabilities,
                        eager: true,
                        shared_state: false,
                    },
                })
            }
        }
    }
}

#[cfg(feature = "http")]
impl Http {
    fn put_in(&self, digester: &mut Digester) {
        digester.put(b"http").put(self.url.as_bytes());
        for (name, value) in &self.headers {
            digester.put(name.as_bytes()).put(value.as_bytes());
        }
        if let Some((identity, _)) = &self.credentials {
            identity.put_in(digester.put(b"credentials"));
        }
        if let Some((identity, _)) = &self.client {
            identity.put_in(digester.put(b"client"));
        }
    }

    fn connect(
        &self,
        id: &UpstreamId,
        settings: &Settings,
        timing: &Timing,
        shared: &Shared,
        check: &mut ConfigCheck,
    ) -> Option<Connected> {
        use mcp_core::ConfigError;

        let scope = settings.scope.unwrap_or(SessionScope::PerSession);
        let headers = self.headers(check);
        let url = url::Url::parse(&self.url).ok();
        let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            check.push(ConfigError::new(
                "url",
                &self.url,
                "an absolute http or https address",
            ));
            return None;
        };
        let mut builder = crate::connector::http::HttpConnector::builder(id.clone(), url)
            .scope(scope)
            .headers(headers)
            .sessions(shared.sessions.clone())
            .timing(timing.clone());
        if settings.one_call_at_a_time {
            builder = builder.one_call_at_a_time();
        }
        if let Some((_, client)) = &self.client {
            builder = builder.client(client.clone());
        }
        if let Some((_, provider)) = &self.credentials {
            builder = builder.credentials(Arc::clone(provider));
        }
        if let Some(limit) = settings.message_limit {
            builder = builder.message_limit(limit);
        }
        let connector = check.take(builder.build())?;
        let lists = match (&self.credentials, scope) {
            (Some(_), _) => Lists::Principal,
            (None, SessionScope::Shared) => Lists::Everyone,
            (None, _) => Lists::Capabilities,
        };
        Some(Connected {
            service: connector.boxed(id),
            lifecycle: Some(Arc::new(connector)),
            sharing: Sharing {
                lists,
                eager: true,
                shared_state: scope == SessionScope::Shared,
            },
        })
    }

    fn headers(&self, check: &mut ConfigCheck) -> http::HeaderMap {
        use mcp_core::ConfigError;

        let mut headers = http::HeaderMap::new();
        for (name, value) in &self.headers {
            let Ok(header) = http::HeaderName::try_from(name) else {
                check.push(ConfigError::new(
                    "headers",
                    name,
                    "a header name (RFC 9110, 5.1)",
                ));
                continue;
            };
            match http::HeaderValue::try_from(value) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.append(header, value);
                }
                Err(_) => check.push(ConfigError::new(
                    format!("headers.{name}"),
                    "[redacted]",
                    "visible characters without line ends (RFC 9110, 5.5)",
                )),
            }
        }
        headers
    }
}

#[cfg(feature = "stdio")]
fn run(
    command: &crate::connector::stdio::Command,
    id: &UpstreamId,
    settings: &Settings,
    timing: &Timing,
    shared: &Shared,
    check: &mut ConfigCheck,
) -> Option<Connected> {
    let scope = settings.scope.unwrap_or(SessionScope::PerPrincipal);
    let mut builder = crate::connector::stdio::StdioConnector::builder(id.clone(), command.clone())
        .scope(scope)
        .timing(timing.clone())
        .processes(shared.processes.clone());
    if settings.one_call_at_a_time {
        builder = builder.one_call_at_a_time();
    }
    if let Some(limit) = settings.message_limit {
        builder = builder.message_limit(limit);
    }
    let connector = check.take(builder.build())?;
    Some(Connected {
        service: connector.boxed(id),
        lifecycle: Some(Arc::new(connector)),
        sharing: Sharing {
            lists: match scope {
                SessionScope::Shared => Lists::Everyone,
                _ => Lists::Capabilities,
            },
            eager: false,
            shared_state: scope == SessionScope::Shared,
        },
    })
}
