//! Files that tools have made or found, kept for clients to read as resources.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mcp_core::Partition;
use rmcp::model::{ContentBlock, Resource};
use tokio::time::Instant;

/// How long a file is kept.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// How many bytes are kept of all principals, and of each.
const BYTES: (usize, usize) = (256 << 20, 64 << 20);

/// Files by their addresses. The oldest make room for new ones; a principal makes room for its own only, unless all
/// together are too many.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    files: Mutex<VecDeque<File>>,
    numbers: AtomicU64,
}

#[derive(Clone, Debug)]
pub(super) struct File {
    owner: Partition,
    pub(super) uri: String,
    name: String,
    pub(super) media_type: &'static str,
    pub(super) content: Bytes,
    until: Instant,
}

impl File {
    /// How an answer or a list names it.
    pub(super) fn resource(&self) -> Resource {
        Resource::new(self.uri.clone(), self.name.clone())
            .with_mime_type(self.media_type)
            .with_size(self.content.len() as u64)
    }
}

impl Shelf {
    /// Keeps a file of a session for its owner, and answers a link to it.
    pub(super) fn put(
        &self,
        owner: Partition,
        session: &str,
        name: &str,
        media_type: &'static str,
        content: Bytes,
    ) -> ContentBlock {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let place: String = name.chars().map(plain).collect();
        let file = File {
            owner,
            uri: format!("browser://{session}/files/{number}/{place}"),
            name: name.to_owned(),
            media_type,
            content,
            until: Instant::now() + KEPT,
        };
        let link = ContentBlock::resource_link(file.resource());
        let mut files = self.current();
        files.push_back(file);
        let size = |files: &VecDeque<File>, of: Option<Partition>| -> usize {
            let counted = files
                .iter()
                .filter(|file| of.is_none_or(|of| file.owner == of));
            counted.map(|file| file.content.len()).sum()
        };
        while size(&files, Some(owner)) > BYTES.1 {
            let oldest = files.iter().position(|file| file.owner == owner);
            let Some(oldest) = oldest.filter(|oldest| oldest + 1 < files.len()) else {
                break;
            };
            files.remove(oldest);
        }
        while size(&files, None) > BYTES.0 && files.len() > 1 {
            files.pop_front();
        }
        link
    }

    /// A file of this owner.
    pub(super) fn get(&self, owner: Partition, uri: &str) -> Option<File> {
        let files = self.current();
        let mut own = files.iter().filter(|file| file.owner == owner);
        own.find(|file| file.uri == uri).cloned()
    }

    /// The files of this owner, oldest first.
    pub(super) fn of(&self, owner: Partition) -> Vec<File> {
        let files = self.current();
        let own = files.iter().filter(|file| file.owner == owner);
        own.cloned().collect()
    }

    /// The files whose time has not come.
    fn current(&self) -> std::sync::MutexGuard<'_, VecDeque<File>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        files.retain(|file| file.until > now);
        files
    }
}

#[cfg(test)]
mod tests {
    use mcp_core::Principal;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_are_their_owners_bounded_and_expire() {
        let shelf = Shelf::default();
        let (alice, bob) = (
            Principal::authenticated("i", "alice").partition(),
            Principal::authenticated("i", "bob").partition(),
        );
        let put = |owner, size: usize| {
            let content = Bytes::from(vec![0; size]);
            let link = shelf.put(owner, "s", "page 1.pdf", "application/pdf", content);
            match link {
                ContentBlock::ResourceLink(resource) => resource.uri,
                other => panic!("{other:?}"),
            }
        };
        let first = put(alice, 40 << 20);
        assert!(first.ends_with("/page-1.pdf"), "{first}");
        let of_bob = put(bob, 1);
        assert!(shelf.get(alice, &first).is_some() && shelf.get(bob, &first).is_none());
        let second = put(alice, 40 << 20);
        assert!(shelf.get(alice, &first).is_none() && shelf.get(alice, &second).is_some());
        assert!(shelf.get(bob, &of_bob).is_some());
        tokio::time::advance(KEPT).await;
        assert!(shelf.of(alice).is_empty() && shelf.of(bob).is_empty());
    }
}
