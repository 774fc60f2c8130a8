use std::{future::Future, io};

/// The signals that ask a process to end: SIGINT and SIGTERM; Ctrl-C where there are no signals.
///
/// Their handlers stand from when this is made: make it before anything is started that they would have to end.
#[derive(Debug)]
pub struct Signals {
    next: Handlers,
    /// Sees the same signals.
    twin: Handlers,
}

impl Signals {
    /// Sets the handlers up. They stay for as long as the process lives.
    ///
    /// # Errors
    ///
    /// The system refuses.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            next: Handlers::new()?,
            twin: Handlers::new()?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn next(&mut self) {
        self.next.next().await;
    }

    /// Returns what completes at the first signal, for an orderly shutdown, and what completes at the second, to end at
    /// once.
    pub fn split(
        self,
    ) -> (
        impl Future<Output = ()> + Send,
        impl Future<Output = ()> + Send,
    ) {
        let (mut first, mut second) = (self.next, self.twin);
        let stop = async move { first.next().await };
        let abort = async move {
            second.next().await;
            second.next().await;
        };
        (stop, abort)
    }
}

#[cfg(unix)]
#[derive(Debug)]
struct Handlers {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Handlers {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
struct Handlers;

#[cfg(not(unix))]
impl Handlers {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
