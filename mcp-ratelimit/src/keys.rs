//! Short keys for long facts.

use std::hash::Hasher;

use mcp_core::{Partition, Request};
use siphasher::sip128::{Hasher128, SipHasher13};

/// What a limit, a cache entry or a shared call is counted under: 128 bits, made by a [`KeyBuilder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u64; 2]);

impl Key {
    #[cfg_attr(
        not(feature = "rate-limit"),
        allow(dead_code, reason = "used by the limiter's store")
    )]
    pub(crate) const fn halves(self) -> [u64; 2] {
        self.0
    }
}

/// Gathers what makes a key. The order matters, and no two different sequences share a key but by chance.
///
/// Facts may come from the network: they are hashed (SipHash-1-3 with 128 bits under a random secret), so that
/// neither their length nor their content costs memory, and no one outside can aim at another one's key.
#[derive(Debug, Clone)]
pub struct KeyBuilder(SipHasher13);

impl KeyBuilder {
    pub(crate) fn new(secret: [u64; 2]) -> Self {
        Self(SipHasher13::new_with_keys(secret[0], secret[1]))
    }

    /// Adds whose data it is.
    pub fn partition(&mut self, partition: &Partition) -> &mut Self {
        self.field(1, partition.as_bytes())
    }

    /// Adds a text, such as a tool's name.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.field(2, text.as_bytes())
    }

    /// Adds bytes, such as an address.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.field(3, bytes)
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.field(4, &number.to_le_bytes())
    }

    fn field(&mut self, kind: u8, bytes: &[u8]) -> &mut Self {
        self.0
            .write_u64((bytes.len() as u64) << 8 | u64::from(kind));
        self.0.write(bytes);
        self
    }

    pub(crate) fn finish(&self) -> Key {
        let hash = self.0.finish128();
        Key([hash.h1, hash.h2])
    }
}

/// A secret that no one outside this process knows.
pub(crate) fn random_secret() -> [u64; 2] {
    [rand::random(), rand::random()]
}

/// The facts of a call that decide its answer: what is asked, of whom, with which parameters. Not `_meta`.
#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
pub(crate) fn call_key(secret: [u64; 2], owner: &Partition, request: &Request) -> Key {
    let mut key = KeyBuilder::new(secret);
    key.partition(owner).text(request.method().as_str());
    key.text(request.upstream().map_or("", |upstream| upstream.as_str()));
    key.text(request.name().unwrap_or_default());
    if let Some(params) = request.params() {
        for (name, value) in params.members().filter(|(name, _)| name != "_meta") {
            key.text(&name).bytes(value.as_bytes());
        }
    }
    key.finish()
}

/// The key of a call with everything about its caller that may change the answer.
#[allow(
    dead_code,
    reason = "used by the layers that share answers, which are features"
)]
pub(crate) fn identity(secret: [u64; 2], owner: &Partition, request: &Request) -> Key {
    let mut key = KeyBuilder::new(secret);
    let call = call_key(secret, owner, request).halves();
    key.number(call[0])
        .number(call[1])
        .text(request.version().as_str())
        .bytes(request.capabilities().as_json().as_bytes());
    for scope in request.principal().scopes() {
        key.text(scope);
    }
    key.finish()
}

/// The key of a call whose answer is the same for all callers of one protocol revision.
#[allow(
    dead_code,
    reason = "used by the layers that share answers, which are features"
)]
pub(crate) fn public_key(secret: [u64; 2], shared: &Partition, request: &Request) -> Key {
    let mut key = KeyBuilder::new(secret);
    let call = call_key(secret, shared, request).halves();
    // What a list holds, and which members an entry has, depends on the revision.
    key.number(call[0])
        .number(call[1])
        .text(request.version().as_str());
    key.finish()
}

#[cfg(test)]
mod tests {
    use mcp_core::{Json, MAX_MEMBERS, Method, Shared};
    use serde_json::{Map, json};

    use super::*;

    fn request(members: usize) -> Option<Request> {
        let params: Map<_, _> = (0..members).map(|n| (format!("m{n}"), n.into())).collect();
        Request::new(Method::TOOLS_LIST, Some(json!(params).into())).ok()
    }

    #[test]
    fn a_call_key_covers_every_member_and_their_number_is_bounded() {
        let owner = Partition::shared(Shared::by_operator());
        let key = |request: &Request| call_key([1, 2], &owner, request);
        let whole = request(MAX_MEMBERS).unwrap();
        assert!(request(MAX_MEMBERS + 1).is_none());
        assert_eq!(key(&whole), key(&request(MAX_MEMBERS).unwrap()));
        assert_ne!(key(&whole), key(&request(MAX_MEMBERS - 1).unwrap()));
        // What a layer adds after the request was read counts as well.
        let mut params = request(3).unwrap().params().cloned().unwrap();
        params.set("tenant", Json::string("a"));
        let added = Request::new(Method::TOOLS_LIST, Some(params.to_json())).unwrap();
        let mut edited = request(3).unwrap();
        *edited.params_mut() = params;
        assert_eq!(key(&added), key(&edited));
    }
}
