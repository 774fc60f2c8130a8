use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether something that verdicts rest on is still there. Clones share it.
#[derive(Clone, Debug)]
pub struct Alive(Arc<AtomicBool>);

impl Alive {
    /// Begins as alive.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Ends every verdict that rests on it.
    pub fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Returns whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Alive {
    fn default() -> Self {
        Self::new()
    }
}
