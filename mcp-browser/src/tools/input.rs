//! The tools for the mouse by coordinates and for what pages see of their surroundings.

use rmcp::{
    RoleServer, handler::server::wrapper::Parameters, model::CallToolResult,
    service::RequestContext, tool, tool_router,
};

use super::{
    BrowserTools, answer,
    core::click,
    params::{self, MediaName, PointerAct, SchemeName, View},
};
use crate::{BrowserError, BrowserErrorKind, Emulation, Place, Pointer, Viewport};

type Context = RequestContext<RoleServer>;

fn invalid(message: &'static str) -> BrowserError {
    BrowserError::new(BrowserErrorKind::InvalidInput, message)
}

impl params::Pointer {
    fn pointer(&self) -> Result<Pointer, BrowserError> {
        let place = match (&self.selector, self.x, self.y) {
            (Some(selector), None, None) => Place::Element(selector.clone()),
            (None, Some(x), Some(y)) => Place::Point { x, y },
            _ => return Err(invalid("give x and y, or a selector")),
        };
        Ok(match self.action {
            PointerAct::Move => Pointer::Move(place),
            PointerAct::Click => Pointer::Click(place, click(self.button, self.count, None)?),
            PointerAct::Drag => match (self.to_x, self.to_y) {
                (Some(x), Some(y)) => Pointer::Drag {
                    from: place,
                    to: Place::Point { x, y },
                },
                _ => return Err(invalid("drag needs to_x and to_y")),
            },
            PointerAct::Wheel => match (self.delta_x, self.delta_y) {
                (None, None) => return Err(invalid("wheel needs delta_x or delta_y")),
                (right, down) => Pointer::Wheel {
                    at: place,
                    right: right.unwrap_or(0.0),
                    down: down.unwrap_or(0.0),
                },
            },
        })
    }
}

#[tool_router(router = input_tools, vis = "pub(super)")]
impl BrowserTools {
    /// Moves the mouse, clicks, drags or turns the wheel at a point or over an element: for canvases, maps and lists that load as they are scrolled.
    #[tool(annotations(
        title = "Mouse",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn browser_pointer(
        &self,
        Parameters(params): Parameters<params::Pointer>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            session.pointer(&params.pointer()?).await?;
            answer::after(
                session,
                "done: pointer",
                params.snapshot.unwrap_or_default(),
            )
            .await
        })
        .await
    }

    /// Changes what the current tab's page sees of its surroundings: its size, screen or print, light or dark, less motion, forced colors, a slower processor.
    #[tool(annotations(
        title = "Emulate",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn browser_emulate(
        &self,
        Parameters(params): Parameters<params::Emulate>,
        context: Context,
    ) -> CallToolResult {
        self.with_session(&context, &params.session_id, async |session| {
            let viewport = match (params.width, params.height) {
                (Some(width), Some(height)) => Some(Viewport::new(width, height)),
                (None, None) => None,
                _ => return Err(invalid("give width and height together")),
            };
            let wanted = Emulation {
                viewport,
                media: params.media.map(|media| match media {
                    MediaName::Screen => "screen",
                    MediaName::Print => "print",
                }),
                color_scheme: params.color_scheme.map(|scheme| match scheme {
                    SchemeName::Light => "light",
                    SchemeName::Dark => "dark",
                }),
                reduced_motion: params.reduced_motion,
                forced_colors: params.forced_colors,
                cpu_slowdown: params.cpu_slowdown,
            };
            session.emulate(&wanted).await?;
            answer::after(session, "set", View::None).await
        })
        .await
    }
}
