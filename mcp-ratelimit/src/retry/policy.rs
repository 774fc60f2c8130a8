use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_core::{Error, ErrorClass, ErrorKind, Request, Response};
use tokio::time::{Instant, Sleep, sleep};
use tower::retry::Policy;
use tower::retry::budget::Budget as _;

use super::layer::Settings;
use super::{Attempt, Attempts, Repeat};

/// Decides about one call, try by try.
#[derive(Clone)]
pub(super) struct RetryPolicy {
    settings: Arc<Settings>,
    call: Option<Call>,
}

#[derive(Clone, Copy)]
struct Call {
    repeat: Repeat,
    /// How many times it has been sent.
    attempts: u32,
    previous: Duration,
    /// Notifications that its client had seen when it began.
    seen: u64,
    deadline: Option<Instant>,
}

impl RetryPolicy {
    pub(super) const fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            call: None,
        }
    }

    fn begin(&self, request: &Request) -> Call {
        let repeat = match &self.settings.safety {
            Some(safety) => safety(request),
            None => Repeat::of(request),
        };
        let carried = request.deadline().map(|deadline| deadline.instant());
        let own = self
            .settings
            .total
            .and_then(|total| Instant::now().checked_add(total));
        let deadline = match (carried, own) {
            (Some(carried), Some(own)) => Some(carried.min(own)),
            (carried, own) => carried.or(own),
        };
        let seen = request.notifier().sent();
        Call {
            repeat,
            attempts: 1,
            previous: Duration::ZERO,
            seen,
            deadline,
        }
    }

    /// How long to wait before the next try; `None` if there should not be one.
    fn next(&self, call: &Call, request: &Request, error: &Error) -> Option<Duration> {
        let allowed = match call.repeat {
            Repeat::Safe => true,
            Repeat::IfNotSent => error.kind() == ErrorKind::NotSent,
            Repeat::Never => false,
        };
        let hopeless = error.class() == ErrorClass::Permanent;
        if hopeless || !allowed || call.attempts > self.settings.retries {
            return None;
        }
        // The client has seen progress: a second run would tell the story again from its beginning.
        if request.notifier().sent() != call.seen {
            return None;
        }
        let own = self
            .settings
            .backoff
            .delay(call.attempts, call.previous, rand::random());
        let wait = error.retry_after().unwrap_or_default().max(own);
        let too_long = error
            .retry_after()
            .is_some_and(|asked| asked > self.settings.longest_wait);
        let late = |end: Instant| Instant::now().checked_add(wait).is_none_or(|at| at >= end);
        if too_long || call.deadline.is_some_and(late) {
            return None;
        }
        self.settings.budget.withdraw().then_some(wait)
    }
}

impl Policy<Request, Response, Error> for RetryPolicy {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request,
        result: &mut Result<Response, Error>,
    ) -> Option<Sleep> {
        let mut call = self.call?;
        let Err(error) = result else {
            self.settings.budget.deposit();
            return None;
        };
        let Some(wait) = self.next(&call, request, error) else {
            if call.attempts > 1 {
                let attempts = Attempts::new(call.attempts, error.clone());
                *error = error.clone().with_source(attempts);
            }
            return None;
        };
        metrics::counter!("mcp_retries_total", "kind" => error.kind().name()).increment(1);
        tracing::debug!(attempt = call.attempts, ?wait, error = %error, "trying again");
        call.attempts += 1;
        call.previous = wait;
        self.call = Some(call);
        request.extensions_mut().insert(Attempt(call.attempts));
        Some(sleep(wait))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        let call = self.call.unwrap_or_else(|| self.begin(request));
        self.call = Some(call);
        // The last try is kept too, or no one would ask about its result.
        let may = call.repeat != Repeat::Never && self.settings.retries > 0;
        may.then(|| request.clone())
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy").finish_non_exhaustive()
    }
}
