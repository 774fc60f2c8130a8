//! Routes each request to its upstream.

mod fan_out;
mod list;
mod named;
mod resources;
mod tasks;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either};
use mcp_core::{
    Asker, BoxSeam, Era, Error, ErrorKind, Method, Request, Response, ResultType, RpcCode,
};
use tower::ServiceExt;
use tower_service::Service;

pub(super) use self::resources::visible_places;
use super::{
    UpstreamState,
    core::Core,
    member::Member,
    silence,
    tasks::{Publisher, TaskAsker, mentions_task, publish_notification},
};
use crate::{
    catalogue::ListKind,
    node::{Node, Pass},
};

/// The innermost service of a gateway.
#[derive(Clone)]
pub(super) struct Router(Arc<Core>);

/// A node that a call has entered: it stays until the call is over.
pub(super) struct Entered {
    node: Arc<Node>,
    service: BoxSeam,
    _pass: Pass,
}

impl Router {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    async fn answer(self, request: Request) -> Result<Response, Error> {
        if request.is_notification() {
            return self.notify_all(request).await;
        }
        if let Some(kind) = ListKind::of_method(request.method()) {
            return self.list(kind, request).await;
        }
        match request.method().as_str() {
            "server/discover" => self.discover(&request).await,
            "ping" => Ok(Response::empty()),
            "tools/call" => self.call_named(ListKind::Tools, request).await,
            "prompts/get" => self.call_named(ListKind::Prompts, request).await,
            "resources/read" | "skills/get" | "resources/directory/read" => {
                self.read(request).await
            }
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

    /// Enters a node for one call. Fails where the node has left the graph.
    fn enter(node: &Arc<Node>) -> Result<Entered, Error> {
        match node.enter() {
            Some((service, pass)) => Ok(Entered {
                node: Arc::clone(node),
                service,
                _pass: pass,
            }),
            None => Err(Error::new(
                ErrorKind::Unavailable,
                "the upstream was removed or replaced; list again",
            )
            .with_upstream(node.id.clone())),
        }
    }

    /// Makes a call to a node.
    async fn forward_to(&self, node: &Arc<Node>, request: Request) -> Result<Response, Error> {
        self.forward(Self::enter(node)?, request).await
    }

    /// Makes a call to the node that it has entered, with task ids of its own.
    async fn forward(&self, entered: Entered, mut request: Request) -> Result<Response, Error> {
        let node = &entered.node;
        if !request.visibility().allows_upstream(&node.id) {
            let text = "this is not known here; list again to see what there is";
            return Err(Error::new(ErrorKind::InvalidParams, text));
        }
        self.0.attach(node, &request).await;
        request = request.with_upstream(node.id.clone());
        let owner = request.principal().partition();
        let method = request.method().clone();
        let task_call = request.param("task").is_some() || is_task_method(&method);
        if task_call {
            request = self.with_public_tasks(node, request);
        }
        let response = self.send(&entered, request).await?;
        let has_task = task_call || *response.result_type() == ResultType::Task;
        if has_task && mentions_task(response.result()) {
            let publisher = Publisher {
                core: &self.0,
                owner,
                node,
            };
            let public = match method.as_str() {
                "tasks/list" => publisher.publish_list(response.result()),
                _ => publisher.publish_own(response.result()),
            };
            return Ok(response.with_result(public));
        }
        Ok(response)
    }

    /// Sends a request, within the deadline for silent calls, until the node is cut off.
    async fn send(&self, entered: &Entered, request: Request) -> Result<Response, Error> {
        let service = entered.service.clone();
        let node = &entered.node;
        let call = move |request| service.oneshot(request);
        let call = match node.timing.call {
            Some(limit) => Either::Left(silence::bounded(limit, request, call)),
            None => Either::Right(call(request)),
        };
        match node.cuts_calls() {
            false => call.await,
            // Boxed: it would be a part of every call.
            true => Box::pin(node.unless_cut(call)).await,
        }
    }

    /// Shows the client public task ids in what arrives before the answer.
    fn with_public_tasks(&self, node: &Arc<Node>, request: Request) -> Request {
        let owner = request.principal().partition();
        let (core, own) = (Arc::clone(&self.0), Arc::clone(node));
        let notifier = request
            .notifier()
            .map(move |notification| Some(publish_notification(&core, owner, &own, notification)));
        let request = request.with_notifier(notifier);
        match request.asker().cloned() {
            Some(asker) => request.with_asker(Asker::new(TaskAsker {
                core: Arc::clone(&self.0),
                node: Arc::clone(node),
                owner,
                asker,
            })),
            None => request,
        }
    }

    /// Passes a method on that has no route: by the rule of its extension, to the only upstream, or to the only one that
    /// declares an extension without a rule.
    async fn pass_on(&self, request: Request) -> Result<Response, Error> {
        if let Some((extension, rule)) = self.0.extensions.rule(request.method()) {
            return self.by_rule(extension, rule, request).await;
        }
        let graph = self.0.graph.load_full();
        if let Some(only) = graph.only() {
            return self.forward_to(&only.node, request).await;
        }
        let unruled = |listing: &crate::catalogue::Listing| {
            let extensions = listing
                .capabilities
                .as_ref()
                .and_then(|own| own.member("extensions"))
                .and_then(|own| mcp_core::Object::try_from(own).ok());
            extensions.is_some_and(|own| own.keys().any(|id| !self.0.extensions.has(&id)))
        };
        let mut declaring = graph
            .catalogue
            .sources()
            .iter()
            .filter(|source| request.visibility().allows_upstream(&source.node.id))
            .filter(|source| source.listing.as_deref().is_some_and(unruled));
        match (declaring.next(), declaring.next()) {
            (Some(only), None) => self.forward_to(&only.node, request).await,
            _ => Err(Error::new(
                ErrorKind::MethodNotFound,
                format!(
                    "{} has no route: it belongs to no extension that this gateway has a rule for, and not exactly \
                     one upstream declares an extension without a rule",
                    request.method()
                ),
            )),
        }
    }

    /// Says which upstreams that the caller may see could have what was not found, and why they are not there.
    fn unavailable(&self, request: &Request) -> Option<String> {
        let graph = self.0.graph.load();
        let missing: Vec<_> = graph
            .members()
            .iter()
            .filter(|member| sees(request, member))
            // What a guarded one says is for the gateway itself, such as where to consent.
            .filter(|member| member.listing().is_none() && member.state() != UpstreamState::Guarded)
            .map(|member| {
                let status = member.status();
                match (status.state, status.error) {
                    (UpstreamState::Starting, _) => format!("{} is starting", member.node.id),
                    (_, Some(error)) => format!("{}: {}", member.node.id, error.message()),
                    (state, None) => format!("{} is {}", member.node.id, state.name()),
                }
            })
            .collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

/// Whether the caller may see an upstream.
fn sees(request: &Request, member: &Member) -> bool {
    request.visibility().allows_upstream(&member.node.id)
}

fn is_task_method(method: &Method) -> bool {
    method.as_str().starts_with("tasks/")
}

/// Whether an upstream answered that it does not have the method.
fn lacks_method(error: &Error) -> bool {
    error.code(Era::Session) == RpcCode::METHOD_NOT_FOUND
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
