//! Arguments whose meaning does not depend on who reads them.

use std::fmt;

use mcp_core::Json;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Reads a value whose objects name each member once; `None` for another.
pub(super) fn read(json: &Json) -> Option<Value> {
    json.decode::<Strict>().ok().map(|Strict(own)| own)
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
                return Err(serde::de::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(all))
    }
}
