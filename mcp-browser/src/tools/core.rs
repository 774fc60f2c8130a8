//! The basic tools.

use std::time::Duration;

use rmcp::{
    RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, ResourceContents},
    service::RequestContext,
    tool, tool_router,
};
use serde_json::json;

use super::{
    BrowserTools,
    answer::{self, MAX_TEXT, done, text},
    caller,
    params::{Act, Answer, Interact, Navigate, Only, Shot, Snapshot, View, WaitFor},
};
use crate::{
    Action, BrowserError, BrowserErrorKind, Button, Extract, Screenshot, SessionOptions, Wait,
};

type Context = RequestContext<RoleServer>;

fn missing(what: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, what)
}

impl Interact {
    fn action(&mut self) -> Result<Option<Action>, BrowserError> {
        if let Some(secret) = self.secret.take() {
            return match self.action {
                Act::Type | Act::Fill => Ok(Some(Action::FillSecret(secret))),
                _ => Err(missing("secret is for the actions type and fill")),
            };
        }
        let value = self.value.take();
        let needed = || {
            value
                .clone()
                .ok_or_else(|| missing("value is missing: this action needs it"))
        };
        Ok(Some(match self.action {
            Act::Extract => return Ok(None),
            Act::Click => Action::Click(Button::Left),
            Act::RightClick => Action::Click(Button::Right),
            Act::DoubleClick => Action::DoubleClick,
            Act::Hover => Action::Hover,
            Act::Type => Action::Type(needed()?),
            Act::Fill => Action::Fill(needed()?),
            Act::Select => Action::Select(vec![needed()?]),
            Act::Check => Action::Check(true),
            Act::Uncheck => Action::Check(false),
            Act::Press => Action::Press(needed()?),
            Act::Drag => Action::Drag(needed()?),
            Act::Scroll => Action::Scroll,
        }))
    }
}

#[tool_router(router = core_tools, vis = "pub(super)")]
impl BrowserTools {
    /// Opens a browser session of your own and answers its session_id. Cookies and storage are empty unless a profile is named. Close it when you are done.
    #[tool(annotations(
        title = "Create a browser session",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn browser_create_session(
        &self,
        Parameters(options): Parameters<SessionOptions>,
        context: Context,
    ) -> CallToolResult {
        done(async {
            let session = self.browsers.create(&caller(&context), options).await?;
            let mut answer = text(format!(
                "session_id: {}\nsandboxed: {}",
                session.id(),
                session.is_sandboxed()
            ));
            answer.structured_content =
                Some(json!({ "session_id": session.id(), "sandboxed": session.is_sandboxed() }));
            Ok(answer)
        })
        .await
    }

    /// Lists your open sessions with their pages.
    #[tool(annotations(
        title = "List browser sessions",
        read_only_hint = true,
        open_world_hint = false
    ))]
    async fn browser_list_sessions(&self, context: Context) -> CallToolResult {
        let principal = caller(&context);
        let sessions: Vec<_> = self
            .browsers
            .sessions(&principal)
            .into_iter()
            .filter_map(|id| Some(json!({ "session_id": id, "tabs": self.browsers.session(&principal, &id).ok()?.tabs() })))
            .collect();
        let mut answer = text(serde_json::to_string_pretty(&sessions).unwrap_or_default());
        answer.structured_content = Some(json!({ "sessions": sessions }));
        answer
    }

    /// Opens an address, or goes back, forward, or reloads; answers a snapshot with references for browser_interact.
    #[tool(annotations(
        title = "Open a page",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = true
    ))]
    async fn browser_navigate(
        &self,
        Parameters(params): Parameters<Navigate>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            match params.url.as_str() {
                "back" => session.travel(-1).await?,
                "forward" => session.travel(1).await?,
                "reload" => session.travel(0).await?,
                url => session.navigate(url).await?,
            }
            answer::after(session, "loaded", params.snapshot.unwrap_or(View::Full)).await
        })
        .await
    }

    /// Does something with an element, or extracts its text; answers what changed on the page.
    #[tool(annotations(
        title = "Interact with a page",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn browser_interact(
        &self,
        Parameters(mut params): Parameters<Interact>,
        context: Context,
    ) -> CallToolResult {
        let id = std::mem::take(&mut params.session_id);
        self.with_session(&context, &id, async |session| {
            let Some(action) = params.action()? else {
                let (part, next) = session
                    .extract(params.selector.as_deref(), Extract::Text, 0, MAX_TEXT)
                    .await?;
                let more = if next.is_some() {
                    "\n(goes on: name a narrower selector)"
                } else {
                    ""
                };
                return Ok(text(format!("{part}{more}")));
            };
            let selector = params
                .selector
                .as_deref()
                .ok_or_else(|| missing("selector is missing: name an element"))?;
            let said = action
                .name()
                .trim_start_matches("browser.")
                .replace('_', " ");
            session.act(selector, action).await?;
            answer::after(
                session,
                &format!("done: {said}"),
                params.snapshot.unwrap_or_default(),
            )
            .await
        })
        .await
    }

    /// Describes the page by its accessibility tree, with references for browser_interact. Long pages come in parts.
    #[tool(annotations(
        title = "Take a snapshot",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_snapshot(
        &self,
        Parameters(params): Parameters<Snapshot>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let view = session
                .snapshot(
                    params.changes.unwrap_or(false),
                    params.from.unwrap_or(0),
                    MAX_TEXT,
                )
                .await?;
            Ok(text(answer::snapshot(&view)))
        })
        .await
    }

    /// Takes a picture of what can be seen, of the whole page, or of one element.
    #[tool(annotations(
        title = "Take a screenshot",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_screenshot(
        &self,
        Parameters(params): Parameters<Shot>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let what = match (params.selector, params.full_page) {
                (Some(selector), _) => Screenshot::Element(selector),
                (None, Some(true)) => Screenshot::FullPage,
                (None, _) => Screenshot::Viewport,
            };
            let picture = session.screenshot(&what).await?;
            Ok(CallToolResult::success(vec![ContentBlock::image(
                answer::base64(&picture),
                "image/png",
            )]))
        })
        .await
    }

    /// Waits for an element or a text to appear, for an element to go away, or for some seconds.
    #[tool(annotations(title = "Wait", read_only_hint = true, open_world_hint = true))]
    async fn browser_wait(
        &self,
        Parameters(params): Parameters<WaitFor>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let wait = match (params.selector, params.gone, params.text, params.seconds) {
                (Some(selector), ..) => Wait::Element(selector),
                (_, Some(gone), ..) => Wait::Gone(gone),
                (_, _, Some(text), _) => Wait::Text(text),
                (.., Some(seconds)) => Wait::Time(
                    Duration::try_from_secs_f64(seconds)
                        .map_err(|_| missing("seconds is not a time"))?,
                ),
                _ => return Err(missing("selector, gone, text or seconds is missing")),
            };
            session.wait(&wait).await?;
            answer::after(session, "waited", View::Changes).await
        })
        .await
    }

    /// Answers a dialog (alert, confirm, prompt) that the page shows. The page stands still until then.
    #[tool(annotations(
        title = "Answer a dialog",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn browser_dialog(
        &self,
        Parameters(params): Parameters<Answer>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            session
                .answer_dialog(params.accept, params.text.as_deref())
                .await?;
            answer::after(session, "answered", View::Changes).await
        })
        .await
    }

    /// Closes a session and everything in it.
    #[tool(annotations(
        title = "Close a browser session",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn browser_close_session(
        &self,
        Parameters(params): Parameters<Only>,
        context: Context,
    ) -> CallToolResult {
        done(async {
            let videos = self
                .browsers
                .close(&caller(&context), &params.session_id)
                .await?;
            let mut content = vec![ContentBlock::text("closed")];
            for (index, video) in videos.iter().enumerate() {
                let uri = format!("browser://{}/video-{index}.webm", params.session_id);
                let contents =
                    ResourceContents::blob(answer::base64(video), uri).with_mime_type("video/webm");
                content.push(ContentBlock::resource(contents));
            }
            Ok(CallToolResult::success(content))
        })
        .await
    }
}
