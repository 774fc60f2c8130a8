//! Calls to tools and prompts, and completions.

use std::sync::Arc;

use mcp_core::{Error, ErrorKind, Json, Object, Request, Response};

use super::{Entered, Router, visible_places};
use crate::{
    catalogue::{Entry, ListKind, Snapshot, listed},
    gateway::member::Member,
};

impl Router {
    pub(super) async fn call_named(
        &self,
        kind: ListKind,
        request: Request,
    ) -> Result<Response, Error> {
        let name = request.name().unwrap_or_default();
        let now = self.0.snapshot_now(&request);
        if let Some(entry) = visible(&now, kind, name, &request)
            && let Ok(entered) = Self::enter(&entry.node)
        {
            return self.call_entry(entry, entered, request).await;
        }
        Box::pin(self.call_found(kind, request)).await
    }

    /// Makes a call whose entry is not in the client's last snapshot, or whose node has left the graph since.
    async fn call_found(&self, kind: ListKind, request: Request) -> Result<Response, Error> {
        let name = request.name().unwrap_or_default();
        let graph = self.0.graph.load_full();
        let concerns = |member: &Member| graph.naming.may_name(&member.node.id, name);
        // Where no list of another is missing, there is nothing to wait for, and what is composed already serves.
        let is_whole = |member: &Arc<Member>| concerns(member) || member.listing().is_some();
        let snapshot = match graph.members().iter().all(is_whole) {
            true => self.0.snapshot(&request).await,
            // No other upstream holds the call up.
            false => self.0.snapshot_in_part(&request, &graph, concerns).await,
        };
        if let Some(entry) = visible(&snapshot, kind, name, &request) {
            let entered = Self::enter(&entry.node)?;
            return self.call_entry(entry, entered, request).await;
        }
        // A single upstream whose names are public as they are decides for itself what it knows.
        if let Some(only) = graph.only()
            && request.visibility().is_all()
            && graph.naming.public_name(&only.node.id, name) == name
        {
            return self.forward_to(&only.node, request).await;
        }
        Err(self.unknown(kind, name, &request))
    }

    async fn call_entry(
        &self,
        entry: &Entry,
        entered: Entered,
        mut request: Request,
    ) -> Result<Response, Error> {
        if let Some(mirrors) = &entry.mirrors {
            mirrors.check(&request)?;
            request = request.with_mirrors(Arc::clone(mirrors));
        }
        if entry.original != entry.public {
            request.set_name(Arc::clone(&entry.original));
        }
        let mut request = request.with_annotations(entry.annotations);
        // For the layers of the upstream; they are of use to nothing else.
        if request.schemas().is_none() && entry.node.has_layers {
            request = request.with_schemas(Arc::clone(entry.schemas()));
        }
        self.forward(entered, request).await
    }

    pub(super) async fn complete(&self, mut request: Request) -> Result<Response, Error> {
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
                    .ok_or_else(|| self.unknown(ListKind::Prompts, &name, &request))?;
                if entry.original != entry.public {
                    reference.set("name", Json::string(&entry.original));
                    request.params_mut().set("ref", reference.to_json());
                }
                self.forward_to(&entry.node, request).await
            }
            Some("ref/resource") => {
                let uri = reference.text("uri").ok_or_else(malformed)?;
                let node = match visible(&snapshot, ListKind::Templates, &uri, &request) {
                    Some(entry) => Some(Arc::clone(&entry.node)),
                    None => visible_places(&snapshot, &uri, &request)
                        .into_iter()
                        .next()
                        .map(|place| place.node),
                };
                let node = node.ok_or_else(|| self.unknown(ListKind::Templates, &uri, &request))?;
                self.forward_to(&node, request).await
            }
            _ => Err(malformed()),
        }
    }

    /// Says that there is no such entry, and which upstreams are not there that might have it.
    fn unknown(&self, kind: ListKind, name: &str, request: &Request) -> Error {
        let what = match kind {
            ListKind::Tools => "tool",
            ListKind::Prompts => "prompt",
            ListKind::Resources | ListKind::Templates | ListKind::Skills => "resource template",
        };
        match self.unavailable(request) {
            None => Error::new(
                ErrorKind::InvalidParams,
                format!("unknown {what}: {name}; list again to see what there is"),
            ),
            Some(missing) => Error::new(
                ErrorKind::Unavailable,
                format!("unknown {what}: {name}; these upstreams are not available: {missing}"),
            ),
        }
    }
}

/// Finds an entry that the caller may see. A hidden one is as unknown as one that is not there.
fn visible<'a>(
    snapshot: &'a Snapshot,
    kind: ListKind,
    name: &str,
    request: &Request,
) -> Option<&'a Entry> {
    let entry = snapshot.find(kind, name)?;
    let visibility = request.visibility();
    (visibility.is_all() || visibility.allows(&listed(kind, entry))).then_some(entry)
}
