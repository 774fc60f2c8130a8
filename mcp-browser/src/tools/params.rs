//! What tools are called with.

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

/// How much of the page an answer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
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
        /// Milliseconds that it may take, within the operator's bound.
        timeout_ms: Option<u64>,
        /// Milliseconds to wait at most for what the page requests then. Zero waits for nothing.
        settle_ms: Option<u64>,
    }
    Interact {
        /// What to do. Press and type go to the focus without a selector.
        action: Act,
        /// The element: a reference of the last snapshot such as e12, or a selector (CSS, text=, role=; "iframe >>> button" goes into a frame). Extract takes the page without one.
        selector: Option<String>,
        /// The text to type or fill, the option to select, the key to press, the element to drag onto.
        value: Option<String>,
        /// For select: several options.
        values: Option<Vec<String>>,
        /// Fills in a secret of your vault by its name instead of a value; you do not see it.
        secret: Option<String>,
        /// For click: left (default), right or middle.
        button: Option<ButtonName>,
        /// For click: how often, 1 to 3. Default is 1.
        count: Option<u8>,
        /// For click: keys that are held.
        modifiers: Option<Vec<ModifierName>>,
        /// What of the page to answer. Default is changes.
        snapshot: Option<View>,
        /// Milliseconds that it may take, within the operator's bound.
        timeout_ms: Option<u64>,
        /// Milliseconds to wait at most for what it sets off. Zero waits for nothing.
        settle_ms: Option<u64>,
    }
    FillForm {
        /// The fields, in the order in which they are filled.
        fields: Vec<Field>,
        /// The element to click afterwards, such as the button that sends the form.
        submit: Option<String>,
        /// What of the page to answer. Default is changes.
        snapshot: Option<View>,
        /// Milliseconds that each field may take, within the operator's bound.
        timeout_ms: Option<u64>,
    }
    Snapshot {
        /// Only what changed since the last snapshot. Default is false.
        changes: Option<bool>,
        /// Only what is in this element: a reference or a selector.
        selector: Option<String>,
        /// Only so many levels of it.
        depth: Option<usize>,
        /// Only the lines that hold this text, with what they stand in.
        find: Option<String>,
        /// Where to go on, as the last answer said.
        from: Option<usize>,
    }
    Shot {
        /// The whole page instead of what can be seen. Default is false.
        full_page: Option<bool>,
        /// One element.
        selector: Option<String>,
        /// png (default) or jpeg.
        format: Option<Format>,
        /// For jpeg: 1 to 100. Default is 80.
        quality: Option<u8>,
        /// One dot for each CSS pixel, which is smaller on devices with more. Default is false.
        css_scale: Option<bool>,
    }
    WaitFor {
        /// A selector or reference of an element to appear.
        selector: Option<String>,
        /// A selector or reference of an element to go away.
        gone: Option<String>,
        /// A text to appear, in frames too.
        text: Option<String>,
        /// A text to go away, in frames too.
        text_gone: Option<String>,
        /// How far the page is to be loaded: parsed, loaded, or idle (no requests for half a second).
        load: Option<Load>,
        /// Seconds, at most 60.
        seconds: Option<f64>,
        /// Milliseconds to wait at most, within the operator's bound.
        timeout_ms: Option<u64>,
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
        /// The least level: debug (default), info, warning or error. Errors include what pages threw.
        level: Option<Level>,
        /// Only lines with this text.
        filter: Option<String>,
        /// Only lines after this number.
        after: Option<u64>,
    }
    Requests {
        /// Only requests whose address holds this text.
        filter: Option<String>,
        /// Only requests that failed or were answered with 400 or more. Default is false.
        failed: Option<bool>,
        /// Only requests after this number.
        after: Option<u64>,
        /// A part of one request, by its number.
        number: Option<u64>,
        /// Which part. Default is headers.
        part: Option<Part>,
        /// Where to go on in the part, as the last answer said.
        from: Option<usize>,
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
        /// What to do. Default is list. Clear without a name, domain or path clears all.
        action: Option<StoreAct>,
        /// For set: the address the cookie is for, unless a domain and path are given.
        url: Option<String>,
        /// The name.
        name: Option<String>,
        /// For set: the value.
        value: Option<String>,
        /// The domain, with a dot in front for its subdomains too.
        domain: Option<String>,
        /// The path. Default is /.
        path: Option<String>,
        /// For set: when it expires, in seconds since 1970. Default is with the session.
        expires: Option<f64>,
        /// For set: hidden from scripts. Default is false.
        http_only: Option<bool>,
        /// For set: sent over https only. Default is false.
        secure: Option<bool>,
        /// For set: Strict, Lax or None.
        same_site: Option<Site>,
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
        /// An expression, or a function that is called, such as () => document.title. With a selector: a function of the element, such as e => e.id.
        script: String,
        /// The element: a reference or a selector.
        selector: Option<String>,
        /// Milliseconds that it may take, within the operator's bound.
        timeout_ms: Option<u64>,
    }
    InitScript {
        /// What is run in every document from now on, before the document's own scripts.
        script: String,
    }
    Upload {
        /// The file field, its label, or the button that opens a file chooser: a reference or a selector. Without one the files go to the chooser that is open.
        selector: Option<String>,
        /// The files.
        files: Vec<FileParam>,
        /// Drops the files onto the element, as from another window. Default is false.
        drop: Option<bool>,
    }
    Download {
        /// Reads the download with this number instead of listing them.
        number: Option<u32>,
        /// Where to go on in its text, as the last answer said.
        from: Option<usize>,
    }
    Trace {
        /// Whether to begin or to end one.
        action: TraceAct,
    }
    Pointer {
        /// What to do with the mouse.
        action: PointerAct,
        /// Where, in CSS pixels from the left of what can be seen.
        x: Option<f64>,
        /// Where, in CSS pixels from the top of what can be seen.
        y: Option<f64>,
        /// Where: the middle of this element, a reference or a selector, instead of x and y.
        selector: Option<String>,
        /// For drag: where to, in CSS pixels.
        to_x: Option<f64>,
        /// For drag: where to, in CSS pixels.
        to_y: Option<f64>,
        /// For wheel: CSS pixels to the right.
        delta_x: Option<f64>,
        /// For wheel: CSS pixels down.
        delta_y: Option<f64>,
        /// For click: left (default), right or middle.
        button: Option<ButtonName>,
        /// For click: how often, 1 to 3. Default is 1.
        count: Option<u8>,
        /// What of the page to answer. Default is changes.
        snapshot: Option<View>,
    }
    Emulate {
        /// The width of the page in CSS pixels, 100 to 4096, with height.
        width: Option<u32>,
        /// The height of the page in CSS pixels, 100 to 4096, with width.
        height: Option<u32>,
        /// screen or print.
        media: Option<MediaName>,
        /// light or dark.
        color_scheme: Option<SchemeName>,
        /// Whether pages are asked to move less.
        reduced_motion: Option<bool>,
        /// Whether pages are shown in forced colors.
        forced_colors: Option<bool>,
        /// How many times slower the processor is, 1 to 20.
        cpu_slowdown: Option<f64>,
    }
    Code {
        /// start begins to write actions down, get answers them as a script.
        action: CodeAct,
        /// typescript (default) or python.
        language: Option<LanguageName>,
    }
    Expect {
        /// The element: a reference or a selector.
        selector: String,
        /// What is expected of it.
        that: ThatName,
        /// The text or value, or the number of elements.
        value: Option<String>,
        /// The opposite. Default is false.
        not: Option<bool>,
        /// Milliseconds that it may take to become true, within the operator's bound.
        timeout_ms: Option<u64>,
    }
}

/// A field of a form and what to put into it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Field {
    /// The field: a reference of the last snapshot or a selector.
    pub(super) selector: String,
    /// The text for a text field, the option for a list.
    pub(super) value: Option<String>,
    /// Several options of a list.
    pub(super) values: Option<Vec<String>>,
    /// For a box: checked or not.
    pub(super) checked: Option<bool>,
    /// A secret of your vault by its name instead of a value.
    pub(super) secret: Option<String>,
}

/// A file to upload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct FileParam {
    /// The name that the page sees.
    pub(super) name: String,
    /// The media type. Default is application/octet-stream, text/plain for a text.
    pub(super) media_type: Option<String>,
    /// The content as text.
    pub(super) text: Option<String>,
    /// The content in base64, instead of a text.
    pub(super) content_base64: Option<String>,
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
    ButtonName { Left, Right, Middle }
    ModifierName { Alt, Control, ControlOrMeta, Meta, Shift }
    Format { Png, Jpeg }
    Load { Parsed, Loaded, Idle }
    Level { Debug, Info, Warning, Error }
    Part { Headers, RequestBody, ResponseBody }
    Site { Strict, Lax, None }
    PointerAct { Move, Click, Drag, Wheel }
    MediaName { Screen, Print }
    SchemeName { Light, Dark }
    CodeAct { Start, Get }
    LanguageName { Typescript, Python }
    ThatName { Visible, Hidden, Text, ContainsText, Value, Checked, Enabled, Count }
}
