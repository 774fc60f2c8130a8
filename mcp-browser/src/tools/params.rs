//! What tools are called with.

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

/// How much of the page an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum View {
    /// Nothing.
    None,
    /// What changed since the last snapshot.
    #[default]
    Changes,
    /// A whole snapshot.
    Full,
}

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Deserialize, JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub(super) struct $name {
                /// The session, as browser_create_session answered it.
                pub(super) session_id: String,
                $($(#[$field_doc])* pub(super) $field: $type,)*
            }
        )*
    };
}

params! {
    Only {}
    Navigate {
        /// Where to: an http or https address. "back", "forward" and "reload" go through the history.
        url: String,
        /// What of the page to answer. Default is full.
        snapshot: Option<View>,
    }
    Interact {
        /// What to do.
        action: Act,
        /// The element: a reference of the last snapshot such as e12, or a selector (CSS, text=, role=). Extract takes the page without one.
        selector: Option<String>,
        /// The text to type or fill, the option to select, the key to press, the element to drag onto.
        value: Option<String>,
        /// Fills in a secret of your vault by its name instead of a value; you do not see it.
        secret: Option<String>,
        /// What of the page to answer. Default is changes.
        snapshot: Option<View>,
    }
    Snapshot {
        /// Only what changed since the last snapshot. Default is false.
        changes: Option<bool>,
        /// Where to go on, as the last answer said.
        from: Option<usize>,
    }
    Shot {
        /// The whole page instead of what can be seen. Default is false.
        full_page: Option<bool>,
        /// One element.
        selector: Option<String>,
    }
    WaitFor {
        /// A selector or reference of an element to appear.
        selector: Option<String>,
        /// A selector or reference of an element to go away.
        gone: Option<String>,
        /// A text to appear.
        text: Option<String>,
        /// Seconds, at most 60.
        seconds: Option<f64>,
    }
    Answer {
        /// Whether to accept it.
        accept: bool,
        /// What to answer a prompt.
        text: Option<String>,
    }
    Take {
        /// What to take out.
        what: What,
        /// The element: a reference or a selector. Default is the page.
        selector: Option<String>,
        /// Where to go on, as the last answer said.
        from: Option<usize>,
    }
    Tabs {
        /// What to do. Default is list.
        action: Option<TabAct>,
        /// The tab's number, for select and close.
        tab: Option<u32>,
    }
    Console {
        /// Only errors. Default is false.
        errors: Option<bool>,
    }
    Intercept {
        /// What to do with requests that match; clear forgets all rules.
        action: RouteAct,
        /// Which addresses, such as **/*.png or https://shop.example/api/**.
        pattern: Option<String>,
        /// The status to answer. Default is 200.
        status: Option<u16>,
        /// The media type to answer. Default is text/plain.
        content_type: Option<String>,
        /// The body to answer.
        body: Option<String>,
        /// Headers to send beside or instead of the request's own.
        headers: Option<std::collections::BTreeMap<String, String>>,
    }
    Network {
        /// No network. Default is false.
        offline: Option<bool>,
        /// Milliseconds until the first byte. Default is none.
        latency_ms: Option<u32>,
        /// Bytes in a second. Default is no limit.
        download: Option<u32>,
        /// Bytes in a second. Default is no limit.
        upload: Option<u32>,
    }
    Cookies {
        /// What to do. Default is list.
        action: Option<StoreAct>,
        /// For set: the address the cookie is for.
        url: Option<String>,
        /// For set: the name.
        name: Option<String>,
        /// For set: the value.
        value: Option<String>,
    }
    Storage {
        /// What to do. Default is list.
        action: Option<StoreAct>,
        /// The session storage instead of the local storage. Default is false.
        session: Option<bool>,
        /// The item, for set and clear.
        name: Option<String>,
        /// The value, for set.
        value: Option<String>,
    }
    Evaluate {
        /// An expression, or a function that is called, such as () => document.title.
        script: String,
    }
    Upload {
        /// The file field: a reference or a selector.
        selector: String,
        /// The name that the page sees.
        name: String,
        /// The media type. Default is application/octet-stream.
        media_type: Option<String>,
        /// The content in base64.
        content_base64: String,
    }
    Trace {
        /// Whether to begin or to end one.
        action: TraceAct,
    }
}

macro_rules! choices {
    ($($name:ident { $($choice:ident),* })*) => {
        $(
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
            #[serde(rename_all = "snake_case")]
            #[schemars(inline)]
            pub(super) enum $name { $($choice),* }
        )*
    };
}

choices! {
    Act { Click, RightClick, DoubleClick, Hover, Type, Fill, Select, Check, Uncheck, Press, Drag, Scroll, Extract }
    What { Text, Html, Attributes, Table, Markdown }
    TabAct { List, Open, Select, Close }
    RouteAct { Block, Fulfil, Modify, List, Clear }
    StoreAct { List, Set, Clear }
    TraceAct { Start, Stop }
}
