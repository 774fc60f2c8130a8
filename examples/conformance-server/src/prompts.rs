//! Prompts, and completion of their arguments.
#![expect(missing_docs, reason = "the prompt macro writes items of its own")]

use rmcp::{
    ErrorData, RoleServer,
    handler::server::{prompt::PromptContext, wrapper::Parameters},
    model::{
        CompleteRequestParams, CompleteResult, CompletionInfo, ContentBlock,
        GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputResponses, Prompt,
        PromptMessage, Reference, ResourceContents, Role,
    },
    prompt, prompt_router,
    service::RequestContext,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::{
    ask::{Answered, Question, ask},
    fixture::FixtureServer,
    media,
    state::Shared,
};

/// Listed only after `test_trigger_prompt_change` turned it on.
const EXTRA: &str = "extra_prompt";

/// Asks the user before it answers.
const ASKING: &str = "test_input_required_result_prompt";

/// What arguments complete to.
const CITIES: [&str; 5] = ["berlin", "paris", "park-city", "parma", "porto"];

/// The prompts that are on offer now.
pub(crate) fn listed(shared: &Shared) -> Vec<Prompt> {
    let mut prompts = shared.prompts.list_all();
    let about = "A prompt that asks the user before it answers";
    prompts.push(Prompt::new(ASKING, Some(about), None));
    prompts.retain(|prompt| prompt.name != EXTRA || shared.extra_prompt.is_on());
    prompts
}

/// Completes any argument of a prompt or template to the cities that begin like it.
///
/// When `context` holds `arg1`, values begin with it and a dash: the context is seen to arrive.
pub(crate) fn complete(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    if let Reference::Prompt(prompt) = &request.r#ref
        && !prompt.name.starts_with("test_")
    {
        let message = format!("unknown prompt: {}", prompt.name);
        return Err(ErrorData::invalid_params(message, None));
    }
    let context = request.context.as_ref();
    let before = context.and_then(|context| context.get_argument("arg1"));
    let values = CITIES
        .iter()
        .filter(|city| city.starts_with(&request.argument.value))
        .map(|city| before.map_or((*city).to_owned(), |before| format!("{before}-{city}")))
        .collect();
    CompletionInfo::with_all_values(values)
        .map(CompleteResult::new)
        .map_err(|error| ErrorData::internal_error(error, None))
}

#[derive(Deserialize, JsonSchema)]
struct TwoArguments {
    /// First test argument
    arg1: String,
    /// Second test argument
    arg2: String,
}

#[derive(Deserialize, JsonSchema)]
struct ResourceArgument {
    /// URI of the resource to embed
    #[serde(rename = "resourceUri")]
    resource_uri: String,
}

#[prompt_router(vis = "pub(crate)")]
impl FixtureServer {
    #[prompt(description = "A prompt without arguments", title = "Simple prompt")]
    async fn test_simple_prompt(&self) -> Vec<PromptMessage> {
        vec![user_text("This is a simple prompt for testing.")]
    }

    #[prompt(description = "A prompt with two arguments")]
    async fn test_prompt_with_arguments(
        &self,
        Parameters(TwoArguments { arg1, arg2 }): Parameters<TwoArguments>,
    ) -> GetPromptResult {
        let text = format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'");
        GetPromptResult::new(vec![user_text(text)]).with_description("Both arguments, in order")
    }

    #[prompt(description = "A prompt with an embedded resource")]
    async fn test_prompt_with_embedded_resource(
        &self,
        Parameters(ResourceArgument { resource_uri }): Parameters<ResourceArgument>,
    ) -> Vec<PromptMessage> {
        let contents =
            ResourceContents::text("Embedded resource content for testing.", resource_uri)
                .with_mime_type("text/plain");
        vec![
            PromptMessage::new(Role::User, ContentBlock::resource(contents)),
            user_text("Please process the embedded resource above."),
        ]
    }

    #[prompt(description = "A prompt with an image")]
    async fn test_prompt_with_image(&self) -> Vec<PromptMessage> {
        let image = ContentBlock::image(media::PNG, "image/png");
        vec![
            PromptMessage::new(Role::User, image),
            user_text("Please analyze the image above."),
        ]
    }

    #[prompt(description = "A prompt that comes and goes")]
    async fn extra_prompt(&self) -> Vec<PromptMessage> {
        vec![user_text("This prompt was switched on.")]
    }
}

/// Gets one prompt.
///
/// rmcp's prompt routes neither see the answers to earlier questions nor may ask any, so the prompt
/// that asks is taken out in front of them.
///
/// # Errors
///
/// Fails as the prompt does, or when there is none of this name.
pub(crate) async fn get(
    server: &FixtureServer,
    request: GetPromptRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    if request.name == ASKING {
        return asking(&context, request.input_responses).await;
    }
    if request.name == EXTRA && !server.shared.extra_prompt.is_on() {
        return Err(ErrorData::invalid_params("prompt not found", None));
    }
    let prompt = PromptContext::new(server, request.name, request.arguments, context);
    server.shared.prompts.get_prompt(prompt).await
}

async fn asking(
    context: &RequestContext<RoleServer>,
    given: Option<InputResponses>,
) -> Result<GetPromptResponse, ErrorData> {
    let schema = json!({
        "type": "object",
        "properties": { "context": { "type": "string" } },
        "required": ["context"],
    });
    let question = Question::form(
        "user_context",
        "What context should the prompt use?",
        schema,
    );
    Ok(match ask(context, given, vec![question], None).await? {
        Answered::NotYet(result) => result.into(),
        Answered::All(answers) => {
            let text = answers["user_context"]["content"]["context"].as_str();
            let text = format!("Use this context: {}", text.unwrap_or_default());
            GetPromptResult::new(vec![user_text(text)]).into()
        }
    })
}

fn user_text(text: impl Into<String>) -> PromptMessage {
    PromptMessage::new_text(Role::User, text)
}
