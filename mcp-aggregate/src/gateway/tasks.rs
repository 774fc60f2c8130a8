//! Task ids: which upstream has a task, and whose it is, sealed into the id that the client sees.
//!
//! A task belongs to the principal that made it. The public id names the upstream and carries a tag over principal,
//! upstream and the upstream's own id, so that nobody can use another's task, or a made-up one.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use mcp_core::{Error, ErrorKind, Json, Notification, Object, Partition, UpstreamId, meta};
use sha2::Sha256;

/// Length of the tag in bytes.
const TAG: usize = 16;

/// Makes and reads public task ids.
pub(crate) struct TaskIds(Hmac<Sha256>);

impl TaskIds {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        // HMAC pads a key with zeros to the hash's block, which is 64 bytes for SHA-256 (RFC 2104, section 2).
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        Self(Hmac::<Sha256>::new(&block.into()))
    }

    /// Returns the public id of a task.
    pub(crate) fn wrap(&self, owner: Partition, upstream: &UpstreamId, task: &str) -> String {
        let tag = self.mac(owner, upstream, task).finalize().into_bytes();
        let tag = URL_SAFE_NO_PAD.encode(&tag[..TAG]);
        format!("{upstream}.{tag}.{task}")
    }

    /// Returns the upstream and its own id of a task, if the task is this owner's.
    pub(crate) fn unwrap<'a>(
        &self,
        owner: Partition,
        public: &'a str,
    ) -> Result<(UpstreamId, &'a str), Error> {
        let unknown = || Error::new(ErrorKind::InvalidParams, "there is no such task");
        let mut parts = public.splitn(3, '.');
        let (Some(upstream), Some(tag), Some(task)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(unknown());
        };
        let upstream = UpstreamId::new(upstream).map_err(|_| unknown())?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| unknown())?;
        if tag.len() != TAG {
            return Err(unknown());
        }
        self.mac(owner, &upstream, task)
            .verify_truncated_left(&tag)
            .map_err(|_| unknown())?;
        Ok((upstream, task))
    }

    fn mac(&self, owner: Partition, upstream: &UpstreamId, task: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(owner.as_bytes());
        mac.update(&(upstream.as_str().len() as u64).to_be_bytes());
        mac.update(upstream.as_str().as_bytes());
        mac.update(task.as_bytes());
        mac
    }

    /// Replaces the upstream's ids by public ones wherever the specification puts a task id: in the value itself,
    /// in `task`, in each of `tasks`, and in `_meta`.
    pub(crate) fn wrap_in(&self, owner: Partition, upstream: &UpstreamId, value: &Json) -> Json {
        let Ok(mut object) = Object::index(value) else {
            return value.clone();
        };
        self.wrap_member(owner, upstream, &mut object);
        if let Some(task) = object.get("task").filter(Json::is_object) {
            object.set("task", self.wrap_in(owner, upstream, &task));
        }
        if let Some(tasks) = object.get("tasks") {
            let wrapped: Vec<_> = tasks
                .elements()
                .iter()
                .map(|task| self.wrap_in(owner, upstream, task).to_string())
                .collect();
            if let Ok(tasks) = Json::parse(format!("[{}]", wrapped.join(","))) {
                object.set("tasks", tasks);
            }
        }
        self.wrap_meta(owner, upstream, &mut object);
        object.to_json()
    }

    /// Replaces the upstream's id in a notification that belongs to a task.
    pub(crate) fn wrap_notification(
        &self,
        owner: Partition,
        upstream: &UpstreamId,
        notification: Notification,
    ) -> Notification {
        match notification.params() {
            Some(params) if mentions_task(params) => {
                let params = self.wrap_in(owner, upstream, params);
                notification.with_params(params)
            }
            _ => notification,
        }
    }

    fn wrap_member(&self, owner: Partition, upstream: &UpstreamId, object: &mut Object) {
        if let Some(task) = object.text("taskId") {
            let public = self.wrap(owner, upstream, &task);
            object.set("taskId", Json::string(&public));
        }
    }

    fn wrap_meta(&self, owner: Partition, upstream: &UpstreamId, object: &mut Object) {
        let Some(own) = object.get("_meta") else {
            return;
        };
        let Some(related) = own.member(meta::RELATED_TASK) else {
            return;
        };
        if let (Ok(mut own), Ok(mut related)) = (Object::try_from(own), Object::try_from(related)) {
            self.wrap_member(owner, upstream, &mut related);
            own.set(meta::RELATED_TASK, related.to_json());
            object.set("_meta", own.to_json());
        }
    }
}

/// Whether a value may hold a task id, by a look at its bytes.
pub(crate) fn mentions_task(value: &Json) -> bool {
    let needle = b"ask";
    let mut words = value.as_bytes().windows(needle.len());
    words.any(|word| word == needle)
}

impl fmt::Debug for TaskIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskIds")
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::Principal;

    use super::*;

    #[test]
    fn a_task_is_its_owners_only() {
        let ids = TaskIds::new([7; 32]);
        let alice = Principal::authenticated("i", "alice").partition();
        let bob = Principal::authenticated("i", "bob").partition();
        let up = UpstreamId::new("up").unwrap();
        let public = ids.wrap(alice, &up, "t.1/x");
        assert_eq!(ids.unwrap(alice, &public).unwrap(), (up.clone(), "t.1/x"));
        assert!(ids.unwrap(bob, &public).is_err());
        assert!(TaskIds::new([8; 32]).unwrap(alice, &public).is_err());
        for broken in [
            public.replace("t.1", "t.2"),
            public.replacen("up", "ap", 1),
            "up.t".to_owned(),
            "up..t".to_owned(),
            String::new(),
        ] {
            assert!(ids.unwrap(alice, &broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn ids_are_replaced_wherever_they_stand() {
        let ids = TaskIds::new([7; 32]);
        let owner = Principal::local().partition();
        let up = UpstreamId::new("up").unwrap();
        let value = Json::parse(
            r#"{"taskId":"a","task":{"taskId":"b","x":1.0},"tasks":[{"taskId":"c"}],
                "_meta":{"io.modelcontextprotocol/related-task":{"taskId":"d"},"k":1}}"#,
        )
        .unwrap();
        let wrapped: serde_json::Value = ids.wrap_in(owner, &up, &value).decode().unwrap();
        let public = |task| ids.wrap(owner, &up, task);
        assert_eq!(wrapped["taskId"], public("a"));
        assert_eq!(wrapped["task"]["taskId"], public("b"));
        assert_eq!(wrapped["tasks"][0]["taskId"], public("c"));
        let related = &wrapped["_meta"]["io.modelcontextprotocol/related-task"];
        assert_eq!(related["taskId"], public("d"));
        assert_eq!(wrapped["_meta"]["k"], 1);
    }
}
