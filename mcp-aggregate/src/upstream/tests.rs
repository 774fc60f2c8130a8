use mcp_core::{Error, Request, Response};
use tower::{layer::util::Identity as NoLayer, service_fn};

use super::*;
use crate::connector::stdio::Command;

fn service(id: &str) -> Upstream {
    let service = service_fn(|_: Request| async { Ok::<_, Error>(Response::empty()) });
    Upstream::service(id, service)
}

#[test]
fn the_digest_follows_what_the_description_says() {
    let base = || Upstream::command("a", Command::new("server")).env("KEY", "one");
    assert_eq!(base().digest(), base().digest());
    for other in [
        base().arg("x"),
        base().env("KEY", "two"),
        base().scope(SessionScope::Shared),
        base().list_timeout(Duration::from_secs(1)),
        base().shared_lists(),
        base().layer(NoLayer::new()),
        Upstream::http("a", "http://127.0.0.1:1/"),
        Upstream::http("a", "http://127.0.0.1:1/").header("x-key", "1"),
    ] {
        assert_ne!(base().digest(), other.digest(), "{other:?}");
    }
}

#[test]
fn layers_are_known_by_their_name_or_by_themselves() {
    let http = || Upstream::http("a", "http://127.0.0.1:1/");
    let named = |name| http().layer_named(name, NoLayer::new()).digest();
    assert_eq!(named("rate 10/s"), named("rate 10/s"));
    assert_ne!(named("rate 10/s"), named("rate 20/s"));
    let layered = http().layer(NoLayer::new());
    assert_eq!(layered.digest(), layered.clone().digest());
    assert_ne!(layered.digest(), http().layer(NoLayer::new()).digest());
    let own = service("a");
    assert_eq!(own.digest(), own.clone().digest());
    assert_ne!(own.digest(), service("a").digest());
}

#[test]
fn every_error_of_a_description_is_found_with_its_key() {
    for (upstream, keys) in [
        (
            Upstream::http("a", "no address").arg("x"),
            vec!["a.args", "a.url"],
        ),
        (
            Upstream::http("a", "ftp://a/")
                .header("no name", "v")
                .header("x", "a\nb"),
            vec!["a.headers", "a.headers.x", "a.url"],
        ),
        (
            service("a").scope(SessionScope::Shared).env("A", "b"),
            vec!["a.env", "a.scope"],
        ),
        (
            service("Not Valid").list_timeout(Duration::ZERO),
            vec!["Not Valid.timing.list", "Not Valid.id"],
        ),
    ] {
        let errors = upstream
            .prepare(&Shared::default())
            .err()
            .expect("it is wrong");
        let found: Vec<_> = errors.iter().map(|error| error.key().to_owned()).collect();
        assert_eq!(found, keys, "{errors}");
    }
}
