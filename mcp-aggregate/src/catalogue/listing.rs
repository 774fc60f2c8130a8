//! What one upstream offers, as it says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use mcp_core::{
    BoxSeam, Error, ErrorKind, Json, Method, Object, Request, ToolAnnotations, mirror::Mirrors,
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tower::ServiceExt;

use super::ListKind;

/// The most pages that are read of one list.
const MOST_PAGES: usize = 1000;

/// Everything that an upstream listed, byte for byte.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) capabilities: Option<Json>,
    pub(crate) instructions: Option<Json>,
    pub(crate) server_info: Option<Json>,
    lists: [List; 4],
    digest: [u8; 32],
}

#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) items: Vec<Item>,
    /// How long the list is fresh, as the upstream says; `None` where it says nothing.
    pub(crate) ttl_ms: Option<u64>,
    /// Whether the upstream says that the list is for this caller only.
    pub(crate) private: bool,
    /// Members of the result that this crate does not know.
    pub(crate) extra: Vec<(String, Json)>,
}

/// An entry of a list.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The name, URI or URI template.
    pub(crate) name: Arc<str>,
    pub(crate) json: Json,
    pub(crate) annotations: ToolAnnotations,
    pub(crate) mirrors: Option<Arc<Mirrors>>,
}

impl Listing {
    pub(crate) fn list(&self, kind: ListKind) -> &List {
        &self.lists[kind as usize]
    }

    /// Returns whether another listing says the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    fn seal(mut self) -> Self {
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for part in [&self.capabilities, &self.instructions, &self.server_info] {
            put(part.as_ref().map_or(&b""[..], Json::as_bytes));
        }
        for list in &self.lists {
            put(&[u8::from(list.private)]);
            for item in &list.items {
                put(item.json.as_bytes());
            }
            for (name, value) in &list.extra {
                put(name.as_bytes());
                put(value.as_bytes());
            }
            put(b"end");
        }
        self.digest = hash.finalize().into();
        self
    }
}

/// Asks an upstream for everything it offers, on behalf of the client of a request.
///
/// Each list stands for itself: one that fails, or takes longer than `each`, leaves the others as they are. An error
/// is returned where the upstream is not reached at all, or none of its lists can be read.
pub(crate) async fn fetch(
    service: &BoxSeam,
    facts: &Request,
    each: Duration,
) -> Result<Listing, Error> {
    let discover = Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?;
    let discovered = call(service, facts, discover).await?;
    let discovered = Object::try_from(discovered)?;
    let mut listing = Listing {
        capabilities: discovered.get("capabilities"),
        instructions: discovered.get("instructions"),
        server_info: discovered
            .get("_meta")
            .and_then(|own| own.member(mcp_core::meta::SERVER_INFO)),
        ..Listing::default()
    };
    let offered = ListKind::ALL.map(|kind| {
        let capabilities = listing.capabilities.as_ref();
        capabilities.is_some_and(|own| own.member(kind.capability()).is_some())
    });
    let lists = ListKind::ALL
        .into_iter()
        .zip(offered)
        .map(|(kind, offered)| async move {
            match offered {
                false => Ok(List::default()),
                true => timeout(each, fetch_list(service, facts, kind))
                    .await
                    .unwrap_or_else(|_| Err(late(kind))),
            }
        });
    let mut read = false;
    let mut failure = None;
    for (kind, list) in ListKind::ALL.into_iter().zip(join_all(lists).await) {
        match list {
            Ok(list) => {
                read |= offered[kind as usize];
                listing.lists[kind as usize] = list;
            }
            Err(error) => {
                tracing::warn!(list = kind.member(), %error, "a list cannot be read");
                failure = Some(error);
            }
        }
    }
    if let Some(error) = failure.filter(|_| !read) {
        return Err(error);
    }
    Ok(listing.seal())
}

fn late(kind: ListKind) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{} was not answered in time", kind.method()),
    )
}

async fn call(service: &BoxSeam, facts: &Request, request: Request) -> Result<Json, Error> {
    let request = request.with_context_of(facts).without_call();
    let response = service.clone().oneshot(request).await?;
    Ok(response.into_result())
}

async fn fetch_list(service: &BoxSeam, facts: &Request, kind: ListKind) -> Result<List, Error> {
    let mut list = List::default();
    let mut cursor: Option<Json> = None;
    for _ in 0..MOST_PAGES {
        let mut params = Object::default();
        if let Some(cursor) = cursor.take() {
            params.set("cursor", cursor);
        }
        let request = Request::from_object(kind.method(), Some(params))?;
        let page = match call(service, facts, request).await {
            Ok(page) => Object::try_from(page)?,
            // Some servers advertise what they do not have.
            Err(error) if is_missing(&error) => return Ok(list),
            Err(error) => return Err(error),
        };
        cursor = list.add(&page, kind);
        if cursor.is_none() {
            return Ok(list);
        }
    }
    Err(Error::new(
        ErrorKind::BadUpstream,
        format!("{} has more than {MOST_PAGES} pages", kind.method()),
    ))
}

fn is_missing(error: &Error) -> bool {
    error.code(mcp_core::Era::Session) == mcp_core::RpcCode::METHOD_NOT_FOUND
}

impl List {
    /// Adds a page and returns the cursor of the next one. An empty string is a cursor like any other.
    fn add(&mut self, page: &Object, kind: ListKind) -> Option<Json> {
        for item in page
            .get(kind.member())
            .map(|list| list.elements())
            .unwrap_or_default()
        {
            match Item::read(&item, kind) {
                Some(item) => self.items.push(item),
                None => tracing::warn!(
                    list = kind.member(),
                    "an entry cannot stand and is left out"
                ),
            }
        }
        let ttl = page.get("ttlMs").and_then(|ttl| ttl.decode::<i64>().ok());
        if let Some(ttl) = ttl {
            let ttl = u64::try_from(ttl).unwrap_or(0);
            self.ttl_ms = Some(self.ttl_ms.map_or(ttl, |known| known.min(ttl)));
        }
        self.private |= page
            .text("cacheScope")
            .is_some_and(|scope| scope != "public");
        let known = [
            kind.member(),
            "nextCursor",
            "ttlMs",
            "cacheScope",
            "resultType",
        ];
        for key in page.keys() {
            let new = !known.contains(&&*key) && !self.extra.iter().any(|(own, _)| *own == key);
            if let (true, Some(value)) = (new, page.get(&key)) {
                self.extra.push((key.into_owned(), value));
            }
        }
        page.get("nextCursor").filter(|cursor| !cursor.is_null())
    }
}

impl Item {
    /// Reads an entry. One without a name, or whose `x-mcp-header` cannot stand, is left out
    /// (revision 2026-07-28, Streamable HTTP, "Custom Headers").
    fn read(json: &Json, kind: ListKind) -> Option<Self> {
        let name = json.member(kind.key())?.to_text()?;
        let mut item = Self {
            name: name.into(),
            json: json.clone(),
            annotations: ToolAnnotations::default(),
            mirrors: None,
        };
        if kind == ListKind::Tools {
            if let Some(annotations) = json.member("annotations") {
                item.annotations = ToolAnnotations::from_json(&annotations);
            }
            item.mirrors = read_mirrors(json)?;
        }
        Some(item)
    }
}

/// Returns the mirrored arguments of a tool; the outer `None` for annotations that cannot stand.
#[allow(
    clippy::option_option,
    reason = "there may be none, and there may be bad ones"
)]
fn read_mirrors(tool: &Json) -> Option<Option<Arc<Mirrors>>> {
    let Some(schema) = tool.member("inputSchema") else {
        return Some(None);
    };
    // Decoding a schema costs more than all the rest: most have no such annotation.
    let mut words = schema.as_bytes().windows(b"x-mcp-header".len());
    if !words.any(|word| word == b"x-mcp-header") {
        return Some(None);
    }
    let mirrors = Mirrors::read(&schema.decode().ok()?).ok()?;
    Some((!mirrors.is_empty()).then(|| Arc::new(mirrors)))
}

/// Keeps one copy of listings that say the same: a thousand sessions of one upstream share it.
#[derive(Debug, Default)]
pub(crate) struct Interner(Mutex<HashMap<[u8; 32], Weak<Listing>>>);

impl Interner {
    pub(crate) fn intern(&self, listing: Listing) -> Arc<Listing> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&listing.digest).and_then(Weak::upgrade) {
            return same;
        }
        known.retain(|_, listing| listing.strong_count() > 0);
        let listing = Arc::new(listing);
        known.insert(listing.digest, Arc::downgrade(&listing));
        listing
    }
}
