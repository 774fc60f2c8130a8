use std::{fmt, sync::Arc};

use crate::{ToolAnnotations, UpstreamId};

/// Which entries of a list the caller may see.
///
/// A layer that hides entries adds a predicate to the request; whoever answers a list applies all of them and
/// marks the answer private. The same predicates decide whether a hidden entry can be called by its name.
///
/// A predicate is also asked about whole upstreams ([`EntryKind::Upstream`]). A gateway says nothing to a caller about an
/// upstream that is hidden, and passes no request of theirs on to it. A predicate that hides an upstream has to hide its entries
/// from lists too; one that has nothing to say about upstreams answers `true`.
#[derive(Clone, Default)]
pub struct Visibility(Option<Arc<Node>>);

struct Node {
    allows: Box<dyn Fn(&Entry<'_>) -> bool + Send + Sync>,
    rest: Visibility,
}

/// An entry of a list, as a predicate sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// What is listed.
    pub kind: EntryKind,
    /// The name (or URI, or URI template) that the client sees.
    pub name: &'a str,
    /// The upstream that offers it, where there is one.
    pub upstream: Option<&'a UpstreamId>,
    /// What a tool says about itself.
    pub annotations: ToolAnnotations,
}

impl<'a> Entry<'a> {
    /// Describes an entry.
    #[must_use]
    pub fn new(kind: EntryKind, name: &'a str) -> Self {
        Self {
            kind,
            name,
            upstream: None,
            annotations: ToolAnnotations::default(),
        }
    }

    /// Sets the upstream.
    #[must_use]
    pub fn with_upstream(mut self, upstream: &'a UpstreamId) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// Sets the annotations.
    #[must_use]
    pub fn with_annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.annotations = annotations;
        self
    }
}

/// A kind of entry: what a list lists, and what a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EntryKind {
    /// A tool.
    Tool,
    /// A prompt.
    Prompt,
    /// A resource.
    Resource,
    /// A resource template.
    ResourceTemplate,
    /// A method that acts on none of these, by its name. No list lists it; a policy may decide about it.
    Method,
    /// An upstream, by its id: what it says about itself, and whether it is there. No list lists it.
    Upstream,
}

impl Visibility {
    /// Everything is visible.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Adds a predicate: only entries that it and all earlier ones allow stay visible.
    #[must_use]
    pub fn and(self, allows: impl Fn(&Entry<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Node {
            allows: Box::new(allows),
            rest: self,
        })))
    }

    /// Returns whether nothing is hidden.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether an entry is visible.
    #[must_use]
    pub fn allows(&self, entry: &Entry<'_>) -> bool {
        let mut node = &self.0;
        while let Some(predicate) = node {
            if !(predicate.allows)(entry) {
                return false;
            }
            node = &predicate.rest.0;
        }
        true
    }

    /// Returns whether an upstream is visible.
    #[must_use]
    pub fn allows_upstream(&self, upstream: &UpstreamId) -> bool {
        let entry = || Entry::new(EntryKind::Upstream, upstream.as_str()).with_upstream(upstream);
        self.is_all() || self.allows(&entry())
    }
}

impl fmt::Debug for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_all() {
            "Visibility(all)"
        } else {
            "Visibility(filtered)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_predicate_has_to_allow() {
        let visibility = Visibility::all()
            .and(|entry| entry.name.starts_with('a'))
            .and(|entry| entry.kind == EntryKind::Tool);
        let sees = |kind, name| visibility.allows(&Entry::new(kind, name));
        assert!(sees(EntryKind::Tool, "a"));
        assert!(!sees(EntryKind::Tool, "b"));
        assert!(!sees(EntryKind::Prompt, "a"));
        assert!(Visibility::all().allows(&Entry::new(EntryKind::Prompt, "b")));
    }
}
