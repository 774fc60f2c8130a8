//! The basic tools.

use std::time::Duration;

use rmcp::{
    RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock},
    service::RequestContext,
    tool, tool_router,
};
use serde_json::json;

use super::{
    BrowserTools,
    answer::{self, MAX_TEXT, done, paced, text},
    caller,
    params::{
        Act, Answer, ButtonName, Field, FillForm, Format, Interact, Load, ModifierName, Navigate,
        Only, Shot, Snapshot, TabAct, Tabs, View, WaitFor,
    },
};
use crate::{
    Action, Area, BrowserError, BrowserErrorKind, Button, Click, Extract, LoadState, Modifier,
    Screenshot, Session, SessionOptions, SnapshotQuery, Wait,
};

type Context = RequestContext<RoleServer>;

fn missing(what: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, what)
}

impl From<ButtonName> for Button {
    fn from(name: ButtonName) -> Self {
        match name {
            ButtonName::Left => Self::Left,
            ButtonName::Right => Self::Right,
            ButtonName::Middle => Self::Middle,
        }
    }
}

impl From<ModifierName> for Modifier {
    fn from(name: ModifierName) -> Self {
        match name {
            ModifierName::Alt => Self::Alt,
            ModifierName::Control => Self::Control,
            ModifierName::ControlOrMeta => Self::ControlOrMeta,
            ModifierName::Meta => Self::Meta,
            ModifierName::Shift => Self::Shift,
        }
    }
}

/// A click as a call describes it.
pub(super) fn click(
    button: Option<ButtonName>,
    count: Option<u8>,
    modifiers: Option<Vec<ModifierName>>,
) -> Result<Click, BrowserError> {
    let mut click = Click::with(button.map_or(Button::Left, Into::into));
    click.count = count.unwrap_or(1);
    if !(1..=3).contains(&click.count) {
        return Err(missing("count is not 1 to 3"));
    }
    click.modifiers = modifiers.into_iter().flatten().map(Into::into).collect();
    Ok(click)
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
        let values = self.values.take();
        Ok(Some(match self.action {
            Act::Extract => return Ok(None),
            Act::Click => Action::Click(click(self.button, self.count, self.modifiers.take())?),
            Act::RightClick => Action::Click(Click::with(Button::Right)),
            Act::DoubleClick => Action::Click(Click::double()),
            Act::Hover => Action::Hover,
            Act::Type => Action::Type(needed()?),
            Act::Fill => Action::Fill(needed()?),
            Act::Select => Action::Select(match values {
                Some(values) => values,
                None => vec![needed()?],
            }),
            Act::Check => Action::Check(true),
            Act::Uncheck => Action::Check(false),
            Act::Press => Action::Press(needed()?),
            Act::Drag => Action::Drag(needed()?),
            Act::Scroll => Action::Scroll,
        }))
    }
}

impl Field {
    /// What is done with a field follows from what is given for it.
    fn action(self) -> Result<(String, Action), BrowserError> {
        let action = match (self.secret, self.checked, self.values, self.value) {
            (Some(secret), None, None, None) => Action::FillSecret(secret),
            (None, Some(checked), None, None) => Action::Check(checked),
            (None, None, Some(values), None) => Action::Select(values),
            (None, None, None, Some(value)) => Action::Put(value),
            _ => {
                return Err(missing(
                    "each field needs one of value, values, checked and secret",
                ));
            }
        };
        Ok((self.selector, action))
    }
}

/// Does something with an element, or where the focus is.
async fn interact(
    session: &Session,
    selector: Option<&str>,
    action: Action,
) -> Result<(), BrowserError> {
    match (selector, action) {
        (Some(selector), action) => session.act(selector, action).await,
        (None, Action::Press(key)) => session.press_key(&key).await,
        (None, Action::Type(text)) => session.type_text(&text).await,
        (None, _) => Err(missing("selector is missing: name an element")),
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
            let session = paced(session, params.timeout_ms, params.settle_ms)?;
            match params.url.as_str() {
                "back" => session.travel(-1).await?,
                "forward" => session.travel(1).await?,
                "reload" => session.travel(0).await?,
                url => session.navigate(url).await?,
            }
            let said = match session.dialog() {
                Some(_) => "not loaded: a dialog came first",
                None => "loaded",
            };
            answer::after(&session, said, params.snapshot.unwrap_or(View::Full)).await
        })
        .await
    }

    /// Does something with an element, or extracts its text; press and type go to the focus without a selector. Answers what changed on the page.
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
                    "\n(continues: name a narrower selector)"
                } else {
                    ""
                };
                return Ok(text(format!("{part}{more}")));
            };
            let said = action
                .name()
                .trim_start_matches("browser.")
                .replace('_', " ");
            let session = paced(session, params.timeout_ms, params.settle_ms)?;
            interact(&session, params.selector.as_deref(), action).await?;
            answer::after(
                &session,
                &format!("done: {said}"),
                params.snapshot.unwrap_or_default(),
            )
            .await
        })
        .await
    }

    /// Fills several fields of a form in one call, each by what is given for it, and clicks a button afterwards if one is named. Answers what changed on the page.
    #[tool(annotations(
        title = "Fill a form",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn browser_fill_form(
        &self,
        Parameters(params): Parameters<FillForm>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let session = paced(session, params.timeout_ms, None)?;
            let fields = params.fields.into_iter().map(Field::action);
            let mut fields = fields.collect::<Result<Vec<_>, _>>()?;
            let count = fields.len();
            if let Some(submit) = params.submit {
                fields.push((submit, Action::click()));
            }
            session.fill_form(fields).await?;
            let said = format!("done: {count} fields filled");
            answer::after(&session, &said, params.snapshot.unwrap_or_default()).await
        })
        .await
    }

    /// Describes the page by its accessibility tree, with references for browser_interact: all of it, an element, some levels, or the lines with a text. Long pages come in parts.
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
            let query = SnapshotQuery {
                difference: params.changes.unwrap_or(false),
                within: params.selector,
                depth: params.depth,
                find: params.find,
                from: params.from.unwrap_or(0),
            };
            let view = session.snapshot_of(&query, MAX_TEXT).await?;
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
            let mut what = Screenshot::of(match (params.selector, params.full_page) {
                (Some(selector), _) => Area::Element(selector),
                (None, Some(true)) => Area::FullPage,
                (None, _) => Area::Viewport,
            });
            if params.format == Some(Format::Jpeg) {
                what.jpeg = Some(params.quality.unwrap_or(80));
            }
            what.css_scale = params.css_scale.unwrap_or(false);
            let picture = session.screenshot(&what).await?;
            let picture = ContentBlock::image(answer::base64(&picture), what.media_type());
            Ok(CallToolResult::success(vec![picture]))
        })
        .await
    }

    /// Waits for an element or a text to appear or go away, for the page to be loaded, or for some seconds.
    #[tool(annotations(title = "Wait", read_only_hint = true, open_world_hint = true))]
    async fn browser_wait(
        &self,
        Parameters(params): Parameters<WaitFor>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let session = paced(session, params.timeout_ms, None)?;
            let wait = if let Some(selector) = params.selector {
                Wait::Element(selector)
            } else if let Some(gone) = params.gone {
                Wait::Gone(gone)
            } else if let Some(text) = params.text {
                Wait::Text(text)
            } else if let Some(text) = params.text_gone {
                Wait::TextGone(text)
            } else if let Some(load) = params.load {
                Wait::Load(match load {
                    Load::Parsed => LoadState::Parsed,
                    Load::Loaded => LoadState::Loaded,
                    Load::Idle => LoadState::Idle,
                })
            } else if let Some(seconds) = params.seconds {
                let time = Duration::try_from_secs_f64(seconds);
                Wait::Time(time.map_err(|_| missing("seconds is not a time"))?)
            } else {
                let message = "selector, gone, text, text_gone, load or seconds is missing";
                return Err(missing(message));
            };
            session.wait(&wait).await?;
            answer::after(&session, "waited", View::Changes).await
        })
        .await
    }

    /// Answers a dialog that the page shows: alert, confirm, prompt, or beforeunload (accept leaves the page, dismiss stays). The page stands still until then.
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

    /// Lists, opens, selects and closes tabs. Popups open tabs too.
    #[tool(annotations(
        title = "Tabs",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = false
    ))]
    async fn browser_tabs(
        &self,
        Parameters(params): Parameters<Tabs>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let number = || {
                params
                    .tab
                    .ok_or_else(|| missing("tab is missing: name a tab by its number"))
            };
            match params.action.unwrap_or(TabAct::List) {
                TabAct::List => {}
                TabAct::Open => drop(session.open_tab().await?),
                TabAct::Select => session.select_tab(number()?).await?,
                TabAct::Close => session.close_tab(number()?).await?,
            }
            let tabs = session.tabs();
            let mut answer = text(serde_json::to_string_pretty(&tabs).unwrap_or_default());
            answer.structured_content = Some(json!({ "tabs": tabs }));
            Ok(answer)
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
            let owner = caller(&context).partition();
            for (index, video) in videos.into_iter().enumerate() {
                let name = format!("video-{index}.webm");
                let id = &params.session_id;
                content.push(self.shelf.put(owner, id, &name, "video/webm", video));
            }
            Ok(CallToolResult::success(content))
        })
        .await
    }
}
