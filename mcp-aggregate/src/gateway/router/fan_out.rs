//! Requests that concern several upstreams.

use futures_util::future::join_all;
use mcp_core::{Error, ErrorKind, Json, Object, Request, Response, UpstreamId};
use tokio::time::timeout;

use super::{Router, lacks_method, sees};
use crate::{
    catalogue::Source,
    gateway::{extension::Rule, member::Member},
};

/// What stands between an upstream's id and an id of its own.
const BETWEEN: &str = "__";

/// How many pages of one upstream's list are merged.
const MOST_PAGES: usize = 100;

impl Router {
    /// Brings a level to every upstream that logs and has a session of the client's; others learn it when theirs begins.
    pub(super) async fn set_level(&self, request: Request) -> Result<Response, Error> {
        let graph = self.0.graph.load_full();
        if let Some(only) = graph.only() {
            return self.forward_to(&only.node, request).await;
        }
        let logs = |member: &&std::sync::Arc<Member>| {
            let listing = member.listing();
            let capabilities = listing.as_ref().and_then(|own| own.capabilities.as_ref());
            capabilities.is_some_and(|own| own.member("logging").is_some())
        };
        let visible = graph
            .members()
            .iter()
            .filter(|member| sees(&request, member));
        let logging: Vec<_> = visible.filter(logs).collect();
        if logging.is_empty() {
            return Err(Error::new(
                ErrorKind::MethodNotFound,
                "none of the upstreams has logging",
            ));
        }
        let told = logging
            .into_iter()
            .filter(|member| member.node.has_session(&request))
            .map(|member| {
                let longest = member.node.timing.fan_out;
                timeout(longest, self.forward_to(&member.node, request.clone()))
            });
        let mut refusal = None;
        for answer in join_all(told).await.into_iter().flatten() {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => refusal = Some(error),
            }
        }
        refusal.map_or_else(|| Ok(Response::empty()), Err)
    }

    /// Brings a client's notification to every upstream that has a session of the client's.
    pub(super) async fn notify_all(&self, request: Request) -> Result<Response, Error> {
        let graph = self.0.graph.load_full();
        let present = graph
            .members()
            .iter()
            .filter(|member| sees(&request, member) && member.node.has_session(&request))
            .map(|member| {
                let longest = member.node.timing.fan_out;
                timeout(longest, self.forward_to(&member.node, request.clone()))
            });
        // A notification has no answer.
        drop(join_all(present).await);
        Ok(Response::empty())
    }

    /// Answers a method of an extension by its rule.
    pub(super) async fn by_rule(
        &self,
        extension: &str,
        rule: &Rule,
        request: Request,
    ) -> Result<Response, Error> {
        match rule {
            Rule::List { member, id } => self.merged(extension, member, id, &request).await,
            Rule::ById { parameter } => self.by_id(parameter, request).await,
        }
    }

    async fn by_id(&self, parameter: &str, mut request: Request) -> Result<Response, Error> {
        let unknown = || {
            let text = format!("`params.{parameter}` names nothing that is listed");
            Error::new(ErrorKind::InvalidParams, text)
        };
        let public = request.param(parameter).and_then(|id| id.to_text());
        let public = public.ok_or_else(unknown)?;
        let graph = self.0.graph.load_full();
        if let Some(only) = graph.only() {
            return self.forward_to(&only.node, request).await;
        }
        let (upstream, own) = public.split_once(BETWEEN).ok_or_else(unknown)?;
        let upstream = UpstreamId::new(upstream).map_err(|_| unknown())?;
        let member = graph.member(&upstream);
        let member = member
            .filter(|member| sees(&request, member))
            .ok_or_else(unknown)?;
        request
            .params_mut()
            .set(parameter.to_owned(), Json::string(own));
        self.forward_to(&member.node, request).await
    }

    /// Merges the lists of all upstreams that declare an extension.
    async fn merged(
        &self,
        extension: &str,
        member: &str,
        id: &str,
        request: &Request,
    ) -> Result<Response, Error> {
        let graph = self.0.graph.load_full();
        if let Some(only) = graph.only() {
            return self.forward_to(&only.node, request.clone()).await;
        }
        let declaring = graph.catalogue.declaring(extension);
        let visible = |source: &&Source| request.visibility().allows_upstream(&source.node.id);
        let declaring = declaring.filter(visible);
        let lists = declaring.map(|source| async move {
            let longest = source.node.timing.list;
            let all = self.whole_list(&source.node, member, request);
            (&source.node.id, timeout(longest, all).await)
        });
        let lists = join_all(lists).await;
        if lists.is_empty() {
            return Err(Error::new(
                ErrorKind::MethodNotFound,
                format!("no upstream declares {extension}"),
            ));
        }
        let mut merged = Vec::new();
        let mut failure = None;
        for (upstream, list) in &lists {
            match list {
                Ok(Ok(elements)) => {
                    merged.extend(elements.iter().map(|one| prefixed(one, id, upstream)));
                }
                Ok(Err(error)) => failure = Some(error.clone()),
                Err(_) => tracing::debug!(%upstream, extension, "a list is not there in time"),
            }
        }
        if let (Some(error), true) = (failure, merged.is_empty()) {
            return Err(error);
        }
        let mut result = Object::default();
        let array = Json::parse(format!("[{}]", merged.join(","))).unwrap_or(Json::NULL);
        result.set(member.to_owned(), array);
        Ok(Response::new(result.to_json()))
    }

    async fn whole_list(
        &self,
        node: &std::sync::Arc<crate::node::Node>,
        member: &str,
        request: &Request,
    ) -> Result<Vec<Json>, Error> {
        let mut all = Vec::new();
        let mut cursor: Option<Json> = None;
        for _ in 0..MOST_PAGES {
            let mut page = request.clone();
            match cursor.take() {
                Some(cursor) => page.params_mut().set("cursor", cursor),
                None => page.params_mut().remove("cursor"),
            }
            let answer = match self.forward_to(node, page).await {
                Err(error) if lacks_method(&error) => return Ok(all),
                answer => answer?,
            };
            let result = answer.result();
            all.extend(
                result
                    .member(member)
                    .map(|list| list.elements())
                    .unwrap_or_default(),
            );
            cursor = result.member("nextCursor").filter(|next| !next.is_null());
            if cursor.is_none() {
                break;
            }
        }
        Ok(all)
    }
}

/// Puts the upstream before the id of an element.
fn prefixed(element: &Json, id: &str, upstream: &UpstreamId) -> String {
    let Ok(mut object) = Object::index(element) else {
        return element.to_string();
    };
    if let Some(own) = object.text(id) {
        let public = format!("{upstream}{BETWEEN}{own}");
        object.set(id.to_owned(), Json::string(&public));
    }
    object.to_json().to_string()
}
