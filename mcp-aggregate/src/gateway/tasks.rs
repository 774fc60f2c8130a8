//! Task ids: the upstream that has a task, and the principal that made it, sealed into the id that the client sees.
//!
//! The public id names the upstream and its generation, and carries a tag over principal, upstream, generation and the
//! upstream's own id: it is of use to its owner only, and not after the upstream was replaced or removed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use mcp_core::{
    Ask, Asker, Error, ErrorKind, Json, Method, Notification, Object, Partition, UpstreamId, meta,
};

use super::{
    core::Core,
    view::{NodeKey, key_of},
};
use crate::{node::Node, seal::Sealer};

/// The extension that tasks belong to since revision 2026-07-28 (SEP-2663).
pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The use of a task's tag.
const USAGE: &str = "task";

/// How many tasks of shared upstreams are remembered with their owners.
const REMEMBERED: usize = 10_000;

/// A public task id, opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenTask<'a> {
    pub(crate) upstream: UpstreamId,
    pub(crate) generation: u64,
    /// The upstream's own id.
    pub(crate) task: &'a str,
}

/// Returns the public id of a task.
pub(crate) fn publish(sealer: &Sealer, owner: Partition, node: &Node, task: &str) -> String {
    let (upstream, generation) = (&node.id, node.generation);
    let tag = sealer.tag(USAGE, owner, &format!("{upstream}.{generation}.{task}"));
    format!("{upstream}.{generation}.{tag}.{task}")
}

/// Opens a public id.
///
/// # Errors
///
/// [`ErrorKind::InvalidParams`] for an id that was not issued to this principal.
pub(crate) fn open<'a>(
    sealer: &Sealer,
    owner: Partition,
    public: &'a str,
) -> Result<OpenTask<'a>, Error> {
    let read = || {
        let mut parts = public.splitn(4, '.');
        let (upstream, generation) = (parts.next()?, parts.next()?);
        let (tag, task) = (parts.next()?, parts.next()?);
        let sealed = format!("{upstream}.{generation}.{task}");
        let opened = OpenTask {
            upstream: UpstreamId::new(upstream).ok()?,
            generation: generation.parse().ok()?,
            task,
        };
        sealer.verify(USAGE, owner, &sealed, tag).then_some(opened)
    };
    read().ok_or_else(|| Error::new(ErrorKind::InvalidParams, "there is no such task"))
}

/// Replaces an upstream's task ids by public ones, for one client.
#[derive(Clone, Copy)]
pub(crate) struct Publisher<'a> {
    pub(crate) core: &'a Core,
    pub(crate) owner: Partition,
    pub(crate) node: &'a Node,
}

impl Publisher<'_> {
    /// Replaces ids wherever the specification puts one: in the value itself, in `task`, in each of `tasks`, and in `_meta`.
    pub(crate) fn publish(self, value: &Json) -> Json {
        self.publish_if(value, &|_| true)
    }

    /// As [`publish`](Self::publish), and remembers whose the tasks are.
    pub(crate) fn publish_own(self, value: &Json) -> Json {
        self.publish_if(value, &|task| {
            self.core.owners.note(self.node, task, self.owner);
            true
        })
    }

    /// As [`publish`](Self::publish), and leaves out tasks of others from `tasks`.
    pub(crate) fn publish_list(self, value: &Json) -> Json {
        self.publish_if(value, &|task| {
            self.core.owners.is_of(self.node, task, self.owner)
        })
    }

    fn publish_if(self, value: &Json, sees: &dyn Fn(&str) -> bool) -> Json {
        let Ok(mut object) = Object::index(value) else {
            return value.clone();
        };
        if let Some(task) = object.text("taskId") {
            sees(&task);
            self.publish_member(&mut object);
        }
        if let Some(task) = object.get("task").filter(Json::is_object) {
            object.set("task", self.publish_if(&task, sees));
        }
        if let Some(tasks) = object.get("tasks") {
            let seen = |task: &Json| {
                let id = task.member("taskId").and_then(|id| id.to_text());
                id.is_none_or(|id| sees(&id))
            };
            let public: Vec<_> = tasks
                .elements()
                .iter()
                .filter(|task| seen(task))
                .map(|task| self.publish(task).to_string())
                .collect();
            if let Ok(tasks) = Json::parse(format!("[{}]", public.join(","))) {
                object.set("tasks", tasks);
            }
        }
        self.publish_meta(&mut object);
        object.to_json()
    }

    fn publish_member(self, object: &mut Object) {
        if let Some(task) = object.text("taskId") {
            let public = publish(&self.core.sealer, self.owner, self.node, &task);
            object.set("taskId", Json::string(&public));
        }
    }

    fn publish_meta(self, object: &mut Object) {
        let Some(own) = object.get("_meta") else {
            return;
        };
        let Some(related) = own.member(meta::RELATED_TASK) else {
            return;
        };
        if let (Ok(mut own), Ok(mut related)) = (Object::try_from(own), Object::try_from(related)) {
            self.publish_member(&mut related);
            own.set(meta::RELATED_TASK, related.to_json());
            object.set("_meta", own.to_json());
        }
    }
}

/// Replaces an upstream's task ids in a notification that belongs to a task.
pub(crate) fn publish_notification(
    core: &Core,
    owner: Partition,
    node: &Node,
    notification: Notification,
) -> Notification {
    match notification.params() {
        Some(params) if mentions_task(params) => {
            let params = Publisher { core, owner, node }.publish(params);
            notification.with_params(params)
        }
        _ => notification,
    }
}

/// Whether a value may hold a task id, by a look at its bytes: `taskId`, `task` and `related-task` all have `ask`, also
/// with an escaped first letter.
pub(crate) fn mentions_task(value: &Json) -> bool {
    let needle = b"ask";
    let mut words = value.as_bytes().windows(needle.len());
    words.any(|word| word == needle)
}

/// Shows a client public task ids in server-initiated requests.
pub(crate) struct TaskAsker {
    pub(crate) core: Arc<Core>,
    pub(crate) node: Arc<Node>,
    pub(crate) owner: Partition,
    pub(crate) asker: Asker,
}

#[async_trait]
impl Ask for TaskAsker {
    async fn ask(&self, method: Method, params: Option<Json>) -> Result<Json, Error> {
        let publisher = Publisher {
            core: &self.core,
            owner: self.owner,
            node: &self.node,
        };
        let params = params.map(|params| match mentions_task(&params) {
            true => publisher.publish(&params),
            false => params,
        });
        self.asker.ask(method, params).await
    }
}

/// Who made the tasks of upstreams that all clients share: such an upstream lists everyone's to everyone.
#[derive(Debug, Default)]
pub(crate) struct TaskOwners(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    owners: HashMap<(NodeKey, Box<str>), Partition>,
    order: VecDeque<(NodeKey, Box<str>)>,
}

impl TaskOwners {
    fn note(&self, node: &Node, task: &str, owner: Partition) {
        if !node.sharing.shared_state {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (key_of(node), Box::from(task));
        if known.owners.contains_key(&key) {
            return;
        }
        if known.order.len() >= REMEMBERED
            && let Some(oldest) = known.order.pop_front()
        {
            known.owners.remove(&oldest);
        }
        known.order.push_back(key.clone());
        known.owners.insert(key, owner);
    }

    fn is_of(&self, node: &Node, task: &str, owner: Partition) -> bool {
        if !node.sharing.shared_state {
            return true;
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (key_of(node), Box::from(task));
        known.owners.get(&key) == Some(&owner)
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::{Principal, Response};
    use tower::service_fn;

    use super::*;

    fn node() -> Arc<Node> {
        Node::of("up", service_fn(|_| async { Ok(Response::empty()) }))
    }

    fn owner(name: &str) -> Partition {
        Principal::authenticated("i", name).partition()
    }

    #[test]
    fn a_task_is_its_owners_only() {
        let sealer = Sealer::random();
        let (alice, bob) = (owner("alice"), owner("bob"));
        let public = publish(&sealer, alice, &node(), "t.1/x");
        let opened = open(&sealer, alice, &public).unwrap();
        assert_eq!(
            (opened.upstream.as_str(), opened.generation, opened.task),
            ("up", 1, "t.1/x")
        );
        assert!(open(&sealer, bob, &public).is_err());
        assert!(open(&Sealer::random(), alice, &public).is_err());
        for broken in [
            public.replace("t.1", "t.2"),
            public.replacen("up", "ap", 1),
            public.replacen("up.1", "up.2", 1),
            "up.t".to_owned(),
            "up.1..t".to_owned(),
            String::new(),
        ] {
            assert!(open(&sealer, alice, &broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn gateways_with_one_key_know_each_others_tasks() {
        let key = mcp_core::secret::Secret::new("shared by both");
        let public = publish(&Sealer::new(&key), owner("alice"), &node(), "t");
        assert!(open(&Sealer::new(&key), owner("alice"), &public).is_ok());
    }

    #[tokio::test]
    async fn ids_are_replaced_wherever_they_stand() {
        let gateway = crate::Gateway::builder("gw").build().unwrap().start();
        let node = node();
        let publisher = Publisher {
            core: gateway.core(),
            owner: owner("alice"),
            node: &node,
        };
        let value = Json::parse(
            r#"{"taskId":"a","task":{"taskId":"b","x":1.0},"tasks":[{"taskId":"c"}],
                "_meta":{"io.modelcontextprotocol/related-task":{"taskId":"d"},"k":1}}"#,
        )
        .unwrap();
        let wrapped: serde_json::Value = publisher.publish(&value).decode().unwrap();
        let public = |task| publish(&gateway.core().sealer, owner("alice"), &node, task);
        assert_eq!(wrapped["taskId"], public("a"));
        assert_eq!(wrapped["task"]["taskId"], public("b"));
        assert_eq!(wrapped["tasks"][0]["taskId"], public("c"));
        let related = &wrapped["_meta"]["io.modelcontextprotocol/related-task"];
        assert_eq!(related["taskId"], public("d"));
        assert_eq!(wrapped["_meta"]["k"], 1);
    }
}
