//! Takes what happens in contexts from the driver's messages before the client library sees it.
//!
//! The library's own listeners would do, but its pages refer to themselves through them, and are never freed: a process
//! that opens pages would grow for ever. Here events come in their order, each once, and without a task for each.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, Weak},
};

use serde_json::Value;
use tokio::sync::mpsc;

/// Hears what happens in one context. Called between messages: what takes time belongs into a task.
pub(crate) trait Listen: Send + Sync {
    /// The driver has made an object.
    fn created(&self, kind: &str, guid: &str, initial: &Value);
    /// An object has reported something.
    fn happened(&self, guid: &str, event: &str, details: &Value);
    /// The driver has let go of an object.
    fn disposed(&self, guid: &str);
}

/// Objects that are not used here, or by their names only. The library does not know them all.
const UNSEEN: [&str; 7] = [
    "Dialog",
    "Disposable",
    "ElementHandle",
    "JSHandle",
    "Response",
    "WebSocket",
    "Worker",
];

/// What the library is to know of a context's own events.
const SEEN: [&str; 3] = ["bindingCall", "close", "route"];

/// The contexts of one driver, and what is below them.
#[derive(Default)]
pub(crate) struct Tap(Mutex<Objects>);

#[derive(Default)]
struct Objects {
    listeners: HashMap<String, Weak<dyn Listen>>,
    known: HashMap<String, Known>,
}

struct Known {
    parent: String,
    unseen: bool,
}

impl Objects {
    /// The context that an object is below of, or is.
    fn context(&self, guid: &str) -> Option<&str> {
        let mut guid = guid;
        // Contexts, pages, frames, requests, responses: chains are short.
        for _ in 0..64 {
            if let Some((context, _)) = self.listeners.get_key_value(guid) {
                return Some(context);
            }
            guid = &self.known.get(guid)?.parent;
        }
        None
    }

    fn listener(&self, guid: &str) -> Option<std::sync::Arc<dyn Listen>> {
        self.listeners.get(self.context(guid)?)?.upgrade()
    }

    /// Forgets an object, and what is below a page or a context: that goes with it, without a word about each.
    fn forget(&mut self, guid: &str) -> Vec<String> {
        let mut gone = vec![guid.to_owned()];
        self.known.remove(guid);
        if !guid.starts_with("page@") && self.listeners.remove(guid).is_none() {
            return gone;
        }
        let mut next = 0;
        while let Some(parent) = gone.get(next).cloned() {
            next += 1;
            let below = self
                .known
                .iter()
                .filter(|(_, known)| known.parent == parent);
            gone.extend(below.map(|(guid, _)| guid.clone()));
            for guid in &gone[next..] {
                self.known.remove(guid);
            }
        }
        gone
    }
}

impl Tap {
    /// Has a context listened to, until it is disposed.
    pub(crate) fn listen(&self, context: &str, listener: Weak<dyn Listen>) {
        self.lock().listeners.insert(context.to_owned(), listener);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells listeners what a message says, and whether the library is to see it.
    fn pass(&self, message: &mut Value) -> bool {
        let (Some(method), Some(guid)) = (message["method"].as_str(), message["guid"].as_str())
        else {
            // An answer to a call.
            if !message["error"].is_null() {
                crate::call_log::keep(message);
            }
            return true;
        };
        match method {
            "__create__" => self.create(message),
            "__adopt__" => {
                let child = message["params"]["guid"].as_str().unwrap_or_default();
                let mut objects = self.lock();
                match objects.known.get_mut(child) {
                    Some(known) => {
                        guid.clone_into(&mut known.parent);
                        !known.unseen
                    }
                    None => true,
                }
            }
            "__dispose__" => {
                let (listener, gone) = {
                    let mut objects = self.lock();
                    (objects.listener(guid), objects.forget(guid))
                };
                if let Some(listener) = listener {
                    gone.iter().for_each(|guid| listener.disposed(guid));
                }
                true
            }
            event => {
                let (listener, is_context, unseen) = {
                    let objects = self.lock();
                    let unseen = objects.known.get(guid).is_some_and(|known| known.unseen);
                    let is_context = objects.listeners.contains_key(guid);
                    (objects.listener(guid), is_context, unseen)
                };
                if let Some(listener) = listener {
                    listener.happened(guid, event, &message["params"]);
                }
                let of_page = guid.starts_with("page@") || guid.starts_with("frame@");
                !of_page && !unseen && (!is_context || SEEN.contains(&event))
            }
        }
    }

    fn create(&self, message: &mut Value) -> bool {
        let params = &message["params"];
        let kind = params["type"].as_str().unwrap_or_default();
        let unseen = UNSEEN.contains(&kind);
        let (Some(parent), Some(guid)) = (message["guid"].as_str(), params["guid"].as_str()) else {
            return true;
        };
        let listener = {
            let mut objects = self.lock();
            let listener = objects.listener(parent);
            if listener.is_some() || unseen {
                let parent = parent.to_owned();
                objects
                    .known
                    .insert(guid.to_owned(), Known { parent, unseen });
            }
            listener
        };
        if let Some(listener) = listener {
            listener.created(kind, guid, &params["initializer"]);
        }
        if kind == "Request" {
            // The library ties the requests of a redirect to each other, both ways.
            if let Some(initial) = message["params"]["initializer"].as_object_mut() {
                initial.remove("redirectedFrom");
            }
        }
        !unseen
    }
}

/// Moves messages from the driver to the library, until either is gone.
pub(super) async fn pump(
    tap: std::sync::Arc<Tap>,
    mut driver: mpsc::Receiver<Value>,
    library: mpsc::Sender<Value>,
) {
    while let Some(mut message) = driver.recv().await {
        if tap.pass(&mut message) && library.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listen for Heard {
        fn created(&self, kind: &str, guid: &str, _: &Value) {
            self.0.lock().unwrap().push(format!("+{kind} {guid}"));
        }
        fn happened(&self, guid: &str, event: &str, _: &Value) {
            self.0.lock().unwrap().push(format!("{guid} {event}"));
        }
        fn disposed(&self, guid: &str) {
            self.0.lock().unwrap().push(format!("-{guid}"));
        }
    }

    fn create(parent: &str, kind: &str, guid: &str) -> Value {
        json!({ "guid": parent, "method": "__create__", "params": { "type": kind, "guid": guid,
            "initializer": { "url": "x", "redirectedFrom": { "guid": "request@0" } } } })
    }

    #[test]
    fn a_context_hears_what_is_below_it_and_leaves_nothing() {
        let tap = Tap::default();
        let heard = Arc::new(Heard::default());
        let listener: Weak<dyn Listen> = Arc::downgrade(&heard) as _;
        tap.listen("ctx", listener);
        let event = |guid: &str, method: &str| json!({ "guid": guid, "method": method, "params": { "guid": "frame@1" } });
        let messages = [
            (create("ctx", "Frame", "frame@1"), true),
            (create("ctx", "Page", "page@1"), true),
            (event("page@1", "__adopt__"), true),
            (event("ctx", "page"), false),
            (event("ctx", "route"), true),
            (create("frame@1", "Request", "request@1"), true),
            (create("request@1", "Response", "response@1"), false),
            (event("frame@1", "navigated"), false),
            (event("other", "close"), true),
            (event("page@1", "__dispose__"), true),
            (event("ctx", "__dispose__"), true),
            (event("ctx", "close"), true),
            (json!({ "id": "1", "result": {} }), true),
        ];
        for (mut message, passes) in messages {
            assert_eq!(tap.pass(&mut message), passes, "{message}");
            if message["params"]["type"] == "Request" {
                assert_eq!(message["params"]["initializer"], json!({ "url": "x" }));
            }
        }
        assert_eq!(
            *heard.0.lock().unwrap(),
            [
                "+Frame frame@1",
                "+Page page@1",
                "ctx page",
                "ctx route",
                "+Request request@1",
                "+Response response@1",
                "frame@1 navigated",
                "-page@1",
                "-frame@1",
                "-request@1",
                "-response@1",
                "-ctx"
            ]
        );
        let objects = tap.lock();
        assert!(objects.known.is_empty() && objects.listeners.is_empty());
    }
}
