use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcp_core::clock::FakeClock;
use mcp_core::{
    CatalogueChange, Change, ChangeFeed, ChangedEntry, EntryKind, Error, ErrorKind, Json,
    MemoryChangeFeed, Method, Notification, Principal, Request, Response, Seam, Shared, Visibility,
};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use super::CacheLayer;

const SECOND: Duration = Duration::from_secs(1);

fn read(user: &str, uri: &str) -> Request {
    let params = Json::parse(format!(
        r#"{{"uri":"{uri}","_meta":{{"progressToken":"{user}{uri}"}}}}"#
    ))
    .unwrap();
    Request::new(Method::RESOURCES_READ, Some(params))
        .unwrap()
        .with_principal(Principal::authenticated("i", user))
}

fn tool(name: &str) -> Request {
    Request::new(
        Method::TOOLS_CALL,
        Some(Json::parse(format!(r#"{{"name":"{name}"}}"#)).unwrap()),
    )
    .unwrap()
}

/// Numbers its answers, which say about themselves what is given; fails on demand.
fn numbered(says: &'static str, fails: &Arc<AtomicU32>) -> impl Seam + use<> {
    let (number, fails) = (Arc::new(AtomicU32::new(0)), Arc::clone(fails));
    service_fn(move |_: Request| {
        let n = number.fetch_add(1, Ordering::SeqCst);
        let fail = fails.load(Ordering::SeqCst) > 0;
        async move {
            if fail {
                return Err(Error::new(ErrorKind::Unavailable, "down"));
            }
            Ok(Response::new(
                Json::parse(format!(r#"{{"n":{n}{says}}}"#)).unwrap(),
            ))
        }
    })
}

struct Setup<S> {
    service: S,
    layer: CacheLayer,
    clock: FakeClock,
    fails: Arc<AtomicU32>,
}

fn setup(says: &'static str, layer: CacheLayer) -> Setup<impl Seam> {
    let (clock, fails) = (FakeClock::new(), Arc::default());
    let layer = layer.with_clock(Arc::new(clock.clone()));
    Setup {
        service: layer.layer(numbered(says, &fails)),
        layer,
        clock,
        fails,
    }
}

impl<S: Seam> Setup<S> {
    async fn ask(&self, request: Request) -> Option<u32> {
        let response = self.service.clone().oneshot(request).await.ok()?;
        response.result().member("n")?.decode().ok()
    }
}

#[tokio::test]
async fn answers_are_kept_for_as_long_as_they_say() {
    let s = setup(
        r#","ttlMs":5000,"cacheScope":"private""#,
        CacheLayer::new(1 << 20),
    );
    assert_eq!(s.ask(read("a", "x")).await, Some(0));
    assert_eq!(s.ask(read("a", "x")).await, Some(0));
    s.clock.advance(SECOND * 2);
    let aged = s.service.clone().oneshot(read("a", "x")).await.unwrap();
    assert_eq!(
        aged.result().as_str(),
        r#"{"n":0,"ttlMs":3000,"cacheScope":"private"}"#
    );
    s.clock.advance(SECOND * 3);
    assert_eq!(s.ask(read("a", "x")).await, Some(1));
    assert_eq!(s.ask(tool("t")).await, Some(2));
    assert_eq!(s.ask(tool("t")).await, Some(3), "a tool is called");
    let hidden = read("a", "x").with_visibility(Visibility::all().and(|_| true));
    assert_eq!(
        s.ask(hidden).await,
        Some(4),
        "a restricted view is not served"
    );
    let mut round = read("a", "x");
    round.params_mut().set("requestState", Json::string("s"));
    assert_eq!(s.ask(round).await, Some(5), "a later round is not served");
    for (says, kept) in [
        ("", false),
        (r#","ttlMs":-1"#, false),
        (r#","ttlMs":0"#, false),
        (r#","ttlMs":"9""#, false),
        (r#","ttlMs":1e300"#, true),
        (r#","ttlMs":9,"resultType":"input_required""#, false),
    ] {
        let s = setup(says, CacheLayer::new(1 << 20));
        assert_eq!(
            (s.ask(read("a", "x")).await, s.ask(read("a", "x")).await),
            (Some(0), Some(u32::from(!kept))),
            "{says}"
        );
    }
}

#[tokio::test]
async fn tools_are_kept_by_order_only() {
    let layer = CacheLayer::new(1 << 20)
        .with_tool("a", SECOND)
        .with_tool("b", SECOND * 2)
        .with_max_entry(1000);
    let s = setup("", layer);
    for (name, expected) in [("a", 0), ("a", 0), ("b", 1), ("b", 1), ("c", 2), ("c", 3)] {
        assert_eq!(s.ask(tool(name)).await, Some(expected), "{name}");
    }
    s.clock.advance(SECOND);
    assert_eq!(
        (s.ask(tool("a")).await, s.ask(tool("b")).await),
        (Some(4), Some(1))
    );
    let layer = CacheLayer::new(1 << 20).with_tool("a", SECOND);
    let s = setup(r#","isError":true"#, layer);
    assert_eq!(
        (s.ask(tool("a")).await, s.ask(tool("a")).await),
        (Some(0), Some(1)),
        "errors are not kept"
    );
}

#[tokio::test]
async fn invalidation() {
    let s = setup(r#","ttlMs":500000"#, CacheLayer::new(1 << 20));
    let list = || Request::new(Method::TOOLS_LIST, None).unwrap();
    let all = || async {
        (
            s.ask(read("a", "x")).await.unwrap(),
            s.ask(read("a", "y")).await.unwrap(),
            s.ask(list()).await.unwrap(),
        )
    };
    assert_eq!(all().await, (0, 1, 2));
    let updated = Json::parse(r#"{"uri":"x"}"#).unwrap();
    s.layer.cache().apply(
        &Notification::new(Method::RESOURCE_UPDATED, Some(updated)),
        None,
    );
    assert_eq!(all().await, (3, 1, 2));
    s.layer
        .cache()
        .apply(&Notification::new(Method::TOOLS_CHANGED, None), None);
    assert_eq!(all().await, (3, 1, 4));
    s.layer.cache().invalidate_method(&Method::RESOURCES_READ);
    assert_eq!(all().await, (5, 6, 4));
    let feed = MemoryChangeFeed::default();
    let (stream, cache) = (feed.subscribe(), s.layer.cache().clone());
    let following = tokio::spawn(async move { cache.follow(stream).await });
    let entry = ChangedEntry::new(EntryKind::Tool, "t".into(), Change::Altered);
    feed.publish(CatalogueChange::new(2, vec![entry]));
    drop(feed);
    following.await.unwrap();
    assert_eq!(all().await, (5, 6, 7));
    s.layer.cache().clear();
    assert_eq!(all().await, (8, 9, 10));
}

#[tokio::test]
async fn an_answer_from_before_an_invalidation_is_not_kept() {
    let (gate, layer) = (
        Arc::new(tokio::sync::Notify::new()),
        CacheLayer::new(1 << 20),
    );
    let waits = Arc::clone(&gate);
    let service = layer.layer(service_fn(move |_: Request| {
        let gate = Arc::clone(&waits);
        async move {
            gate.notified().await;
            Ok::<_, Error>(Response::new(Json::parse(r#"{"ttlMs":5000}"#).unwrap()))
        }
    }));
    let call = tokio::spawn(service.oneshot(read("a", "x")));
    tokio::task::yield_now().await;
    layer.cache().invalidate_name("x");
    gate.notify_one();
    call.await.unwrap().unwrap();
    assert_eq!(layer.cache().stats().entries, 0);
}

#[tokio::test]
async fn stale_answers_are_served_where_allowed() {
    let s = setup(
        r#","ttlMs":1000"#,
        CacheLayer::new(1 << 20).with_stale_on_error(SECOND * 10),
    );
    assert_eq!(s.ask(read("a", "x")).await, Some(0));
    s.fails.store(1, Ordering::SeqCst);
    s.clock.advance(SECOND * 5);
    assert_eq!(s.ask(read("a", "x")).await, Some(0));
    s.clock.advance(SECOND * 6);
    assert_eq!(s.ask(read("a", "x")).await, None);

    let s = setup(
        r#","ttlMs":1000"#,
        CacheLayer::new(1 << 20).with_stale_while_revalidate(SECOND * 10),
    );
    assert_eq!(s.ask(read("a", "x")).await, Some(0));
    s.clock.advance(SECOND * 5);
    assert_eq!(
        s.ask(read("a", "x")).await,
        Some(0),
        "stale, and renewed behind the scenes"
    );
    tokio::task::yield_now().await;
    assert_eq!(s.ask(read("a", "x")).await, Some(1));
    s.clock.advance(SECOND * 20);
    assert_eq!(s.ask(read("a", "x")).await, Some(2), "too old");
}

#[tokio::test]
async fn memory_is_bounded() {
    let s = setup(r#","ttlMs":500000"#, CacheLayer::new(20_000));
    for n in 0..1000 {
        s.ask(read("a", &n.to_string())).await;
    }
    assert!(s.layer.cache().stats().bytes <= 20_000);
}

proptest! {
    /// Whoever asks for whatever in whatever order is served only answers that were made for them, unless the
    /// answer is public and the operator believes that.
    #[test]
    fn never_crosses_a_partition(asks in proptest::collection::vec((0u8..3, 0u8..3), 1..60), believe: bool, public: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let scope = if public { "public" } else { "private" };
            let mine = service_fn(move |request: Request| async move {
                let who = request.principal().subject();
                Ok::<_, Error>(Response::new(Json::parse(format!(r#"{{"who":"{who}","ttlMs":1000,"cacheScope":"{scope}"}}"#)).unwrap()))
            });
            let layer = CacheLayer::new(1 << 20);
            let layer = if believe { layer.with_public(Shared::by_operator()) } else { layer };
            let service = layer.layer(mine);
            let mut crossed = false;
            for (who, what) in &asks {
                let response = service.clone().oneshot(read(&who.to_string(), &what.to_string())).await.unwrap();
                crossed |= response.result().member("who").unwrap().to_text() != Some(who.to_string());
            }
            prop_assert!(!crossed || (believe && public));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn processes_share_answers_on_a_store_and_invalidations_reach_it() {
    use mcp_core::store::{MemoryStore, Namespace};

    let store = Arc::new(MemoryStore::new());
    let layer =
        || CacheLayer::new(1 << 20).with_store(store.clone(), Namespace::new("cache").unwrap());
    let (one, two) = (
        setup(r#","ttlMs":500000"#, layer()),
        setup(r#","ttlMs":500000"#, layer()),
    );
    assert_eq!(one.ask(read("a", "x")).await, Some(0));
    assert_eq!(two.ask(read("a", "y")).await, Some(0));
    assert_eq!(two.ask(read("a", "y")).await, Some(0));
    assert_eq!(two.layer.cache().stats().hits, 1);
    assert_eq!(two.ask(read("a", "x")).await, Some(0));
    assert_eq!(
        two.layer.cache().stats().hits,
        2,
        "found what the other one kept"
    );
    assert_eq!(
        two.ask(read("b", "x")).await,
        Some(1),
        "but not somebody else's"
    );
    one.layer.cache().invalidate_name("x");
    assert_eq!(one.ask(read("a", "x")).await, Some(1), "gone here at once");
    tokio::task::yield_now().await;
    let three = setup(r#","ttlMs":500000,"three":3"#, layer());
    assert_eq!(
        three.ask(read("a", "x")).await,
        Some(1),
        "and what is new is found"
    );
    assert_eq!(
        three.ask(read("a", "y")).await,
        Some(0),
        "the rest has to be fetched again"
    );
    assert_eq!(three.layer.cache().stats().misses, 2);
}

#[tokio::test]
async fn public_answers_are_shared_within_one_revision_only() {
    use mcp_core::ProtocolVersion;
    let s = setup(
        r#","ttlMs":5000,"cacheScope":"public""#,
        CacheLayer::new(1 << 20).with_public(Shared::by_operator()),
    );
    let of = |user: &str, version: ProtocolVersion| read(user, "x").with_version(version);
    let (new, old) = (ProtocolVersion::V_2026_07_28, ProtocolVersion::V_2025_11_25);
    assert_eq!(s.ask(of("a", new.clone())).await, Some(0));
    assert_eq!(s.ask(of("b", new)).await, Some(0));
    assert_eq!(s.ask(of("a", old.clone())).await, Some(1));
    assert_eq!(s.ask(of("b", old)).await, Some(1));
}

#[tokio::test]
async fn answers_are_kept_apart_by_what_the_client_can_do() {
    use mcp_core::ClientCapabilities;
    let s = setup(
        r#","ttlMs":5000,"cacheScope":"private""#,
        CacheLayer::new(1 << 20),
    );
    let of = |capabilities: &str| {
        let capabilities = ClientCapabilities::new(Json::parse(capabilities.to_owned()).unwrap());
        read("a", "x").with_capabilities(capabilities)
    };
    assert_eq!(s.ask(of(r#"{"elicitation":{}}"#)).await, Some(0));
    assert_eq!(s.ask(of("{}")).await, Some(1));
    assert_eq!(s.ask(of(r#"{"elicitation":{}}"#)).await, Some(0));
}
