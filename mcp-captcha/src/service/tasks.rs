//! Bodies of requests, as each service documents them.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::profile::{Profile, Vendor};
use crate::{
    Challenge, Kind, Solution, TaskId, TokenChallenge, Verdict,
    challenge::{Charset, ImageChallenge, TaskProxy},
};

/// A task under construction; fields that are not set are left out.
struct Task(Map<String, Value>);

impl Task {
    fn new(kind: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("type".into(), kind.into());
        Self(fields)
    }

    fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.into(), value.into());
        self
    }

    fn set_if(self, condition: bool, field: &str, value: impl Into<Value>) -> Self {
        if condition {
            self.set(field, value)
        } else {
            self
        }
    }

    fn set_some(self, field: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(field, value),
            None => self,
        }
    }
}

/// The body of `createTask` without the key; `None` where the service has no such task.
pub(super) fn create(profile: &Profile, challenge: &Challenge) -> Option<Value> {
    let task = match (challenge, profile.vendor) {
        (Challenge::Image(image), Vendor::CapSolver) => Task::new("ImageToTextTask")
            .set("body", BASE64_STANDARD.encode(&image.image))
            .set_if(image.case_sensitive, "case", true),
        (Challenge::Image(image), Vendor::TwoCaptcha | Vendor::AntiCaptcha) => picture(image),
        (Challenge::Token(token), Vendor::CapSolver) => capsolver(token)?,
        (Challenge::Token(token), vendor) => classic(token, vendor)?,
    };
    Some(json!({ "task": task.0 }))
}

fn picture(image: &ImageChallenge) -> Task {
    let numeric = match image.charset {
        Charset::Any => 0,
        Charset::Digits => 1,
        Charset::Letters => 2,
    };
    Task::new("ImageToTextTask")
        .set("body", BASE64_STANDARD.encode(&image.image))
        .set("phrase", image.phrase)
        .set("case", image.case_sensitive)
        .set("numeric", numeric)
        .set("math", image.math)
        .set("minLength", image.min_length)
        .set("maxLength", image.max_length)
        .set_some("comment", image.comment.clone())
}

/// 2Captcha and Anti-Captcha name their tasks alike.
fn classic(token: &TokenChallenge, vendor: Vendor) -> Option<Task> {
    let (plain, enterprise) = match token.kind {
        Kind::RecaptchaV2 => ("RecaptchaV2", "RecaptchaV2Enterprise"),
        // The Enterprise edition of v3 is a flag.
        Kind::RecaptchaV3 => ("RecaptchaV3", "RecaptchaV3"),
        Kind::HCaptcha => ("HCaptcha", "HCaptcha"),
        Kind::Turnstile => ("Turnstile", "Turnstile"),
        Kind::Image => return None,
    };
    let stem = if token.enterprise { enterprise } else { plain };
    // Neither offers v3 with a proxy.
    let proxy = token
        .proxy
        .as_ref()
        .filter(|_| token.kind != Kind::RecaptchaV3);
    let suffix = if proxy.is_some() {
        "Task"
    } else {
        "TaskProxyless"
    };
    let task = Task::new(&format!("{stem}{suffix}"))
        .set("websiteURL", token.page_url.clone())
        .set("websiteKey", token.site_key.clone());
    let task = match token.kind {
        Kind::RecaptchaV2 => task
            .set_if(token.invisible, "isInvisible", true)
            .set_some("recaptchaDataSValue", token.data_s.clone())
            .set_some("apiDomain", token.api_domain.clone())
            .set_some("enterprisePayload", payload(token)),
        Kind::RecaptchaV3 => task
            .set("minScore", token.min_score.value())
            .set_some("pageAction", token.action.clone())
            .set_if(token.enterprise, "isEnterprise", true)
            .set_some("apiDomain", token.api_domain.clone()),
        Kind::HCaptcha => task.set_if(token.invisible, "isInvisible", true),
        Kind::Turnstile => {
            let (data, page) = match vendor {
                Vendor::TwoCaptcha => ("data", "pagedata"),
                Vendor::AntiCaptcha | Vendor::CapSolver => ("cData", "chlPageData"),
            };
            task.set_some("action", token.action.clone())
                .set_some(data, token.cdata.clone())
                .set_some(page, token.page_data.clone())
        }
        Kind::Image => return None,
    };
    let task = task.set_some("userAgent", token.user_agent.clone());
    Some(match proxy {
        Some(proxy) => with_proxy(task, proxy),
        None => task,
    })
}

/// What goes with a widget of the Enterprise edition, and with no other.
fn payload(token: &TokenChallenge) -> Option<Value> {
    token
        .enterprise_payload
        .clone()
        .filter(|_| token.enterprise)
}

fn with_proxy(task: Task, proxy: &TaskProxy) -> Task {
    let task = task
        .set("proxyType", proxy.scheme.clone())
        .set("proxyAddress", proxy.host.clone())
        .set("proxyPort", proxy.port);
    match &proxy.login {
        Some((login, password)) => task
            .set("proxyLogin", login.clone())
            .set("proxyPassword", password.secret()),
        None => task,
    }
}

fn capsolver(token: &TokenChallenge) -> Option<Task> {
    let stem = match (token.kind, token.enterprise) {
        (Kind::RecaptchaV2, false) => "ReCaptchaV2Task",
        (Kind::RecaptchaV2, true) => "ReCaptchaV2EnterpriseTask",
        (Kind::RecaptchaV3, false) => "ReCaptchaV3Task",
        (Kind::RecaptchaV3, true) => "ReCaptchaV3EnterpriseTask",
        (Kind::Turnstile, _) => "AntiTurnstileTask",
        (Kind::HCaptcha | Kind::Image, _) => return None,
    };
    // Turnstile is offered without a proxy only.
    let proxy = token
        .proxy
        .as_ref()
        .filter(|_| token.kind != Kind::Turnstile);
    let suffix = if proxy.is_some() { "" } else { "ProxyLess" };
    let task = Task::new(&format!("{stem}{suffix}"))
        .set("websiteURL", token.page_url.clone())
        .set("websiteKey", token.site_key.clone())
        .set_some("proxy", proxy.map(proxy_text));
    Some(match token.kind {
        Kind::Turnstile => {
            let mut metadata = Map::new();
            for (field, value) in [("action", &token.action), ("cdata", &token.cdata)] {
                if let Some(value) = value {
                    metadata.insert(field.into(), value.clone().into());
                }
            }
            task.set_if(!metadata.is_empty(), "metadata", metadata)
        }
        _ => task
            .set_if(
                token.invisible && token.kind == Kind::RecaptchaV2,
                "isInvisible",
                true,
            )
            .set_some("pageAction", token.action.clone())
            .set_some("recaptchaDataSValue", token.data_s.clone())
            .set_some("enterprisePayload", payload(token))
            .set_some("apiDomain", token.api_domain.clone())
            .set_some("userAgent", token.user_agent.clone()),
    })
}

fn proxy_text(proxy: &TaskProxy) -> String {
    let TaskProxy {
        scheme,
        host,
        port,
        login,
    } = proxy;
    match login {
        Some((login, password)) => format!("{scheme}:{host}:{port}:{login}:{}", password.secret()),
        None => format!("{scheme}:{host}:{port}"),
    }
}

/// The method and the body of a report, without the key; `None` where the service takes none for the kind.
pub(super) fn report(
    profile: &Profile,
    solution: &Solution,
    verdict: Verdict,
) -> Option<(&'static str, Value)> {
    let recaptcha = matches!(solution.kind, Kind::RecaptchaV2 | Kind::RecaptchaV3);
    let method = match (profile.vendor, verdict) {
        (Vendor::TwoCaptcha, Verdict::Correct) => "reportCorrect",
        (Vendor::TwoCaptcha, Verdict::Incorrect) => "reportIncorrect",
        (Vendor::AntiCaptcha, Verdict::Correct) if recaptcha => "reportCorrectRecaptcha",
        (Vendor::AntiCaptcha, Verdict::Incorrect) if recaptcha => "reportIncorrectRecaptcha",
        (Vendor::AntiCaptcha, Verdict::Incorrect) if solution.kind == Kind::Image => {
            "reportIncorrectImageCaptcha"
        }
        (Vendor::AntiCaptcha, Verdict::Incorrect) if solution.kind == Kind::HCaptcha => {
            "reportIncorrectHcaptcha"
        }
        (Vendor::AntiCaptcha, _) => return None,
        (Vendor::CapSolver, _) => {
            // A task that was answered at once has no id to speak of.
            if matches!(&solution.task, TaskId::Text(text) if text.is_empty()) {
                return None;
            }
            let result = json!({ "invalid": verdict == Verdict::Incorrect });
            return Some((
                "feedbackTask",
                json!({ "taskId": solution.task, "result": result }),
            ));
        }
    };
    Some((method, json!({ "taskId": solution.task })))
}
