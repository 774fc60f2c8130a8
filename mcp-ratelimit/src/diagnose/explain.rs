use std::time::Duration;

use mcp_core::{Error, ErrorClass, ErrorKind, Request};

use crate::retry::Attempts;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Make the same call again after this time.
    RetryAfter(Duration),
    /// Make the same call again, some time later.
    RetryLater,
    /// Make another call: other arguments, another tool.
    ChangeTheCall,
    /// Ask the user to sign in or to agree.
    AskTheUser,
    /// Do without: this will not work for now, whatever the caller does.
    GiveUp,
}

/// An error and what is known about it.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    class: ErrorClass,
    advice: Advice,
    attempts: u32,
    person: String,
    model: String,
    guidance: String,
}

impl Diagnosis {
    /// Explains the error that a request was answered with.
    #[must_use]
    pub fn of(error: &Error, request: &Request) -> Self {
        let attempts = Attempts::of(error).map_or(1, Attempts::count);
        let advice = advise(error);
        let what = match (request.tool(), request.name()) {
            (Some(tool), _) => format!("The tool {tool}"),
            (None, Some(name)) => format!("{} of {name}", request.method()),
            (None, None) => request.method().to_string(),
        };
        let place = error.upstream().or(request.upstream());
        let of = place.map_or_else(String::new, |upstream| format!(" of {upstream}"));
        let tries = if attempts > 1 {
            format!(" after {attempts} tries")
        } else {
            String::new()
        };
        let message = error.message();
        let person = format!("{what}{of} failed{tries}: {}.", happened(error.kind()));
        let guidance = hint(advice);
        let model = format!("{what}{of} failed{tries}: {message}. {guidance}");
        Self {
            class: error.class(),
            advice,
            attempts,
            person,
            model,
            guidance,
        }
    }

    /// Whether another try can help.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// What to do.
    #[must_use]
    pub const fn advice(&self) -> Advice {
        self.advice
    }

    /// How often the call was made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What happened, for a person: fixed words and names, nothing that an upstream wrote.
    #[must_use]
    pub fn for_person(&self) -> &str {
        &self.person
    }

    /// What happened and what to do next, for a model.
    #[must_use]
    pub fn for_model(&self) -> &str {
        &self.model
    }

    /// What to do next, in a sentence for a model.
    #[must_use]
    pub fn guidance(&self) -> &str {
        &self.guidance
    }
}

fn advise(error: &Error) -> Advice {
    match (error.class(), error.retry_after(), error.kind()) {
        (_, _, ErrorKind::Unauthenticated | ErrorKind::ConsentRequired) => Advice::AskTheUser,
        (ErrorClass::Transient | ErrorClass::RateLimited, Some(after), _) => {
            Advice::RetryAfter(after)
        }
        (ErrorClass::Transient | ErrorClass::RateLimited, None, _) => Advice::RetryLater,
        (
            _,
            _,
            ErrorKind::BudgetExhausted
            | ErrorKind::BadUpstream
            | ErrorKind::Internal
            | ErrorKind::Cancelled
            | ErrorKind::Stalled
            | ErrorKind::UnsupportedVersion,
        ) => Advice::GiveUp,
        _ => Advice::ChangeTheCall,
    }
}

fn hint(advice: Advice) -> String {
    match advice {
        Advice::RetryAfter(after) => {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            format!("The same call may succeed in {seconds} s; do not make it before.")
        }
        Advice::RetryLater => "The same call may succeed later.".into(),
        Advice::ChangeTheCall => {
            "The same call will fail again: change the arguments or use another tool.".into()
        }
        Advice::AskTheUser => {
            "Ask the user to sign in or to agree; the same call may succeed then.".into()
        }
        Advice::GiveUp => "Do not make this call again; do without it or ask the user.".into(),
    }
}

/// What happened, in words for a person.
fn happened(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimited => "too many calls in a short time",
        ErrorKind::BudgetExhausted => "the budget is used up",
        ErrorKind::Overloaded => "too much work is in progress",
        ErrorKind::CircuitOpen => "it has failed repeatedly and is left alone for now",
        ErrorKind::Timeout => "it took too long",
        ErrorKind::Unavailable | ErrorKind::NotSent => "it cannot be reached",
        ErrorKind::Unauthenticated => "you have to sign in",
        ErrorKind::PermissionDenied => "you may not do this",
        ErrorKind::ConsentRequired => "it needs your consent",
        ErrorKind::Cancelled => "it was cancelled",
        ErrorKind::InvalidParams | ErrorKind::InvalidRequest | ErrorKind::InvalidMeta => {
            "it was called wrongly"
        }
        ErrorKind::MethodNotFound | ErrorKind::ResourceNotFound => "there is no such thing",
        ErrorKind::TooLarge => "there was too much data",
        ErrorKind::Answered => "it reported an error",
        ErrorKind::BadUpstream => "it answered something unintelligible",
        _ => "something went wrong",
    }
}
