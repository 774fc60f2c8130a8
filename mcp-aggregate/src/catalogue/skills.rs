//! Skills (SEP-2640): a skill is a folder of resources below the URI of its `SKILL.md`.

use std::collections::HashMap;

use mcp_core::{Json, Object, UpstreamId};

/// The name of the file that describes a skill.
const SKILL_MD: &str = "SKILL.md";

/// Returns the URI of a skill's folder, with the slash that ends it.
pub(crate) fn root(skill: &str) -> Option<&str> {
    let root = skill.strip_suffix(SKILL_MD)?;
    let name = root.strip_suffix('/')?.rsplit('/').next()?;
    (!name.is_empty()).then_some(root)
}

/// Puts the upstream into the path of a skill, before the skill's own folder.
pub(crate) fn with_upstream(skill: &str, upstream: &UpstreamId) -> Option<String> {
    let root = root(skill)?;
    let folder = root[..root.len() - 1].rfind('/')? + 1;
    let (before, own) = skill.split_at(folder);
    Some(format!("{before}{upstream}/{own}"))
}

/// A folder of a skill: under its public URI and under the upstream's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) public: Box<str>,
    pub(crate) original: Box<str>,
}

impl Root {
    pub(crate) fn is_renamed(&self) -> bool {
        self.public != self.original
    }

    /// Returns the upstream's own URI of a file of the skill.
    pub(crate) fn original_of(&self, public: &str) -> Option<String> {
        let file = public.strip_prefix(&*self.public)?;
        Some(format!("{}{file}", self.original))
    }

    /// Replaces the upstream's own URIs by public ones wherever SEP-2640 puts one: in `uri`, and in the members
    /// `skill`, `skills`, `resources` and `contents`.
    pub(crate) fn publish(&self, value: &Json) -> Json {
        let Ok(mut object) = Object::index(value) else {
            return value.clone();
        };
        let own = object.text("uri");
        if let Some(file) = own
            .as_deref()
            .and_then(|uri| uri.strip_prefix(&*self.original))
        {
            object.set("uri", Json::string(&format!("{}{file}", self.public)));
        }
        for member in ["skill", "skills", "resources", "contents"] {
            let Some(inner) = object.get(member) else {
                continue;
            };
            if inner.is_object() {
                object.set(member, self.publish(&inner));
            } else if inner.as_bytes().first() == Some(&b'[') {
                let public = inner.elements().into_iter().map(|one| self.publish(&one));
                object.set(member, array(public));
            }
        }
        object.to_json()
    }
}

fn array(elements: impl Iterator<Item = Json>) -> Json {
    let texts: Vec<_> = elements.map(|one| one.to_string()).collect();
    Json::parse(format!("[{}]", texts.join(","))).unwrap_or(Json::NULL)
}

/// Finds what the folder of a file was registered with.
pub(crate) fn find_root<'a, T>(roots: &'a HashMap<Box<str>, T>, uri: &str) -> Option<&'a T> {
    let mut folder = uri;
    while let Some(slash) = folder.rfind('/') {
        if let Some(found) = roots.get(&folder[..=slash]) {
            return Some(found);
        }
        folder = &folder[..slash];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_stands_before_the_skills_own_folder() {
        let id = UpstreamId::new("up").unwrap();
        for (skill, renamed) in [
            ("skill://greet/SKILL.md", Some("skill://up/greet/SKILL.md")),
            (
                "https://h/a/greet/SKILL.md",
                Some("https://h/a/up/greet/SKILL.md"),
            ),
            ("skill://greet/README.md", None),
            ("SKILL.md", None),
        ] {
            assert_eq!(with_upstream(skill, &id).as_deref(), renamed, "{skill}");
        }
    }

    #[test]
    fn files_are_found_by_their_folder_and_digests_stay() {
        let root = Root {
            public: "skill://up/greet/".into(),
            original: "skill://greet/".into(),
        };
        assert_eq!(
            root.original_of("skill://up/greet/a/b.md").unwrap(),
            "skill://greet/a/b.md"
        );
        let skill = Json::parse(
            r#"{"uri":"skill://greet/SKILL.md","x":1.0,"resources":[{"uri":"skill://greet/a.md","digest":"sha256:00"}]}"#,
        )
        .unwrap();
        assert_eq!(
            root.publish(&skill).as_str(),
            r#"{"uri":"skill://up/greet/SKILL.md","x":1.0,"resources":[{"uri":"skill://up/greet/a.md","digest":"sha256:00"}]}"#
        );
        let roots = HashMap::from([(root.public.clone(), 7)]);
        assert_eq!(find_root(&roots, "skill://up/greet/a/b.md"), Some(&7));
        assert_eq!(find_root(&roots, "skill://up/other/a.md"), None);
    }
}
