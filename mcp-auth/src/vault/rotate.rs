use mcp_core::store::{Change, Cursor, Entry, Expected, Namespace, StoreKey, StorePrefix, Swap};

use super::{CHECK, PAGE, Vault, VaultError, record, record::Place};

/// What a key rotation has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotation {
    /// How many records this call has wrapped by the active key.
    pub renewed: usize,
    /// How many had the active key already.
    pub current: usize,
    /// How many could not be opened. They were left as they are.
    pub unreadable: usize,
}

impl Vault {
    /// Wraps every record by the active key. May be interrupted and begun again; readers do not wait for it.
    ///
    /// Give the new key to all replicas first: one that does not know it writes records of the old key also behind the scan.
    ///
    /// # Errors
    ///
    /// The store is unavailable. What was done stays done.
    ///
    /// # Cancel safety
    ///
    /// Each record is renewed as a whole or not at all.
    pub async fn rotate(&self) -> Result<Rotation, VaultError> {
        let mut done = Rotation::default();
        let prefix =
            StorePrefix::new::<&str>(&self.namespace, []).map_err(|_| VaultError::Malformed)?;
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = self.store.scan(&prefix, cursor, PAGE).await?;
            for (key, entry) in page.entries {
                let parts = key.parts();
                let place = Place::new(parts.iter().map(|part| part.as_bytes()));
                self.renew(&key, &place, &entry, &mut done).await?;
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        self.renew_check().await?;
        Ok(done)
    }

    async fn renew(
        &self,
        key: &StoreKey,
        place: &Place,
        entry: &Entry,
        done: &mut Rotation,
    ) -> Result<(), VaultError> {
        let mut entry = entry.clone();
        loop {
            match record::key_of(&entry.value) {
                Ok(own) if own == self.ring.active().id => {
                    done.current += 1;
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) => {
                    done.unreadable += 1;
                    return Ok(());
                }
            }
            let Ok(renewed) = record::rewrap(&self.ring, place, &entry.value) else {
                done.unreadable += 1;
                return Ok(());
            };
            let change = match self.left(record::end_of(&renewed)?) {
                Some(ttl) if ttl.is_zero() => Change::Delete,
                ttl => Change::Put {
                    value: renewed.into(),
                    ttl,
                },
            };
            let expected = Expected::Version(entry.version);
            match self.store.compare_and_swap(key, expected, change).await? {
                // It was written in the meantime, by a replica that may not know the new key yet.
                Swap::Conflict(Some(newer)) => entry = newer,
                Swap::Conflict(None) => return Ok(()),
                _ => {
                    done.renewed += 1;
                    return Ok(());
                }
            }
        }
    }

    async fn renew_check(&self) -> Result<(), VaultError> {
        let place = Place::new([b"check".as_slice()]);
        let namespace = Namespace::new("vault-check").map_err(|_| VaultError::Malformed)?;
        let key = StoreKey::new(&namespace, ["1"]).map_err(|_| VaultError::Malformed)?;
        let value = record::seal(&self.ring, &place, 0, CHECK)?.into();
        self.store.put(&key, value, None).await?;
        Ok(())
    }
}
