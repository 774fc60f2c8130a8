//! What the services' error codes mean. The text decides, never the number: the services number differently.
//!
//! The codes are those of the services' own lists: 2Captcha's `api-docs/error-codes` (version 2) and its page on
//! reports, Anti-Captcha's `apidoc/errors`, CapSolver's `guide/api-error`; `SERVICE_OVERLOAD` is in Anti-Captcha's own
//! client only. What stands in none of them is an error of its own, [`CaptchaErrorKind::UnknownCode`]: so are the codes of
//! the services' old interfaces, and those of other products.
//!
//! [`CaptchaErrorKind::UnknownCode`]: crate::CaptchaErrorKind::UnknownCode

use crate::{CaptchaError, CaptchaErrorKind as K};

/// Codes without their prefix `ERROR_`, what they mean, and what to tell the caller.
const CODES: &[(K, &str, &[&str])] = &[
    (
        K::KeyRefused,
        "the account's key is not known or not active: check the configured key",
        &[
            "KEY_DOES_NOT_EXIST",
            "KEY_DENIED_ACCESS",
            "KEY_TEMP_BLOCKED",
            "ACCOUNT_SUSPENDED",
        ],
    ),
    (
        K::NoBalance,
        "the account is empty: top it up",
        &["ZERO_BALANCE", "SETTLEMENT_FAILED"],
    ),
    (
        K::AddressRefused,
        "this machine's address is not served: check the account's list of addresses",
        &["IP_NOT_ALLOWED", "IP_BLOCKED", "IP_BANNED"],
    ),
    (
        K::NoWorker,
        "no worker is free: try again in some seconds, or raise the bid",
        &["NO_SLOT_AVAILABLE", "ALL_WORKERS_FILTERED"],
    ),
    (
        K::Throttled,
        "the service wants fewer requests: wait",
        &["RATE_LIMIT"],
    ),
    (
        K::ServiceDown,
        "the service is out of order: wait, or use another",
        // The first is how CapSolver spells it.
        &["SERVICE_UNAVALIABLE", "SERVICE_OVERLOAD"],
    ),
    (
        K::Unsolvable,
        "the workers could not solve it: try another service, or a clearer picture",
        &[
            "CAPTCHA_UNSOLVABLE",
            "BAD_DUPLICATES",
            "RECAPTCHA_TIMEOUT",
            "TASK_TIMEOUT",
            "UNKNOWN_QUESTION",
            "FAILED_LOADING_WIDGET",
            "TOKEN_EXPIRED",
        ],
    ),
    (
        K::ImageRejected,
        "the picture cannot be read: send a PNG or JPEG of 100 bytes to 100 kB",
        &[
            "ZERO_CAPTCHA_FILESIZE",
            "TOO_BIG_CAPTCHA_FILESIZE",
            "IMAGE_TYPE_NOT_SUPPORTED",
            "INVALID_IMAGE",
            "PARSE_IMAGE_FAIL",
            "BAD_IMGINSTRUCTIONS",
        ],
    ),
    (
        K::WrongParameters,
        "the page's parameters are wrong: check sitekey, page_url and the kind",
        &[
            "BAD_PARAMETERS",
            "BAD_REQUEST",
            "INVALID_TASK_DATA",
            "TASK_ABSENT",
            "NO_SUCH_METHOD",
            "EMPTY_COMMENT",
            "RECAPTCHA_INVALID_SITEKEY",
            "RECAPTCHA_INVALID_DOMAIN",
            "RECAPTCHA_OLD_BROWSER",
            "INCORRECT_SESSION_DATA",
            "INVISIBLE_RECAPTCHA",
            "VISIBLE_RECAPTCHA",
        ],
    ),
    (
        K::Unsupported,
        "the service does not offer this kind of captcha",
        &["TASK_NOT_SUPPORTED"],
    ),
    (
        K::ProxyFailed,
        "the proxy given for the worker does not work",
        &[
            "BAD_PROXY",
            "PROXY_CONNECT_REFUSED",
            "PROXY_CONNECT_TIMEOUT",
            "PROXY_READ_TIMEOUT",
            "PROXY_BANNED",
            "PROXY_TRANSPARENT",
            "PROXY_NOT_AUTHORISED",
            "PROXY_HAS_NO_IMAGE_SUPPORT",
            "PROXY_INCOMPATIBLE_HTTP_VERSION",
        ],
    ),
    (
        K::UnknownTask,
        "the service does not know the task: it is too old, or of another account",
        // The first is how the services spell it.
        &["NO_SUCH_CAPCHA_ID", "TASKID_INVALID"],
    ),
    (
        K::NotRecorded,
        "the service did not record the report",
        &["REPORT_NOT_RECORDED"],
    ),
];

/// Makes the error that a code stands for.
pub(crate) fn error(service: &str, code: &str) -> CaptchaError {
    let bare = code.strip_prefix("ERROR_").unwrap_or(code);
    let found = CODES.iter().find(|(_, _, codes)| codes.contains(&bare));
    let (kind, message) = match found {
        Some((kind, message, _)) => (*kind, *message),
        None => (
            K::UnknownCode,
            "the service answered an error that it does not document",
        ),
    };
    CaptchaError::new(kind, message)
        .with_service(service)
        .with_code(code)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::RetryAdvice;

    #[test]
    fn a_code_means_one_thing() {
        let mut seen = HashSet::new();
        for code in CODES.iter().flat_map(|(_, _, codes)| *codes) {
            assert!(seen.insert(code), "{code} twice");
            assert_ne!(error("s", &format!("ERROR_{code}")).kind(), K::UnknownCode);
        }
    }

    #[test]
    fn every_documented_code_is_known_and_no_other() {
        let documented = [
            // 2Captcha, 0 to 130, and reports.
            "KEY_DOES_NOT_EXIST NO_SLOT_AVAILABLE ZERO_CAPTCHA_FILESIZE TOO_BIG_CAPTCHA_FILESIZE ZERO_BALANCE \
             IP_NOT_ALLOWED CAPTCHA_UNSOLVABLE BAD_DUPLICATES NO_SUCH_METHOD IMAGE_TYPE_NOT_SUPPORTED NO_SUCH_CAPCHA_ID \
             IP_BLOCKED TASK_ABSENT TASK_NOT_SUPPORTED RECAPTCHA_INVALID_SITEKEY ACCOUNT_SUSPENDED BAD_PARAMETERS \
             BAD_IMGINSTRUCTIONS BAD_PROXY REPORT_NOT_RECORDED",
            // Anti-Captcha beside those.
            "EMPTY_COMMENT INCORRECT_SESSION_DATA PROXY_CONNECT_REFUSED PROXY_CONNECT_TIMEOUT PROXY_READ_TIMEOUT \
             PROXY_BANNED PROXY_TRANSPARENT RECAPTCHA_TIMEOUT RECAPTCHA_INVALID_DOMAIN RECAPTCHA_OLD_BROWSER TOKEN_EXPIRED \
             PROXY_HAS_NO_IMAGE_SUPPORT PROXY_INCOMPATIBLE_HTTP_VERSION PROXY_NOT_AUTHORISED INVISIBLE_RECAPTCHA \
             FAILED_LOADING_WIDGET VISIBLE_RECAPTCHA ALL_WORKERS_FILTERED SERVICE_OVERLOAD",
            // CapSolver beside those.
            "SERVICE_UNAVALIABLE RATE_LIMIT INVALID_TASK_DATA BAD_REQUEST TASKID_INVALID TASK_TIMEOUT SETTLEMENT_FAILED \
             KEY_DENIED_ACCESS UNKNOWN_QUESTION INVALID_IMAGE PARSE_IMAGE_FAIL IP_BANNED KEY_TEMP_BLOCKED",
        ];
        let documented: HashSet<&str> = documented
            .iter()
            .flat_map(|list| list.split_whitespace())
            .collect();
        let known: HashSet<&str> = CODES
            .iter()
            .flat_map(|(_, _, codes)| codes.iter().copied())
            .collect();
        assert_eq!(known, documented);
        assert_eq!(
            error("s", "ERROR_WRONG_USER_KEY").kind(),
            K::UnknownCode,
            "of the old interface"
        );
    }

    #[test]
    fn whether_another_try_helps_follows_from_the_code() {
        let retry = |code| error("s", code).retry();
        assert!(matches!(
            retry("ERROR_NO_SLOT_AVAILABLE"),
            RetryAdvice::After(_)
        ));
        assert_eq!(retry("ERROR_KEY_DOES_NOT_EXIST"), RetryAdvice::Elsewhere);
        assert_eq!(retry("ERROR_CAPTCHA_UNSOLVABLE"), RetryAdvice::Elsewhere);
        assert_eq!(retry("ERROR_RECAPTCHA_INVALID_SITEKEY"), RetryAdvice::Never);
        let odd = error("s", "ERROR_<script>\n");
        assert_eq!(odd.kind(), K::UnknownCode);
        assert!(odd.to_string().ends_with("(ERROR_script)"), "{odd}");
    }
}
