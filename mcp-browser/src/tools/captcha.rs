//! The captcha tools.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use mcp_captcha::{Captcha, CaptchaError, CaptchaErrorKind, Kind, RetryAdvice, Sites, Verdict};
use rmcp::{
    ErrorData, RoleServer, ServiceError,
    handler::server::{tool::InputResponses, wrapper::Parameters},
    model::{
        CallToolResponse, CallToolResult, ContentBlock, InputRequest, InputRequiredResult,
        ProtocolVersion,
    },
    service::RequestContext,
    tool, tool_router,
};
use serde_json::{Value, json};

use super::{
    BrowserTools,
    answer::{self, failure, text},
    caller,
    params::Only,
};
use crate::{BrowserError, BrowserErrorKind, CaptchaOutcome, FoundCaptcha, Mode, Session};

/// The key of the question to a person.
const QUESTION: &str = "captcha";
/// The largest picture that is put into the question itself, in bytes.
const INLINE: usize = 12 * 1024;
/// How many pictures are kept for people to look at.
const PICTURES: usize = 64;

/// Pictures for people to look at, and the sites on which captchas may be dealt with.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    sites: Sites,
    kept: Mutex<HashMap<String, Bytes>>,
}

impl Pictures {
    pub(super) fn new(sites: Sites) -> Self {
        Self {
            sites,
            kept: Mutex::default(),
        }
    }

    pub(super) fn get(&self, session: &str) -> Option<Bytes> {
        self.lock().get(session).cloned()
    }

    fn put(&self, session: &str, picture: Bytes) {
        let mut kept = self.lock();
        if kept.len() >= PICTURES {
            kept.clear();
        }
        kept.insert(session.to_owned(), picture);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Bytes>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, serde::Deserialize, rmcp::schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Solve {
    /// The session, as browser_create_session answered it.
    session_id: String,
    /// Which of the captchas that browser_detect_captcha listed. Default is 0, the first.
    index: Option<usize>,
    /// Asks a person even where a service is configured. Default is false.
    person: Option<bool>,
}

#[tool_router(router = captcha_tools, vis = "pub(super)")]
impl BrowserTools {
    /// Lists the captchas on the page: kind, site key, and what a solver needs.
    #[tool(annotations(
        title = "Detect captchas",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_detect_captcha(
        &self,
        Parameters(params): Parameters<Only>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let found = async {
            let session = self.session(&context, &params.session_id)?;
            let found = session.detect_captchas().await?;
            Ok((found, session.other_captchas().await?))
        };
        match found.await {
            Ok((found, others)) => {
                let mut said = match found.len() {
                    0 => "no captcha that can be dealt with here".to_owned(),
                    _ => serde_json::to_string_pretty(&found).unwrap_or_default(),
                };
                if !others.is_empty() {
                    let others = others.join(", ");
                    said.push_str(&format!(
                        "\nof other kinds, for a person at a window: {others}"
                    ));
                }
                let mut answer = text(said);
                answer.structured_content = Some(json!({ "captchas": found, "others": others }));
                answer
            }
            Err(error) => failure(&error),
        }
    }

    /// Solves a captcha on the page, submits the answer and checks the result: through the configured service, or by asking a person. Only on sites that the operator has allowed.
    #[tool(annotations(
        title = "Solve a captcha on the page",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn browser_solve_captcha(
        &self,
        Parameters(params): Parameters<Solve>,
        InputResponses(given): InputResponses,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let prepared = async {
            let session = self.session(&context, &params.session_id)?;
            let mut found = session.detect_captchas().await?;
            let index = params.index.unwrap_or(0);
            if index >= found.len() {
                let message = format!(
                    "there are {} captchas on the page, and none with index {index}",
                    found.len()
                );
                return Err(BrowserError::new(BrowserErrorKind::InvalidInput, message));
            }
            let captcha = found.swap_remove(index);
            // The page, and the frame where it is in one.
            for url in std::iter::once(&captcha.page_url).chain(&captcha.frame_url) {
                let checked = self.pictures.sites.check(url);
                checked.map_err(|error| denied(&error))?;
            }
            Ok((session, captcha))
        };
        let (session, found) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => return Ok(failure(&error).into()),
        };
        if let Some(captcha) = self
            .captcha
            .as_ref()
            .filter(|_| params.person != Some(true))
        {
            match self.by_service(captcha, &session, &found, &context).await {
                Ok(answer) => return Ok(answer.into()),
                // Where no service can, a person may.
                Err(Failed::Service(error))
                    if error.retry() == RetryAdvice::Elsewhere && can_ask(&context) => {}
                Err(Failed::Service(error)) => return Ok(failure(&denied(&error)).into()),
                Err(Failed::Browser(error)) => return Ok(failure(&error).into()),
            }
        }
        self.by_person(&session, &found, given, &context).await
    }
}

enum Failed {
    Service(CaptchaError),
    Browser(BrowserError),
}

impl From<BrowserError> for Failed {
    fn from(error: BrowserError) -> Self {
        Self::Browser(error)
    }
}

/// A captcha error in the words of the browser's errors.
fn denied(error: &CaptchaError) -> BrowserError {
    let kind = match error.kind() {
        CaptchaErrorKind::SiteNotAllowed | CaptchaErrorKind::BudgetExhausted => {
            BrowserErrorKind::Denied
        }
        CaptchaErrorKind::RateLimited => BrowserErrorKind::LimitReached,
        _ => BrowserErrorKind::Driver,
    };
    BrowserError::new(kind, error.to_string())
}

impl BrowserTools {
    async fn by_service(
        &self,
        captcha: &Captcha,
        session: &Session,
        found: &FoundCaptcha,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, Failed> {
        let challenge = session.captcha_challenge(found).await?;
        let solution = captcha
            .solve(&caller(context), &challenge)
            .await
            .map_err(Failed::Service)?;
        // The answer counts only together with the user agent that it was given for.
        if let Some(user_agent) = &solution.user_agent {
            session.adopt_user_agent(user_agent).await?;
        }
        let came = session.submit_captcha(found, &solution.answer).await?;
        // What the page has not said is not reported.
        let verdict = match came {
            CaptchaOutcome::Accepted => Some(Verdict::Correct),
            CaptchaOutcome::Rejected => Some(Verdict::Incorrect),
            CaptchaOutcome::Unknown => None,
        };
        // The answer has been paid; whether the report arrives changes nothing for the caller.
        if let Some(verdict) = verdict
            && let Err(error) = captcha.report(&solution, verdict).await
        {
            tracing::info!(%error, "a captcha report was not taken");
        }
        Ok(outcome(
            came,
            &format!("by {} for {} USD", solution.service, solution.spent),
        ))
    }

    /// Asks a person: to read a picture, or to deal with a widget in the window of a headed session.
    async fn by_person(
        &self,
        session: &Session,
        found: &FoundCaptcha,
        given: Option<rmcp::model::InputResponses>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if found.kind != Kind::Image && session.mode() != Mode::Headed {
            return Ok(refused(
                "a person can deal with this captcha only in a window: no service is configured for it; \
                 create the session with mode headed, or do without",
            ));
        }
        if !can_ask(context) {
            return Ok(refused(
                "this captcha needs a person, and your client cannot ask one (it has no elicitation)",
            ));
        }
        let stateless = context
            .meta
            .protocol_version()
            .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        let answered = given.and_then(|given| given.get(QUESTION).cloned());
        let answered = match answered {
            Some(answer) => answer,
            None => {
                let picture = match session.captcha_picture(found).await {
                    Ok(picture) => picture,
                    Err(error) => return Ok(failure(&error).into()),
                };
                let question = question(session.id(), found, &picture);
                self.pictures.put(session.id(), picture);
                if stateless {
                    let questions = [(QUESTION.to_owned(), question)].into();
                    let wanted = InputRequiredResult::new(Some(questions), None);
                    return Ok(CallToolResponse::InputRequired(wanted));
                }
                put(question, context).await?
            }
        };
        if answered["action"] != "accept" {
            return Ok(refused("the person did not want to"));
        }
        let text = answered["content"]["answer"].as_str().unwrap_or_default();
        Ok(match hand_over(session, found, text).await {
            Ok(came) => outcome(came, "by a person").into(),
            Err(error) => failure(&error).into(),
        })
    }
}

fn refused(why: &'static str) -> CallToolResponse {
    failure(&BrowserError::new(BrowserErrorKind::Denied, why)).into()
}

/// Types what a person has read, or looks whether they have dealt with a widget.
async fn hand_over(
    session: &Session,
    found: &FoundCaptcha,
    text: &str,
) -> Result<CaptchaOutcome, BrowserError> {
    if found.kind == Kind::Image {
        return session.submit_captcha(found, text).await;
    }
    Ok(match session.captcha_is_answered(found).await? {
        true => CaptchaOutcome::Accepted,
        false => CaptchaOutcome::Rejected,
    })
}

fn outcome(came: CaptchaOutcome, how: &str) -> CallToolResult {
    let said = match came {
        CaptchaOutcome::Accepted => "and the page has taken the answer",
        CaptchaOutcome::Rejected => "but the page holds no answer: take a snapshot and look",
        CaptchaOutcome::Unknown => "and the answer stands in the page: send its form, and look",
    };
    let said = vec![ContentBlock::text(format!("solved {how}, {said}"))];
    let mut answer = match came {
        CaptchaOutcome::Rejected => CallToolResult::error(said),
        _ => CallToolResult::success(said),
    };
    answer.structured_content = Some(json!({ "outcome": came }));
    answer
}

fn can_ask(context: &RequestContext<RoleServer>) -> bool {
    context
        .client_capabilities()
        .is_some_and(|capabilities| capabilities.elicitation.is_some())
}

fn question(session: &str, found: &FoundCaptcha, picture: &Bytes) -> InputRequest {
    let mut message = match found.kind {
        Kind::Image => format!("{} asks what this picture says.", found.page_url),
        kind => format!(
            "{} asks for a captcha ({kind}). Please deal with it in the browser window, then accept.",
            found.page_url
        ),
    };
    message.push_str(&format!(" Picture: browser://{session}/captcha.png"));
    if picture.len() <= INLINE {
        message.push_str(&format!(
            "\n\n![captcha](data:image/png;base64,{})",
            answer::base64(picture)
        ));
    }
    let schema = match found.kind {
        Kind::Image => json!({ "type": "object", "properties": {
            "answer": { "type": "string", "title": "Answer", "description": "What the picture says", "minLength": 1 } }, "required": ["answer"] }),
        _ => json!({ "type": "object", "properties": {} }),
    };
    let params = json!({ "mode": "form", "message": message, "requestedSchema": schema });
    let request = json!({ "method": "elicitation/create", "params": params });
    serde_json::from_value(request).expect("the question has the shape of one")
}

async fn put(
    question: InputRequest,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    let InputRequest::Elicitation(request) = question else {
        return Err(ErrorData::internal_error(
            "not a question to a person",
            None,
        ));
    };
    match context.peer.create_elicitation(request.params).await {
        Ok(answer) => serde_json::to_value(answer)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None)),
        Err(ServiceError::McpError(error)) => Err(error),
        Err(error) => Err(ErrorData::internal_error(error.to_string(), None)),
    }
}
