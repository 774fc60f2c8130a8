use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap as _, SerializeSeq as _},
};
use zeroize::Zeroizing;

/// A document that keeps the order of its members, which the seal of a SOPS file depends on.
#[derive(Clone, Default, PartialEq)]
pub(super) enum Node {
    #[default]
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Zeroizing<String>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(Zeroizing::new(text.into()))
    }

    #[cfg(any(feature = "sops", test))]
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What a leaf says; `None` for what is no leaf.
    pub(super) fn leaf(&self) -> Option<Zeroizing<String>> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Bool(own) => Some(own.to_string().into()),
            Self::Int(own) => Some(own.to_string().into()),
            Self::Float(own) => Some(own.to_string().into()),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(super) fn members(&self) -> &[(String, Self)] {
        match self {
            Self::Map(members) => members,
            _ => &[],
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members().iter();
        members.find(|(own, _)| own == name).map(|(_, node)| node)
    }

    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// Puts a node at a path, in the place of what is there; members that are missing are added at the end.
    pub(super) fn set(&mut self, path: &[&str], node: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return;
        };
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        if let Self::Map(members) = self {
            let at = members.iter().position(|(own, _)| own == first);
            let at = at.unwrap_or_else(|| {
                members.push(((*first).to_owned(), Self::Null));
                members.len() - 1
            });
            members[at].1.set(rest, node);
        }
    }

    /// Moves a member to the end.
    #[cfg(feature = "sops")]
    pub(super) fn move_last(&mut self, name: &str) {
        if let Self::Map(members) = self
            && let Some(at) = members.iter().position(|(own, _)| own == name)
        {
            let own = members.remove(at);
            members.push(own);
        }
    }

    /// Removes what is at a path, and tells if it was there. Members that become empty go too.
    pub(super) fn remove(&mut self, path: &[&str]) -> bool {
        let (Some((first, rest)), Self::Map(members)) = (path.split_first(), self) else {
            return false;
        };
        let Some(at) = members.iter().position(|(own, _)| own == first) else {
            return false;
        };
        let there = rest.is_empty() || members[at].1.remove(rest);
        let empty = matches!(&members[at].1, Self::Map(own) if own.is_empty());
        if there && (rest.is_empty() || empty) {
            members.remove(at);
        }
        there
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(own) => serializer.serialize_bool(*own),
            Self::Int(own) => match i64::try_from(*own) {
                Ok(own) => serializer.serialize_i64(own),
                Err(_) => serializer.serialize_i128(*own),
            },
            Self::Float(own) => serializer.serialize_f64(*own),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(all) => {
                let mut list = serializer.serialize_seq(Some(all.len()))?;
                all.iter()
                    .try_for_each(|node| list.serialize_element(node))?;
                list.end()
            }
            Self::Map(all) => {
                let mut map = serializer.serialize_map(Some(all.len()))?;
                all.iter()
                    .try_for_each(|(name, node)| map.serialize_entry(name, node))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document of texts, numbers, lists and members")
    }

    fn visit_bool<E>(self, own: bool) -> Result<Node, E> {
        Ok(Node::Bool(own))
    }

    fn visit_i64<E>(self, own: i64) -> Result<Node, E> {
        Ok(Node::Int(own.into()))
    }

    fn visit_u64<E>(self, own: u64) -> Result<Node, E> {
        Ok(Node::Int(own.into()))
    }

    fn visit_i128<E>(self, own: i128) -> Result<Node, E> {
        Ok(Node::Int(own))
    }

    fn visit_u128<E>(self, own: u128) -> Result<Node, E> {
        let number = i128::try_from(own).map(Node::Int);
        Ok(number.unwrap_or(Node::Float(own as f64)))
    }

    fn visit_f64<E>(self, own: f64) -> Result<Node, E> {
        Ok(Node::Float(own))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::text(text))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::text(text))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut all = Vec::new();
        while let Some(node) = list.next_element()? {
            all.push(node);
        }
        Ok(Node::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut all: Vec<(String, Node)> = Vec::new();
        while let Some((name, node)) = map.next_entry::<String, Node>()? {
            if all.iter().any(|(own, _)| *own == name) {
                // Which of two counts is a matter of taste, and so a way to be led astray.
                return Err(serde::de::Error::custom("a member is there twice"));
            }
            all.push((name, node));
        }
        Ok(Node::Map(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_order_and_is_changed_in_place() {
        let text = r#"{"z":1,"a":{"y":true,"b":[null,"x",1.5]}}"#;
        let mut node: Node = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&node).unwrap(), text);
        node.set(&["a", "y"], Node::text("new"));
        node.set(&["n", "m"], Node::text("deep"));
        assert_eq!(node.at(&["n", "m"]).unwrap().as_text(), Some("deep"));
        assert!(node.remove(&["n", "m"]) && !node.remove(&["n", "m"]));
        assert!(node.remove(&["z"]) && node.get("n").is_none());
        let changed = r#"{"a":{"y":"new","b":[null,"x",1.5]}}"#;
        assert_eq!(serde_json::to_string(&node).unwrap(), changed);
        assert!(serde_json::from_str::<Node>(r#"{"a":1,"a":2}"#).is_err());
    }
}
