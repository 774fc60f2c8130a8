//! The tools of the tasks extension (SEP-2663).

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    handler::server::{tool::InputResponses, wrapper::Parameters},
    model::{CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult},
    service::RequestContext,
    task_manager::{TaskExit, TaskFuture, TaskOptions},
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{
    asking::finish,
    input_required::{field, object},
};
use crate::{
    ask::{Answered, Question, ask},
    fixture::FixtureServer,
};

/// Suggested to clients, so that tests need not wait a second.
const POLL_INTERVAL_MS: u64 = 100;

#[derive(Deserialize, JsonSchema)]
struct Work {
    /// How long it takes
    seconds: f64,
    /// What to call it
    #[serde(default)]
    label: String,
}

#[derive(Deserialize, JsonSchema)]
struct File {
    /// Which file to delete
    filename: String,
}

#[tool_router(router = task_tools, vis = "pub(crate)")]
impl FixtureServer {
    #[tool(description = "Computes slowly: as a task where the client knows tasks")]
    async fn slow_compute(
        &self,
        Parameters(Work { seconds, label }): Parameters<Work>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let invalid = |error| ErrorData::invalid_params(format!("seconds: {error}"), None);
        let time = Duration::try_from_secs_f64(seconds).map_err(invalid)?;
        let done = text(format!("Computed {label} in {seconds} s"));
        if !knows_tasks(&context) {
            tokio::select! {
                () = tokio::time::sleep(time) => return Ok(done.into()),
                () = context.ct.cancelled() => {
                    return Err(ErrorData::internal_error("cancelled", None));
                }
            }
        }
        Ok(self.start(|task| {
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(time) => Ok(done),
                    () = task.cancelled() => Err(TaskExit::Cancelled),
                }
            })
        }))
    }

    #[tool(description = "A task that ends in a tool error")]
    async fn failing_job(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        require_tasks(&context)?;
        Ok(self.start(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text(
                    "The job failed",
                )]))
            })
        }))
    }

    #[tool(description = "A task that ends in a protocol error")]
    async fn protocol_error_job(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        require_tasks(&context)?;
        Ok(self.start(|_| {
            Box::pin(async {
                let data = json!({ "kept": true });
                Err(ErrorData::internal_error("the job broke", Some(data)).into())
            })
        }))
    }

    #[tool(description = "A task that asks before it deletes (it deletes nothing)")]
    async fn confirm_delete(
        &self,
        Parameters(File { filename }): Parameters<File>,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        require_tasks(&context)?;
        Ok(self.start(|task| {
            Box::pin(async move {
                let message = format!("Delete {filename}?");
                let question = Question::form("confirm", &message, object("confirm", "boolean"));
                let answer = task
                    .request_input("confirm", question.into_request())
                    .await?;
                let verb = match answer["content"]["confirm"].as_bool() {
                    Some(true) => "Deleted",
                    _ => "Kept",
                };
                Ok(text(format!("{verb} {filename}")))
            })
        }))
    }

    #[tool(description = "A task that asks two questions at once")]
    async fn multi_input(
        &self,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        require_tasks(&context)?;
        Ok(self.start(|task| {
            Box::pin(async move {
                let ask = |key: &'static str| {
                    let question = Question::form(key, "A name, please", object("name", "string"));
                    task.request_input(key, question.into_request())
                };
                let (first, second) = tokio::try_join!(ask("first"), ask("second"))?;
                let names = (field(&first, "name"), field(&second, "name"));
                Ok(text(format!("{} and {}", names.0, names.1)))
            })
        }))
    }

    #[tool(description = "Asks for a name first, then goes on as a task")]
    async fn test_tool_with_task(
        &self,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        require_tasks(&context)?;
        let schema = object("name", "string");
        let question = Question::form("user_name", "What is your name?", schema);
        let answers = match ask(&context, given, vec![question], None).await? {
            Answered::All(answers) => answers,
            not_yet @ Answered::NotYet(_) => return Ok(finish(not_yet, |_| String::new())),
        };
        let greeting = format!("Hello, {}!", field(&answers["user_name"], "name"));
        Ok(self.start(|_| Box::pin(async move { Ok(text(greeting)) })))
    }

    fn start(
        &self,
        work: impl FnOnce(rmcp::task_manager::TaskContext) -> TaskFuture,
    ) -> CallToolResponse {
        let options = TaskOptions::new().with_poll_interval_ms(POLL_INTERVAL_MS);
        CreateTaskResult::new(self.shared.tasks.spawn(options, work)).into()
    }
}

fn text(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn knows_tasks(context: &RequestContext<RoleServer>) -> bool {
    let declared = context.client_capabilities();
    declared.is_some_and(|declared| declared.supports_tasks())
}

fn require_tasks(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if knows_tasks(context) {
        return Ok(());
    }
    let needed = ClientCapabilities::builder().enable_tasks().build();
    Err(ErrorData::missing_required_client_capability(needed))
}
