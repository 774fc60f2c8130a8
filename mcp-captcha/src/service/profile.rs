use std::time::Duration;

use mcp_core::Amount;

use crate::Polling;

/// The services whose protocol is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vendor {
    /// `api.2captcha.com`, JSON API version 2.
    TwoCaptcha,
    /// `api.anti-captcha.com`.
    AntiCaptcha,
    /// `api.capsolver.com`.
    CapSolver,
}

/// What differs between the services.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) vendor: Vendor,
    pub(super) name: &'static str,
    pub(super) base: &'static str,
    pub(super) polling: Polling,
    /// Whether the price of a task that could not be solved comes back.
    pub(super) refunds_unsolvable: bool,
    /// In the order of [`crate::Kind`].
    pub(super) prices: [Option<Amount>; 5],
}

const fn usd(micros: u64) -> Option<Amount> {
    Some(Amount::micros(micros))
}

const fn polling(first: u64, every: u64, queries: u32, limit: u64) -> Polling {
    Polling::fixed(
        Duration::from_secs(first),
        Duration::from_secs(every),
        queries,
        Duration::from_secs(limit),
    )
}

static PROFILES: [Profile; 3] = [
    Profile {
        vendor: Vendor::TwoCaptcha,
        name: "2captcha",
        base: "https://api.2captcha.com/",
        // "Wait at least 5 seconds, repeat every 5 to 10."
        polling: polling(5, 5, 60, 300),
        refunds_unsolvable: true,
        prices: [usd(1_000), usd(3_000), usd(3_000), usd(3_000), usd(1_500)],
    },
    Profile {
        vendor: Vendor::AntiCaptcha,
        name: "anti-captcha",
        base: "https://api.anti-captcha.com/",
        // The page names no interval; this is what the vendor's own clients do.
        polling: polling(5, 5, 60, 300),
        refunds_unsolvable: false,
        prices: [usd(1_000), usd(2_000), usd(2_000), None, usd(2_000)],
    },
    Profile {
        vendor: Vendor::CapSolver,
        name: "capsolver",
        base: "https://api.capsolver.com/",
        // "Retry after 3 s", at most 120 queries for a task, whose own limit is 120 s.
        polling: polling(3, 3, 120, 120),
        refunds_unsolvable: true,
        prices: [usd(1_000), usd(3_000), usd(3_000), None, usd(3_000)],
    },
];

pub(super) fn of(vendor: Vendor) -> &'static Profile {
    match vendor {
        Vendor::TwoCaptcha => &PROFILES[0],
        Vendor::AntiCaptcha => &PROFILES[1],
        Vendor::CapSolver => &PROFILES[2],
    }
}
