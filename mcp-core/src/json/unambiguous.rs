//! Values whose meaning does not depend on who reads them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Json, JsonError};

/// What the error of a member that is there twice begins with.
const TWICE: &str = "a member is there twice";

impl Json {
    /// Decodes a value whose objects, at any depth, name each member once.
    ///
    /// Use it wherever something is decided about a value that is then passed on as it arrived: of two members of a name,
    /// one reader takes the first and another the last.
    ///
    /// # Errors
    ///
    /// [`JsonErrorKind::DuplicateMember`](super::JsonErrorKind::DuplicateMember) for a member that is there twice.
    ///
    /// # Examples
    ///
    /// ```
    /// use mcp_core::{Json, JsonErrorKind};
    ///
    /// let twice = Json::parse(r#"[{"to":"bob","to":"eve"}]"#)?;
    /// assert_eq!(twice.to_value().unwrap_err().kind(), JsonErrorKind::DuplicateMember);
    /// # Ok::<(), mcp_core::JsonError>(())
    /// ```
    pub fn to_value(&self) -> Result<Value, JsonError> {
        match serde_json::from_slice::<Strict>(self.as_bytes()) {
            Ok(Strict(value)) => Ok(value),
            Err(error) if error.to_string().starts_with(TWICE) => Err(JsonError::duplicate(error)),
            Err(error) => Err(JsonError::decode(error)),
        }
    }
}

/// A value whose objects name each member once: which of two counts is up to the server.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, own: bool) -> Result<Value, E> {
        Ok(own.into())
    }

    fn visit_i64<E>(self, own: i64) -> Result<Value, E> {
        Ok(own.into())
    }

    fn visit_u64<E>(self, own: u64) -> Result<Value, E> {
        Ok(own.into())
    }

    fn visit_f64<E>(self, own: f64) -> Result<Value, E> {
        Ok(own.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(value)) = list.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if all.insert(name, value).is_some() {
                return Err(serde::de::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::JsonErrorKind, *};

    #[test]
    fn a_member_that_is_there_twice_is_found_at_any_depth_and_in_any_spelling() {
        for (text, fits) in [
            (r#"{"a":1,"b":[{"a":2},{"a":3}]}"#, true),
            ("[1,-2,3.5,null,true,\"x\"]", true),
            (r#"{"a":1,"a":1}"#, false),
            (r#"{"a":1,"\u0061":2}"#, false),
            (r#"[[{"b":{"x":1,"x":null}}]]"#, false),
        ] {
            let value = Json::parse(text).unwrap().to_value();
            match fits {
                true => assert_eq!(value.unwrap(), serde_json::from_str::<Value>(text).unwrap()),
                false => assert_eq!(value.unwrap_err().kind(), JsonErrorKind::DuplicateMember),
            }
        }
    }
}
