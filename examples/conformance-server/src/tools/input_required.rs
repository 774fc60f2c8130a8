//! The tools of SEP-2322: questions in results, and state that the client carries.

use rmcp::{
    ErrorData, RoleServer,
    handler::server::tool::{InputResponses, RequestState},
    model::CallToolResponse,
    service::RequestContext,
    tool, tool_router,
};
use serde_json::{Value, json};

use super::asking::{finish, text_of};
use crate::{
    ask::{Answered, Question, ask},
    fixture::FixtureServer,
    log::is_stateless,
};

#[tool_router(router = input_required_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Asks for a name")]
    async fn test_input_required_result_elicitation(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let answered = ask(&context, given, vec![ask_name()], None).await?;
        Ok(finish(answered, |answers| {
            format!("Hello, {}!", field(&answers["user_name"], "name"))
        }))
    }

    #[tool(description = "Asks the client's model a question")]
    async fn test_input_required_result_sampling(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = "What is the capital of France?";
        let question = Question::prompt("capital_question", text, 100);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            text_of(&answers["capital_question"]).to_owned()
        }))
    }

    #[tool(description = "Asks for the roots")]
    async fn test_input_required_result_list_roots(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::roots("client_roots");
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            format!("Roots: {}", answers["client_roots"]["roots"])
        }))
    }

    #[tool(description = "Asks for a confirmation, and wants its state back")]
    async fn test_input_required_result_request_state(
        &self,
        InputResponses(given): InputResponses,
        RequestState(state): RequestState,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.confirmed(&context, given, state).await
    }

    #[tool(description = "Asks for a confirmation, and refuses a state that was changed")]
    async fn test_input_required_result_tampered_state(
        &self,
        InputResponses(given): InputResponses,
        RequestState(state): RequestState,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.confirmed(&context, given, state).await
    }

    #[tool(description = "Asks three questions of three kinds at once")]
    async fn test_input_required_result_multiple_inputs(
        &self,
        InputResponses(given): InputResponses,
        RequestState(state): RequestState,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.open_state(state.as_deref())?;
        let questions = vec![
            ask_name(),
            Question::prompt("greeting", "Generate a greeting", 50),
            Question::roots("client_roots"),
        ];
        let state = self.seal(&json!({ "asked": 3 }))?;
        let answered = ask(&context, given, questions, Some(state)).await?;
        Ok(finish(answered, |answers| {
            let name = field(&answers["user_name"], "name");
            let roots = &answers["client_roots"]["roots"];
            format!("{} {name}, roots: {roots}", text_of(&answers["greeting"]))
        }))
    }

    #[tool(description = "Asks a second question after the first is answered")]
    async fn test_input_required_result_multi_round(
        &self,
        InputResponses(given): InputResponses,
        RequestState(state): RequestState,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let round = self.open_state(state.as_deref())?;
        let name = match round["name"].as_str() {
            Some(name) => name.to_owned(),
            None => {
                let message = "Step 1: What is your name?";
                let first = Question::form("step1", message, object("name", "string"));
                let state = self.seal(&json!({ "round": 1 }))?;
                let answered = ask(&context, given.clone(), vec![first], Some(state)).await?;
                let answers = match answered {
                    Answered::All(answers) => answers,
                    Answered::NotYet(_) => return Ok(finish(answered, |_| String::new())),
                };
                field(&answers["step1"], "name").to_owned()
            }
        };
        let message = "Step 2: What is your favorite color?";
        let second = Question::form("step2", message, object("color", "string"));
        let state = self.seal(&json!({ "round": 2, "name": name }))?;
        let answered = ask(&context, given, vec![second], Some(state)).await?;
        Ok(finish(answered, |answers| {
            format!("{name} likes {}", field(&answers["step2"], "color"))
        }))
    }

    #[tool(description = "Asks only what the client said it can answer")]
    async fn test_input_required_result_capabilities(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut questions = vec![
            ask_name(),
            Question::prompt("greeting", "Generate a greeting", 50),
            Question::roots("client_roots"),
        ];
        questions.retain(|question| question.is_allowed(&context));
        let answered = ask(&context, given, questions, None).await?;
        Ok(finish(answered, |answers| {
            let keys: Vec<_> = answers.keys().map(String::as_str).collect();
            format!("Answered: {}", keys.join(", "))
        }))
    }

    async fn confirmed(
        &self,
        context: &RequestContext<RoleServer>,
        given: Option<rmcp::model::InputResponses>,
        state: Option<String>,
    ) -> Result<CallToolResponse, ErrorData> {
        let opened = self.open_state(state.as_deref())?;
        if is_stateless(context) && given.is_some() && opened["asked"] != json!("confirm") {
            return Err(ErrorData::invalid_params("requestState is missing", None));
        }
        let question = Question::form("confirm", "Please confirm", object("ok", "boolean"));
        let state = self.seal(&json!({ "asked": "confirm" }))?;
        let answered = ask(context, given, vec![question], Some(state)).await?;
        Ok(finish(answered, |_| "state-ok".to_owned()))
    }

    fn seal(&self, state: &Value) -> Result<String, ErrorData> {
        let sealed = self.shared.request_state.seal_json(state);
        sealed.map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    /// Opens what an earlier result handed out; `null` when there was none.
    fn open_state(&self, state: Option<&str>) -> Result<Value, ErrorData> {
        let Some(state) = state else {
            return Ok(Value::Null);
        };
        let opened = self.shared.request_state.open_json(state);
        opened.map_err(|error| ErrorData::invalid_params(format!("requestState: {error}"), None))
    }
}

fn ask_name() -> Question {
    Question::form("user_name", "What is your name?", object("name", "string"))
}

/// The schema of a form with one required field.
pub(super) fn object(name: &str, kind: &str) -> Value {
    json!({
        "type": "object",
        "properties": { name: { "type": kind } },
        "required": [name],
    })
}

/// A text field of an elicitation answer.
pub(super) fn field<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer["content"][name].as_str().unwrap_or_default()
}
