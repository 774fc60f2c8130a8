use std::fmt;

use data_encoding::HEXLOWER;
use mcp_core::UpstreamId;
use sha2::{Digest, Sha256};

/// The longest name that desktop clients and model providers take.
const LONGEST: usize = 64;

/// Maps an upstream's tool or prompt name to its public name.
///
/// The catalogue stores the reverse mapping, so a policy need not be reversible. It must be a pure function: the same
/// input gives the same name in every process.
pub trait NamingPolicy: fmt::Debug + Send + Sync + 'static {
    /// Returns the public name.
    fn public_name(&self, upstream: &UpstreamId, name: &str) -> String;

    /// Returns whether a public name may be that of something of this upstream. A call waits for the lists of these
    /// upstreams only. Default is `true`.
    fn may_name(&self, upstream: &UpstreamId, public: &str) -> bool {
        let _ = (upstream, public);
        true
    }
}

/// `{upstream}__{name}`, at most 64 of the characters `A-Z a-z 0-9 _ -`. The default.
///
/// Other characters become `_`. A name that had to be changed or shortened ends in eight hexadecimal digits of its
/// own SHA-256, so that different names stay different.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct Prefixed;

impl NamingPolicy for Prefixed {
    fn public_name(&self, upstream: &UpstreamId, name: &str) -> String {
        let full = format!("{upstream}__{name}");
        let clean = clean(&full);
        if clean == full && full.len() <= LONGEST {
            return full;
        }
        let digest = Sha256::digest(&full);
        let tag = HEXLOWER.encode(&digest[..4]);
        let kept = clean.get(..LONGEST - 9).unwrap_or(&clean);
        format!("{kept}_{tag}")
    }

    fn may_name(&self, upstream: &UpstreamId, public: &str) -> bool {
        let prefix = clean(&format!("{upstream}__"));
        public.starts_with(prefix.get(..LONGEST - 9).unwrap_or(&prefix))
    }
}

fn clean(name: &str) -> String {
    let plain = |c| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => c,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

/// The upstream's own name. For a single upstream, or upstreams that are known to differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "it has no settings")]
pub struct Bare;

impl NamingPolicy for Bare {
    fn public_name(&self, _: &UpstreamId, name: &str) -> String {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> UpstreamId {
        UpstreamId::new(name).unwrap()
    }

    #[test]
    fn a_public_name_may_be_that_of_the_upstream_whose_prefix_it_has() {
        for (upstream, public, may) in [
            ("crm", "crm__find_user", true),
            ("crm", "crm_find_user", false),
            ("crm", "mail__find_user", false),
            ("a", "ab__x", false),
        ] {
            assert_eq!(Prefixed.may_name(&id(upstream), public), may, "{public}");
        }
        assert!(Bare.may_name(&id("a"), "anything"));
    }

    #[test]
    fn plain_names_are_prefixed_and_others_shortened_the_same_way_every_time() {
        let policy = Prefixed;
        assert_eq!(
            policy.public_name(&id("crm"), "find_user"),
            "crm__find_user"
        );
        let long = "x".repeat(80);
        let short = policy.public_name(&id("crm"), &long);
        assert_eq!(short.len(), 64);
        assert_eq!(short, policy.public_name(&id("crm"), &long));
        assert_ne!(short, policy.public_name(&id("crm"), &format!("{long}x")));
        assert_ne!(
            policy.public_name(&id("crm"), "a.b"),
            policy.public_name(&id("crm"), "a/b")
        );
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_clients_take(name in ".{0,100}") {
            let public = Prefixed.public_name(&id("up"), &name);
            prop_assert!(public.len() <= LONGEST);
            prop_assert!(Prefixed.may_name(&id("up"), &public));
            prop_assert!(public.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
        }
    }
}
