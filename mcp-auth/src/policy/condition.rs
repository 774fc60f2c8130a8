use std::fmt;

use mcp_core::{Json, Request};
use serde_json::Value;

use super::Pattern;

/// What a call of a tool has to be like for a rule to count: its arguments, and what the tool says about itself.
///
/// # Examples
///
/// ```
/// use mcp_auth::policy::{Condition, Pattern};
///
/// let small = Condition::argument_at_most("/amount", 100.0);
/// let own = Condition::argument_matches("/path", Pattern::new("/home/*"));
/// let both = small.and(own).and(Condition::destructive().not());
/// # let _ = both;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Condition(Test);

#[derive(Clone, Debug)]
enum Test {
    Is(String, Value),
    Matches(String, Pattern),
    AtMost(String, f64),
    Present(String),
    ReadOnly,
    Destructive,
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

impl Condition {
    /// The argument at a place (a JSON pointer, RFC 6901) has this value.
    pub fn argument_is(place: &str, value: impl Into<Value>) -> Self {
        Self(Test::Is(place.to_owned(), value.into()))
    }

    /// The argument at a place is a text that matches. Of one with dot segments, their encodings or backslashes it cannot be
    /// told: a server may read it as another.
    pub fn argument_matches(place: &str, pattern: Pattern) -> Self {
        Self(Test::Matches(place.to_owned(), pattern))
    }

    /// The argument at a place is a number up to this one.
    pub fn argument_at_most(place: &str, most: f64) -> Self {
        Self(Test::AtMost(place.to_owned(), most))
    }

    /// There is an argument at a place.
    pub fn argument_present(place: &str) -> Self {
        Self(Test::Present(place.to_owned()))
    }

    /// The tool says that it changes nothing (`readOnlyHint`). A tool that says nothing does not fit.
    pub const fn read_only() -> Self {
        Self(Test::ReadOnly)
    }

    /// The tool may destroy something: it is not read-only, and does not say that it is harmless (`destructiveHint` is true
    /// by default).
    pub const fn destructive() -> Self {
        Self(Test::Destructive)
    }

    /// Both have to hold.
    pub fn and(self, other: Self) -> Self {
        Self(Test::And(Box::new(self.0), Box::new(other.0)))
    }

    /// One of the two has to hold.
    pub fn or(self, other: Self) -> Self {
        Self(Test::Or(Box::new(self.0), Box::new(other.0)))
    }

    /// It must not hold.
    #[allow(clippy::should_implement_trait, reason = "reads as the other two do")]
    pub fn not(self) -> Self {
        Self(Test::Not(Box::new(self.0)))
    }

    /// Returns whether a call fits; `None` where it cannot be told: the argument has another type, can be read in two ways, or
    /// the arguments name a member twice. A rule that allows then does not count, and one that denies does.
    #[must_use]
    pub fn holds(&self, request: &Request) -> Option<bool> {
        let arguments = request.param("arguments").unwrap_or(Json::EMPTY_OBJECT);
        let arguments = arguments.to_value().ok();
        self.0.holds(arguments.as_ref(), request)
    }
}

impl Test {
    fn holds(&self, arguments: Option<&Value>, request: &Request) -> Option<bool> {
        let hints = request.annotations().unwrap_or_default();
        match self {
            Self::ReadOnly => return Some(hints.read_only == Some(true)),
            Self::Destructive => {
                let harmless = hints.read_only == Some(true) || hints.destructive == Some(false);
                return Some(!harmless);
            }
            Self::Not(own) => return own.holds(arguments, request).map(|own| !own),
            Self::And(one, other) => {
                let both = (
                    one.holds(arguments, request),
                    other.holds(arguments, request),
                );
                return match both {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
            }
            Self::Or(one, other) => {
                let both = (
                    one.holds(arguments, request),
                    other.holds(arguments, request),
                );
                return match both {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                };
            }
            Self::Is(..) | Self::Matches(..) | Self::AtMost(..) | Self::Present(_) => {}
        }
        self.fits(arguments?)
    }

    /// Tests one argument.
    fn fits(&self, arguments: &Value) -> Option<bool> {
        let at = |place: &String| arguments.pointer(place).filter(|own| !own.is_null());
        match self {
            Self::Is(place, value) => Some(at(place).is_some_and(|own| same(own, value))),
            Self::Matches(place, pattern) => match at(place) {
                None => Some(false),
                Some(Value::String(own)) if !super::uri::is_ambiguous(own) => {
                    Some(pattern.matches(own))
                }
                Some(_) => None,
            },
            Self::AtMost(place, most) => match at(place) {
                None => Some(false),
                Some(own) => own.as_f64().map(|own| own <= *most),
            },
            Self::Present(place) => Some(at(place).is_some()),
            _ => None,
        }
    }
}

/// Compares values; numbers by what they are and not by how they are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

/// A rule that counts under a condition.
pub(super) struct Conditional {
    pub(super) pattern: Pattern,
    pub(super) condition: Condition,
}

impl fmt::Debug for Conditional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pattern.as_str())
    }
}
