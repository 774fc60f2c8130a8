//! What a plugin says it needs to log in, and the vault's compartment that it is kept in.
//!
//! An [`AuthDescription`] is part of a plugin's manifest: the kind of authentication and the fields that a person fills in.
//! It is checked as a whole: every fault is named with its place. [`AuthDescription::form`] is a JSON Schema for a page that an
//! operator opens, and [`AuthDescription::check`] holds what was filled in against it. [`PluginSecrets`] keeps the values, each
//! plugin's in a namespace of its own.
//!
//! # Security
//!
//! Do not put the form to a client as an elicitation if it has a `password`: the specification forbids to ask for secrets that
//! way (revision 2025-11-25, elicitation, "Security Considerations"), and [`AuthDescription::may_be_elicited`] says so.
//!
//! # Examples
//!
//! ```
//! use mcp_auth::plugin::AuthDescription;
//! use serde_json::json;
//!
//! let description = AuthDescription::parse(&json!({
//!     "type": "api-key",
//!     "fields": [
//!         { "name": "token", "type": "password", "required": true, "pattern": "^sk-[a-z0-9]+$" },
//!         { "name": "endpoint", "type": "url", "description": "Where the API is." },
//!     ],
//! })).unwrap();
//! assert!(!description.may_be_elicited());
//! let values = description.check(&json!({ "token": "sk-1", "endpoint": "https://api.example" })).unwrap();
//! assert_eq!(values.get("token").unwrap().secret(), "sk-1");
//! let faults = description.check(&json!({ "endpoint": "ftp://x" })).unwrap_err();
//! assert_eq!(faults.len(), 2);
//! ```

use std::{collections::BTreeMap, fmt};

use mcp_core::{
    Partition,
    secret::{Secret, SecretName, SecretScope, SecretStore as _},
    store::{Namespace, StoreError, StoreErrorKind},
};
use regex::Regex;
use serde_json::{Map, Value, json};
use url::Url;

use crate::vault::Vault;

/// How many fields there may be, and how long a name, a pattern and a value.
const MOST_FIELDS: usize = 32;
const LONGEST_NAME: usize = 64;
const LONGEST_PATTERN: usize = 512;
const LONGEST_VALUE: usize = 16 << 10;

/// How a plugin authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthKind {
    /// By a key that the operator or the user has.
    ApiKey,
    /// By OAuth 2: its client's id, secret and addresses are the fields.
    OAuth2,
    /// By signed tokens: the key and the issuer are the fields.
    Jwt,
    /// In a way of its own.
    Custom,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldKind {
    /// A text.
    Text,
    /// A secret: not shown again once it has been given.
    Password,
    /// An address, `https` or on this machine.
    Url,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    kind: FieldKind,
    required: bool,
    pattern: Option<Regex>,
    description: Option<String>,
}

/// What a plugin says it needs to log in.
#[derive(Clone, Debug)]
pub struct AuthDescription {
    kind: AuthKind,
    fields: Vec<Field>,
}

/// Something wrong with a description, or with what was filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The place, such as `fields.0.pattern` or the name of a field.
    pub place: String,
    /// What is wrong and what to give instead.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Fault {}

/// Gathers faults.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault {
            place: place.into(),
            message: message.into(),
        });
    }

    fn end<T>(self, made: T) -> Result<T, Vec<Fault>> {
        match self.0.is_empty() {
            true => Ok(made),
            false => Err(self.0),
        }
    }
}

impl AuthDescription {
    /// Reads a description: `type` (`api-key`, `oauth2`, `jwt` or `custom`) and `fields`, each with `name`, `type` (`string`,
    /// `password` or `url`), `required`, `pattern` and `description`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its place.
    pub fn parse(text: &Value) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let Some(members) = text.as_object() else {
            faults.add("", "give an object with `type` and `fields`");
            return Err(faults.0);
        };
        known(members, "", &["type", "fields"], &mut faults);
        let kind = match members.get("type").and_then(Value::as_str) {
            Some("api-key") => AuthKind::ApiKey,
            Some("oauth2") => AuthKind::OAuth2,
            Some("jwt") => AuthKind::Jwt,
            Some("custom") => AuthKind::Custom,
            _ => {
                faults.add("type", "give api-key, oauth2, jwt or custom");
                AuthKind::Custom
            }
        };
        let mut fields = Vec::new();
        match members.get("fields") {
            Some(Value::Array(all)) if (1..=MOST_FIELDS).contains(&all.len()) => {
                for (index, own) in all.iter().enumerate() {
                    let place = format!("fields.{index}");
                    if let Some(field) = read_field(own, &place, &mut faults) {
                        if fields.iter().any(|other: &Field| other.name == field.name) {
                            faults.add(format!("{place}.name"), "give each field another name");
                        }
                        fields.push(field);
                    }
                }
            }
            _ => faults.add("fields", "give a list of 1 to 32 fields"),
        }
        faults.end(Self { kind, fields })
    }

    /// Returns how the plugin authenticates.
    #[must_use]
    pub const fn kind(&self) -> AuthKind {
        self.kind
    }

    /// Returns whether the form may be put to a client as an elicitation: it has no password.
    #[must_use]
    pub fn may_be_elicited(&self) -> bool {
        self.fields
            .iter()
            .all(|field| field.kind != FieldKind::Password)
    }

    /// Returns a JSON Schema of what is to be filled in: an object of texts, as forms of elicitations are.
    #[must_use]
    pub fn form(&self) -> Value {
        let mut properties = Map::new();
        for field in &self.fields {
            let mut own = json!({ "type": "string", "maxLength": LONGEST_VALUE });
            match field.kind {
                FieldKind::Text => {}
                FieldKind::Password => {
                    own["format"] = "password".into();
                    own["writeOnly"] = true.into();
                }
                FieldKind::Url => own["format"] = "uri".into(),
            }
            if field.required {
                own["minLength"] = 1.into();
            }
            if let Some(pattern) = &field.pattern {
                own["pattern"] = pattern.as_str().into();
            }
            if let Some(description) = &field.description {
                own["description"] = description.as_str().into();
            }
            properties.insert(field.name.clone(), own);
        }
        let required = self.fields.iter().filter(|field| field.required);
        let required: Vec<_> = required.map(|field| field.name.as_str()).collect();
        json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        })
    }

    /// Checks what was filled in, and takes it over as secrets. No value is repeated in a fault.
    ///
    /// # Errors
    ///
    /// Everything that does not fit, each with the name of its field.
    pub fn check(&self, given: &Value) -> Result<BTreeMap<String, Secret>, Vec<Fault>> {
        let mut faults = Faults::default();
        let empty = Map::new();
        let members = given.as_object().unwrap_or_else(|| {
            faults.add("", "give an object");
            &empty
        });
        for name in members.keys() {
            if !self.fields.iter().any(|field| field.name == *name) {
                let name: String = name.chars().take(LONGEST_NAME).collect();
                faults.add(name, "there is no such field");
            }
        }
        let mut values = BTreeMap::new();
        for field in &self.fields {
            match members.get(&field.name) {
                None | Some(Value::Null) => {
                    if field.required {
                        faults.add(&field.name, "it is required");
                    }
                }
                Some(Value::String(text)) => match field.fits(text) {
                    Ok(()) => drop(values.insert(field.name.clone(), Secret::new(text.as_str()))),
                    Err(message) => faults.add(&field.name, message),
                },
                Some(_) => faults.add(&field.name, "give a text"),
            }
        }
        faults.end(values)
    }
}

impl Field {
    fn fits(&self, text: &str) -> Result<(), &'static str> {
        if text.len() > LONGEST_VALUE {
            return Err("give up to 16 KiB");
        }
        if self.required && text.is_empty() {
            return Err("it is required");
        }
        if self.kind == FieldKind::Url && !text.is_empty() {
            let url = Url::parse(text).map_err(|_| "give an address")?;
            let own = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            if url.scheme() != "https" && !(url.scheme() == "http" && own) {
                return Err("give an https address, or an http one of this machine");
            }
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(text) => Err("it does not fit the pattern"),
            _ => Ok(()),
        }
    }
}

fn known(members: &Map<String, Value>, place: &str, names: &[&str], faults: &mut Faults) {
    for name in members.keys() {
        if !names.contains(&name.as_str()) {
            let name: String = name.chars().take(LONGEST_NAME).collect();
            let place = match place {
                "" => name,
                place => format!("{place}.{name}"),
            };
            faults.add(place, format!("give one of {}", names.join(", ")));
        }
    }
}

fn read_field(own: &Value, place: &str, faults: &mut Faults) -> Option<Field> {
    let Some(members) = own.as_object() else {
        faults.add(place, "give an object with `name` and `type`");
        return None;
    };
    let names = ["name", "type", "required", "pattern", "description"];
    known(members, place, &names, faults);
    let at = |name: &str| format!("{place}.{name}");
    let plain = |name: &str| {
        let own = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(own)
    };
    let name = members.get("name").and_then(Value::as_str);
    let name = name.filter(|name| plain(name)).unwrap_or_else(|| {
        faults.add(at("name"), "give up to 64 letters, digits, '-' and '_'");
        ""
    });
    let kind = match members.get("type").and_then(Value::as_str) {
        Some("string") => FieldKind::Text,
        Some("password") => FieldKind::Password,
        Some("url") => FieldKind::Url,
        _ => {
            faults.add(at("type"), "give string, password or url");
            FieldKind::Text
        }
    };
    let required = match members.get("required") {
        None => false,
        Some(Value::Bool(own)) => *own,
        Some(_) => {
            faults.add(at("required"), "give true or false");
            false
        }
    };
    let pattern = match members.get("pattern") {
        None => None,
        Some(Value::String(text)) if text.len() <= LONGEST_PATTERN => match Regex::new(text) {
            Ok(pattern) => Some(pattern),
            Err(_) => {
                faults.add(at("pattern"), "give a pattern without look-around");
                None
            }
        },
        Some(_) => {
            faults.add(at("pattern"), "give a text of up to 512 bytes");
            None
        }
    };
    let description = members.get("description");
    if description.is_some_and(|own| !own.is_string()) {
        faults.add(at("description"), "give a text");
    }
    Some(Field {
        name: name.to_owned(),
        kind,
        required,
        pattern,
        description: description.and_then(Value::as_str).map(str::to_owned),
    })
}

/// What a plugin was given to log in with, in the vault. A plugin reaches its own compartment and no other.
#[derive(Clone, Debug)]
pub struct PluginSecrets {
    vault: Vault,
    namespace: Namespace,
}

impl PluginSecrets {
    /// Opens the compartment of a plugin.
    ///
    /// # Errors
    ///
    /// The name has other characters than small letters, digits and `-`, or is too long.
    pub fn new(vault: Vault, plugin: &str) -> Result<Self, StoreError> {
        let namespace = Namespace::new(&format!("plugin-{plugin}")).map_err(|error| {
            let message = "name a plugin by small letters, digits and '-'";
            StoreError::new(StoreErrorKind::Invalid, message).with_source(error)
        })?;
        Ok(Self { vault, namespace })
    }

    fn scope(&self, owner: Partition) -> SecretScope {
        SecretScope::new(self.namespace.clone(), owner)
    }

    fn name(field: &str) -> Result<SecretName, StoreError> {
        SecretName::new(field).map_err(|error| {
            StoreError::new(StoreErrorKind::Invalid, "the name of a field is malformed")
                .with_source(error)
        })
    }

    /// Keeps what was filled in, for a user or for all. Fields that are not among the values are removed.
    ///
    /// # Errors
    ///
    /// The vault is unavailable. Some fields may have been written.
    pub async fn keep(
        &self,
        owner: Partition,
        values: &BTreeMap<String, Secret>,
    ) -> Result<(), StoreError> {
        let scope = self.scope(owner);
        for (field, value) in values {
            let name = Self::name(field)?;
            self.vault.put(&scope, &name, value.clone()).await?;
        }
        for name in self.vault.list(&scope).await? {
            if !values.contains_key(name.as_str()) {
                self.vault.delete(&scope, &name).await?;
            }
        }
        Ok(())
    }

    /// Returns the value of a field.
    ///
    /// # Errors
    ///
    /// The vault is unavailable.
    pub async fn get(&self, owner: Partition, field: &str) -> Result<Option<Secret>, StoreError> {
        self.vault
            .get(&self.scope(owner), &Self::name(field)?)
            .await
    }

    /// Removes everything that is kept for a user or for all.
    ///
    /// # Errors
    ///
    /// The vault is unavailable.
    pub async fn forget(&self, owner: Partition) -> Result<(), StoreError> {
        self.keep(owner, &BTreeMap::new()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mcp_core::{Principal, store::MemoryStore};

    use super::*;
    use crate::vault::{KeyRing, VaultKey};

    #[test]
    fn every_fault_of_a_description_is_named_with_its_place() {
        let faults = AuthDescription::parse(&json!({
            "type": "basic", "extra": 1,
            "fields": [
                { "name": "a b", "type": "number", "required": "yes", "pattern": "(?=x)", "min": 1 },
                7,
                { "name": "ok", "type": "string" },
                { "name": "ok", "type": "string", "description": [] },
            ],
        }))
        .unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.place.as_str()).collect();
        for place in [
            "type",
            "extra",
            "fields.0.name",
            "fields.0.type",
            "fields.0.required",
            "fields.0.pattern",
            "fields.0.min",
            "fields.1",
            "fields.3.name",
            "fields.3.description",
        ] {
            assert!(places.contains(&place), "{place} {places:?}");
        }
        assert_eq!(places.len(), 10, "{places:?}");
        for bad in [
            json!(7),
            json!({ "type": "jwt" }),
            json!({ "type": "jwt", "fields": [] }),
        ] {
            assert!(AuthDescription::parse(&bad).is_err(), "{bad}");
        }
    }

    fn description() -> AuthDescription {
        AuthDescription::parse(&json!({ "type": "custom", "fields": [
            { "name": "user", "type": "string", "required": true, "description": "Who." },
            { "name": "token", "type": "password", "required": true, "pattern": "^sk-" },
            { "name": "at", "type": "url" },
        ]}))
        .unwrap()
    }

    #[test]
    fn what_is_filled_in_is_held_against_the_description_and_never_repeated() {
        let own = description();
        let form = own.form();
        assert_eq!(form["required"], json!(["user", "token"]));
        assert_eq!(form["properties"]["token"]["format"], "password");
        assert_eq!(form["properties"]["at"]["format"], "uri");
        assert!(own.check(&json!({ "user": "u", "token": "sk-1" })).is_ok());
        assert!(
            own.check(&json!({ "user": "u", "token": "sk-1", "at": null }))
                .is_ok()
        );
        for (given, place) in [
            (json!({ "user": "", "token": "sk-1" }), "user"),
            (json!({ "user": "u", "token": "hunter2" }), "token"),
            (json!({ "user": "u", "token": 7 }), "token"),
            (
                json!({ "user": "u", "token": "sk-1", "at": "http://x.example" }),
                "at",
            ),
            (json!({ "user": "u", "token": "sk-1", "more": "x" }), "more"),
        ] {
            let faults = own.check(&given).unwrap_err();
            assert_eq!(faults.len(), 1, "{given}");
            assert_eq!(faults[0].place, place);
            assert!(!format!("{faults:?}").contains("hunter2"));
        }
        assert!(own.check(&json!([])).is_err());
    }

    #[tokio::test]
    async fn each_plugin_has_a_compartment_of_its_own_for_each_user() {
        let key = VaultKey::from_bytes(&[7; 32]).unwrap();
        let store = Arc::new(MemoryStore::default());
        let vault = Vault::open_with_ring(store, KeyRing::new(key))
            .await
            .unwrap();
        let one = PluginSecrets::new(vault.clone(), "crm").unwrap();
        let other = PluginSecrets::new(vault.clone(), "mail").unwrap();
        let alice = Partition::of(&Principal::authenticated("https://as.example", "alice"));
        let bob = Partition::of(&Principal::authenticated("https://as.example", "bob"));
        let given = json!({ "user": "u", "token": "sk-1" });
        let values = description().check(&given).unwrap();
        one.keep(alice, &values).await.unwrap();
        let token = one.get(alice, "token").await.unwrap();
        assert_eq!(token, Some(Secret::new("sk-1")));
        assert_eq!(one.get(bob, "token").await.unwrap(), None);
        assert_eq!(other.get(alice, "token").await.unwrap(), None);
        // A field that is left out the next time is gone.
        let fewer = BTreeMap::from([("user".to_owned(), Secret::new("v"))]);
        one.keep(alice, &fewer).await.unwrap();
        assert_eq!(one.get(alice, "token").await.unwrap(), None);
        one.forget(alice).await.unwrap();
        assert_eq!(one.get(alice, "user").await.unwrap(), None);
        for bad in ["", "../x", "A/b"] {
            assert!(
                PluginSecrets::new(vault.clone(), bad).is_err() || bad.is_empty(),
                "{bad}"
            );
        }
    }
}
