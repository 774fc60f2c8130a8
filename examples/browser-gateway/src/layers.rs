//! The layers around the tools: how often, how much, and when to leave them alone.

use std::{sync::Arc, time::Duration};

use mcp_browser::BrowserErrorKind;
use mcp_core::{
    Account, Amount, Error, Request, Response,
    store::{Namespace, StateStore},
};
use mcp_ratelimit::{
    breaker::{Breaker, BreakerConfig, BreakerLayer, Outcome as Went},
    budget::{BudgetLayer, BudgetPlan, Period, StoreBudget},
    rate_limit::{KeyPart, Limit, Quota, RateLimitLayer},
    timeout::TimeoutLayer,
};
use serde_json::Value;

use crate::Outcome;

/// Calls of each tool that a user may make in a minute.
pub(crate) fn rate(per_minute: u32) -> Outcome<RateLimitLayer> {
    let quota = Quota::per_minute(per_minute)?;
    let limit = Limit::new("calls", quota).per([KeyPart::Principal, KeyPart::Tool]);
    Ok(RateLimitLayer::new(limit))
}

/// Sessions that a user may create in a day. What is done in a session costs nothing.
pub(crate) fn sessions(store: &Arc<dyn StateStore>, per_day: u32) -> Outcome<BudgetLayer> {
    let plan = BudgetPlan::new(Period::Day, Amount::units(per_day));
    let budget = StoreBudget::new(Arc::clone(store), Namespace::new("sessions")?, plan);
    Ok(BudgetLayer::new(Arc::new(budget), cost))
}

fn cost(request: &Request) -> Option<(Account, Amount)> {
    let creates = request.tool() == Some("browser_create_session");
    let account = || Account::new(request.principal().partition(), "sessions");
    creates.then(|| (account(), Amount::units(1)))
}

/// Leaves the browser alone while it does not start.
pub(crate) fn browser_breaker() -> BreakerLayer {
    BreakerLayer::new(Breaker::new("browser", BreakerConfig::default())).with_classifier(went)
}

/// Leaves the captcha services alone while they do not work.
pub(crate) fn captcha_breaker() -> BreakerLayer {
    BreakerLayer::new(Breaker::new("captcha", BreakerConfig::default()))
}

pub(crate) fn timeout(seconds: u64) -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_secs(seconds))
}

/// A browser that does not start is a failure although the tool answers it: no caller can do anything about it. Other
/// tool errors are about a page.
fn went(result: &Result<Response, Error>) -> Went {
    match result {
        Ok(answer) if answer.is_tool_error() && is_outage(answer) => Went::Failure,
        result => BreakerLayer::classify(result),
    }
}

fn is_outage(answer: &Response) -> bool {
    let outages = [
        BrowserErrorKind::NotInstalled,
        BrowserErrorKind::WrongVersion,
        BrowserErrorKind::StartFailed,
    ];
    let answer: Value = answer.decode().unwrap_or_default();
    let error = answer["structuredContent"]["error"].as_str();
    outages.iter().any(|kind| Some(kind.name()) == error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_browser_that_does_not_start_is_an_outage() {
        for (error, expected) in [
            ("start_failed", Went::Failure),
            ("element_not_found", Went::Success),
            ("denied", Went::Success),
        ] {
            let text = format!(
                r#"{{"content":[],"isError":true,"structuredContent":{{"error":"{error}"}}}}"#
            );
            assert_eq!(
                went(&Ok(Response::parse(text).unwrap())),
                expected,
                "{error}"
            );
        }
    }
}
