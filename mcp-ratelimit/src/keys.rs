//! Short keys for long facts.

use std::hash::{Hash, Hasher};

use mcp_core::{Partition, Request};
use siphasher::sip128::{Hasher128, SipHasher13};

/// What a limit, a cache entry or a shared call is counted under: 128 bits, made by a [`KeyBuilder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let head = ((bytes.len() as u64) << 8 | u64::from(kind)).to_le_bytes();
        // Most facts are short, and one write costs less than two.
        let mut whole = [0; 64];
        let end = head.len() + bytes.len();
        match whole.get_mut(..end) {
            Some(short) => {
                short[..head.len()].copy_from_slice(&head);
                short[head.len()..].copy_from_slice(bytes);
                self.0.write(short);
            }
            None => {
                self.0.write(&head);
                self.0.write(bytes);
            }
        }
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

/// What hashes a [`Key`] that is random already.
#[allow(
    dead_code,
    reason = "used by the layers that keep things by key, which are features"
)]
pub(crate) type KeyHasher = std::hash::BuildHasherDefault<PassThrough>;

/// Takes the half of a [`Key`] that it is given for the hash.
#[allow(
    dead_code,
    reason = "used by the layers that keep things by key, which are features"
)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Nothing but keys is hashed with it; other things would still have some hash.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
impl KeyBuilder {
    /// Adds the facts of a call that decide its answer: what is asked, of whom, with which parameters. Not `_meta`. They are
    /// of any number, so nothing may follow.
    fn call(&mut self, owner: &Partition, request: &Request) -> Key {
        self.partition(owner).text(request.method().as_str());
        self.text(request.upstream().map_or("", |upstream| upstream.as_str()));
        self.text(request.name().unwrap_or_default());
        if let Some(params) = request.params() {
            for (name, value) in params.raw_members().filter(|(name, _)| name != "_meta") {
                self.text(&name).bytes(value);
            }
        }
        self.finish()
    }

    /// Adds everything about the caller that may change the answer.
    fn caller(&mut self, request: &Request) -> &mut Self {
        self.text(request.version().as_str())
            .bytes(request.capabilities().as_json().as_bytes());
        let scopes = request.principal().scopes();
        let count = scopes.fold(0, |count, scope| {
            self.text(scope);
            count + 1
        });
        self.number(count)
    }
}

/// The key of a call, whoever makes it in the name of the owner.
#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
pub(crate) fn call_key(secret: [u64; 2], owner: &Partition, request: &Request) -> Key {
    KeyBuilder::new(secret).call(owner, request)
}

/// The key of a call with everything about its caller that may change the answer.
#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
pub(crate) fn identity(secret: [u64; 2], owner: &Partition, request: &Request) -> Key {
    KeyBuilder::new(secret).caller(request).call(owner, request)
}

/// The same within one session.
#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
pub(crate) fn identity_in(secret: [u64; 2], session: &str, request: &Request) -> Key {
    let owner = request.principal().partition();
    let mut key = KeyBuilder::new(secret);
    key.text(session).caller(request).call(&owner, request)
}

/// The key of a call whose answer is the same for all callers of one protocol revision.
#[allow(
    dead_code,
    reason = "used by the layers that compare calls, which are features"
)]
pub(crate) fn public_key(secret: [u64; 2], shared: &Partition, request: &Request) -> Key {
    let mut key = KeyBuilder::new(secret);
    // What a list holds, and which members an entry has, depends on the revision.
    key.text(request.version().as_str()).call(shared, request)
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
