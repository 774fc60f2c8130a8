//! The tools that are switched on in groups.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rmcp::{
    RoleServer,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock},
    service::RequestContext,
    tool, tool_router,
};

use super::{
    BrowserTools,
    answer::{self, MAX_TEXT, paced, tail, text},
    caller,
    params::{
        Console, Cookies, Download, Evaluate, FileParam, InitScript, Intercept, Level, Network,
        Only, Part, Requests, RouteAct, Site, Storage, StoreAct, Take, Trace, TraceAct, Upload,
        View, What,
    },
};
use crate::{
    Action, BrowserError, BrowserErrorKind, Conditions, ConsoleLevel, CookieQuery, Extract, Files,
    NewCookie, RequestPart, Route, Session,
};

type Context = RequestContext<RoleServer>;

fn need<T>(value: Option<T>, what: &'static str) -> Result<T, BrowserError> {
    value.ok_or_else(|| BrowserError::new(BrowserErrorKind::InvalidInput, what))
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
            let level = match params.level.unwrap_or(Level::Debug) {
                Level::Debug => ConsoleLevel::Debug,
                Level::Info => ConsoleLevel::Info,
                Level::Warning => ConsoleLevel::Warning,
                Level::Error => ConsoleLevel::Error,
            };
            let (filter, after) = (params.filter.unwrap_or_default(), params.after.unwrap_or(0));
            let messages = session.console(level).into_iter();
            let lines = messages
                .filter(|(number, _, text)| *number > after && text.contains(&filter))
                .map(|(number, level, text)| format!("{number} [{level}] {text}"));
            Ok(tail(&lines.collect::<Vec<_>>()))
        })
        .await
    }

    /// Answers what pages requested and what came of it, the newest last; or the headers or a body of one request by its number.
    #[tool(annotations(title = "Network log", read_only_hint = true, open_world_hint = true))]
    async fn browser_network(
        &self,
        Parameters(params): Parameters<Requests>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            if let Some(number) = params.number {
                let part = match params.part.unwrap_or(Part::Headers) {
                    Part::Headers => RequestPart::Headers,
                    Part::RequestBody => RequestPart::RequestBody,
                    Part::ResponseBody => RequestPart::ResponseBody,
                };
                let whole = session.request_part(number, part).await?;
                let part = crate::snapshot::part(&whole, params.from.unwrap_or(0), MAX_TEXT);
                return Ok(answer::part(part.text.to_owned(), part.next));
            }
            let (filter, after) = (params.filter.unwrap_or_default(), params.after.unwrap_or(0));
            let failed = params.failed.unwrap_or(false);
            let requests = session.network().into_iter().filter(|request| {
                request.number > after
                    && request.url.contains(&filter)
                    && (request.failed || !failed)
            });
            let lines: Vec<String> = requests.map(|request| request.to_string()).collect();
            Ok(tail(&lines))
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
            Ok(tail(&rules))
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

    /// Lists the session's cookies, sets one with all its attributes, or clears all or those of a name, domain or path.
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
                StoreAct::Clear => {
                    let which = CookieQuery {
                        name: params.name.clone(),
                        domain: params.domain.clone(),
                        path: params.path.clone(),
                    };
                    session.clear_cookies(&which).await?;
                }
                StoreAct::Set => session.set_cookie(&params.cookie()?).await?,
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

    /// Runs a script in the page, or a function of one element, and answers its value as JSON.
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
            let session = paced(session, params.timeout_ms, None)?;
            let selector = params.selector.as_deref();
            let value = session
                .evaluate_on(selector, &params.script)
                .await?
                .to_string();
            let part = crate::snapshot::part(&value, 0, MAX_TEXT);
            let cut = if part.next.is_some() {
                "\n(the value continues)"
            } else {
                ""
            };
            answer::after(&session, &format!("{}{cut}", part.text), View::None).await
        })
        .await
    }

    /// Has a script run in every document of the session from now on, before the document's own.
    #[tool(annotations(
        title = "Add an init script",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = true
    ))]
    async fn browser_init_script(
        &self,
        Parameters(params): Parameters<InitScript>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            session.add_init_script(&params.script).await?;
            Ok(text("added: it runs in the next document"))
        })
        .await
    }

    /// Gives files to a page: to a file field, through the button that opens a file chooser, to the chooser that is open, or dropped onto an area.
    #[tool(annotations(
        title = "Upload files",
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
            let files = params.files.into_iter().map(FileParam::file);
            let files = files.collect::<Result<Vec<_>, _>>()?;
            let count = files.len();
            match (params.selector, params.drop.unwrap_or(false)) {
                (Some(selector), false) => session.act(&selector, Action::Upload(files)).await?,
                (Some(selector), true) => session.act(&selector, Action::Drop(files)).await?,
                (None, false) => session.choose_files(&files).await?,
                (None, true) => return need(None, "selector is missing: name the area"),
            }
            answer::after(session, &format!("uploaded: {count}"), View::Changes).await
        })
        .await
    }

    /// Lists the files that the session has downloaded, or reads one by its number: a text in parts, and a link to the whole.
    #[tool(annotations(title = "Downloads", read_only_hint = true, open_world_hint = false))]
    async fn browser_downloads(
        &self,
        Parameters(params): Parameters<Download>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let Some(number) = params.number else {
                let lines = session.downloads().await?.into_iter().map(|kept| {
                    let state = match (kept.problem, kept.size) {
                        (Some(problem), _) => problem,
                        (None, size) => format!("{} bytes", size.unwrap_or_default()),
                    };
                    format!("{}: {} ({state})", kept.number, kept.name)
                });
                return Ok(tail(&lines.collect::<Vec<_>>()));
            };
            let (kept, content) = session.read_download(number).await?;
            let shown = std::str::from_utf8(&content)
                .ok()
                .map(|text| session.shown(text));
            let mut answer = match &shown {
                Some(text) => {
                    let part = crate::snapshot::part(text, params.from.unwrap_or(0), MAX_TEXT);
                    answer::part(part.text.to_owned(), part.next)
                }
                None => text(format!(
                    "{}: {} bytes, not a text",
                    kept.name,
                    content.len()
                )),
            };
            let (media_type, content) = match shown {
                Some(text) => ("text/plain", text.into()),
                None => ("application/octet-stream", content),
            };
            let owner = caller(&context).partition();
            let link = self
                .shelf
                .put(owner, session.id(), &kept.name, media_type, content);
            answer.content.push(link);
            Ok(answer)
        })
        .await
    }

    /// Prints the page as PDF; answers a link to it.
    #[tool(annotations(title = "Print as PDF", read_only_hint = true, open_world_hint = true))]
    async fn browser_pdf(
        &self,
        Parameters(params): Parameters<Only>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let document = session.pdf().await?;
            Ok(self.kept(&context, session, "page.pdf", "application/pdf", document))
        })
        .await
    }

    /// Begins a trace of the session, or ends it and answers a link to a ZIP file for Playwright's trace viewer.
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
            Ok(self.kept(&context, session, "trace.zip", "application/zip", trace))
        })
        .await
    }
}

impl BrowserTools {
    /// Keeps a file for the caller and answers a link to it.
    fn kept(
        &self,
        context: &Context,
        session: &Session,
        name: &str,
        media_type: &'static str,
        content: Bytes,
    ) -> CallToolResult {
        let said = format!(
            "{name}: {} bytes, to be read as a resource for 15 minutes",
            content.len()
        );
        let owner = caller(context).partition();
        let link = self
            .shelf
            .put(owner, session.id(), name, media_type, content);
        CallToolResult::success(vec![ContentBlock::text(said), link])
    }
}

impl Cookies {
    fn cookie(&self) -> Result<NewCookie, BrowserError> {
        let same_site = self.same_site.map(|site| match site {
            Site::Strict => "Strict",
            Site::Lax => "Lax",
            Site::None => "None",
        });
        Ok(NewCookie {
            name: need(self.name.clone(), "name is missing")?,
            value: self.value.clone().unwrap_or_default(),
            url: self.url.clone(),
            domain: self.domain.clone(),
            path: self.path.clone(),
            expires: self.expires,
            http_only: self.http_only.unwrap_or(false),
            secure: self.secure.unwrap_or(false),
            same_site,
        })
    }
}

impl FileParam {
    fn file(self) -> Result<Files, BrowserError> {
        let (content, usual) = match (self.text, self.content_base64) {
            (Some(text), None) => (text.into_bytes(), "text/plain"),
            (None, Some(base64)) => {
                let content = BASE64_STANDARD.decode(base64.trim()).ok();
                let wanted = "content_base64 is not base64 (RFC 4648, section 4)";
                (need(content, wanted)?, "application/octet-stream")
            }
            _ => return need(None, "each file needs one of text and content_base64"),
        };
        let media_type = self.media_type.as_deref().unwrap_or(usual);
        Ok(Files::new(&self.name, media_type, content))
    }
}
