//! Tools that ask the client something, in whichever way its era has.

use rmcp::{
    ErrorData, RoleServer,
    handler::server::{tool::InputResponses, wrapper::Parameters},
    model::{CallToolResponse, CallToolResult, ContentBlock},
    service::RequestContext,
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ask::{Answered, Question, ask},
    fixture::FixtureServer,
};

#[derive(Deserialize, JsonSchema)]
struct Prompt {
    /// The prompt to send to the model
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
struct Message {
    /// The message to show to the user
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Page {
    /// The page to send the user to
    url: String,
}

#[tool_router(router = asking_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Asks the client's model")]
    async fn test_sampling(
        &self,
        Parameters(Prompt { prompt }): Parameters<Prompt>,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::prompt("answer", &prompt, 100);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            format!("LLM response: {}", text_of(&answers["answer"]))
        }))
    }

    #[tool(description = "Asks the client's model with every parameter set; returns its answer")]
    async fn sampling_all_parameters(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::sampling("answer", all_sampling_parameters());
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| answers["answer"].to_string()))
    }

    #[tool(description = "Asks the user for a name and an address")]
    async fn test_elicitation(
        &self,
        Parameters(Message { message }): Parameters<Message>,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let schema = json!({
            "type": "object",
            "properties": {
                "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" },
            },
            "required": ["username", "email"],
        });
        let question = Question::form("answer", &message, schema);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            let answer = &answers["answer"];
            format!(
                "User response: action={}, content={}",
                plain(answer),
                answer["content"]
            )
        }))
    }

    #[tool(description = "Sends the user to a page")]
    async fn elicitation_url(
        &self,
        Parameters(Page { url }): Parameters<Page>,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::page("visit", "Please visit this page", &url);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            format!("User response: action={}", plain(&answers["visit"]))
        }))
    }

    #[tool(description = "Asks the user with a form that has a default for each kind of field")]
    async fn test_elicitation_sep1034_defaults(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::form("answer", "Please check the defaults", form_with_defaults());
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, completed))
    }

    #[tool(description = "Asks the user with a form that has each kind of enumeration")]
    async fn test_elicitation_sep1330_enums(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::form("answer", "Please choose", form_with_enums());
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, completed))
    }

    #[tool(description = "Asks for the client's roots")]
    async fn list_roots(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::roots("roots");
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            answers["roots"]["roots"].to_string()
        }))
    }

    #[tool(description = "Works only with a client that offers sampling")]
    async fn test_missing_capability(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let question = Question::prompt("answer", "Is sampling there?", 10);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, |answers| {
            text_of(&answers["answer"]).to_owned()
        }))
    }

    #[tool(description = "Asks the user while the response may be a stream")]
    async fn test_streaming_elicitation(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let schema = json!({ "type": "object", "properties": { "go": { "type": "boolean" } } });
        let question = Question::form("answer", "Shall it go on?", schema);
        let answered = ask(&context, given, vec![question], None).await?;
        Ok(finish(answered, completed))
    }
}

type Answers = std::collections::BTreeMap<String, Value>;

/// Turns the answers into a text, or passes on the result that asks for them.
pub(super) fn finish(
    answered: Answered,
    text: impl FnOnce(&Answers) -> String,
) -> CallToolResponse {
    match answered {
        Answered::NotYet(result) => result.into(),
        Answered::All(answers) => {
            CallToolResult::success(vec![ContentBlock::text(text(&answers))]).into()
        }
    }
}

/// The text of a sampling answer, whose content is a block or a list of them.
pub(super) fn text_of(answer: &Value) -> &str {
    let content = &answer["content"];
    let block = content.get(0).unwrap_or(content);
    block["text"].as_str().unwrap_or_default()
}

fn plain(answer: &Value) -> &str {
    answer["action"].as_str().unwrap_or_default()
}

fn completed(answers: &Answers) -> String {
    let answer = &answers["answer"];
    let (action, content) = (plain(answer), &answer["content"]);
    format!("Elicitation completed: action={action}, content={content}")
}

fn all_sampling_parameters() -> Value {
    json!({
        "messages": [
            { "role": "user", "content": { "type": "text", "text": "Grüße, 世界" } },
            { "role": "assistant", "content": { "type": "text", "text": "Hello" } },
            { "role": "user", "content": { "type": "text", "text": "Again" } },
        ],
        "modelPreferences": {
            "hints": [{ "name": "small" }],
            "costPriority": 0.25,
            "speedPriority": 0.5,
            "intelligencePriority": 0.75,
        },
        "systemPrompt": "Answer in one word",
        "temperature": 0.5,
        "maxTokens": 77,
        "stopSequences": ["END"],
        "metadata": { "vendor": { "trace": "kept" } },
    })
}

fn form_with_defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": {
                "type": "string",
                "enum": ["active", "inactive", "pending"],
                "default": "active",
            },
            "verified": { "type": "boolean", "default": true },
        },
    })
}

fn form_with_enums() -> Value {
    let titled = |first: &str, second: &str, third: &str| {
        json!([
            { "const": "value1", "title": first },
            { "const": "value2", "title": second },
            { "const": "value3", "title": third },
        ])
    };
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
            "titledSingle": {
                "type": "string",
                "oneOf": titled("First Option", "Second Option", "Third Option"),
            },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {
                "type": "array",
                "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
            },
            "titledMulti": {
                "type": "array",
                "items": { "anyOf": titled("First Choice", "Second Choice", "Third Choice") },
            },
        },
    })
}
