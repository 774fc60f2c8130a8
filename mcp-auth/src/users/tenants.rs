use mcp_core::store::Cursor;

use super::{User, UserError, Users};

/// Some of the users of a tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserPage {
    /// The users, in no promised order.
    pub users: Vec<User>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor>,
}

/// Managing whole tenants, for administrators.
impl Users {
    /// Returns the users of a tenant (`None`: those without one), a page at a time: begin without a cursor, and go on with
    /// the one of the page before. `limit` is a wish: a page may be shorter, even empty, or longer, and only one without
    /// a cursor is the last. A user who is created, renamed or removed meanwhile may be missed or come twice.
    ///
    /// # Errors
    ///
    /// The store is unavailable, or the cursor is not one of its own.
    pub async fn list(
        &self,
        tenant: Option<&str>,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<UserPage, UserError> {
        let place = ["name", tenant.unwrap_or("")];
        let (names, next) = self.0.table.page::<String>(&place, cursor, limit).await?;
        let mut users = Vec::with_capacity(names.len());
        for (name, id) in names {
            // A name is put aside before its user is removed or has another.
            if let Some(record) = self.record(&id).await?
                && record.name == name
            {
                users.push(record.shown());
            }
        }
        Ok(UserPage { users, next })
    }

    /// Removes all users of a tenant with everything that is stored for them, which ends their logins, and returns their
    /// ids. A user who is created meanwhile may stay: stop creating them first, and call it again after a failure.
    ///
    /// What else belongs to the tenant is not stored here: its upstreams
    /// (`policy::UpstreamOwners::remove_tenant`), its users' credentials of
    /// upstreams, API keys.
    ///
    /// # Errors
    ///
    /// The store is unavailable. Some users may have been removed.
    pub async fn remove_tenant(&self, tenant: &str) -> Result<Vec<String>, UserError> {
        let names = self.0.table.list::<String>(&["name", tenant]).await?;
        let mut removed = Vec::with_capacity(names.len());
        for (name, id) in names {
            let record = self.record(&id).await?;
            if record.is_some_and(|own| own.name == name) && self.remove(&id).await? {
                removed.push(id);
            } else {
                self.0.table.delete(&["name", tenant, &name]).await?;
            }
        }
        Ok(removed)
    }
}
