//! Between messages of the seam and rmcp's models.
#![allow(
    deprecated,
    reason = "clients of the session era send what newer revisions removed"
)]

use bytes::Bytes;
use rmcp::{
    RoleServer,
    model::{
        CallToolRequest, CancelTaskRequest, ClientNotification, ClientRequest, CompleteRequest,
        CustomRequest, DiscoverRequest, ErrorData, Extensions, GetPromptRequest, GetTaskRequest,
        InitializeRequestParams, ListPromptsRequest, ListResourceTemplatesRequest,
        ListResourcesRequest, ListToolsRequest, NumberOrString, ReadResourceRequest, RequestId,
        RequestMetaObject, SetLevelRequest, SubscribeRequest, SubscriptionsListenRequest,
        UnsubscribeRequest, UpdateTaskRequest,
    },
    service::TxJsonRpcMessage,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    Error, ErrorKind, Json, Object, Principal, Request, Response,
    jsonrpc::{Id, Message},
};

/// Builds the typed request, without guessing the type from the shape as a decoder of the union does.
pub(super) fn client_request(request: &Request) -> Result<ClientRequest, Error> {
    let params = Params(request);
    Ok(match request.method().as_str() {
        "tools/call" => ClientRequest::CallToolRequest(CallToolRequest::new(params.needed()?)),
        "tools/list" => list(params.optional()?, ListToolsRequest::default(), |r, p| {
            r.params = p;
        })
        .into(),
        "prompts/list" => list(params.optional()?, ListPromptsRequest::default(), |r, p| {
            r.params = p;
        })
        .into(),
        "resources/list" => list(
            params.optional()?,
            ListResourcesRequest::default(),
            |r, p| r.params = p,
        )
        .into(),
        "resources/templates/list" => list(
            params.optional()?,
            ListResourceTemplatesRequest::default(),
            |r, p| r.params = p,
        )
        .into(),
        "prompts/get" => GetPromptRequest::new(params.needed()?).into(),
        "resources/read" => ReadResourceRequest::new(params.needed()?).into(),
        "resources/subscribe" => SubscribeRequest::new(params.needed()?).into(),
        "resources/unsubscribe" => UnsubscribeRequest::new(params.needed()?).into(),
        "subscriptions/listen" => SubscriptionsListenRequest::new(params.needed()?).into(),
        "completion/complete" => CompleteRequest::new(params.needed()?).into(),
        "logging/setLevel" => SetLevelRequest::new(params.needed()?).into(),
        "tasks/get" => GetTaskRequest::new(params.needed()?).into(),
        "tasks/update" => UpdateTaskRequest::new(params.needed()?).into(),
        "tasks/cancel" => CancelTaskRequest::new(params.needed()?).into(),
        "server/discover" => DiscoverRequest::default().into(),
        method => {
            CustomRequest::new(method.to_owned(), params.optional::<serde_json::Value>()?).into()
        }
    })
}

fn list<R, P>(params: Option<P>, mut request: R, set: impl FnOnce(&mut R, Option<P>)) -> R {
    set(&mut request, params);
    request
}

struct Params<'a>(&'a Request);

impl Params<'_> {
    fn needed<P: DeserializeOwned>(&self) -> Result<P, Error> {
        let params = self.0.params().map(Object::to_json);
        decode(self.0, &params.unwrap_or(Json::EMPTY_OBJECT))
    }

    fn optional<P: DeserializeOwned>(&self) -> Result<Option<P>, Error> {
        match self.0.params() {
            Some(params) => decode(self.0, &params.to_json()).map(Some),
            None => Ok(None),
        }
    }
}

fn decode<P: DeserializeOwned>(request: &Request, params: &Json) -> Result<P, Error> {
    serde_json::from_slice(params.as_bytes()).map_err(|error| {
        Error::new(
            ErrorKind::InvalidParams,
            format!("the parameters of {} do not fit: {error}", request.method()),
        )
    })
}

/// Reads `_meta` as rmcp keeps it.
pub(super) fn request_meta(request: &Request) -> RequestMetaObject {
    request
        .param("_meta")
        .and_then(|own| serde_json::from_slice(own.as_bytes()).ok())
        .unwrap_or_default()
}

/// Puts what a handler may want to know about the call beside rmcp's own extensions.
pub(super) fn extensions(request: &Request) -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert::<Principal>(request.principal().clone());
    if let Some(session) = request.session() {
        extensions.insert(session.clone());
    }
    if let Some(parts) = request.extensions().get::<http::request::Parts>() {
        extensions.insert(parts.clone());
    }
    extensions
}

/// What rmcp calls the peer's info: the client's side of the handshake.
pub(super) fn peer_info(request: &Request) -> Result<InitializeRequestParams, Error> {
    let mut info = Object::default();
    info.set("protocolVersion", Json::string(request.version().as_str()));
    info.set("capabilities", request.capabilities().as_json().clone());
    let unnamed = || Json::from(json!({ "name": "unnamed", "version": "0" }));
    info.set(
        "clientInfo",
        request.client_info().cloned().unwrap_or_else(unnamed),
    );
    info.to_json().decode().map_err(|error| {
        Error::new(
            ErrorKind::InvalidParams,
            "the client's capabilities or info are malformed",
        )
        .with_source(error)
    })
}

/// Decodes a client's notification.
pub(super) fn client_notification(
    method: &str,
    params: Option<&Json>,
) -> Option<ClientNotification> {
    let mut message = Object::default();
    message.set("method", Json::string(method));
    if let Some(params) = params {
        message.set("params", params.clone());
    }
    serde_json::from_slice(message.to_json().as_bytes()).ok()
}

/// Encodes what a server sends.
pub(super) fn server_message(message: &TxJsonRpcMessage<RoleServer>) -> Option<Message> {
    let text = serde_json::to_vec(message).ok()?;
    Message::parse(&Bytes::from(text)).ok()
}

/// Encodes a handler's answer.
pub(super) fn answer(
    answer: Result<rmcp::model::ServerResult, ErrorData>,
) -> Result<Response, Error> {
    match answer {
        Ok(result) => {
            let text = serde_json::to_vec(&result).map_err(|error| {
                Error::new(ErrorKind::Internal, "the server's result cannot be encoded")
                    .with_source(error)
            })?;
            Ok(Response::new(Json::composed(text)))
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Encodes a handler's error.
pub(super) fn failure(error: &ErrorData) -> Error {
    match Json::encode(error) {
        Ok(object) => Error::from_rpc(object),
        Err(_) => Error::new(ErrorKind::Internal, "the server's error cannot be encoded"),
    }
}

/// Decodes an error of ours for a handler or for rmcp's transports.
pub(super) fn error_data(error: &Error, era: crate::Era) -> ErrorData {
    error.to_rpc(era).decode().unwrap_or_else(|_| {
        ErrorData::internal_error("the error cannot be decoded".to_owned(), None)
    })
}

pub(super) fn request_id(id: u64) -> RequestId {
    NumberOrString::Number(i64::try_from(id).unwrap_or(i64::MAX))
}

pub(super) fn id_number(id: &RequestId) -> Option<u64> {
    match id {
        NumberOrString::Number(number) => u64::try_from(*number).ok(),
        NumberOrString::String(_) => None,
    }
}

pub(super) fn rmcp_id(id: &Id) -> RequestId {
    serde_json::from_slice(id.as_json().as_bytes()).unwrap_or(NumberOrString::Number(0))
}
