//! Failed attempts, counted by account and by address in the store, so that all replicas see them.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{UserError, Users, record::seconds};

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Failures {
    count: u32,
    /// When the newest was, in seconds since 1970.
    last: u64,
}

/// The part of an address that one household or machine has.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}")
        }
    }
}

impl Users {
    /// The counts that an attempt is under: place and bound.
    fn counts(
        &self,
        name: &str,
        tenant: Option<&str>,
        address: Option<IpAddr>,
    ) -> Vec<([String; 3], u32)> {
        let settings = &self.0.settings;
        let account = ["lock", tenant.unwrap_or(""), name].map(str::to_owned);
        let mut counts = vec![(account, settings.account_failures)];
        if let Some(address) = address {
            let own = network(address);
            let place = ["lock-address", "", own.as_str()].map(str::to_owned);
            counts.push((place, settings.address_failures));
        }
        counts
    }

    /// Counts an attempt before it is made, so that of many at once no more are made than may fail; refuses it while its
    /// account or its address is locked. A refused attempt does not prolong the lock.
    pub(super) async fn charge(
        &self,
        name: &str,
        tenant: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), UserError> {
        let now = seconds(self.now());
        let keep = self.0.settings.lock;
        for (place, most) in self.counts(name, tenant, address) {
            let place = place.each_ref().map(String::as_str);
            loop {
                let found = self.0.table.get::<Failures>(&place).await?;
                let version = found.as_ref().map(|(_, version)| *version);
                let mut failures = found.map(|(own, _)| own).unwrap_or_default();
                let end = failures.last.saturating_add(keep.as_secs());
                if now >= end {
                    failures = Failures::default();
                }
                if failures.count >= most {
                    return Err(UserError::Locked(Duration::from_secs(end - now)));
                }
                failures.count += 1;
                failures.last = now;
                let ttl = Some(keep);
                if self.0.table.swap(&place, version, &failures, ttl).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes an attempt back that has succeeded: the count of the account ends, and the address, which others may be behind, is
    /// not charged for it.
    pub(super) async fn succeeded(
        &self,
        name: &str,
        tenant: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<(), UserError> {
        self.0
            .table
            .delete(&["lock", tenant.unwrap_or(""), name])
            .await?;
        let Some(address) = address else {
            return Ok(());
        };
        let own = network(address);
        let place = ["lock-address", "", own.as_str()];
        while let Some((mut failures, version)) = self.0.table.get::<Failures>(&place).await? {
            failures.count = failures.count.saturating_sub(1);
            let (seen, ttl) = (Some(version), Some(self.0.settings.lock));
            if self.0.table.swap(&place, seen, &failures, ttl).await? {
                break;
            }
        }
        Ok(())
    }

    /// Ends the lock of an account.
    ///
    /// # Errors
    ///
    /// [`UserError::Unknown`], or the store is unavailable.
    pub async fn unlock(&self, id: &str) -> Result<(), UserError> {
        let record = self.record(id).await?.ok_or(UserError::Unknown)?;
        self.succeeded(&record.name, record.tenant.as_deref(), None)
            .await
    }
}
