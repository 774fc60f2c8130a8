//! The MCP tools.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use mcp_core::{Partition, Principal};
use rmcp::{
    RoleServer, ServerHandler,
    handler::server::wrapper::Parameters,
    model::{CallToolResult, ContentBlock, ServerCapabilities, ServerConfig},
    schemars::JsonSchema,
    service::RequestContext,
    tool, tool_handler, tool_router,
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Captcha, CaptchaError, CaptchaErrorKind, Challenge, ImageChallenge, Kind, MinScore, Reported,
    RetryAdvice, Solution, TokenChallenge, Verdict,
};

/// How many solutions can still be reported on.
const REMEMBERED: usize = 256;

/// An rmcp server with the tools `solve_captcha`, `captcha_balance` and `report_captcha`. Clones share its state.
///
/// The caller is the [`Principal`] that `mcp_core`'s adapter puts into the request; without one, as behind rmcp's own
/// stdio transport, it is [`Principal::local`].
#[derive(Clone, Debug)]
pub struct CaptchaTools {
    captcha: Captcha,
    solved: Arc<Mutex<VecDeque<(Partition, String, Solution)>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Type {
    Image,
    RecaptchaV2,
    RecaptchaV3,
    Hcaptcha,
    Turnstile,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SolveParams {
    /// What kind of captcha it is.
    #[serde(rename = "type")]
    kind: Type,
    /// The widget's public key (data-sitekey); for every type but image.
    sitekey: Option<String>,
    /// Address of the page that the widget stands on; for every type but image.
    page_url: Option<String>,
    /// The picture, PNG or JPEG in base64, at most 100 kB; for type image.
    image_base64: Option<String>,
    /// The widget shows no checkbox. Default is false.
    #[serde(default)]
    invisible: bool,
    /// The Enterprise edition of reCAPTCHA. Default is false.
    #[serde(default)]
    enterprise: bool,
    /// The action that the page names (reCAPTCHA v3, Turnstile).
    action: Option<String>,
    /// The least score to ask for (reCAPTCHA v3): 0.3, 0.7 or 0.9. Default is 0.3.
    min_score: Option<f64>,
    /// data-s of reCAPTCHA v2 or data-cdata of Turnstile.
    data: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReportParams {
    /// The solve_id that solve_captcha answered.
    solve_id: String,
    /// Whether the site took the answer.
    correct: bool,
}

impl SolveParams {
    fn challenge(self) -> Result<Challenge, CaptchaError> {
        let kind = match self.kind {
            Type::Image => return self.picture(),
            Type::RecaptchaV2 => Kind::RecaptchaV2,
            Type::RecaptchaV3 => Kind::RecaptchaV3,
            Type::Hcaptcha => Kind::HCaptcha,
            Type::Turnstile => Kind::Turnstile,
        };
        let need = |value: Option<String>, name: &str| {
            value.ok_or_else(|| {
                CaptchaError::new(
                    CaptchaErrorKind::InvalidChallenge,
                    format!("{name} is missing: type {kind} needs it"),
                )
            })
        };
        let mut token = TokenChallenge::new(
            kind,
            need(self.sitekey, "sitekey")?,
            need(self.page_url, "page_url")?,
        );
        token.invisible = self.invisible;
        token.enterprise = self.enterprise;
        token.action = self.action;
        token.min_score = self.min_score.map(MinScore::at_least).unwrap_or_default();
        match kind {
            Kind::Turnstile => token.cdata = self.data,
            _ => token.data_s = self.data,
        }
        Ok(token.into())
    }

    fn picture(self) -> Result<Challenge, CaptchaError> {
        let invalid =
            |message: &'static str| CaptchaError::new(CaptchaErrorKind::InvalidChallenge, message);
        let text = self
            .image_base64
            .ok_or_else(|| invalid("image_base64 is missing: type image needs it"))?;
        // Models like to send data URLs.
        let text = text
            .rsplit_once("base64,")
            .map_or(text.as_str(), |(_, data)| data);
        let image = BASE64_STANDARD
            .decode(text.trim())
            .map_err(|_| invalid("image_base64 is not base64 (RFC 4648, section 4)"))?;
        Ok(ImageChallenge::new(image).into())
    }
}

impl CaptchaTools {
    /// Serves captchas.
    #[must_use]
    pub fn new(captcha: Captcha) -> Self {
        Self {
            captcha,
            solved: Arc::default(),
        }
    }

    fn remember(&self, owner: Partition, solution: &Solution) -> String {
        let id = format!("{:016x}", rand::random::<u64>());
        let mut solved = self.solved.lock().unwrap_or_else(PoisonError::into_inner);
        if solved.len() == REMEMBERED {
            solved.pop_front();
        }
        solved.push_back((owner, id.clone(), solution.clone()));
        id
    }

    fn remembered(&self, owner: Partition, id: &str) -> Option<Solution> {
        let solved = self.solved.lock().unwrap_or_else(PoisonError::into_inner);
        let found = solved
            .iter()
            .find(|(own, known, _)| *own == owner && known == id);
        found.map(|(_, _, solution)| solution.clone())
    }
}

fn caller(context: &RequestContext<RoleServer>) -> Principal {
    let found = context.extensions.get::<Principal>();
    found.cloned().unwrap_or_else(Principal::local)
}

#[tool_router]
impl CaptchaTools {
    /// Solves a captcha through a paid service and answers its text or token, what it cost, and a solve_id.
    /// Takes 5 to 120 seconds. Only for sites that the operator has allowed.
    #[tool(annotations(
        title = "Solve a captcha",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn solve_captcha(
        &self,
        Parameters(params): Parameters<SolveParams>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let principal = caller(&context);
        let result = match params.challenge() {
            Ok(challenge) => tokio::select! {
                result = self.captcha.solve(&principal, &challenge) => result,
                () = context.ct.cancelled() => {
                    Err(CaptchaError::new(CaptchaErrorKind::Timeout, "the call was cancelled"))
                }
            },
            Err(error) => Err(error),
        };
        match result {
            Ok(solution) => {
                let id = self.remember(principal.partition(), &solution);
                let mut answer =
                    CallToolResult::success(vec![ContentBlock::text(solution.answer.clone())]);
                answer.structured_content = Some(json!({
                    "answer": solution.answer,
                    "solve_id": id,
                    "service": solution.service,
                    "cost_usd": solution.spent.to_string(),
                    "user_agent": solution.user_agent,
                }));
                answer
            }
            Err(error) => failure(&error),
        }
    }

    /// Answers what is left in the accounts of the captcha services, and what you have spent.
    #[tool(annotations(
        title = "Captcha balance",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn captcha_balance(&self, context: RequestContext<RoleServer>) -> CallToolResult {
        let balances = match self.captcha.balance().await {
            Ok(balances) => balances,
            Err(error) => return failure(&error),
        };
        let spent = match self.captcha.spending() {
            Some(spending) => match spending.of(caller(&context).partition()).await {
                Ok(spent) => Some(spent),
                Err(error) => return failure(&error),
            },
            None => None,
        };
        let mut text: Vec<String> = balances
            .iter()
            .map(|balance| format!("{}: {} USD", balance.service, balance.amount))
            .collect();
        if let Some(spent) = &spent {
            text.push(format!(
                "spent by you: {} USD today, {} USD in total",
                spent.day, spent.total
            ));
        }
        let services: serde_json::Map<_, _> = balances
            .into_iter()
            .map(|balance| (balance.service, balance.amount.to_string().into()))
            .collect();
        let mut answer = CallToolResult::success(vec![ContentBlock::text(text.join("\n"))]);
        answer.structured_content = Some(json!({
            "balance_usd": services,
            "spent_today_usd": spent.map(|spent| spent.day.to_string()),
            "spent_total_usd": spent.map(|spent| spent.total.to_string()),
        }));
        answer
    }

    /// Tells the service whether a site took its answer; services refund wrong ones.
    #[tool(annotations(
        title = "Report a captcha answer",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = true
    ))]
    async fn report_captcha(
        &self,
        Parameters(params): Parameters<ReportParams>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let Some(solution) = self.remembered(caller(&context).partition(), &params.solve_id) else {
            return failure(&CaptchaError::new(
                CaptchaErrorKind::UnknownTask,
                "solve_id is not one that solve_captcha answered you lately",
            ));
        };
        let verdict = if params.correct {
            Verdict::Correct
        } else {
            Verdict::Incorrect
        };
        match self.captcha.report(&solution, verdict).await {
            Ok(Reported::Recorded) => CallToolResult::success(vec![ContentBlock::text("recorded")]),
            Ok(Reported::NotOffered) => CallToolResult::success(vec![ContentBlock::text(format!(
                "{} takes no such report for {}",
                solution.service, solution.kind
            ))]),
            Err(error) => failure(&error),
        }
    }
}

/// Says what happened and what may help, as a tool's own error.
fn failure(error: &CaptchaError) -> CallToolResult {
    let help = match error.retry() {
        RetryAdvice::Never => "another try will not help".to_owned(),
        RetryAdvice::After(wait) => format!("try again in {} s", wait.as_secs().max(1)),
        RetryAdvice::Elsewhere => {
            "the configured services cannot do it now: ask a person".to_owned()
        }
    };
    let mut answer = CallToolResult::error(vec![ContentBlock::text(format!("{error}; {help}"))]);
    answer.structured_content = Some(json!({
        "error": error.kind().name(),
        "code": error.code(),
        "service": error.service(),
        "spent_usd": error.spent().to_string(),
    }));
    answer
}

#[tool_handler]
impl ServerHandler for CaptchaTools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}
