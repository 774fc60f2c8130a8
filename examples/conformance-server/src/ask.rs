//! Server-initiated requests, sent as the client's era allows.
//!
//! The session era sends a request while the call is open; the stateless era answers
//! `input_required` and is called again with the answers (SEP-2322). A tool asks once and need not
//! know which of the two happens.
#![expect(
    deprecated,
    reason = "MCP 2026-07-28 deprecates sampling and roots, and clients still offer them"
)]

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, Peer, RoleServer, ServiceError,
    model::{ClientCapabilities, InputRequest, InputRequiredResult, InputResponses},
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::log::is_stateless;

/// The client's answers, or the result that asks for them.
pub(crate) enum Answered {
    All(BTreeMap<String, Value>),
    NotYet(InputRequiredResult),
}

/// One question under its key.
pub(crate) struct Question {
    key: &'static str,
    request: InputRequest,
}

impl Question {
    /// Asks for a form to be filled in.
    pub(crate) fn form(key: &'static str, message: &str, schema: Value) -> Self {
        let mut params = json!({ "mode": "form", "message": message });
        params["requestedSchema"] = schema;
        Self::new(key, "elicitation/create", params)
    }

    /// Asks the user to open a page.
    pub(crate) fn page(key: &'static str, message: &str, url: &str) -> Self {
        let params = json!({ "mode": "url", "message": message, "url": url, "elicitationId": key });
        Self::new(key, "elicitation/create", params)
    }

    /// Asks the client's model; `params` are those of `sampling/createMessage`.
    pub(crate) fn sampling(key: &'static str, params: Value) -> Self {
        Self::new(key, "sampling/createMessage", params)
    }

    /// Asks the client's model one question of the user's.
    pub(crate) fn prompt(key: &'static str, text: &str, max_tokens: u32) -> Self {
        let content = json!({ "type": "text", "text": text });
        let messages = json!([{ "role": "user", "content": content }]);
        Self::sampling(
            key,
            json!({ "messages": messages, "maxTokens": max_tokens }),
        )
    }

    /// Asks for the client's roots.
    pub(crate) fn roots(key: &'static str) -> Self {
        Self::new(key, "roots/list", json!({}))
    }

    fn new(key: &'static str, method: &str, params: Value) -> Self {
        let mut request = json!({ "method": method });
        request["params"] = params;
        let request = serde_json::from_value(request).expect("the fixture's questions are valid");
        Self { key, request }
    }

    /// The question alone, for a task to ask.
    pub(crate) fn into_request(self) -> InputRequest {
        self.request
    }

    fn needs(&self) -> ClientCapabilities {
        let needed = match &self.request {
            InputRequest::CreateMessage(_) => json!({ "sampling": {} }),
            InputRequest::ListRoots(_) => json!({ "roots": {} }),
            _ if self.is_page() => json!({ "elicitation": { "url": {} } }),
            _ => json!({ "elicitation": {} }),
        };
        serde_json::from_value(needed).expect("these are capabilities")
    }

    fn is_page(&self) -> bool {
        use rmcp::model::ElicitRequestParams::UrlElicitationParams;
        matches!(&self.request, InputRequest::Elicitation(request)
            if matches!(request.params, UrlElicitationParams { .. }))
    }

    /// Whether the client declared what answering takes.
    pub(crate) fn is_allowed(&self, context: &RequestContext<RoleServer>) -> bool {
        let declared = context.client_capabilities().unwrap_or_default();
        match &self.request {
            InputRequest::CreateMessage(_) => declared.sampling.is_some(),
            InputRequest::ListRoots(_) => declared.roots.is_some(),
            _ if self.is_page() => declared
                .elicitation
                .is_some_and(|modes| modes.url.is_some()),
            _ => declared.elicitation.is_some(),
        }
    }

    /// Whether `answer` has the shape of an answer to this question.
    fn accepts(&self, answer: &Value) -> bool {
        let required = match &self.request {
            InputRequest::CreateMessage(_) => "content",
            InputRequest::ListRoots(_) => "roots",
            _ => "action",
        };
        answer.get(required).is_some()
    }

    async fn put(self, peer: &Peer<RoleServer>) -> Result<Value, ErrorData> {
        let answer = match self.request {
            InputRequest::CreateMessage(request) => {
                to_json(peer.create_message(request.params).await)?
            }
            InputRequest::Elicitation(request) => {
                to_json(peer.create_elicitation(request.params).await)?
            }
            _ => to_json(peer.list_roots().await)?,
        };
        Ok(answer)
    }
}

/// Puts `questions` to the client of this call.
///
/// `state` travels with the questions of the stateless era.
///
/// # Errors
///
/// Fails when the client did not declare a capability, or answers with an error.
pub(crate) async fn ask(
    context: &RequestContext<RoleServer>,
    given: Option<InputResponses>,
    questions: Vec<Question>,
    state: Option<String>,
) -> Result<Answered, ErrorData> {
    for question in &questions {
        if !question.is_allowed(context) {
            return Err(ErrorData::missing_required_client_capability(
                question.needs(),
            ));
        }
    }
    if is_stateless(context) {
        return Ok(collect(&given.unwrap_or_default(), questions, state));
    }
    let mut answers = BTreeMap::new();
    for question in questions {
        let key = question.key.to_owned();
        answers.insert(key, question.put(&context.peer).await?);
    }
    Ok(Answered::All(answers))
}

/// Takes what was answered well; what is missing or malformed is asked again, anything else ignored.
fn collect(given: &InputResponses, questions: Vec<Question>, state: Option<String>) -> Answered {
    let mut answers = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for question in questions {
        match given.get(question.key) {
            Some(answer) if question.accepts(answer) => {
                answers.insert(question.key.to_owned(), answer.clone());
            }
            _ => {
                missing.insert(question.key.to_owned(), question.request);
            }
        }
    }
    if missing.is_empty() {
        Answered::All(answers)
    } else {
        Answered::NotYet(InputRequiredResult::new(Some(missing), state))
    }
}

fn to_json<T: serde::Serialize>(answer: Result<T, ServiceError>) -> Result<Value, ErrorData> {
    match answer {
        Ok(answer) => serde_json::to_value(answer)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None)),
        Err(ServiceError::McpError(error)) => Err(error),
        Err(error) => Err(ErrorData::internal_error(error.to_string(), None)),
    }
}
