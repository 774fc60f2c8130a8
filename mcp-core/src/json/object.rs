use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use bytes::{BufMut, Bytes};

use super::{Cursor, Json, JsonError, JsonErrorKind, Span};

/// Most members that an indexed object may have: each look-up compares with every name.
pub const MAX_MEMBERS: usize = 1_024;

/// A member of an indexed object: where its name (quotes excluded) and its value stand.
#[derive(Clone, Copy, Debug)]
struct Member {
    key: Span,
    value: Span,
}

/// A JSON object whose top-level members have been found once, for cheap look-ups and splices.
///
/// Changes are kept beside the text and applied when the text is asked for, in one copy: members that stay
/// are copied byte for byte, a changed member keeps its place, a new member goes to the end.
///
/// # Examples
///
/// ```
/// use mcp_core::{Json, Object};
///
/// let mut object = Object::parse(r#"{"name": "up__echo", "arguments": {"n": 1e2}, "x": 1}"#)?;
/// object.set("name", Json::string("echo"));
/// object.remove("x");
/// assert_eq!(object.to_json().as_str(), r#"{"name": "echo","arguments": {"n": 1e2}}"#);
/// # Ok::<(), mcp_core::JsonError>(())
/// ```
#[derive(Clone)]
pub struct Object {
    text: Bytes,
    members: Arc<[Member]>,
    /// Whether a name has an escape in it, so that names cannot be compared byte by byte.
    escaped: bool,
    edits: Vec<Edit>,
}

#[derive(Clone)]
struct Edit {
    key: Cow<'static, str>,
    /// `None` removes the member.
    value: Option<Json>,
}

/// Where the value of a member is.
enum Part<'a> {
    Text(Span),
    Edit(&'a Json),
}

impl Object {
    /// Checks a JSON text and finds the members of the object that it is.
    ///
    /// # Errors
    ///
    /// The text is not valid JSON, is not an object, has a member name twice, or has more members than
    /// [`MAX_MEMBERS`].
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        let mut cursor = Cursor::new(&text)?;
        let object = Self::read(&mut cursor, &text)?;
        cursor.end()?;
        Ok(object)
    }

    /// Finds the members of an object.
    ///
    /// # Errors
    ///
    /// The value is not an object, has a member name twice, or has more members than [`MAX_MEMBERS`].
    pub fn index(json: &Json) -> Result<Self, JsonError> {
        Self::read(&mut Cursor::trusted(&json.0), &json.0)
    }

    /// Reads an object at a cursor over `whole`, remembering its members.
    pub(crate) fn read(cursor: &mut Cursor<'_>, whole: &Bytes) -> Result<Self, JsonError> {
        if cursor.peek() != Some(b'{') {
            return Err(cursor.error(JsonErrorKind::WrongShape));
        }
        let mut members: Vec<Member> = Vec::with_capacity(4);
        let mut escaped = false;
        let span = cursor.object(|cursor, key| {
            if members.len() == MAX_MEMBERS {
                return Err(cursor.error(JsonErrorKind::TooManyMembers));
            }
            escaped |= key.escaped;
            members.push(Member {
                key: key.span,
                value: cursor.value()?,
            });
            Ok(())
        })?;
        if has_duplicate(whole, &members, escaped) {
            return Err(cursor.error(JsonErrorKind::DuplicateMember));
        }
        let base = span.start;
        for member in &mut members {
            for span in [&mut member.key, &mut member.value] {
                span.start -= base;
                span.end -= base;
            }
        }
        Ok(Self {
            text: Json::slice(whole, span).into_bytes(),
            members: members.into(),
            escaped,
            edits: Vec::new(),
        })
    }

    /// Returns a member's value, changes included.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Json> {
        if let Some(edit) = self.edits.iter().rev().find(|edit| edit.key == key) {
            return edit.value.clone();
        }
        self.find(key)
            .map(|member| Json::slice(&self.text, member.value))
    }

    /// Returns whether there is such a member, changes included.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        match self.edits.iter().rev().find(|edit| edit.key == key) {
            Some(edit) => edit.value.is_some(),
            None => self.find(key).is_some(),
        }
    }

    /// Returns a member that is a string, decoded, or `None` where it is absent or anything else.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.to_text()
    }

    /// Sets a member: in its place when it exists, else at the end.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: Json) {
        self.edit(key.into(), Some(value));
    }

    /// Removes a member; nothing happens where there is none.
    pub fn remove(&mut self, key: impl Into<Cow<'static, str>>) {
        let key = key.into();
        if self.contains(&key) {
            self.edit(key, None);
        }
    }

    /// Removes every member that is `null`, changes included, and whose name is `removable`.
    pub fn remove_nulls(&mut self, removable: impl Fn(&str) -> bool) {
        let unchanged = self
            .members
            .iter()
            .filter(|own| own.value.of(&self.text) == b"null" && self.edit_of(own).is_none())
            .map(|own| decoded_key(&self.text, own.key));
        let set = self
            .edits
            .iter()
            .filter(|edit| edit.value.as_ref().is_some_and(Json::is_null))
            .map(|edit| Cow::Borrowed(&*edit.key));
        let nulls: Vec<_> = unchanged
            .chain(set)
            .filter(|key| removable(key))
            .map(|key| Cow::Owned(key.into_owned()))
            .collect();
        for key in nulls {
            self.remove(key);
        }
    }

    /// Returns the decoded names of the members that the text had when it was read.
    pub fn keys(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.members
            .iter()
            .map(|member| decoded_key(&self.text, member.key))
    }

    /// Returns the decoded name and the value of every member in one pass, changes included: first those that the text
    /// had when it was read, in its order, then the new ones.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'_, str>, Json)> {
        self.parts().map(|(key, part)| match part {
            Part::Text(span) => (key, Json::slice(&self.text, span)),
            Part::Edit(value) => (key, value.clone()),
        })
    }

    /// Returns what [`Object::members`] does, with the text of each value as it stands there.
    pub fn raw_members(&self) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
        self.parts().map(|(key, part)| match part {
            Part::Text(span) => (key, span.of(&self.text)),
            Part::Edit(value) => (key, value.as_bytes()),
        })
    }

    fn parts(&self) -> impl Iterator<Item = (Cow<'_, str>, Part<'_>)> {
        let mut edits: HashMap<&str, &Edit> =
            self.edits.iter().map(|edit| (&*edit.key, edit)).collect();
        let (mut members, mut added) = (self.members.iter(), self.edits.iter());
        std::iter::from_fn(move || {
            for member in members.by_ref() {
                let key = decoded_key(&self.text, member.key);
                // Most objects are not changed, and nothing has to be looked up.
                let edit = match edits.is_empty() {
                    true => None,
                    false => edits.remove(&*key),
                };
                match edit.map(|edit| &edit.value) {
                    Some(None) => {}
                    Some(Some(value)) => return Some((key, Part::Edit(value))),
                    None => return Some((key, Part::Text(member.value))),
                }
            }
            // What is left in the map had no member in the text.
            added.by_ref().find_map(|edit| {
                let edit = edits.get(&*edit.key)?;
                Some((Cow::Borrowed(&*edit.key), Part::Edit(edit.value.as_ref()?)))
            })
        })
    }

    /// Returns the object's text with all changes applied. Without changes the text is shared, not copied.
    #[must_use]
    pub fn to_json(&self) -> Json {
        if self.edits.is_empty() {
            return Json::composed(self.text.clone());
        }
        let mut out = Vec::with_capacity(self.encoded_len());
        self.write(&mut out);
        Json::composed(out)
    }

    /// Returns whether the text differs from the one that was read.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        !self.edits.is_empty()
    }

    /// Returns at least the number of bytes that [`Object::to_json`] will have.
    pub(crate) fn encoded_len(&self) -> usize {
        let added: usize = self
            .edits
            .iter()
            .map(|edit| edit.key.len() * 6 + 4 + edit.value.as_ref().map_or(0, Json::len))
            .sum();
        self.text.len() + added
    }

    /// Writes the text with all changes applied.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        if self.edits.is_empty() {
            out.put_slice(&self.text);
            return;
        }
        let appended = self
            .edits
            .iter()
            .filter(|edit| edit.value.is_some() && self.find(&edit.key).is_none());
        if !self.removes_any() {
            self.write_replaced(out, appended);
            return;
        }
        let mut comma = false;
        out.push(b'{');
        for member in self.members.iter() {
            let value = match self.edit_of(member) {
                Some(Edit { value: None, .. }) => continue,
                Some(Edit { value, .. }) => value.as_ref().map_or(&b""[..], Json::as_bytes),
                None => member.value.of(&self.text),
            };
            separate(out, &mut comma);
            // The quoted name and whatever stands between it and the value, as it arrived.
            out.put_slice(&self.text[member.key.start as usize - 1..member.value.start as usize]);
            out.put_slice(value);
        }
        append(out, &mut comma, appended);
        out.push(b'}');
    }

    /// The common case: members keep their places, so everything between changes is one copy.
    fn write_replaced<'a>(&self, out: &mut Vec<u8>, appended: impl Iterator<Item = &'a Edit>) {
        let mut done = 0;
        for member in self.members.iter() {
            let Some(edit) = self.edit_of(member) else {
                continue;
            };
            out.put_slice(&self.text[done..member.value.start as usize]);
            out.put_slice(edit.value.as_ref().map_or(&b""[..], Json::as_bytes));
            done = member.value.end as usize;
        }
        let close = self.text.len() - 1;
        out.put_slice(self.text.get(done..close).unwrap_or_default());
        let mut comma = !self.members.is_empty();
        append(out, &mut comma, appended);
        out.push(b'}');
    }

    fn removes_any(&self) -> bool {
        self.edits.iter().any(|edit| edit.value.is_none())
    }

    fn edit_of(&self, member: &Member) -> Option<&Edit> {
        self.edits
            .iter()
            .find(|edit| self.is_named(member, &edit.key))
    }

    fn edit(&mut self, key: Cow<'static, str>, value: Option<Json>) {
        match self.edits.iter_mut().find(|edit| edit.key == key) {
            Some(edit) => edit.value = value,
            None => self.edits.push(Edit { key, value }),
        }
    }

    fn find(&self, key: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| self.is_named(member, key))
    }

    fn is_named(&self, member: &Member, name: &str) -> bool {
        match self.escaped {
            false => member.key.of(&self.text) == name.as_bytes(),
            true => decoded_key(&self.text, member.key) == name,
        }
    }
}

impl Default for Object {
    fn default() -> Self {
        Self {
            text: Json::EMPTY_OBJECT.into_bytes(),
            members: Arc::default(),
            escaped: false,
            edits: Vec::new(),
        }
    }
}

impl fmt::Debug for Object {
    /// Prints the names of the members, not their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

impl TryFrom<Json> for Object {
    type Error = JsonError;

    fn try_from(json: Json) -> Result<Self, JsonError> {
        Self::read(&mut Cursor::trusted(&json.0), &json.0)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        object.to_json()
    }
}

fn append<'a>(out: &mut Vec<u8>, comma: &mut bool, edits: impl Iterator<Item = &'a Edit>) {
    for Edit { key, value } in edits {
        separate(out, comma);
        out.put_slice(Json::string(key).as_bytes());
        out.push(b':');
        out.put_slice(value.as_ref().map_or(&b"null"[..], Json::as_bytes));
    }
}

fn separate(out: &mut Vec<u8>, comma: &mut bool) {
    if *comma {
        out.push(b',');
    }
    *comma = true;
}

fn decoded_key(text: &[u8], key: Span) -> Cow<'_, str> {
    let raw = std::str::from_utf8(key.of(text)).unwrap_or_default();
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    // A lone surrogate has no decoded form: such a name matches nothing and is passed on as it is.
    serde_json::from_str(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// More members than this are compared through a set instead of pair by pair.
const MANY: usize = 16;

fn has_duplicate(text: &[u8], members: &[Member], escaped: bool) -> bool {
    if escaped || members.len() > MANY {
        let names: HashSet<_> = members
            .iter()
            .map(|member| decoded_key(text, member.key))
            .collect();
        return names.len() < members.len();
    }
    members.iter().enumerate().any(|(index, member)| {
        let name = member.key.of(text);
        members[..index]
            .iter()
            .any(|earlier| earlier.key.of(text) == name)
    })
}
