//! What revision 2026-07-28 says about requests and answers, whatever they are carried by.

use serde_json::json;

use crate::{
    ClientCapabilities, Error, ErrorKind, Json, LogLevel, Method, Notification, Object, Principal,
    ProtocolVersion, Request, Response, TraceContext, jsonrpc::Id, protocol::meta,
};

/// Methods of the session era, which revision 2026-07-28 removed.
const REMOVED: [&str; 10] = [
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "tasks/list",
    "tasks/result",
];

/// Refuses a method that the revision removed.
pub(super) fn check_method(method: &Method) -> Result<(), Error> {
    if !REMOVED.contains(&method.as_str()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::MethodNotFound,
        format!("{method} does not exist in revision 2026-07-28"),
    ))
}

/// Whether the body names a revision at all: only requests of the stateless era do.
pub(super) fn is_named(params: Option<&Object>) -> bool {
    params
        .and_then(|params| params.get("_meta"))
        .is_some_and(|own| own.member(meta::PROTOCOL_VERSION).is_some())
}

/// Returns the `_meta` of parameters, empty where there is none.
pub(super) fn meta_of(params: Option<&Object>) -> Object {
    params
        .and_then(|params| params.get("_meta"))
        .and_then(|own| Object::index(&own).ok())
        .unwrap_or_default()
}

/// Refuses a revision that is not spoken here, saying which are.
pub(super) fn known(version: &str) -> Result<ProtocolVersion, Error> {
    ProtocolVersion::known(version)
        .filter(|version| *version == ProtocolVersion::V_2026_07_28)
        .ok_or_else(|| {
            let mut supported = ProtocolVersion::SESSION_ERA.to_vec();
            supported.push(ProtocolVersion::V_2026_07_28);
            let supported: Vec<_> = supported.iter().map(ProtocolVersion::as_str).collect();
            Error::new(
                ErrorKind::UnsupportedVersion,
                "this protocol version is not supported; use one of `data.supported`",
            )
            .with_data(json!({ "supported": supported, "requested": version }).into())
        })
}

/// What a stateless request says about its client.
#[derive(Debug)]
pub(super) struct ClientMeta {
    pub(super) version: ProtocolVersion,
    pub(super) capabilities: ClientCapabilities,
    client_info: Option<Json>,
    pub(super) log_level: Option<LogLevel>,
    trace: TraceContext,
}

impl ClientMeta {
    /// Reads the client of a request in a revision that [`known`] has let pass.
    pub(super) fn read(version: ProtocolVersion, own: &Object) -> Result<Self, Error> {
        let capabilities = own
            .get(meta::CLIENT_CAPABILITIES)
            .filter(Json::is_object)
            .ok_or_else(|| missing(meta::CLIENT_CAPABILITIES))?;
        let log_level = match own.get(meta::LOG_LEVEL) {
            None => None,
            Some(level) => match level.to_text().and_then(|level| LogLevel::new(&level)) {
                Some(level) => Some(level),
                None => {
                    return Err(Error::new(
                        ErrorKind::InvalidParams,
                        format!(
                            "`_meta[\"{}\"]` is not one of the eight levels",
                            meta::LOG_LEVEL
                        ),
                    ));
                }
            },
        };
        Ok(Self {
            version,
            capabilities: ClientCapabilities::new(capabilities),
            client_info: own.get(meta::CLIENT_INFO),
            log_level,
            trace: TraceContext::from_meta(own),
        })
    }

    /// Makes the request for the stack.
    pub(super) fn request(
        self,
        method: Method,
        params: Option<Object>,
        principal: Principal,
    ) -> Result<Request, Error> {
        let mut request = Request::from_object(method, params)?
            .with_principal(principal)
            .with_version(self.version)
            .with_capabilities(self.capabilities)
            .with_log_level(self.log_level)
            .with_trace(self.trace);
        if let Some(info) = self.client_info {
            request = request.with_client_info(info);
        }
        Ok(request)
    }
}

/// An error for a member of `_meta` that is missing.
pub(super) fn missing(member: &'static str) -> Error {
    Error::new(
        ErrorKind::InvalidMeta,
        format!("`params._meta[\"{member}\"]` is missing or malformed"),
    )
}

/// The client's id of a call, which names its subscription if it is one.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) id: Id,
    pub(super) subscription: bool,
}

impl Origin {
    pub(super) fn new(id: Id, method: &Method) -> Self {
        Self {
            id,
            subscription: *method == Method::SUBSCRIPTIONS_LISTEN,
        }
    }

    /// Names the client's own subscription in a notification.
    pub(super) fn notification(&self, notification: Notification) -> Notification {
        match self.subscription {
            true => notification.with_meta(meta::SUBSCRIPTION_ID, Some(self.id.as_json().clone())),
            false => notification,
        }
    }

    /// Names the client's own subscription in the result that ends it.
    pub(super) fn answer(&self, answer: Result<Response, Error>) -> Result<Response, Error> {
        let answer = answer?;
        if !self.subscription {
            return Ok(answer);
        }
        let Ok(mut result) = Object::try_from(answer.result().clone()) else {
            return Ok(answer);
        };
        let mut own = result
            .get("_meta")
            .and_then(|meta| Object::try_from(meta).ok())
            .unwrap_or_default();
        own.set(meta::SUBSCRIPTION_ID, self.id.as_json().clone());
        result.set("_meta", Json::from(own));
        Ok(answer.with_result(result.to_json()))
    }
}
