//! The mouse by coordinates: for canvases, maps, and what has no element of its own.

use std::time::Duration;

use super::{Click, Session, settle::Rounds};
use crate::{BrowserError, BrowserErrorKind, page::Page};

/// Where the mouse goes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Place {
    /// A point of what can be seen, in CSS pixels from its upper left corner.
    Point {
        /// From the left.
        x: f64,
        /// From the top.
        y: f64,
    },
    /// The middle of an element: a reference or a selector.
    Element(String),
}

/// What the mouse does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Pointer {
    /// Goes somewhere.
    Move(Place),
    /// Goes somewhere and clicks. Modifiers are not held.
    Click(Place, Click),
    /// Presses the left button at one place, goes to another, and lets go.
    Drag {
        /// Where it is pressed.
        from: Place,
        /// Where it lets go.
        to: Place,
    },
    /// Turns the wheel somewhere.
    Wheel {
        /// Where.
        at: Place,
        /// CSS pixels to the right.
        right: f64,
        /// CSS pixels down.
        down: f64,
    },
}

/// In how many steps the mouse is dragged: pages look at the way.
const STEPS: u32 = 8;

impl Session {
    /// Moves the mouse, clicks, drags or turns the wheel at a place.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a point outside of what can be seen, and as [`Session::act`] for an element.
    pub async fn pointer(&self, pointer: &Pointer) -> Result<(), BrowserError> {
        let limit = self.action_timeout() + self.settle_timeout() + Duration::from_secs(2);
        let work = async {
            self.no_dialog()?;
            let (tab, page) = self.page()?;
            let begun = self.begin();
            self.unless_dialog(async {
                self.point(tab, &page, pointer).await?;
                self.settle(&page, &begun, Rounds::Action).await;
                Ok(())
            })
            .await
        };
        self.run("browser.pointer", "", limit, work).await
    }

    async fn point(&self, tab: u32, page: &Page, pointer: &Pointer) -> Result<(), BrowserError> {
        match pointer {
            Pointer::Move(place) => {
                let at = self.point_of(tab, page, place).await?;
                page.mouse_move(at, 1).await
            }
            Pointer::Click(place, click) => {
                let at = self.point_of(tab, page, place).await?;
                page.mouse_click(at, click).await
            }
            Pointer::Drag { from, to } => {
                let from = self.point_of(tab, page, from).await?;
                let to = self.point_of(tab, page, to).await?;
                page.mouse_move(from, 1).await?;
                page.mouse_button("mouseDown").await?;
                let moved = page.mouse_move(to, STEPS).await;
                // A button that stays down would be part of every later action.
                page.mouse_button("mouseUp").await?;
                moved
            }
            Pointer::Wheel { at, right, down } => {
                let at = self.point_of(tab, page, at).await?;
                page.mouse_move(at, 1).await?;
                page.mouse_wheel(*right, *down).await
            }
        }
    }

    async fn point_of(
        &self,
        tab: u32,
        page: &Page,
        place: &Place,
    ) -> Result<(f64, f64), BrowserError> {
        let target = match place {
            Place::Point { x, y } => {
                let (width, height): (f64, f64) = page
                    .evaluate("() => [innerWidth, innerHeight]", None::<&()>)
                    .await?;
                if (0.0..width).contains(x) && (0.0..height).contains(y) {
                    return Ok((*x, *y));
                }
                let message = format!(
                    "the point is outside of what can be seen, which is {width} x {height}: turn the wheel first"
                );
                return Err(BrowserError::new(BrowserErrorKind::InvalidInput, message));
            }
            Place::Element(target) => target,
        };
        let element = self.locate(tab, page, target)?;
        match element.middle().await {
            Err(error) if error.kind() == BrowserErrorKind::Timeout => {
                Err(self.why_not(&element, target, error).await)
            }
            found => found,
        }
    }
}
