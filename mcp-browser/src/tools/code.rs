//! The tools for tests: actions as a script, and checks.

use rmcp::{
    RoleServer, handler::server::wrapper::Parameters, model::CallToolResult,
    service::RequestContext, tool, tool_router,
};

use super::{
    BrowserTools,
    answer::{paced, text},
    params::{Code, CodeAct, Expect, LanguageName, ThatName},
};
use crate::{BrowserError, BrowserErrorKind, Expectation, Language};

type Context = RequestContext<RoleServer>;

impl Expect {
    fn expectation(&self) -> Result<Expectation, BrowserError> {
        let invalid =
            |message: &'static str| BrowserError::new(BrowserErrorKind::InvalidInput, message);
        let value = || {
            let value = self.value.clone();
            value.ok_or_else(|| invalid("value is missing: this check needs it"))
        };
        Ok(match self.that {
            ThatName::Visible => Expectation::Visible,
            ThatName::Hidden => Expectation::Hidden,
            ThatName::Text => Expectation::Text(value()?),
            ThatName::ContainsText => Expectation::ContainsText(value()?),
            ThatName::Value => Expectation::Value(value()?),
            ThatName::Checked => Expectation::Checked,
            ThatName::Enabled => Expectation::Enabled,
            ThatName::Count => {
                let count = value()?.trim().parse();
                Expectation::Count(count.map_err(|_| invalid("value is not a number"))?)
            }
        })
    }
}

#[tool_router(router = code_tools, vis = "pub(super)")]
impl BrowserTools {
    /// Writes the session's actions down from now on, or answers them as a Playwright script in TypeScript or Python.
    #[tool(annotations(
        title = "Actions as a script",
        read_only_hint = false,
        destructive_hint = false,
        open_world_hint = false
    ))]
    async fn browser_code(
        &self,
        Parameters(params): Parameters<Code>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            if params.action == CodeAct::Start {
                session.start_recording();
                return Ok(text("actions are written down from now on"));
            }
            let language = match params.language.unwrap_or(LanguageName::Typescript) {
                LanguageName::Typescript => Language::TypeScript,
                LanguageName::Python => Language::Python,
            };
            Ok(text(session.recorded(language)?))
        })
        .await
    }

    /// Checks an element: visible, hidden, text, value, checked, enabled, or how many match. Waits for a while until it holds, and fails with what was found instead.
    #[tool(annotations(
        title = "Check an element",
        read_only_hint = true,
        open_world_hint = true
    ))]
    async fn browser_expect(
        &self,
        Parameters(params): Parameters<Expect>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let session = paced(session, params.timeout_ms, None)?;
            let expectation = params.expectation()?;
            let not = params.not.unwrap_or(false);
            session.expect(&params.selector, &expectation, not).await?;
            Ok(text("as expected"))
        })
        .await
    }
}
