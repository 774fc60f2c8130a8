//! Extensions by rule: how an extension's lists merge, how an id finds its upstream, and what is advertised.

use std::{borrow::Cow, sync::Arc};

use mcp_core::Method;

use crate::catalogue::SKILLS;

/// How a gateway of several upstreams treats an extension of the protocol.
///
/// An extension without a rule is passed on only if exactly one upstream declares it, and is not advertised. Skills
/// (SEP-2640) and tasks (SEP-2663) have rules of their own.
///
/// # Examples
///
/// ```
/// use mcp_aggregate::{ExtensionRule, Gateway};
///
/// let events = ExtensionRule::new("vendor.example/events")
///     .list("events/list", "events", "name")
///     .by_id("events/poll", "name");
/// let builder = Gateway::builder("gw").extension(events);
/// # drop(builder);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ExtensionRule {
    id: Cow<'static, str>,
    methods: Vec<(Cow<'static, str>, Rule)>,
}

/// How one method of an extension is answered.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// The lists of all upstreams that declare the extension, one after the other, ids with the upstream before them.
    List {
        member: Cow<'static, str>,
        id: Cow<'static, str>,
    },
    /// The upstream that is named in the id.
    ById { parameter: Cow<'static, str> },
}

impl ExtensionRule {
    /// Starts a rule for the extension of this id, which is advertised where an upstream declares it.
    pub fn new(id: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id: id.into(),
            methods: Vec::new(),
        }
    }

    /// Adds a method whose answers are merged: the arrays `member` of all upstreams that declare the extension, in their
    /// order, each element's `id` prefixed as `{upstream}__{id}`. Cursors are followed: the merged list is one page.
    pub fn list(
        mut self,
        method: impl Into<Cow<'static, str>>,
        member: impl Into<Cow<'static, str>>,
        id: impl Into<Cow<'static, str>>,
    ) -> Self {
        let rule = Rule::List {
            member: member.into(),
            id: id.into(),
        };
        self.methods.push((method.into(), rule));
        self
    }

    /// Adds a method that acts on an id of such a list: `parameter` names the member of `params` that holds it.
    pub fn by_id(
        mut self,
        method: impl Into<Cow<'static, str>>,
        parameter: impl Into<Cow<'static, str>>,
    ) -> Self {
        let rule = Rule::ById {
            parameter: parameter.into(),
        };
        self.methods.push((method.into(), rule));
        self
    }
}

/// The rules of a gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions(Arc<[ExtensionRule]>);

impl Extensions {
    pub(crate) fn new(rules: Vec<ExtensionRule>) -> Self {
        Self(rules.into())
    }

    /// Finds the rule of a method, with the id of its extension.
    pub(crate) fn rule(&self, method: &Method) -> Option<(&str, &Rule)> {
        self.0.iter().find_map(|extension| {
            let mut methods = extension.methods.iter();
            let (_, rule) = methods.find(|(name, _)| name == method.as_str())?;
            Some((&*extension.id, rule))
        })
    }

    /// Returns whether an extension has a rule.
    pub(crate) fn has(&self, id: &str) -> bool {
        id == SKILLS || id == super::tasks::EXTENSION || self.0.iter().any(|rule| rule.id == id)
    }
}
