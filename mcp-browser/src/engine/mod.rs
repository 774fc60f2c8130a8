//! The driver and its browsers: started when they are needed, watched, started again after a crash.

mod browser;
mod watch;

use std::{collections::HashMap, sync::Arc, time::Duration};

use mcp_core::Partition;
use tokio::sync::Mutex;

pub(crate) use self::browser::BrowserHandle;
pub use self::watch::BrowserLimits;
use crate::{BrowserError, DriverConfig, driver::Driver};

/// Whether browsers run in the operating system's sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sandbox {
    /// On where it works: not as root, which Chromium refuses, and not where the system forbids it. Sessions say
    /// whether it is on.
    #[default]
    Auto,
    /// On, or no browser starts.
    Required,
    /// Off.
    Off,
}

/// What browsers are started with.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    pub(crate) driver: DriverConfig,
    pub(crate) sandbox: Sandbox,
    pub(crate) limits: BrowserLimits,
}

/// Which browser: the shared one, or a principal's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) owner: Option<Partition>,
    pub(crate) headed: bool,
}

/// Starts drivers and browsers; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: EngineConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    driver: Option<Arc<Driver>>,
    browsers: HashMap<Slot, Arc<BrowserHandle>>,
    closed: bool,
}

impl Engine {
    pub(crate) fn new(config: EngineConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            state: Mutex::default(),
        }))
    }

    /// Returns the driver, starting it if none is alive.
    pub(crate) async fn driver(&self) -> Result<Arc<Driver>, BrowserError> {
        let mut state = self.0.state.lock().await;
        self.driver_of(&mut state).await
    }

    async fn driver_of(&self, state: &mut State) -> Result<Arc<Driver>, BrowserError> {
        if state.closed {
            return Err(BrowserError::gone());
        }
        if let Some(driver) = &state.driver
            && driver.is_alive()
        {
            return Ok(Arc::clone(driver));
        }
        state.browsers.clear();
        let driver = Arc::new(Driver::start(&self.0.config.driver).await?);
        tracing::info!(pid = driver.pid(), "the browser driver has started");
        state.driver = Some(Arc::clone(&driver));
        Ok(driver)
    }

    /// Returns a browser, starting it if none is alive. Others wait meanwhile.
    pub(crate) async fn browser(&self, slot: Slot) -> Result<Arc<BrowserHandle>, BrowserError> {
        let mut state = self.0.state.lock().await;
        let driver = self.driver_of(&mut state).await?;
        if let Some(browser) = state.browsers.get(&slot)
            && browser.is_alive()
        {
            return Ok(Arc::clone(browser));
        }
        let browser = Arc::new(BrowserHandle::launch(driver, &self.0.config, slot).await?);
        state.browsers.insert(slot, Arc::clone(&browser));
        Ok(browser)
    }

    /// Closes a principal's own browser after its last session.
    pub(crate) async fn release(&self, slot: Slot) {
        let found = match slot.owner {
            Some(_) => self.0.state.lock().await.browsers.remove(&slot),
            None => None,
        };
        if let Some(browser) = found {
            browser.close().await;
        }
    }

    pub(crate) async fn shutdown(&self) {
        let mut state = self.0.state.lock().await;
        state.closed = true;
        state.browsers.clear();
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            let closing = driver.shutdown();
            // The watcher kills a driver that does not end.
            let _ = tokio::time::timeout(Duration::from_secs(15), closing).await;
        }
    }
}
