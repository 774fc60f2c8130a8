//! What an operator switches on.

use mcp_browser::{BrowserConfig, Capability, Downloads, ProfileStore};
use mcp_core::store::Namespace;

use crate::{Outcome, State};

/// The largest upload and the largest download, in bytes.
const LARGEST: u64 = 50 << 20;

/// Something that is off until the operator switches it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Extra {
    /// Files can be given to pages, of 50 MiB at most.
    Upload,
    /// Downloads are kept in the state folder, of 50 MiB at most, and can be read.
    Downloads,
    /// Requests can be intercepted, and the network slowed.
    Network,
    /// Cookies and storage can be read and changed.
    Storage,
    /// Scripts can be run in pages. Do not combine it with secrets unless you trust the model.
    Evaluate,
    /// PDFs and traces.
    Media,
    /// The mouse by coordinates, and the wheel.
    Pointer,
    /// Size, media, colors and processor at run time.
    Emulation,
    /// Actions as a Playwright script, and checks.
    Code,
    /// Sessions may have a window on the display that DISPLAY names.
    Headed,
    /// Sessions may keep cookies and storage under a name, sealed in the state folder.
    Profiles,
    /// Sessions may look like an ordinary browser.
    Stealth,
}

impl Extra {
    /// Every extra.
    pub const ALL: [Self; 12] = [
        Self::Upload,
        Self::Downloads,
        Self::Network,
        Self::Storage,
        Self::Evaluate,
        Self::Media,
        Self::Pointer,
        Self::Emulation,
        Self::Code,
        Self::Headed,
        Self::Profiles,
        Self::Stealth,
    ];

    /// The group of tools that it switches on, if it does.
    pub(crate) const fn capability(self) -> Option<Capability> {
        Some(match self {
            Self::Upload => Capability::Upload,
            Self::Downloads => Capability::Downloads,
            Self::Network => Capability::Network,
            Self::Storage => Capability::Storage,
            Self::Evaluate => Capability::Evaluate,
            Self::Media => Capability::Media,
            Self::Pointer => Capability::Pointer,
            Self::Emulation => Capability::Emulation,
            Self::Code => Capability::Code,
            Self::Headed | Self::Profiles | Self::Stealth => return None,
        })
    }
}

/// Allows what the extras need.
pub(crate) fn apply(
    mut config: BrowserConfig,
    extras: &[Extra],
    state: &State,
) -> Outcome<BrowserConfig> {
    for extra in extras {
        config = match extra {
            Extra::Upload => config.allow_uploads(LARGEST),
            Extra::Downloads => config.with_downloads(Downloads::Keep {
                folder: state.folder("downloads"),
                max_bytes: LARGEST,
            }),
            Extra::Evaluate => config.allow_evaluate(),
            Extra::Headed => config.allow_headed(),
            Extra::Stealth => config.allow_stealth(),
            Extra::Profiles => {
                let store = std::sync::Arc::clone(&state.store);
                let namespace = Namespace::new("profiles")?;
                let profiles = ProfileStore::new(store, namespace, state.profile_key())?;
                config.with_profiles(profiles)
            }
            Extra::Network
            | Extra::Storage
            | Extra::Media
            | Extra::Pointer
            | Extra::Emulation
            | Extra::Code => config,
        };
    }
    Ok(config)
}
