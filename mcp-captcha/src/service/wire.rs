//! Reading what services answer: numbers as numbers or texts, missing fields, pages of HTML.

use mcp_core::Amount;
use serde_json::{Map, Value};

use crate::TaskId;

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not begun, or being worked on.
    Processing,
    /// Done.
    Ready,
    /// A state that is in no document, such as `failed`: nothing will come of it.
    Unknown,
}

/// An answer of any of the methods.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// `taskId`
    pub(crate) task_id: Option<TaskId>,
    /// `status`
    pub(crate) status: Option<Status>,
    /// `solution`
    pub(crate) solution: Map<String, Value>,
    /// `cost`
    pub(crate) cost: Option<Amount>,
    /// `balance`
    pub(crate) balance: Option<Amount>,
}

/// Why an answer is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The service answered an error; this is its code.
    Code(String),
    /// This is not the protocol.
    Malformed(&'static str),
}

impl Answer {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`NoAnswer`] if it holds an error, or is nothing of the sort.
    pub(crate) fn read(body: &[u8]) -> Result<Self, NoAnswer> {
        let value: Value = serde_json::from_slice(body).map_err(|_| {
            let start = body.trim_ascii_start();
            NoAnswer::Malformed(match start.first() {
                Some(b'<') => "the service answered a web page instead of JSON",
                None => "the service answered nothing",
                Some(_) => "the service answered something that is not JSON",
            })
        })?;
        let Value::Object(mut fields) = value else {
            return Err(NoAnswer::Malformed("the service's answer is not an object"));
        };
        let id = fields.get("errorId").and_then(number);
        let code = fields.get("errorCode").and_then(Value::as_str);
        match (id, code) {
            (Some(0), None | Some("" | "0" | "SUCCESS")) => {}
            (_, Some(code)) if !code.is_empty() => return Err(NoAnswer::Code(code.to_owned())),
            (Some(0), _) => {}
            (Some(number), _) => return Err(NoAnswer::Code(format!("ERROR_{number}"))),
            (None, _) => return Err(NoAnswer::Malformed("the service's answer has no errorId")),
        }
        let solution = match fields.remove("solution") {
            Some(Value::Object(solution)) => solution,
            _ => Map::new(),
        };
        Ok(Self {
            task_id: fields.get("taskId").and_then(task_id),
            status: fields.get("status").and_then(Value::as_str).map(status),
            solution,
            cost: fields.get("cost").and_then(amount),
            balance: fields.get("balance").and_then(amount),
        })
    }

    /// The text or the token, wherever the kind has it.
    #[must_use]
    pub(crate) fn solution_text(&self) -> Option<String> {
        let fields = ["gRecaptchaResponse", "token", "text"];
        let text = fields
            .iter()
            .find_map(|field| match self.solution.get(*field)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })?;
        (!text.trim().is_empty()).then_some(text)
    }

    /// The user agent that the token has to be used with.
    #[must_use]
    pub(crate) fn user_agent(&self) -> Option<String> {
        self.solution
            .get("userAgent")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty() && text.len() <= 1024)
            .map(str::to_owned)
    }
}

fn status(text: &str) -> Status {
    match text {
        "ready" => Status::Ready,
        "processing" | "idle" => Status::Processing,
        _ => Status::Unknown,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn task_id(value: &Value) -> Option<TaskId> {
    match value {
        Value::Number(number) => number.as_u64().map(TaskId::Number),
        Value::String(text) if (1..=128).contains(&text.len()) => Some(TaskId::Text(text.clone())),
        _ => None,
    }
}

/// Reads dollars. What is below nothing is nothing.
fn amount(value: &Value) -> Option<Amount> {
    let dollars: f64 = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let micros = (dollars * 1e6).round();
    // A cast of a float stops at the ends of the range.
    dollars
        .is_finite()
        .then_some(Amount::micros(micros.max(0.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_texts() {
        let one =
            Answer::read(br#"{"errorId":0,"taskId":72345678901,"cost":"0.00299","balance":10.5}"#);
        let two = Answer::read(
            br#"{"errorId":"0","taskId":72345678901,"cost":0.00299,"balance":"10.5"}"#,
        );
        assert_eq!(one, two);
        let one = one.unwrap();
        assert_eq!(one.cost, Some(Amount::micros(2990)));
        assert_eq!(one.task_id, Some(TaskId::Number(72_345_678_901)));
        let text =
            Answer::read(br#"{"errorId":0,"taskId":"37223a89-06ed-442c-a0b8-22067b79c5b4"}"#)
                .unwrap();
        assert!(matches!(text.task_id, Some(TaskId::Text(_))));
    }

    #[test]
    fn what_is_not_the_protocol_is_said_to_be_so() {
        for body in [
            "<html>502</html>",
            "",
            "OK|123",
            "[]",
            "{}",
            "null",
            r#"{"errorId":true}"#,
            "\u{feff}{}",
        ] {
            assert!(
                matches!(Answer::read(body.as_bytes()), Err(NoAnswer::Malformed(_))),
                "{body}"
            );
        }
        let code = |body: &str| Answer::read(body.as_bytes()).unwrap_err();
        assert_eq!(
            code(r#"{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST"}"#),
            NoAnswer::Code("ERROR_KEY_DOES_NOT_EXIST".into())
        );
        assert_eq!(code(r#"{"errorId":12}"#), NoAnswer::Code("ERROR_12".into()));
        assert_eq!(
            code(r#"{"errorId":0,"errorCode":"ERROR_X"}"#),
            NoAnswer::Code("ERROR_X".into())
        );
    }

    #[test]
    fn amounts_do_not_overflow() {
        for (text, micros) in [
            ("-3", 0),
            ("1e300", u64::MAX),
            ("\"NaN\"", u64::MAX),
            ("\"inf\"", u64::MAX),
        ] {
            let body = format!(r#"{{"errorId":0,"balance":{text}}}"#);
            let balance = Answer::read(body.as_bytes()).unwrap().balance;
            if text.contains('"') {
                assert_eq!(balance, None);
            } else {
                assert_eq!(balance, Some(Amount::micros(micros)));
            }
        }
    }
}
