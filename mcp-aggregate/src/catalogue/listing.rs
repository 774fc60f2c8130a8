//! What one upstream offers, as it says.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use mcp_core::{BoxSeam, Error, ErrorKind, Json, Method, Object, Request};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tower::ServiceExt;

use super::{ListKind, item::Item};

/// The most pages that are read of one list.
const MOST_PAGES: usize = 1000;

/// Everything that an upstream listed, byte for byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) capabilities: Option<Json>,
    pub(crate) instructions: Option<Json>,
    pub(crate) server_info: Option<Json>,
    lists: [List; 5],
    digest: [u8; 32],
}

#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) items: Vec<Item>,
    /// How long the list is fresh, as the upstream says; `None` where it says nothing.
    pub(crate) ttl_ms: Option<u64>,
    /// Whether the upstream says that the list is for this caller only.
    pub(crate) private: bool,
    /// Members of the result that this crate does not know.
    pub(crate) extra: Vec<(String, Json)>,
    /// Why the list could not be read. The entries are then those of an earlier reading, if any.
    pub(crate) failure: Option<Error>,
    digest: [u8; 32],
}

impl Listing {
    pub(crate) fn list(&self, kind: ListKind) -> &List {
        &self.lists[kind as usize]
    }

    /// Returns the lists that could not be read.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (ListKind, &Error)> {
        ListKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, self.list(kind).failure.as_ref()?)))
    }

    /// Returns whether another listing says the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// Returns the kinds whose lists differ.
    pub(crate) fn changed_since(&self, other: Option<&Self>) -> Vec<ListKind> {
        ListKind::ALL
            .into_iter()
            .filter(|kind| match other {
                Some(other) => self.list(*kind).digest != other.list(*kind).digest,
                None => !self.list(*kind).items.is_empty(),
            })
            .collect()
    }

    /// Takes the entries of an earlier listing where a list could not be read this time.
    pub(crate) fn keeping(mut self, earlier: &Self) -> Self {
        for kind in ListKind::ALL {
            let list = &mut self.lists[kind as usize];
            if let Some(failure) = list.failure.take() {
                *list = earlier.list(kind).clone();
                list.failure = Some(failure);
            }
        }
        self.digested()
    }

    fn digested(mut self) -> Self {
        let mut hash = Sha256::new();
        for part in [&self.capabilities, &self.instructions, &self.server_info] {
            put(&mut hash, part.as_ref().map_or(&b""[..], Json::as_bytes));
        }
        for list in &mut self.lists {
            list.digest = list.digest();
            hash.update(list.digest);
        }
        self.digest = hash.finalize().into();
        self
    }
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Asks an upstream for everything it offers, on behalf of the client of a request.
///
/// Each list stands for itself: one that fails, or takes longer than `each`, leaves the others as they are.
///
/// # Errors
///
/// The upstream is not reached, or none of the lists that it offers can be read.
pub(crate) async fn fetch(
    service: &BoxSeam,
    context: &Request,
    each: Duration,
) -> Result<Listing, Error> {
    let discover = Request::new(Method::DISCOVER, Some(Json::EMPTY_OBJECT))?;
    let discovered = call(service, context, discover).await?;
    let discovered = Object::try_from(discovered).map_err(not_an_object)?;
    let mut listing = Listing {
        capabilities: discovered.get("capabilities"),
        instructions: discovered.get("instructions"),
        server_info: discovered
            .get("_meta")
            .and_then(|own| own.member(mcp_core::meta::SERVER_INFO)),
        ..Listing::default()
    };
    let capabilities = listing.capabilities.clone().unwrap_or(Json::EMPTY_OBJECT);
    let offered = ListKind::ALL
        .into_iter()
        .filter(|kind| kind.is_offered(&capabilities));
    let reading = offered.map(|kind| async move {
        let late = || {
            let text = format!("{} was not answered within {each:?}", kind.method());
            Err(Error::new(ErrorKind::Timeout, text))
        };
        let list = timeout(each, fetch_list(service, context, kind)).await;
        (kind, list.unwrap_or_else(|_| late()))
    });
    let lists = join_all(reading).await;
    let failed = lists.iter().filter(|(_, list)| list.is_err()).count();
    let all_failed = failed > 0 && failed == lists.len();
    for (kind, list) in lists {
        listing.lists[kind as usize] = match list {
            Ok(list) => list,
            Err(error) if all_failed => return Err(error),
            Err(error) => List {
                failure: Some(error),
                ..List::default()
            },
        };
    }
    Ok(listing.digested())
}

fn not_an_object(error: mcp_core::JsonError) -> Error {
    Error::new(ErrorKind::BadUpstream, "the answer is not a JSON object").with_source(error)
}

async fn call(service: &BoxSeam, context: &Request, request: Request) -> Result<Json, Error> {
    let request = request.with_context_of(context).without_call();
    let response = service.clone().oneshot(request).await?;
    Ok(response.into_result())
}

async fn fetch_list(service: &BoxSeam, context: &Request, kind: ListKind) -> Result<List, Error> {
    let mut list = List::default();
    let mut asked = HashSet::new();
    let mut cursor: Option<Json> = None;
    for page in 0..MOST_PAGES {
        let mut params = Object::default();
        if let Some(cursor) = &cursor {
            params.set("cursor", cursor.clone());
        }
        let request = Request::from_object(kind.method(), Some(params))?;
        let answer = match call(service, context, request).await {
            Ok(answer) => Object::try_from(answer).map_err(not_an_object),
            // Some servers advertise what they do not have.
            Err(error) if is_missing(&error) => return Ok(list),
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if page == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(list = kind.member(), page, %error, "a later page cannot be read: the earlier ones are kept");
                return Ok(list);
            }
        };
        cursor = list.add(&answer, kind);
        let Some(next) = &cursor else {
            return Ok(list);
        };
        if !asked.insert(next.clone()) {
            tracing::warn!(list = kind.member(), cursor = %next, "a cursor comes again: the pages before it are kept");
            return Ok(list);
        }
    }
    tracing::warn!(
        list = kind.member(),
        pages = MOST_PAGES,
        "too many pages: the first ones are kept"
    );
    Ok(list)
}

fn is_missing(error: &Error) -> bool {
    error.code(mcp_core::Era::Session) == mcp_core::RpcCode::METHOD_NOT_FOUND
}

impl List {
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([u8::from(self.private)]);
        for item in &self.items {
            put(&mut hash, item.json.as_bytes());
        }
        for (name, value) in &self.extra {
            put(&mut hash, name.as_bytes());
            put(&mut hash, value.as_bytes());
        }
        hash.finalize().into()
    }

    /// Adds a page and returns the cursor of the next one. An empty string is a cursor like any other.
    fn add(&mut self, page: &Object, kind: ListKind) -> Option<Json> {
        for item in page
            .get(kind.member())
            .map(|list| list.elements())
            .unwrap_or_default()
        {
            match Item::read(&item, kind) {
                Some(item) => self.items.push(item),
                None => tracing::warn!(list = kind.member(), "a malformed entry is left out"),
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

/// Keeps one copy of listings that say the same: a thousand sessions of one upstream share it.
#[derive(Debug, Default)]
pub(crate) struct Interner(Mutex<HashMap<[u8; 32], Weak<Listing>>>);

impl Interner {
    pub(crate) fn intern(&self, listing: Listing) -> Arc<Listing> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.get(&listing.digest).and_then(Weak::upgrade);
        // One whose lists failed in another way is not the same, though it offers the same.
        if let Some(same) = same
            && listing.failures().next().is_none()
            && same.failures().next().is_none()
        {
            return same;
        }
        known.retain(|_, listing| listing.strong_count() > 0);
        let listing = Arc::new(listing);
        known.insert(listing.digest, Arc::downgrade(&listing));
        listing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mcp_core::Response;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// An upstream with tools and resources whose lists are made by a function of method and cursor.
    fn upstream(
        list: impl Fn(&str, Option<String>) -> Result<Value, Error> + Send + Sync + 'static,
    ) -> BoxSeam {
        let list = Arc::new(list);
        BoxSeam::new(service_fn(move |request: Request| {
            let list = Arc::clone(&list);
            async move {
                if *request.method() == Method::DISCOVER {
                    let all = json!({ "capabilities": { "tools": {}, "resources": {} } });
                    return Ok(Response::new(all.into()));
                }
                let cursor = request.param("cursor").and_then(|cursor| cursor.to_text());
                match list(request.method().as_str(), cursor)? {
                    Value::Null => std::future::pending().await,
                    page => Ok(Response::new(page.into())),
                }
            }
        }))
    }

    fn broken() -> Error {
        Error::new(ErrorKind::BadUpstream, "broken")
    }

    fn tools(names: &[&str], next: Option<&str>) -> Value {
        let tools: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "tools": tools, "nextCursor": next })
    }

    async fn read(service: BoxSeam) -> Result<Listing, Error> {
        let context = Request::new(Method::DISCOVER, None).unwrap();
        fetch(&service, &context, Duration::from_secs(10)).await
    }

    fn names(listing: &Listing) -> Vec<&str> {
        let tools = &listing.list(ListKind::Tools).items;
        tools.iter().map(|item| &*item.name).collect()
    }

    #[tokio::test]
    async fn a_cursor_that_does_not_advance_ends_the_list_and_keeps_it() {
        let pages = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pages);
        let listing = read(upstream(move |method, _| {
            if method != "tools/list" {
                return Ok(json!({ "resources": [] }));
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(tools(&["a"], Some("8")))
        }))
        .await
        .unwrap();
        assert_eq!(names(&listing), ["a", "a"]);
        assert_eq!(pages.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_later_page_that_is_refused_keeps_the_earlier_ones() {
        let listing = read(upstream(|method, cursor| match (method, cursor) {
            ("tools/list", None) => Ok(tools(&["a"], Some("2"))),
            ("tools/list", Some(_)) => Err(broken()),
            _ => Ok(json!({ "resources": [] })),
        }))
        .await
        .unwrap();
        assert_eq!(names(&listing), ["a"]);
        assert_eq!(listing.failures().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_or_hangs_leaves_the_others() {
        for hangs in [true, false] {
            let listing = read(upstream(move |method, _| match (method, hangs) {
                ("tools/list", _) => Ok(tools(&["a"], None)),
                ("resources/list", true) => Ok(Value::Null),
                ("resources/list", false) => Err(broken()),
                _ => Ok(json!({})),
            }))
            .await
            .unwrap();
            assert_eq!(names(&listing), ["a"]);
            let failed: Vec<_> = listing.failures().map(|(kind, _)| kind).collect();
            assert_eq!(failed, [ListKind::Resources]);
        }
    }

    #[tokio::test]
    async fn an_upstream_that_can_list_nothing_is_an_error() {
        assert!(read(upstream(|_, _| Err(broken()))).await.is_err());
    }

    #[tokio::test]
    async fn what_failed_this_time_is_kept_from_the_time_before() {
        let full = read(upstream(|method, _| match method {
            "tools/list" => Ok(tools(&["a"], None)),
            "resources/list" => Ok(json!({ "resources": [{ "uri": "x:y" }] })),
            _ => Ok(json!({})),
        }))
        .await
        .unwrap();
        let half = read(upstream(|method, _| match method {
            "tools/list" => Ok(tools(&["a", "b"], None)),
            "resources/list" => Err(broken()),
            _ => Ok(json!({})),
        }))
        .await
        .unwrap();
        assert_eq!(
            half.changed_since(Some(&full)),
            [ListKind::Tools, ListKind::Resources]
        );
        let kept = half.keeping(&full);
        assert_eq!(kept.list(ListKind::Resources).items.len(), 1);
        assert_eq!(kept.changed_since(Some(&full)), [ListKind::Tools]);
        assert_eq!(kept.failures().count(), 1);
    }
}
