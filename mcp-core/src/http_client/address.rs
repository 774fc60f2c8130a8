use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not a public one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressClass {
    /// "This network", among it the unspecified address (RFC 1122, RFC 4291).
    Unspecified,
    /// The machine itself (RFC 1122, RFC 4291).
    Loopback,
    /// A private network (RFC 1918) or a unique local address (RFC 4193).
    Private,
    /// Valid on one link only (RFC 3927, RFC 4291), among it 169.254.169.254, where clouds keep credentials.
    LinkLocal,
    /// Shared between a carrier and its customers (RFC 6598).
    CarrierNat,
    /// A group of receivers or all hosts (RFC 1112, RFC 919, RFC 4291).
    Multicast,
    /// For examples in documents (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// For measurements in closed networks (RFC 2544, RFC 5180).
    Benchmarking,
    /// An IPv4 address carried in an IPv6 one by a means out of use or local (RFC 4291, 3056, 4380, 8215).
    Transition,
    /// Set aside, or not assigned (the IANA special-purpose registries).
    Reserved,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CarrierNat => "carrier-grade NAT",
            Self::Multicast => "multicast or broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Transition => "transition mechanism",
            Self::Reserved => "reserved",
        })
    }
}

/// Tells why an address is not public, or `None` if it is.
///
/// An IPv4 address mapped into IPv6 (RFC 4291, 2.5.5.2) or behind the well-known NAT64 prefix (RFC 6052) counts
/// as the IPv4 address. Of the rest of IPv6 only `2000::/3` is public, less its special parts.
///
/// # Examples
///
/// ```
/// use mcp_core::http_client::{AddressClass, blocked};
///
/// assert_eq!(blocked("::ffff:10.0.0.1".parse().unwrap()), Some(AddressClass::Private));
/// assert_eq!(blocked("1.1.1.1".parse().unwrap()), None);
/// ```
#[must_use]
pub fn blocked(address: IpAddr) -> Option<AddressClass> {
    match address {
        IpAddr::V4(address) => blocked_v4(address),
        IpAddr::V6(address) => blocked_v6(address),
    }
}

fn blocked_v4(address: Ipv4Addr) -> Option<AddressClass> {
    use AddressClass as C;
    Some(match address.octets() {
        [0, ..] => C::Unspecified,
        [127, ..] => C::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => C::Private,
        [169, 254, ..] => C::LinkLocal,
        [100, 64..=127, ..] => C::CarrierNat,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => C::Documentation,
        [198, 18..=19, ..] => C::Benchmarking,
        [192, 88, 99, _] => C::Transition,
        [192, 0, 0, _] | [192, 31, 196, _] | [192, 52, 193, _] | [192, 175, 48, _] => C::Reserved,
        [224..=239, ..] | [255, 255, 255, 255] => C::Multicast,
        [240..=255, ..] => C::Reserved,
        _ => return None,
    })
}

fn blocked_v6(address: Ipv6Addr) -> Option<AddressClass> {
    use AddressClass as C;
    let s = address.segments();
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => C::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => C::Loopback,
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            return blocked_v4(last_four(address));
        }
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] | [0x2002, ..] | [0x2001, 0, ..] => {
            C::Transition
        }
        [0x2001, 2, 0, ..] => C::Benchmarking,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => C::Documentation,
        [0x2001, 0..=0x1ff, ..] | [0x2620, 0x4f, 0x8000, ..] | [0x5f00, ..] => C::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        [0xfc00..=0xfdff, ..] => C::Private,
        [0xfe80..=0xfebf, ..] => C::LinkLocal,
        [0xff00..=0xffff, ..] => C::Multicast,
        _ => C::Reserved,
    })
}

fn last_four(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::{AddressClass as C, blocked};

    #[test]
    fn table() {
        let cases = [
            ("0.0.0.0", C::Unspecified),
            ("0.1.2.3", C::Unspecified),
            ("127.0.0.1", C::Loopback),
            ("127.255.255.254", C::Loopback),
            ("10.0.0.1", C::Private),
            ("172.16.0.1", C::Private),
            ("172.31.255.255", C::Private),
            ("192.168.1.1", C::Private),
            ("169.254.169.254", C::LinkLocal),
            ("100.64.0.1", C::CarrierNat),
            ("100.100.100.200", C::CarrierNat),
            ("192.0.0.8", C::Reserved),
            ("192.0.2.1", C::Documentation),
            ("198.51.100.1", C::Documentation),
            ("203.0.113.9", C::Documentation),
            ("198.19.0.1", C::Benchmarking),
            ("192.88.99.1", C::Transition),
            ("224.0.0.1", C::Multicast),
            ("255.255.255.255", C::Multicast),
            ("240.0.0.1", C::Reserved),
            ("::", C::Unspecified),
            ("::1", C::Loopback),
            ("::127.0.0.1", C::Transition),
            ("::8.8.8.8", C::Transition),
            ("::ffff:127.0.0.1", C::Loopback),
            ("::ffff:169.254.169.254", C::LinkLocal),
            ("64:ff9b::10.0.0.1", C::Private),
            ("64:ff9b:1::1", C::Transition),
            ("2002:7f00:1::", C::Transition),
            ("2001::1", C::Transition),
            ("2001:2::1", C::Benchmarking),
            ("2001:10::1", C::Reserved),
            ("2001:db8::1", C::Documentation),
            ("3fff::1", C::Documentation),
            ("fc00::1", C::Private),
            ("fd00:ec2::254", C::Private),
            ("fe80::1", C::LinkLocal),
            ("fec0::1", C::Reserved),
            ("ff02::1", C::Multicast),
            ("100::1", C::Reserved),
            ("5f00::1", C::Reserved),
            ("4000::1", C::Reserved),
        ];
        for (text, class) in cases {
            assert_eq!(blocked(text.parse().unwrap()), Some(class), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(blocked(text.parse().unwrap()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_std_calls_private_is_blocked(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            if special {
                prop_assert!(blocked(IpAddr::V4(v4)).is_some());
            }
            prop_assert_eq!(blocked(IpAddr::V6(v4.to_ipv6_mapped())), blocked(IpAddr::V4(v4)));
        }

        #[test]
        fn ipv6_outside_global_unicast_is_blocked(bits: u128) {
            let v6 = std::net::Ipv6Addr::from_bits(bits);
            if v6.to_ipv4_mapped().is_none() && bits >> 125 != 1 && bits >> 96 != 0x0064_ff9b {
                prop_assert!(blocked(IpAddr::V6(v6)).is_some());
            }
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() {
                prop_assert!(blocked(IpAddr::V6(v6)).is_some());
            }
        }
    }
}
