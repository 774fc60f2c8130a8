//! `server/discover` and the lists.

use mcp_core::{Error, ErrorKind, Json, Object, Request, Response, UpstreamId, shapes::Shape};
use tokio::time::timeout;

use super::{Router, sees};
use crate::{
    catalogue::{ListKind, Page, Snapshot},
    gateway::{UpstreamState, core::Core},
};

/// The use of a cursor's seal.
const USAGE: &str = "cursor";

/// A place in a list: the page of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    generation: u64,
    kind: ListKind,
    page: usize,
}

impl Position {
    fn to_text(self) -> String {
        format!("{}:{}:{}", self.generation, self.kind as u8, self.page)
    }

    fn read(text: &str, kind: ListKind) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let generation = parts.next()?.parse().ok()?;
        let of_kind = parts.next()? == (kind as u8).to_string();
        let page = parts.next()?.parse().ok()?;
        of_kind.then_some(Self {
            generation,
            kind,
            page,
        })
    }
}

impl Router {
    pub(super) async fn discover(&self, request: &Request) -> Result<Response, Error> {
        self.0.note_session(request);
        let graph = self.0.graph.load_full();
        // With one upstream its own capabilities are worth waiting for; of many those that are there answer.
        match graph.only() {
            Some(only) => drop(timeout(only.patience(), only.settled()).await),
            None => {
                let visible = graph
                    .members()
                    .iter()
                    .filter(|member| sees(request, member));
                let settled = visible.map(|member| {
                    // One that did not list in its time is not waited for by every client.
                    let settle = member.node.timing.settle;
                    timeout(settle.min(member.patience()), member.settled())
                });
                futures_util::future::join_all(settled).await;
            }
        }
        let catalogue = &self.0.graph.load_full().catalogue;
        let instructions = self.0.instructions.as_deref();
        let advertises = |id: &str| self.0.extensions.has(id);
        let visible = |upstream: &UpstreamId| request.visibility().allows_upstream(upstream);
        let answer = catalogue.discovered(&self.0.info, instructions, &advertises, &visible);
        Ok(Response::new(answer))
    }

    pub(super) async fn list(&self, kind: ListKind, request: Request) -> Result<Response, Error> {
        let shape = Shape::of(request.version());
        let visibility = request.visibility();
        let Some(position) = self.position(kind, &request)? else {
            let snapshot = self.0.snapshot(&request).await;
            self.fails_as_a_whole(kind, &snapshot, &request)?;
            let page = snapshot.page(kind, 0, visibility, shape);
            let page = page.unwrap_or_else(|| Page {
                json: Json::EMPTY_OBJECT,
                next: None,
            });
            return Ok(self.page(page, snapshot.generation, kind, &request));
        };
        let snapshot = self.0.snapshot_of(&request, position.generation);
        let page =
            snapshot.and_then(|snapshot| snapshot.page(kind, position.page, visibility, shape));
        let page = page.ok_or_else(|| bad_cursor("the list has changed since"))?;
        Ok(self.page(page, position.generation, kind, &request))
    }

    /// Reads the cursor of a request.
    fn position(&self, kind: ListKind, request: &Request) -> Result<Option<Position>, Error> {
        let Some(cursor) = request.param("cursor").filter(|cursor| !cursor.is_null()) else {
            return Ok(None);
        };
        let cursor = cursor.to_text().ok_or_else(|| {
            Error::new(ErrorKind::InvalidParams, "`params.cursor` is not a string")
        })?;
        let owner = request.principal().partition();
        let opened = self.0.sealer.open(USAGE, owner, &cursor);
        let position = opened.and_then(|text| Position::read(&text, kind));
        match position {
            Some(position) => Ok(Some(position)),
            None => Err(bad_cursor("it is not one of this list")),
        }
    }

    fn page(&self, page: Page, generation: u64, kind: ListKind, request: &Request) -> Response {
        let Some(next) = page.next else {
            return Response::prepared(page.json);
        };
        let next = Position {
            generation,
            kind,
            page: next,
        };
        let owner = request.principal().partition();
        let cursor = self.0.sealer.seal(USAGE, owner, &next.to_text());
        match Object::index(&page.json) {
            Ok(mut object) => {
                object.set("nextCursor", Json::string(&cursor));
                Response::prepared(object.to_json())
            }
            Err(_) => Response::prepared(page.json),
        }
    }

    /// A single upstream that could not be listed fails its client's list, rather than looking empty.
    fn fails_as_a_whole(
        &self,
        kind: ListKind,
        snapshot: &Snapshot,
        request: &Request,
    ) -> Result<(), Error> {
        let Some(only) = snapshot.only() else {
            return Ok(());
        };
        if !request.visibility().allows_upstream(&only.node.id) {
            return Ok(());
        }
        match &only.listing {
            Some(listing) => match &listing.list(kind).failure {
                Some(error) if listing.list(kind).items.is_empty() => Err(error.clone()),
                _ => Ok(()),
            },
            None => Err(self.refusal(&only.node.id, request)),
        }
    }

    /// Says why an upstream that is not listed offers a client nothing.
    fn refusal(&self, upstream: &UpstreamId, request: &Request) -> Error {
        let graph = self.0.graph.load();
        let member = graph.member(upstream);
        let known = member.and_then(|member| Core::refusal(member, request));
        known.unwrap_or_else(|| {
            let (kind, text) = match member.map(|member| member.state()) {
                Some(UpstreamState::Guarded) => (
                    ErrorKind::Unauthenticated,
                    "the upstream wants an authorization before it lists; list again once it is given",
                ),
                _ => (
                    ErrorKind::Unavailable,
                    "the upstream is still starting; list again later",
                ),
            };
            Error::new(kind, text).with_upstream(upstream.clone())
        })
    }
}

fn bad_cursor(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidParams,
        format!("the cursor cannot be used: {why}; list again from the start"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_for_its_list_only() {
        let position = Position {
            generation: 7,
            kind: ListKind::Prompts,
            page: 3,
        };
        let text = position.to_text();
        assert_eq!(Position::read(&text, ListKind::Prompts), Some(position));
        assert_eq!(Position::read(&text, ListKind::Tools), None);
        assert_eq!(Position::read("7:1", ListKind::Prompts), None);
    }
}
