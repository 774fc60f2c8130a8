use std::{fmt, sync::Arc};

use http::Extensions;
use serde::Serialize;

use crate::{
    Asker, AuthContext, ClientCapabilities, Deadline, Era, Error, ErrorKind, Json, LogLevel,
    Method, Notifier, Object, Principal, ProtocolVersion, RequestId, SessionKey, ToolAnnotations,
    ToolSchemas, TraceContext, UpstreamId, Visibility,
    context::{CallContext, SharedContext},
    protocol::meta,
};

/// A call on its way to whoever answers it.
///
/// Self-describing in the manner of revision 2026-07-28: who calls, in which revision, with which client
/// capabilities and deadline. Parameters stay the bytes that arrived; [`Request::set_name`] and
/// [`Request::params_mut`] note changes that are spliced in when the request is written.
///
/// Cloning is cheap and shares the [`Notifier`]: a clone that is sent must not be sent again after
/// [`Notifier::sent`] has moved.
///
/// # Examples
///
/// ```
/// use mcp_core::{Json, Method, Principal, Request};
///
/// let params = Json::parse(r#"{"name":"echo","arguments":{"text":"hi"}}"#)?;
/// let request = Request::new(Method::TOOLS_CALL, Some(params))?.with_principal(Principal::local());
/// assert_eq!(request.tool(), Some("echo"));
/// # Ok::<(), mcp_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Request {
    method: Method,
    notification: bool,
    params: Option<Object>,
    name: Option<Arc<str>>,
    context: SharedContext,
    notifier: Notifier,
    extensions: Extensions,
}

impl Request {
    /// Creates a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidParams`] when the parameters are not an object, have a member twice, or lack the
    /// member that names what the method acts on ([`Method::name_member`]).
    pub fn new(method: Method, params: Option<Json>) -> Result<Self, Error> {
        let params = params.map(Object::try_from).transpose()?;
        Self::from_object(method, params)
    }

    /// Creates a request whose parameters are encoded from a value.
    ///
    /// # Errors
    ///
    /// As [`Request::new`].
    pub fn encode(method: Method, params: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Self::new(method, Some(Json::encode(params)?))
    }

    /// Creates a request from parameters that have been read already.
    ///
    /// # Errors
    ///
    /// As [`Request::new`].
    pub fn from_object(method: Method, params: Option<Object>) -> Result<Self, Error> {
        let name = read_name(&method, params.as_ref())?;
        Ok(Self {
            method,
            notification: false,
            params,
            name,
            context: SharedContext::default(),
            notifier: Notifier::none(),
            extensions: Extensions::new(),
        })
    }

    /// Creates a client's notification. It is answered with [`Response::empty`](crate::Response::empty),
    /// which goes nowhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidParams`] when the parameters are not an object or have a member twice.
    pub fn notification(method: Method, params: Option<Json>) -> Result<Self, Error> {
        let params = params.map(Object::try_from).transpose()?;
        Ok(Self {
            method,
            notification: true,
            params,
            name: None,
            context: SharedContext::default(),
            notifier: Notifier::none(),
            extensions: Extensions::new(),
        })
    }

    /// Returns the method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns whether this is a notification, which has no answer.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.notification
    }

    /// Returns what the method acts on: a tool, a prompt, a resource's URI, a task.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the tool that is called, if the method is `tools/call`.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        self.name().filter(|_| self.method == Method::TOOLS_CALL)
    }

    /// Replaces what the method acts on. Nothing happens for a method that has no such member.
    pub fn set_name(&mut self, name: impl Into<Arc<str>>) {
        let Some(member) = self.method.name_member() else {
            return;
        };
        let name = name.into();
        self.params
            .get_or_insert_default()
            .set(member, Json::string(&name));
        self.name = Some(name);
    }

    /// Returns the parameters.
    #[must_use]
    pub fn params(&self) -> Option<&Object> {
        self.params.as_ref()
    }

    /// Returns the parameters for changes. Use [`Request::set_name`] for the member that it covers.
    pub fn params_mut(&mut self) -> &mut Object {
        self.params.get_or_insert_default()
    }

    /// Returns a member of the parameters.
    #[must_use]
    pub fn param(&self, key: &str) -> Option<Json> {
        self.params.as_ref()?.get(key)
    }

    /// Returns the `_meta` object of the parameters.
    #[must_use]
    pub fn meta(&self) -> Option<Object> {
        Object::index(&self.param("_meta")?).ok()
    }

    /// Sets (a value) or removes (`None`) one member of `_meta`.
    pub fn set_meta(
        &mut self,
        key: impl Into<std::borrow::Cow<'static, str>>,
        value: Option<Json>,
    ) {
        let mut meta = self.meta().unwrap_or_default();
        match value {
            Some(value) => meta.set(key, value),
            None => meta.remove(key),
        }
        self.params_mut().set("_meta", meta.into());
    }

    /// Removes from `_meta` what a client of revision 2026-07-28 states about itself in each request. For a server of
    /// the session era, which learned it from `initialize`, and which may take a request that states it for one of the
    /// stateless era.
    pub fn remove_client_meta(&mut self) {
        let Some(mut own) = self.meta() else { return };
        if !own.contains(meta::PROTOCOL_VERSION) {
            return;
        }
        for key in [
            meta::PROTOCOL_VERSION,
            meta::CLIENT_CAPABILITIES,
            meta::CLIENT_INFO,
            meta::LOG_LEVEL,
        ] {
            own.remove(key);
        }
        let own = own.to_json();
        match own.as_str() {
            "{}" => self.params_mut().remove("_meta"),
            _ => self.params_mut().set("_meta", own),
        }
    }

    /// Returns the token that progress notifications of this call carry.
    #[must_use]
    pub fn progress_token(&self) -> Option<Json> {
        self.param("_meta")?.member(meta::PROGRESS_TOKEN)
    }

    /// Returns the sink of the notifications that belong to this call.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Sets the sink of the notifications that belong to this call. Default is [`Notifier::none`].
    #[must_use]
    pub fn with_notifier(mut self, notifier: Notifier) -> Self {
        self.notifier = notifier;
        self
    }

    /// Returns values that layers attached, by their type.
    #[must_use]
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Returns values that layers attached, by their type. Each clone of a request copies them: keep them few.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }

    /// Copies the call context of another call: caller, session, client, deadline. The sink of
    /// notifications stays.
    #[must_use]
    pub fn with_context_of(mut self, other: &Self) -> Self {
        self.context = Arc::clone(&other.context);
        self
    }

    /// Forgets what belongs to this very call, for a request that others make on the same client's behalf: its
    /// deadline, how to ask back, its upstream, and what headers mirrored.
    #[must_use]
    pub fn without_call(mut self) -> Self {
        let context = self.context_mut();
        context.deadline = None;
        context.asker = None;
        context.annotations = None;
        context.schemas = None;
        context.mirrors = None;
        context.mirrored = None;
        self.notifier = Notifier::none();
        self
    }

    fn context_mut(&mut self) -> &mut CallContext {
        Arc::make_mut(&mut self.context)
    }
}

/// The call context.
impl Request {
    /// Returns the id of the call for logs, spans and audit records; `None` for a request that no server transport has
    /// taken. Requests that are made on behalf of a call carry its id.
    #[must_use]
    pub fn request_id(&self) -> Option<RequestId> {
        self.context.request_id
    }

    /// Returns the span of the call, `mcp.call`, which its server transport has opened; a disabled one without it.
    #[must_use]
    pub fn span(&self) -> &tracing::Span {
        &self.context.span
    }

    /// Sets the id and the span of the call.
    #[cfg(any(feature = "http", feature = "stdio"))]
    pub(crate) fn with_call(mut self, id: RequestId, span: tracing::Span) -> Self {
        let context = self.context_mut();
        context.request_id = Some(id);
        context.span = span;
        self
    }

    /// Sets the upstream that the call is routed to, here and in the span of the call.
    #[must_use]
    pub fn with_upstream(mut self, upstream: UpstreamId) -> Self {
        self.context
            .span
            .record("upstream", tracing::field::display(&upstream));
        self.context_mut().upstream = Some(upstream);
        self
    }

    /// Returns who calls. Default is [`Principal::anonymous`].
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.context.principal
    }

    /// Returns what an authentication layer knows about the caller besides the principal. Default is nothing.
    #[must_use]
    pub fn auth_context(&self) -> &AuthContext {
        &self.context.auth_context
    }

    /// Returns the revision that the client speaks. Default is the newest.
    #[must_use]
    pub fn version(&self) -> &ProtocolVersion {
        &self.context.version
    }

    /// Returns the era of the client.
    #[must_use]
    pub fn era(&self) -> Era {
        self.context.version.era()
    }

    /// Returns what the client can do. Default is nothing.
    #[must_use]
    pub fn capabilities(&self) -> &ClientCapabilities {
        &self.context.capabilities
    }

    /// Returns the name and version that the client gives itself. Proves nothing.
    #[must_use]
    pub fn client_info(&self) -> Option<&Json> {
        self.context.client_info.as_ref()
    }

    /// Returns the least severe log message that the client wants; `None` for no log messages.
    #[must_use]
    pub fn log_level(&self) -> Option<LogLevel> {
        self.context.log_level
    }

    /// Returns the trace context that arrived with the call.
    #[must_use]
    pub fn trace(&self) -> &TraceContext {
        &self.context.trace
    }

    /// Returns when the answer stops being of use.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.context.deadline
    }

    /// Returns the client's session, for a client of the session era.
    #[must_use]
    pub fn session(&self) -> Option<&SessionKey> {
        self.context.session.as_ref()
    }

    /// Returns how to ask the client back, for a client of the session era.
    #[must_use]
    pub fn asker(&self) -> Option<&Asker> {
        self.context.asker.as_ref()
    }

    /// Returns the upstream that the call is routed to, inside a router.
    #[must_use]
    pub fn upstream(&self) -> Option<&UpstreamId> {
        self.context.upstream.as_ref()
    }

    /// Returns what the called tool says about itself, where a catalogue knows.
    #[must_use]
    pub fn annotations(&self) -> Option<ToolAnnotations> {
        self.context.annotations
    }

    /// Returns the schemas of the called tool, where whoever knows them has set them: `rmcp3::serve`, a gateway.
    #[must_use]
    pub fn schemas(&self) -> Option<&Arc<ToolSchemas>> {
        self.context.schemas.as_ref()
    }

    /// Returns which entries of lists the caller may see.
    #[must_use]
    pub fn visibility(&self) -> &Visibility {
        &self.context.visibility
    }
}

impl Request {
    /// Returns the parameters that HTTP headers mirror (`Mcp-Param-*`, SEP-2243): each header's name in lower
    /// case without the prefix, and its decoded value. `None` for a call that did not come over HTTP in
    /// revision 2026-07-28 or later. Whoever knows the schema of the tool checks them.
    #[must_use]
    pub fn mirrored(&self) -> Option<&[(Box<str>, Box<str>)]> {
        self.context.mirrored.as_deref()
    }
}

/// What the wire needs of the called tool.
#[cfg(feature = "__unstable-wire")]
#[doc(hidden)]
impl Request {
    /// Returns which arguments the called tool wants mirrored in headers, where a catalogue knows.
    #[must_use]
    pub fn mirrors(&self) -> Option<&crate::mirror::Mirrors> {
        self.context.mirrors.as_deref()
    }

    /// Sets which arguments the called tool wants mirrored in headers.
    #[must_use]
    pub fn with_mirrors(mut self, mirrors: Arc<crate::mirror::Mirrors>) -> Self {
        self.context_mut().mirrors = Some(mirrors);
        self
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $setter:ident($field:ident: $type:ty) $value:expr;)*) => {
        /// Setters of the call context.
        impl Request {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $setter(mut self, $field: $type) -> Self {
                    self.context_mut().$field = $value;
                    self
                }
            )*
        }
    };
}

setters! {
    /// Sets who calls.
    with_principal(principal: Principal) principal;
    /// Sets what an authentication layer knows about the caller besides the principal.
    with_auth_context(auth_context: AuthContext) auth_context;
    /// Sets the revision that the client speaks.
    with_version(version: ProtocolVersion) version;
    /// Sets what the client can do.
    with_capabilities(capabilities: ClientCapabilities) capabilities;
    /// Sets the name and version that the client gives itself.
    with_client_info(client_info: Json) Some(client_info);
    /// Sets the least severe log message that the client wants.
    with_log_level(log_level: Option<LogLevel>) log_level;
    /// Sets the trace context.
    with_trace(trace: TraceContext) trace;
    /// Sets when the answer stops being of use.
    with_deadline(deadline: Deadline) Some(deadline);
    /// Sets the client's session.
    with_session(session: SessionKey) Some(session);
    /// Sets how to ask the client back.
    with_asker(asker: Asker) Some(asker);
    /// Sets what the called tool says about itself.
    with_annotations(annotations: ToolAnnotations) Some(annotations);
    /// Sets the schemas of the called tool.
    with_schemas(schemas: Arc<ToolSchemas>) Some(schemas);
    /// Sets the parameters that HTTP headers mirror.
    with_mirrored(mirrored: Arc<[(Box<str>, Box<str>)]>) Some(mirrored);
    /// Sets which entries of lists the caller may see.
    with_visibility(visibility: Visibility) visibility;
}

impl fmt::Debug for Request {
    /// Prints no parameter values: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("name", &self.name)
            .field("params", &self.params)
            .field("version", &self.context.version)
            .field("principal", &self.context.principal)
            .finish_non_exhaustive()
    }
}

fn read_name(method: &Method, params: Option<&Object>) -> Result<Option<Arc<str>>, Error> {
    let Some(member) = method.name_member() else {
        return Ok(None);
    };
    match params.and_then(|params| params.text(member)) {
        Some(name) => Ok(Some(name.into())),
        None => Err(Error::new(
            ErrorKind::InvalidParams,
            format!("{method} needs the string `params.{member}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, params: &str) -> Result<Request, Error> {
        Request::new(method, Some(Json::parse(params.to_owned()).unwrap()))
    }

    #[test]
    fn a_new_name_is_spliced_and_nothing_else_changes() {
        let mut request = request(
            Method::TOOLS_CALL,
            r#"{"vendor":1.0,"name":"up__e\u0063ho","arguments":{"a":[1e3]}}"#,
        )
        .unwrap();
        assert_eq!(request.tool(), Some("up__echo"));
        request.set_name("echo");
        assert_eq!(request.name(), Some("echo"));
        assert_eq!(
            request.params().unwrap().to_json().as_str(),
            r#"{"vendor":1.0,"name":"echo","arguments":{"a":[1e3]}}"#
        );
    }

    #[test]
    fn a_call_without_its_name_is_refused_with_the_member_named() {
        for params in ["{}", r#"{"name":7}"#] {
            let error = request(Method::TOOLS_CALL, params).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidParams);
            assert!(error.message().contains("params.name"), "{error}");
        }
        assert!(Request::new(Method::RESOURCES_READ, None).is_err());
        assert!(request(Method::TOOLS_LIST, "[]").is_err());
    }

    #[test]
    fn what_a_stateless_client_says_of_itself_is_taken_out_and_nothing_else() {
        let client = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
        for (before, after) in [
            (format!(r#"{{"a":1,"_meta":{{{client}}}}}"#), r#"{"a":1}"#),
            (
                format!(r#"{{"_meta":{{"x":1.0,{client},"progressToken":"t"}}}}"#),
                r#"{"_meta":{"x":1.0,"progressToken":"t"}}"#,
            ),
            (r#"{"_meta":{"x":1}}"#.to_owned(), r#"{"_meta":{"x":1}}"#),
        ] {
            let mut request = request(Method::TOOLS_LIST, &before).unwrap();
            request.remove_client_meta();
            assert_eq!(request.params().unwrap().to_json().as_str(), after);
        }
    }

    #[test]
    fn meta_is_edited_in_place() {
        let mut request =
            request(Method::TOOLS_LIST, r#"{"_meta":{"progressToken":7,"k":1}}"#).unwrap();
        assert_eq!(request.progress_token().unwrap().as_str(), "7");
        request.set_meta(meta::PROGRESS_TOKEN, Some(Json::string("t")));
        assert_eq!(
            request.params().unwrap().to_json().as_str(),
            r#"{"_meta":{"progressToken":"t","k":1}}"#
        );
    }

    #[test]
    fn a_request_is_small_enough_to_move() {
        assert!(size_of::<Request>() <= 192, "{}", size_of::<Request>());
    }
}
