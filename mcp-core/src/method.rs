use std::{fmt, sync::Arc};

/// The name of a JSON-RPC method or notification.
///
/// Methods of the specification are constants and cost no allocation; any other name is kept as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Known(&'static str),
    Other(Arc<str>),
}

macro_rules! methods {
    ($($(#[doc = $doc:literal])? $constant:ident = $name:literal;)*) => {
        impl Method {
            $(
                #[doc = concat!("`", $name, "`")]
                pub const $constant: Self = Self(Name::Known($name));
            )*

            /// Returns the method of this name.
            #[must_use]
            pub fn new(name: &str) -> Self {
                match name {
                    $($name => Self::$constant,)*
                    other => Self(Name::Other(other.into())),
                }
            }
        }
    };
}

methods! {
    INITIALIZE = "initialize";
    PING = "ping";
    DISCOVER = "server/discover";
    TOOLS_LIST = "tools/list";
    TOOLS_CALL = "tools/call";
    PROMPTS_LIST = "prompts/list";
    PROMPTS_GET = "prompts/get";
    RESOURCES_LIST = "resources/list";
    RESOURCE_TEMPLATES_LIST = "resources/templates/list";
    RESOURCES_READ = "resources/read";
    RESOURCES_SUBSCRIBE = "resources/subscribe";
    RESOURCES_UNSUBSCRIBE = "resources/unsubscribe";
    SUBSCRIPTIONS_LISTEN = "subscriptions/listen";
    COMPLETE = "completion/complete";
    SET_LEVEL = "logging/setLevel";
    TASKS_GET = "tasks/get";
    TASKS_UPDATE = "tasks/update";
    TASKS_CANCEL = "tasks/cancel";
    TASKS_LIST = "tasks/list";
    TASKS_RESULT = "tasks/result";
    CREATE_MESSAGE = "sampling/createMessage";
    ELICIT = "elicitation/create";
    ROOTS_LIST = "roots/list";
    INITIALIZED = "notifications/initialized";
    CANCELLED = "notifications/cancelled";
    PROGRESS = "notifications/progress";
    MESSAGE = "notifications/message";
    RESOURCE_UPDATED = "notifications/resources/updated";
    RESOURCES_CHANGED = "notifications/resources/list_changed";
    TOOLS_CHANGED = "notifications/tools/list_changed";
    PROMPTS_CHANGED = "notifications/prompts/list_changed";
    ROOTS_CHANGED = "notifications/roots/list_changed";
    ACKNOWLEDGED = "notifications/subscriptions/acknowledged";
    ELICITATION_COMPLETE = "notifications/elicitation/complete";
    TASK_STATUS = "notifications/tasks/status";
    TASK = "notifications/tasks";
}

impl Method {
    /// The notifications of a server that say no more than that one of its lists is to be read again.
    pub const LIST_CHANGES: [Self; 3] = [
        Self::TOOLS_CHANGED,
        Self::PROMPTS_CHANGED,
        Self::RESOURCES_CHANGED,
    ];

    /// Returns whether the specification defines the method, in any revision.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        matches!(self.0, Name::Known(_))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Known(name) => name,
            Name::Other(name) => name,
        }
    }

    /// Returns the member of `params` that names what the method acts on, in any revision.
    #[must_use]
    pub fn name_member(&self) -> Option<&'static str> {
        match self.as_str() {
            "tools/call" | "prompts/get" => Some("name"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
            "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result" => Some("taskId"),
            _ => None,
        }
    }

    /// Returns the member of `params` that the header `Mcp-Name` mirrors (revision 2026-07-28, Streamable HTTP;
    /// for tasks SEP-2663).
    #[must_use]
    pub fn mirrored_member(&self) -> Option<&'static str> {
        self.name_member().filter(|_| {
            !matches!(
                self.as_str(),
                "resources/subscribe" | "resources/unsubscribe" | "tasks/result"
            )
        })
    }

    /// Returns whether the method only reads, by its definition, so that repeating it is harmless.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(
            self.as_str(),
            "ping"
                | "server/discover"
                | "tools/list"
                | "prompts/list"
                | "prompts/get"
                | "resources/list"
                | "resources/templates/list"
                | "resources/read"
                | "completion/complete"
                | "tasks/get"
                | "tasks/list"
        )
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for Method {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}
