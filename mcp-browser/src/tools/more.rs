//! The tools that are switched on in groups.

use base64::{Engine, prelude::BASE64_STANDARD};
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
    answer::{self, MAX_TEXT, text},
    params::{
        Console, Cookies, Evaluate, Intercept, Network, Only, RouteAct, Storage, StoreAct, TabAct,
        Tabs, Take, Trace, TraceAct, Upload, View, What,
    },
};
use crate::{Action, BrowserError, BrowserErrorKind, Conditions, Extract, Files, Route};

type Context = RequestContext<RoleServer>;

fn need<T>(value: Option<T>, what: &'static str) -> Result<T, BrowserError> {
    value.ok_or_else(|| BrowserError::new(BrowserErrorKind::InvalidInput, what))
}

/// The end of a long list: the newest lines.
fn tail(lines: &[String]) -> String {
    let mut size = 0;
    let fits = lines.iter().rev().take_while(|line| {
        size += line.len() + 1;
        size <= MAX_TEXT
    });
    let count = fits.count();
    let skipped = lines.len() - count;
    let mut out = if skipped > 0 {
        format!("({skipped} older lines)\n")
    } else {
        String::new()
    };
    out.push_str(&lines[skipped..].join("\n"));
    if lines.is_empty() {
        "nothing".to_owned()
    } else {
        out
    }
}

#[tool_router(router = more_tools, vis = "pub(super)")]
impl BrowserTools {
    /// Takes text, HTML, attributes or a table out of an element, or the whole page as Markdown. Long texts come in parts.
    #[tool(annotations(
        title = "Extract content",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_extract(
        &self,
        Parameters(params): Parameters<Take>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let what = match params.what {
                What::Text => Extract::Text,
                What::Html => Extract::Html,
                What::Attributes => Extract::Attributes,
                What::Table => Extract::Table,
                What::Markdown => Extract::Markdown,
            };
            let from = params.from.unwrap_or(0);
            let (part, next) = session
                .extract(params.selector.as_deref(), what, from, MAX_TEXT)
                .await?;
            Ok(answer::part(part, next))
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
            let number = || need(params.tab, "tab is missing: name a tab by its number");
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

    /// Answers what pages wrote to the console and what they threw, the newest last.
    #[tool(annotations(
        title = "Console messages",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_console(
        &self,
        Parameters(params): Parameters<Console>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let messages = session.console(params.errors.unwrap_or(false));
            Ok(text(tail(
                &messages
                    .into_iter()
                    .map(|(number, level, text)| format!("{number} [{level}] {text}"))
                    .collect::<Vec<_>>(),
            )))
        })
        .await
    }

    /// Answers what pages requested and what came of it, the newest last.
    #[tool(annotations(title = "Network log", read_only_hint = true, open_world_hint = true))]
    async fn browser_network(
        &self,
        Parameters(params): Parameters<Only>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            Ok(text(tail(&session.network())))
        })
        .await
    }

    /// Blocks, answers or changes requests whose address matches a pattern, or forgets all such rules.
    #[tool(annotations(
        title = "Intercept requests",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = true
    ))]
    async fn browser_route(
        &self,
        Parameters(params): Parameters<Intercept>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let pattern = params.pattern.as_deref();
            let wanted = "pattern is missing";
            match params.action {
                RouteAct::Block => session.route(need(pattern, wanted)?, Route::Block).await?,
                RouteAct::Fulfil => {
                    let route = Route::Fulfil {
                        status: params.status.unwrap_or(200),
                        content_type: params
                            .content_type
                            .clone()
                            .unwrap_or_else(|| "text/plain".to_owned()),
                        body: params.body.clone().unwrap_or_default(),
                    };
                    session.route(need(pattern, wanted)?, route).await?;
                }
                RouteAct::Modify => {
                    let headers = need(params.headers.clone(), "headers is missing")?
                        .into_iter()
                        .collect();
                    session
                        .route(need(pattern, wanted)?, Route::Modify { headers })
                        .await?;
                }
                RouteAct::List => {}
                RouteAct::Clear => session.clear_routes().await?,
            }
            let rules: Vec<String> = session
                .routes()
                .iter()
                .map(|(pattern, route)| {
                    let what = match route {
                        Route::Block => "block".to_owned(),
                        Route::Fulfil { status, .. } => format!("fulfil with {status}"),
                        Route::Modify { headers } => format!("set {} headers", headers.len()),
                    };
                    format!("{pattern}: {what}")
                })
                .collect();
            Ok(text(tail(&rules)))
        })
        .await
    }

    /// Sets how the network is: offline, slow, or (with nothing set) as it is.
    #[tool(annotations(
        title = "Network conditions",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn browser_conditions(
        &self,
        Parameters(params): Parameters<Network>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let offline = params.offline.unwrap_or(false);
            session
                .set_conditions(Conditions::new(
                    offline,
                    params.latency_ms,
                    params.download,
                    params.upload,
                ))
                .await?;
            Ok(text("set"))
        })
        .await
    }

    /// Lists, sets or clears the session's cookies.
    #[tool(annotations(
        title = "Cookies",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = false
    ))]
    async fn browser_cookies(
        &self,
        Parameters(params): Parameters<Cookies>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            match params.action.unwrap_or(StoreAct::List) {
                StoreAct::List => {}
                StoreAct::Clear => session.clear_cookies().await?,
                StoreAct::Set => {
                    let url = need(params.url, "url is missing")?;
                    let name = need(params.name, "name is missing")?;
                    session
                        .set_cookie(&url, &name, &params.value.unwrap_or_default())
                        .await?;
                }
            }
            Ok(text(session.cookies().await?.to_string()))
        })
        .await
    }

    /// Lists the items of the page's storage, sets one or removes one.
    #[tool(annotations(
        title = "Page storage",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = false
    ))]
    async fn browser_storage(
        &self,
        Parameters(params): Parameters<Storage>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let local = !params.session.unwrap_or(false);
            let name = params.name.as_deref();
            let wanted = "name is missing: name an item";
            match params.action.unwrap_or(StoreAct::List) {
                StoreAct::List => {}
                StoreAct::Set => {
                    session
                        .set_storage(
                            local,
                            need(name, wanted)?,
                            Some(params.value.as_deref().unwrap_or_default()),
                        )
                        .await?
                }
                StoreAct::Clear => {
                    session
                        .set_storage(local, need(name, wanted)?, None)
                        .await?
                }
            }
            let items: serde_json::Map<_, _> = session
                .storage(local)
                .await?
                .into_iter()
                .map(|(name, value)| (name, value.into()))
                .collect();
            Ok(text(serde_json::Value::Object(items).to_string()))
        })
        .await
    }

    /// Runs a script in the page and answers its value as JSON.
    #[tool(annotations(
        title = "Evaluate a script",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn browser_evaluate(
        &self,
        Parameters(params): Parameters<Evaluate>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let value = session.evaluate(&params.script).await?.to_string();
            let part = crate::snapshot::part(&value, 0, MAX_TEXT);
            let cut = if part.next.is_some() {
                "\n(the value goes on)"
            } else {
                ""
            };
            answer::after(session, &format!("{}{cut}", part.text), View::None).await
        })
        .await
    }

    /// Gives a file to a file field of the page.
    #[tool(annotations(
        title = "Upload a file",
        read_only_hint = false,
        destructive_hint = true,
        open_world_hint = true
    ))]
    async fn browser_upload(
        &self,
        Parameters(params): Parameters<Upload>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let content = BASE64_STANDARD.decode(params.content_base64.trim()).ok();
            let content = need(
                content,
                "content_base64 is not base64 (RFC 4648, section 4)",
            )?;
            let media_type = params
                .media_type
                .as_deref()
                .unwrap_or("application/octet-stream");
            let files = vec![Files::new(&params.name, media_type, content)];
            session.act(&params.selector, Action::Upload(files)).await?;
            answer::after(session, "uploaded", View::Changes).await
        })
        .await
    }

    /// Lists the files that the session has downloaded, with where the operator finds them.
    #[tool(annotations(title = "Downloads", read_only_hint = true, open_world_hint = false))]
    async fn browser_downloads(
        &self,
        Parameters(params): Parameters<Only>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let kept = session.downloads().await?;
            Ok(text(tail(
                &kept
                    .into_iter()
                    .map(|(name, path)| format!("{name}: {}", path.display()))
                    .collect::<Vec<_>>(),
            )))
        })
        .await
    }

    /// Prints the page as PDF.
    #[tool(annotations(title = "Print as PDF", read_only_hint = true, open_world_hint = true))]
    async fn browser_pdf(
        &self,
        Parameters(params): Parameters<Only>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let document = session.pdf().await?;
            let uri = format!("browser://{}/page.pdf", params.session_id);
            let contents = ResourceContents::blob(answer::base64(&document), uri)
                .with_mime_type("application/pdf");
            Ok(CallToolResult::success(vec![ContentBlock::resource(
                contents,
            )]))
        })
        .await
    }

    /// Begins a trace of the session, or ends it and answers it as a ZIP file for Playwright's trace viewer.
    #[tool(annotations(
        title = "Trace",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = false
    ))]
    async fn browser_trace(
        &self,
        Parameters(params): Parameters<Trace>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            if params.action == TraceAct::Start {
                session.start_trace().await?;
                return Ok(text("tracing"));
            }
            let trace = session.stop_trace().await?;
            let uri = format!("browser://{}/trace.zip", params.session_id);
            let contents = ResourceContents::blob(answer::base64(&trace), uri)
                .with_mime_type("application/zip");
            Ok(CallToolResult::success(vec![ContentBlock::resource(
                contents,
            )]))
        })
        .await
    }
}
