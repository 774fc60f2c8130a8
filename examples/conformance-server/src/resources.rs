//! Resources and resource templates.

use std::sync::atomic::Ordering;

use rmcp::{
    ErrorData,
    model::{CacheScope, ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::json;

use crate::{
    media,
    state::{Change, Shared},
};

/// The resource that `update_watched_resource` changes.
pub(crate) const WATCHED: &str = "test://watched-resource";
/// Listed only after `trigger_resource_change` turned it on.
const EXTRA: &str = "test://extra-resource";
const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const UNICODE: &str = "test://unicode/gr%C3%BC%C3%9Fe";

/// How long clients may keep what never changes.
const STATIC_TTL_MS: u64 = 60_000;

/// The resources that are on offer now.
pub(crate) fn listed(shared: &Shared) -> Vec<Resource> {
    let mut resources = vec![
        entry(
            BINARY,
            "static-binary",
            "image/png",
            "An image that never changes",
        ),
        entry(
            TEXT,
            "static-text",
            "text/plain",
            "A text that never changes",
        )
        .with_title("Static text")
        .with_size(48),
        entry(
            UNICODE,
            "unicode",
            "text/plain",
            "A text beyond ASCII, under an escaped URI",
        ),
        entry(
            WATCHED,
            "watched-resource",
            "text/plain",
            "A text that changes when told to",
        ),
    ];
    if shared.extra_resource.is_on() {
        resources.push(entry(
            EXTRA,
            "extra-resource",
            "text/plain",
            "Comes and goes",
        ));
    }
    resources
}

/// The resource templates.
pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new("test://template/{id}/data", "template-data")
            .with_description("Data for an id")
            .with_mime_type("application/json"),
        ResourceTemplate::new("test://numbered/{n}", "numbered")
            .with_description("A text that names its number")
            .with_mime_type("text/plain"),
    ]
}

/// Reads one resource.
///
/// # Errors
///
/// A URI that names nothing is refused with the URI in the error's data (SEP-2164).
pub(crate) fn read(shared: &Shared, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let text = |text: &str, kind: &str| ResourceContents::text(text, uri).with_mime_type(kind);
    let contents = match uri {
        TEXT => text(
            "This is the content of the static text resource.",
            "text/plain",
        ),
        BINARY => ResourceContents::blob(media::PNG, uri).with_mime_type("image/png"),
        UNICODE => text("Grüße, 世界! 🦀", "text/plain"),
        WATCHED => {
            let version = shared.watched_version.load(Ordering::SeqCst);
            let contents = text(
                &format!("Watched resource, version {version}"),
                "text/plain",
            );
            return Ok(result(contents, 0, CacheScope::Private));
        }
        EXTRA if shared.extra_resource.is_on() => text("Switched on.", "text/plain"),
        _ => match (template_id(uri), uri.strip_prefix("test://numbered/")) {
            (Some(id), _) => {
                let data = json!({
                    "id": id,
                    "templateTest": true,
                    "data": format!("Data for ID: {id}"),
                });
                text(&data.to_string(), "application/json")
            }
            (None, Some(number)) => text(&format!("Number {number}"), "text/plain"),
            (None, None) => {
                let data = json!({ "uri": uri });
                return Err(ErrorData::resource_not_found(
                    "resource not found",
                    Some(data),
                ));
            }
        },
    };
    Ok(result(contents, STATIC_TTL_MS, CacheScope::Public))
}

/// Changes the watched resource and tells its subscribers; returns the new version.
pub(crate) fn update(shared: &Shared) -> u64 {
    let version = shared.watched_version.fetch_add(1, Ordering::SeqCst) + 1;
    shared.announce(Change::Updated(WATCHED.to_owned()));
    version
}

fn entry(uri: &str, name: &str, kind: &str, description: &str) -> Resource {
    Resource::new(uri, name)
        .with_mime_type(kind)
        .with_description(description)
}

fn result(contents: ResourceContents, ttl_ms: u64, scope: CacheScope) -> ReadResourceResult {
    ReadResourceResult::new(vec![contents])
        .with_ttl_ms(ttl_ms)
        .with_cache_scope(scope)
}

fn template_id(uri: &str) -> Option<&str> {
    let id = uri
        .strip_prefix("test://template/")?
        .strip_suffix("/data")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}
