//! The fixture and the handler it builds for each connection.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use crate::state::{Session, Shared};

/// What a fixture may be built with.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct FixtureOptions {
    /// Entries on one page of each list. Default is `None`: everything on one page.
    pub page_size: Option<NonZeroUsize>,
}

impl FixtureOptions {
    /// Sets the number of entries on one page of each list.
    #[must_use]
    pub fn with_page_size(mut self, page_size: Option<NonZeroUsize>) -> Self {
        self.page_size = page_size;
        self
    }
}

/// A fixture server: its clones and all handlers built from it share lists, resources and tasks.
#[derive(Clone)]
pub struct Fixture {
    shared: Arc<Shared>,
}

impl Fixture {
    /// Builds a fixture in its initial state.
    #[must_use]
    pub fn new(options: FixtureOptions) -> Self {
        Self {
            shared: Arc::new(Shared::new(options.page_size)),
        }
    }

    /// Builds the handler of one connection: one session, or one stateless request.
    ///
    /// Counter, log level and subscriptions belong to the handler and its clones.
    #[must_use]
    pub fn handler(&self) -> FixtureServer {
        FixtureServer {
            shared: Arc::clone(&self.shared),
            session: Arc::new(Session::new(&self.shared)),
        }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").finish_non_exhaustive()
    }
}

/// The rmcp handler of one connection.
#[derive(Clone)]
pub struct FixtureServer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
}

impl fmt::Debug for FixtureServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixtureServer").finish_non_exhaustive()
    }
}
