use std::sync::Arc;

use crate::{Json, Method, Notification, Object, Request};

/// What a listener subscribes to (revision 2026-07-28, "Subscriptions").
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: Arc<[String]>,
}

impl SubscriptionFilter {
    /// Reads the filter of a `subscriptions/listen` call.
    #[must_use]
    pub fn read(request: &Request) -> Self {
        let filter = request.param("notifications").unwrap_or(Json::EMPTY_OBJECT);
        let flag = |name| {
            filter
                .member(name)
                .is_some_and(|flag| flag.as_str() == "true")
        };
        let uris = filter
            .member("resourceSubscriptions")
            .map(|uris| uris.elements().iter().filter_map(Json::to_text).collect())
            .unwrap_or_default();
        Self {
            tools: flag("toolsListChanged"),
            prompts: flag("promptsListChanged"),
            resources: flag("resourcesListChanged"),
            uris,
        }
    }

    /// Returns the resources that are subscribed to.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Returns whether this is a session's general listener, which also takes what belongs to no call.
    #[must_use]
    pub fn is_general(&self) -> bool {
        self.tools || self.prompts || self.resources
    }

    /// Returns whether a notification is wanted.
    #[must_use]
    pub fn wants(&self, notification: &Notification) -> bool {
        match *notification.method() {
            Method::TOOLS_CHANGED => self.tools,
            Method::PROMPTS_CHANGED => self.prompts,
            Method::RESOURCES_CHANGED => self.resources,
            Method::RESOURCE_UPDATED => {
                let uri = notification
                    .params()
                    .and_then(|params| params.member("uri"))
                    .and_then(|uri| uri.to_text());
                uri.is_some_and(|uri| self.uris.contains(&uri))
            }
            _ => self.is_general(),
        }
    }

    /// Returns the filter as `subscriptions/listen` writes it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut filter = Object::default();
        let yes = || Json::from(serde_json::Value::Bool(true));
        for (name, on) in [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ] {
            if on {
                filter.set(name, yes());
            }
        }
        if !self.uris.is_empty() {
            let uris: Vec<_> = self.uris.iter().map(String::as_str).collect();
            filter.set("resourceSubscriptions", Json::from(serde_json::json!(uris)));
        }
        filter.to_json()
    }
}
