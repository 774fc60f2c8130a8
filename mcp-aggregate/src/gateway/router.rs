//! Brings each call to the upstream that it is for.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join_all};
use mcp_core::{
    Ask, Asker, Era, Error, ErrorKind, Json, Method, Object, Request, Response, ResultType,
    RpcCode, UpstreamId, mirror::Mirrors,
};
use serde_json::json;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_service::Service;

use super::{Core, tasks::mentions_task};
use crate::catalogue::{Entry, ListKind, Snapshot};

/// How long upstreams are waited for that one call is brought to together.
const TOGETHER: Duration = Duration::from_secs(5);

/// The extension that tasks belong to since revision 2026-07-28 (SEP-2663).
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// The innermost service of a gateway.
#[derive(Clone)]
pub(super) struct Router(Arc<Core>);

impl Router {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        if request.is_notification() {
            return self.notify_all(request).await;
        }
        if let Some(kind) = ListKind::of_method(request.method()) {
            return self.list(kind, &request).await;
        }
        match request.method().as_str() {
            "server/discover" => self.discover().await,
            "ping" => Ok(Response::empty()),
            "tools/call" => self.call_named(ListKind::Tools, request).await,
            "prompts/get" => self.call_named(ListKind::Prompts, request).await,
            "resources/read" => self.read(request).await,
            "completion/complete" => self.complete(request).await,
            "subscriptions/listen" => super::listen::call(&self.0, request).await,
            "logging/setLevel" => self.set_level(request).await,
            "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result" => {
                self.task(request).await
            }
            "tasks/list" => self.list_tasks(request).await,
            _ => self.pass_on(request).await,
        }
    }

    async fn discover(&self) -> Result<Response, Error> {
        // With one upstream its own capabilities are worth waiting for; many answer for those that are slow.
        let longest = match &self.0.upstreams[..] {
            [only] => only.list_timeout,
            _ => Duration::from_secs(2),
        };
        let _ = timeout(longest, self.0.board.settled()).await;
        let base = self.0.base.load();
        let instructions = self.0.instructions.as_deref();
        Ok(Response::new(base.discovered(&self.0.info, instructions)))
    }

    async fn list(&self, kind: ListKind, request: &Request) -> Result<Response, Error> {
        let cursor = match request.param("cursor") {
            None => None,
            Some(cursor) if cursor.is_null() => None,
            Some(cursor) => Some(cursor.to_text().ok_or_else(|| {
                Error::new(ErrorKind::InvalidParams, "`params.cursor` is not a string")
            })?),
        };
        let snapshot = self.0.snapshot(request).await;
        let modern = request.era() == Era::Stateless;
        let page = snapshot.page(kind, cursor.as_deref(), request.visibility(), modern)?;
        Ok(Response::prepared(page))
    }

    async fn call_named(&self, kind: ListKind, request: Request) -> Result<Response, Error> {
        let name = request.name().unwrap_or_default();
        let now = self.0.snapshot_now(&request);
        if let Some(entry) = visible(&now, kind, name, &request) {
            return self.call_entry(entry, request).await;
        }
        let snapshot = Box::pin(self.0.snapshot(&request)).await;
        match visible(&snapshot, kind, name, &request) {
            Some(entry) => self.call_entry(entry, request).await,
            None => Err(unknown(kind, name)),
        }
    }

    async fn call_entry(&self, entry: &Entry, mut request: Request) -> Result<Response, Error> {
        if let Some(mirrors) = &entry.mirrors {
            mirrors.check(&request)?;
            request.extensions_mut().insert(Mirrors::clone(mirrors));
        }
        if entry.original != entry.public {
            request.set_name(Arc::clone(&entry.original));
        }
        let request = request.with_annotations(entry.annotations);
        self.forward(entry.upstream, request).await
    }

    /// Makes a call to one upstream, keeping task ids apart.
    async fn forward(&self, index: usize, mut request: Request) -> Result<Response, Error> {
        let upstream = &self.0.upstreams[index];
        request = request.with_upstream(upstream.id.clone());
        let owner = request.principal().partition();
        let task_call = request.param("task").is_some() || is_task_method(request.method());
        if task_call {
            request = self.with_public_tasks(index, request);
        }
        let response = upstream.service.clone().oneshot(request).await?;
        let has_task = task_call || *response.result_type() == ResultType::Task;
        if has_task && mentions_task(response.result()) {
            let wrapped = self
                .0
                .task_ids
                .wrap_in(owner, &upstream.id, response.result());
            return Ok(response.with_result(wrapped));
        }
        Ok(response)
    }

    /// Shows the client public task ids in what arrives before the answer.
    fn with_public_tasks(&self, index: usize, request: Request) -> Request {
        let core = Arc::clone(&self.0);
        let owner = request.principal().partition();
        let notifier = request.notifier().map(move |notification| {
            let id = &core.upstreams[index].id;
            Some(core.task_ids.wrap_notification(owner, id, notification))
        });
        let request = request.with_notifier(notifier);
        match request.asker().cloned() {
            Some(asker) => request.with_asker(Asker::new(TaskAsker {
                core: Arc::clone(&self.0),
                index,
                owner,
                asker,
            })),
            None => request,
        }
    }

    async fn read(&self, request: Request) -> Result<Response, Error> {
        let uri = request.name().unwrap_or_default().to_owned();
        let now = self.0.snapshot_now(&request);
        let mut candidates = visible_places(&now, &uri, &request);
        if candidates.is_empty() {
            let snapshot = self.0.snapshot(&request).await;
            candidates = visible_places(&snapshot, &uri, &request);
        }
        let Some((last, others)) = candidates.split_last() else {
            return Err(
                Error::new(ErrorKind::ResourceNotFound, "there is no such resource")
                    .with_data(json!({ "uri": uri }).into()),
            );
        };
        for index in others {
            match self.forward(*index, request.clone()).await {
                Err(error) if is_not_found(&error) && request.notifier().sent() == 0 => {}
                answer => return answer,
            }
        }
        self.forward(*last, request).await
    }

    async fn complete(&self, mut request: Request) -> Result<Response, Error> {
        let malformed = || {
            Error::new(
                ErrorKind::InvalidParams,
                "`params.ref` names neither a prompt nor a resource template",
            )
        };
        let reference = request.param("ref").ok_or_else(malformed)?;
        let mut reference = Object::try_from(reference).map_err(|_| malformed())?;
        let snapshot = self.0.snapshot(&request).await;
        match reference.text("type").as_deref() {
            Some("ref/prompt") => {
                let name = reference.text("name").ok_or_else(malformed)?;
                let entry = visible(&snapshot, ListKind::Prompts, &name, &request)
                    .ok_or_else(|| unknown(ListKind::Prompts, &name))?;
                if entry.original != entry.public {
                    reference.set("name", Json::string(&entry.original));
                    request.params_mut().set("ref", reference.to_json());
                }
                self.forward(entry.upstream, request).await
            }
            Some("ref/resource") => {
                let uri = reference.text("uri").ok_or_else(malformed)?;
                let place = match visible(&snapshot, ListKind::Templates, &uri, &request) {
                    Some(entry) => Some(entry.upstream),
                    None => visible_places(&snapshot, &uri, &request).first().copied(),
                };
                let index = place.ok_or_else(|| unknown(ListKind::Templates, &uri))?;
                self.forward(index, request).await
            }
            _ => Err(malformed()),
        }
    }

    /// Brings a level to every upstream that logs; those that are not in touch with the client yet are told when
    /// they are.
    async fn set_level(&self, request: Request) -> Result<Response, Error> {
        if self.0.upstreams.len() == 1 {
            return self.forward(0, request).await;
        }
        let snapshot = self.0.snapshot(&request).await;
        let logging: Vec<_> = snapshot
            .sources()
            .iter()
            .enumerate()
            .filter(|(_, source)| {
                source
                    .listing
                    .as_ref()
                    .and_then(|listing| listing.capabilities.as_ref())
                    .is_some_and(|own| own.member("logging").is_some())
            })
            .map(|(index, _)| index)
            .collect();
        if logging.is_empty() {
            return Err(Error::new(
                ErrorKind::MethodNotFound,
                "none of the upstreams has logging",
            ));
        }
        let told = logging
            .into_iter()
            .map(|index| timeout(TOGETHER, self.forward(index, request.clone())));
        let mut refusal = None;
        for answer in join_all(told).await.into_iter().flatten() {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => refusal = Some(error),
            }
        }
        refusal.map_or_else(|| Ok(Response::empty()), Err)
    }

    /// Brings a client's notification to every upstream that the client is in touch with.
    async fn notify_all(&self, request: Request) -> Result<Response, Error> {
        let snapshot = self.0.snapshot_now(&request);
        let present = snapshot
            .sources()
            .iter()
            .enumerate()
            .filter(|(index, source)| source.listing.is_some() && !self.0.board.is_away(*index))
            .map(|(index, _)| timeout(TOGETHER, self.forward(index, request.clone())));
        // Nobody waits for an answer.
        drop(join_all(present).await);
        Ok(Response::empty())
    }

    async fn task(&self, mut request: Request) -> Result<Response, Error> {
        if request.era() == Era::Stateless && !request.capabilities().has_extension(TASKS) {
            return Err(Error::new(
                ErrorKind::MissingCapability,
                "the request does not declare the tasks extension that it uses",
            )
            .with_data(json!({ "requiredCapabilities": { "extensions": { TASKS: {} } } }).into()));
        }
        let owner = request.principal().partition();
        let public = request.name().unwrap_or_default().to_owned();
        let (upstream, task) = self.0.task_ids.unwrap(owner, &public)?;
        let index = self.index_of(&upstream)?;
        request.set_name(task);
        self.forward(index, request).await
    }

    fn index_of(&self, id: &UpstreamId) -> Result<usize, Error> {
        self.0
            .upstreams
            .iter()
            .position(|upstream| upstream.id == *id)
            .ok_or_else(|| Error::new(ErrorKind::InvalidParams, "there is no such task"))
    }

    /// Lists tasks (revision 2025-11-25), one upstream after the other: the cursor names the upstream.
    async fn list_tasks(&self, mut request: Request) -> Result<Response, Error> {
        let bad = || {
            Error::new(
                ErrorKind::InvalidParams,
                "the cursor is not one of this list",
            )
        };
        let cursor = request.param("cursor").and_then(|cursor| cursor.to_text());
        let (first, inner) = match cursor.as_deref() {
            None => (0, None),
            Some(cursor) => {
                let (index, inner) = cursor.split_once(':').ok_or_else(bad)?;
                let inner = match inner {
                    "" => None,
                    inner => Some(inner.strip_prefix('=').ok_or_else(bad)?.to_owned()),
                };
                (index.parse::<usize>().map_err(|_| bad())?, inner)
            }
        };
        for index in first..self.0.upstreams.len() {
            let params = request.params_mut();
            match (&inner, index == first) {
                (Some(inner), true) => params.set("cursor", Json::string(inner)),
                _ => params.remove("cursor"),
            }
            let answer = match self.forward(index, request.clone()).await {
                Err(error) if error.code(Era::Session) == RpcCode::METHOD_NOT_FOUND => continue,
                answer => answer?,
            };
            let mut page = Object::try_from(answer.result().clone())?;
            let next = match page.text("nextCursor") {
                // The first byte tells an empty cursor from none.
                Some(own) => Some(format!("{index}:={own}")),
                None if index + 1 < self.0.upstreams.len() => Some(format!("{}:", index + 1)),
                None => None,
            };
            match next {
                Some(next) => page.set("nextCursor", Json::string(&next)),
                None => page.remove("nextCursor"),
            }
            return Ok(answer.with_result(page.to_json()));
        }
        match first {
            0 => Err(Error::new(
                ErrorKind::MethodNotFound,
                "none of the upstreams lists tasks",
            )),
            _ => Ok(Response::new(Json::from(json!({ "tasks": [] })))),
        }
    }

    /// Passes a method on that is not known here: to the one upstream, or to the first that knows it.
    async fn pass_on(&self, request: Request) -> Result<Response, Error> {
        let mut refusal = None;
        for index in 0..self.0.upstreams.len() {
            if self.0.upstreams.len() > 1 && self.0.board.is_away(index) {
                continue;
            }
            match self.forward(index, request.clone()).await {
                Err(error) if error.code(Era::Session) == RpcCode::METHOD_NOT_FOUND => {
                    refusal = Some(error);
                }
                answer => return answer,
            }
        }
        Err(refusal.unwrap_or_else(|| {
            Error::new(
                ErrorKind::MethodNotFound,
                format!("no upstream knows {}", request.method()),
            )
        }))
    }
}

fn is_task_method(method: &Method) -> bool {
    method.as_str().starts_with("tasks/")
}

/// Finds an entry that the caller may see. A hidden one is as unknown as one that is not there.
fn visible<'a>(
    snapshot: &'a Snapshot,
    kind: ListKind,
    name: &str,
    request: &Request,
) -> Option<&'a Entry> {
    let entry = snapshot.find(kind, name)?;
    request
        .visibility()
        .allows(&snapshot.listed(kind, entry))
        .then_some(entry)
}

/// Finds the upstreams that may have a resource, unless it is hidden from the caller.
fn visible_places(snapshot: &Snapshot, uri: &str, request: &Request) -> Vec<usize> {
    let mut places = snapshot.find_resource(uri);
    if !request.visibility().is_all() {
        places.retain(|index| {
            let described = mcp_core::Entry::new(mcp_core::EntryKind::Resource, uri)
                .with_upstream(&snapshot.sources()[*index].id);
            request.visibility().allows(&described)
        });
    }
    places
}

fn unknown(kind: ListKind, name: &str) -> Error {
    let what = match kind {
        ListKind::Tools => "tool",
        ListKind::Prompts => "prompt",
        ListKind::Resources | ListKind::Templates => "resource template",
    };
    Error::new(
        ErrorKind::InvalidParams,
        format!("unknown {what}: {name}; list again to see what there is"),
    )
}

/// Whether an upstream says that it does not have a resource: -32002 before revision 2026-07-28, -32602 since.
fn is_not_found(error: &Error) -> bool {
    matches!(
        error.code(Era::Session),
        RpcCode::RESOURCE_NOT_FOUND | RpcCode::INVALID_PARAMS
    )
}

/// Shows the client public task ids in questions.
struct TaskAsker {
    core: Arc<Core>,
    index: usize,
    owner: mcp_core::Partition,
    asker: Asker,
}

#[async_trait]
impl Ask for TaskAsker {
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        let id = &self.core.upstreams[self.index].id;
        let params = params.map(|params| match mentions_task(&params) {
            true => self.core.task_ids.wrap_in(self.owner, id, &params),
            false => params,
        });
        self.asker.ask(method, params).await
    }
}

impl Service<Request> for Router {
    type Response = Response;
    type Error = Error;
    /// Boxed: it awaits upstreams whose types have been erased.
    type Future = BoxFuture<'static, Result<Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let router = self.clone();
        // Most calls by far; told apart here, so that they are no larger than they need to be.
        match *request.method() {
            Method::TOOLS_CALL if !request.is_notification() => {
                Box::pin(async move { router.call_named(ListKind::Tools, request).await })
            }
            _ => Box::pin(router.answer(request)),
        }
    }
}
