//! Tasks: by their sealed ids, and the lists of them.

use std::sync::Arc;

use mcp_core::{Era, Error, ErrorKind, Json, Object, Request, Response, UpstreamId};
use serde_json::json;

use super::{Router, lacks_method, sees};
use crate::gateway::{
    member::Member,
    tasks::{self, EXTENSION},
};

/// The use of a cursor's seal.
const USAGE: &str = "tasks";

impl Router {
    pub(super) async fn task(&self, mut request: Request) -> Result<Response, Error> {
        if request.era() == Era::Stateless && !request.capabilities().has_extension(EXTENSION) {
            return Err(Error::new(
                ErrorKind::MissingCapability,
                "the request does not declare the tasks extension that it uses",
            )
            .with_data(
                json!({ "requiredCapabilities": { "extensions": { EXTENSION: {} } } }).into(),
            ));
        }
        let owner = request.principal().partition();
        let public = request.name().unwrap_or_default().to_owned();
        let opened = tasks::open(&self.0.sealer, owner, &public)?;
        let graph = self.0.graph.load_full();
        let node = match graph.member(&opened.upstream) {
            Some(member) if member.node.generation == opened.generation => &member.node,
            Some(_) => return Err(gone(&opened, "was replaced")),
            None => return Err(gone(&opened, "was removed")),
        };
        request.set_name(opened.task);
        self.forward_to(node, request).await
    }

    /// Lists tasks (revision 2025-11-25), one upstream after the other: the sealed cursor names the upstream.
    pub(super) async fn list_tasks(&self, mut request: Request) -> Result<Response, Error> {
        let graph = self.0.graph.load_full();
        let (upstream, mut inner) = self.task_position(&request)?;
        let members = graph.members();
        let first = match &upstream {
            None => 0,
            Some(id) => members
                .iter()
                .position(|member| member.node.id.as_str() == id)
                .ok_or_else(|| bad_cursor("its upstream is no longer there"))?,
        };
        for (at, member) in members.iter().enumerate().skip(first) {
            let inner = inner.take();
            if !sees(&request, member) || members.len() > 1 && !declares_tasks(member) {
                continue;
            }
            let params = request.params_mut();
            match &inner {
                Some(inner) => params.set("cursor", Json::string(inner)),
                None => params.remove("cursor"),
            }
            let answer = match self.forward_to(&member.node, request.clone()).await {
                Err(error) if lacks_method(&error) => continue,
                answer => answer?,
            };
            let following = members.get(at + 1);
            return self.task_page(&request, answer, &member.node.id, following);
        }
        match upstream {
            None => Err(Error::new(
                ErrorKind::MethodNotFound,
                "none of the upstreams lists tasks",
            )),
            Some(_) => Ok(Response::new(Json::from(json!({ "tasks": [] })))),
        }
    }

    /// Seals the cursor of a page: the upstream's own, or else the upstream that follows.
    fn task_page(
        &self,
        request: &Request,
        answer: Response,
        upstream: &UpstreamId,
        following: Option<&Arc<Member>>,
    ) -> Result<Response, Error> {
        let Ok(mut page) = Object::try_from(answer.result().clone()) else {
            return Err(Error::new(
                ErrorKind::BadUpstream,
                "the answer to tasks/list is not a JSON object",
            ));
        };
        let next = match (page.text("nextCursor"), following) {
            (Some(own), _) => Some(self.seal_position(request, upstream, Some(&own))),
            (None, Some(next)) => Some(self.seal_position(request, &next.node.id, None)),
            (None, None) => None,
        };
        match next {
            Some(cursor) => page.set("nextCursor", Json::string(&cursor)),
            None => page.remove("nextCursor"),
        }
        Ok(answer.with_result(page.to_json()))
    }

    fn seal_position(
        &self,
        request: &Request,
        upstream: &UpstreamId,
        inner: Option<&str>,
    ) -> String {
        let owner = request.principal().partition();
        // The first byte tells an empty cursor from none.
        let text = match inner {
            Some(inner) => format!("{upstream}={inner}"),
            None => upstream.to_string(),
        };
        self.0.sealer.seal(USAGE, owner, &text)
    }

    /// Reads the cursor of a request: the upstream that comes next, and the upstream's own cursor.
    fn task_position(&self, request: &Request) -> Result<(Option<String>, Option<String>), Error> {
        let Some(cursor) = request.param("cursor").and_then(|cursor| cursor.to_text()) else {
            return Ok((None, None));
        };
        let owner = request.principal().partition();
        let text = self.0.sealer.open(USAGE, owner, &cursor);
        let text = text.ok_or_else(|| bad_cursor("it is not one of this list"))?;
        Ok(match text.split_once('=') {
            Some((upstream, inner)) => (Some(upstream.to_owned()), Some(inner.to_owned())),
            None => (Some(text), None),
        })
    }
}

/// Whether an upstream has tasks, as far as is known.
fn declares_tasks(member: &Member) -> bool {
    member.listing().is_none_or(|listing| {
        let own = listing.capabilities.as_ref();
        own.is_some_and(|own| own.member("tasks").is_some())
    })
}

fn gone(task: &tasks::OpenTask<'_>, what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidParams,
        format!(
            "the task is gone: its upstream {} {what} since the task was made",
            task.upstream
        ),
    )
}

fn bad_cursor(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidParams,
        format!("the cursor cannot be used: {why}; list again from the start"),
    )
}
