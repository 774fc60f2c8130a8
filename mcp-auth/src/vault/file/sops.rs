//! The format of SOPS: each value sealed with AES-256-GCM under a key of the file, which age seals.
//!
//! A value is sealed together with its path, and all values together with the date under one hash (SHA-512), which is
//! sealed too.

use aes_gcm::{
    AesGcm, KeyInit,
    aead::{Aead, Payload, consts::U32},
    aes::Aes256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use mcp_core::store::StoreError;
use rand::Rng as _;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::{
    AgeKeys, Format, Node, age, corrupt,
    text::{self, Dates},
};

/// The member that says how the others are sealed.
const METADATA: &str = "sops";

/// What the format's own program takes for its nonces.
type Cipher = AesGcm<Aes256, U32>;

/// The version of the format that is written.
const VERSION: &str = "3.9.0";

const HEAD: &str = "ENC[AES256_GCM,";

pub(super) struct Sops {
    keys: AgeKeys,
    yaml: bool,
}

/// A file that has been read and not been opened.
struct File {
    /// The first document; the metadata are in each.
    document: Node,
    /// The documents that follow, in YAML.
    more: Vec<Node>,
    /// The dates that stand unsealed and without quotes in YAML.
    dates: Dates,
    key: Zeroizing<Vec<u8>>,
}

impl Sops {
    pub(super) const fn new(keys: AgeKeys, yaml: bool) -> Self {
        Self { keys, yaml }
    }

    fn read(&self, file: &[u8]) -> Result<File, StoreError> {
        let bad = || corrupt("the file is no SOPS file");
        let text = std::str::from_utf8(file).map_err(|_| bad())?;
        let mut documents: Vec<Node> = match self.yaml {
            true => text::documents(text)
                .map(text::parse)
                .collect::<Result<_, _>>()
                .map_err(|_| bad())?,
            false => vec![serde_json::from_str(text).map_err(|_| bad())?],
        };
        if documents.is_empty() {
            return Err(bad());
        }
        let document = documents.remove(0);
        let metadata = document.get(METADATA).ok_or_else(bad)?;
        if let Some(Node::List(groups)) = metadata.get("key_groups")
            && !groups.is_empty()
        {
            return Err(corrupt(
                "the SOPS file has key groups, which are not known here",
            ));
        }
        let Some(Node::List(all)) = metadata.get("age") else {
            return Err(corrupt("the SOPS file has no age keys"));
        };
        let mut sealed = all.iter().filter_map(|own| own.get("enc")?.as_text());
        let key = sealed.find_map(|own| self.keys.open(own.as_bytes()));
        let key = key.ok_or_else(|| corrupt("no age key at hand opens the SOPS file"))?;
        if key.len() != 32 {
            return Err(bad());
        }
        Ok(File {
            document,
            more: documents,
            dates: match self.yaml {
                true => text::dates(text),
                false => Dates::default(),
            },
            key,
        })
    }

    fn begin(&self) -> Result<File, StoreError> {
        let mut key = Zeroizing::new(vec![0; 32]);
        rand::rng().fill_bytes(&mut key);
        let mut all = Vec::new();
        for recipient in self.keys.recipients() {
            let sealed = age::seal_for([recipient], &key);
            let sealed = sealed.ok_or_else(|| corrupt("the key of the file cannot be sealed"))?;
            all.push(Node::Map(vec![
                ("recipient".to_owned(), Node::text(recipient.to_string())),
                (
                    "enc".to_owned(),
                    Node::text(String::from_utf8_lossy(&sealed)),
                ),
            ]));
        }
        let metadata = Node::Map(vec![
            ("age".to_owned(), Node::List(all)),
            ("lastmodified".to_owned(), Node::Null),
            ("mac".to_owned(), Node::Null),
            ("unencrypted_suffix".to_owned(), Node::text("_unencrypted")),
            ("version".to_owned(), Node::text(VERSION)),
        ]);
        let document = Node::Map(vec![(METADATA.to_owned(), metadata)]);
        Ok(File {
            document,
            more: Vec::new(),
            dates: Dates::default(),
            key,
        })
    }

    /// Writes a document: in YAML into the text that is there, so that its comments stay.
    fn write(&self, document: &Node, before: Option<&str>) -> Result<Vec<u8>, StoreError> {
        let bad = || corrupt("the SOPS file cannot be written");
        if let Some(text) = before.filter(|_| self.yaml)
            && let Some(edited) = text::edit(text, document)
        {
            return Ok(edited.into_bytes());
        }
        Ok(match self.yaml {
            true => serde_saphyr::to_string(document)
                .map_err(|_| bad())?
                .into_bytes(),
            false => serde_json::to_vec_pretty(document).map_err(|_| bad())?,
        })
    }
}

impl Format for Sops {
    fn open(&self, file: &[u8]) -> Result<Node, StoreError> {
        let file = self.read(file)?;
        let sealed = file.setting("mac").unwrap_or_default();
        let own = open_value(
            &file.key,
            sealed,
            file.setting("lastmodified").unwrap_or_default(),
        )?;
        let (plain, hash) = file.open()?;
        use subtle::ConstantTimeEq as _;
        let same: bool = match &own {
            Node::Text(own) => own.as_bytes().ct_eq(hash.as_bytes()).into(),
            _ => false,
        };
        match same {
            true => Ok(plain),
            false => Err(corrupt(
                "the SOPS file was changed by somebody without its key",
            )),
        }
    }

    fn change(
        &self,
        file: Option<&[u8]>,
        path: &[&str],
        text: Option<&str>,
    ) -> Result<Vec<u8>, StoreError> {
        let before = file.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let mut file = match file {
            Some(bytes) => {
                self.open(bytes)?;
                self.read(bytes)?
            }
            None => self.begin()?,
        };
        if !file.more.is_empty() {
            return Err(corrupt(
                "the SOPS file has several documents: it can be read and not written",
            ));
        }
        match text {
            Some(text) => {
                file.must_seal(path)?;
                let sealed = seal_value(&file.key, text, &aad(path))?;
                file.document.set(path, Node::text(sealed));
            }
            None => drop(file.document.remove(path)),
        }
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        // New members come before the metadata.
        file.document.move_last(METADATA);
        if self.yaml {
            // What is written decides which dates are times.
            let draft = self.write(&file.document, before)?;
            file.dates = text::dates(std::str::from_utf8(&draft).unwrap_or_default());
        }
        let (_, hash) = file.open()?;
        let mac = seal_value(&file.key, &hash, &now)?;
        file.document
            .set(&[METADATA, "lastmodified"], Node::text(now));
        file.document.set(&[METADATA, "mac"], Node::text(mac));
        let written = self.write(&file.document, before)?;
        // Nothing is put in the place of the old file that would not open.
        self.open(&written)?;
        Ok(written)
    }
}

impl File {
    fn setting(&self, name: &str) -> Option<&str> {
        self.document.get(METADATA)?.get(name)?.as_text()
    }

    /// Opens all values, and returns the document without its metadata and the hash of the values.
    fn open(&self) -> Result<(Node, Zeroizing<String>), StoreError> {
        let only_sealed =
            self.document.at(&[METADATA, "mac_only_encrypted"]) == Some(&Node::Bool(true));
        let mut hash = Sha512::new();
        if only_sealed {
            // So that a file without this setting cannot be passed off as one with it: SHA-256 of "sops".
            hash.update(sha2::Sha256::digest(b"sops"));
        }
        let mut walk = Walk {
            key: &self.key,
            hash,
            only_sealed,
            dates: &self.dates,
        };
        let mut members: Vec<(String, Node)> = Vec::new();
        for document in std::iter::once(&self.document).chain(&self.more) {
            for (name, node) in document.members() {
                if name == METADATA {
                    continue;
                }
                let opened = walk.open(node, &mut vec![name])?;
                // Of two documents with one member the first counts.
                if !members.iter().any(|(own, _)| own == name) {
                    members.push((name.clone(), opened));
                }
            }
        }
        let hash: String = walk
            .hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Ok((Node::Map(members), hash.into()))
    }

    /// Refuses a place whose value would be written in the clear, or be taken for the metadata.
    fn must_seal(&self, path: &[&str]) -> Result<(), StoreError> {
        let set = |name: &str| self.setting(name).filter(|own| !own.is_empty());
        for rule in ["encrypted_comment_regex", "unencrypted_comment_regex"] {
            if set(rule).is_some() {
                return Err(corrupt(
                    "comments say what is sealed in the SOPS file, which are not known here: it is not written",
                ));
            }
        }
        // One member of the path that fits is enough, as the format has it.
        let fits = |rule: &str| {
            match set(rule) {
            None => Ok(None),
            Some(rule) => regex::Regex::new(rule)
                .map(|rule| Some(path.iter().any(|own| rule.is_match(own))))
                .map_err(|_| corrupt("a regular expression of the SOPS file is not understood here: it is not written")),
        }
        };
        let ends = |suffix: &str| path.iter().any(|own| own.ends_with(suffix));
        let sealed = !set("unencrypted_suffix").is_some_and(ends)
            && set("encrypted_suffix").is_none_or(ends)
            && fits("unencrypted_regex")? != Some(true)
            && fits("encrypted_regex")? != Some(false);
        match sealed && path.first() != Some(&METADATA) {
            true => Ok(()),
            false => Err(corrupt(
                "the secret would stand in the clear in the SOPS file; rename it",
            )),
        }
    }
}

/// What a value is sealed together with.
fn aad(path: &[&str]) -> String {
    path.iter().flat_map(|own| [*own, ":"]).collect()
}

struct Walk<'a> {
    key: &'a [u8],
    hash: Sha512,
    only_sealed: bool,
    dates: &'a Dates,
}

impl Walk<'_> {
    fn open<'n>(&mut self, node: &'n Node, path: &mut Vec<&'n str>) -> Result<Node, StoreError> {
        Ok(match node {
            Node::Map(members) => {
                let mut all = Vec::with_capacity(members.len());
                for (name, node) in members {
                    path.push(name);
                    all.push((name.clone(), self.open(node, path)?));
                    path.pop();
                }
                Node::Map(all)
            }
            // The elements of a list have the path of the list.
            Node::List(all) => {
                // A comment between elements is one in the file, which is not counted.
                let all = all.iter().filter(|node| !is_comment(node));
                let all = all.map(|node| self.open(node, path));
                Node::List(all.collect::<Result<_, _>>()?)
            }
            Node::Null => Node::Null,
            Node::Text(text) if text.starts_with(HEAD) => {
                let (kind, text) = open_sealed(self.key, text, &aad(path))?;
                // What was sealed is what is counted, to the letter.
                self.hash.update(text.as_bytes());
                read_value(kind, text)?
            }
            other => {
                if !self.only_sealed {
                    self.count(other, path.last().copied().unwrap_or_default());
                }
                other.clone()
            }
        })
    }

    fn count(&mut self, leaf: &Node, name: &str) {
        match leaf {
            Node::Bool(own) => self.hash.update(if *own { "True" } else { "False" }),
            Node::Float(own) => self.hash.update(float(*own)),
            // Larger ones are taken for floating-point numbers.
            Node::Int(own) if u64::try_from(*own).is_err() && i64::try_from(*own).is_err() => {
                self.hash.update(float(*own as f64));
            }
            Node::Text(own) => {
                let time = self.dates.time(name, own);
                self.hash.update(time.as_deref().unwrap_or(own.as_str()));
            }
            leaf => self.hash.update(leaf.leaf().unwrap_or_default().as_bytes()),
        }
    }
}

/// Writes a number as the format's own program does.
fn float(own: f64) -> String {
    match own {
        own if own.is_nan() => "NaN".to_owned(),
        own if own.is_infinite() && own > 0.0 => "+Inf".to_owned(),
        own if own.is_infinite() => "-Inf".to_owned(),
        own => own.to_string(),
    }
}

/// Whether an element of a list is a comment that the program has sealed.
fn is_comment(node: &Node) -> bool {
    let text = node.as_text();
    text.is_some_and(|text| text.starts_with(HEAD) && text.ends_with(",type:comment]"))
}

fn cipher(key: &[u8]) -> Result<Cipher, StoreError> {
    Cipher::new_from_slice(key).map_err(|_| corrupt("the key of the SOPS file is malformed"))
}

/// Seals a text; an empty one is left as it is, as the format has it.
fn seal_value(key: &[u8], text: &str, aad: &str) -> Result<String, StoreError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut nonce = [0; 32];
    rand::rng().fill_bytes(&mut nonce);
    let payload = Payload {
        msg: text.as_bytes(),
        aad: aad.as_bytes(),
    };
    let sealed = cipher(key)?.encrypt((&nonce).into(), payload);
    let sealed = sealed.map_err(|_| corrupt("the secret is too large"))?;
    let (data, tag) = sealed.split_at(sealed.len() - 16);
    Ok(format!(
        "{HEAD}data:{},iv:{},tag:{},type:str]",
        STANDARD.encode(data),
        STANDARD.encode(nonce),
        STANDARD.encode(tag)
    ))
}

/// Opens a value.
fn open_value(key: &[u8], sealed: &str, aad: &str) -> Result<Node, StoreError> {
    let (kind, text) = open_sealed(key, sealed, aad)?;
    read_value(kind, text)
}

/// Opens a value: its type, and what it says.
fn open_sealed<'s>(
    key: &[u8],
    sealed: &'s str,
    aad: &str,
) -> Result<(&'s str, Zeroizing<String>), StoreError> {
    let bad = || corrupt("a value of the SOPS file is malformed");
    let parts = sealed
        .strip_prefix(HEAD)
        .and_then(|own| own.strip_suffix(']'));
    let mut parts = parts.ok_or_else(bad)?.splitn(4, ',');
    let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix(':');
    let (data, nonce) = (part("data").ok_or_else(bad)?, part("iv").ok_or_else(bad)?);
    let (tag, kind) = (part("tag").ok_or_else(bad)?, part("type").ok_or_else(bad)?);
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| bad());
    let nonce: [u8; 32] = decode(nonce)?.try_into().map_err(|_| bad())?;
    let whole = [decode(data)?, decode(tag)?].concat();
    let payload = Payload {
        msg: &whole,
        aad: aad.as_bytes(),
    };
    let opened = cipher(key)?.decrypt((&nonce).into(), payload);
    let changed =
        || corrupt("a value of the SOPS file was changed, or moved from where it was put");
    let opened = Zeroizing::new(opened.map_err(|_| changed())?);
    let text = std::str::from_utf8(&opened).map_err(|_| bad())?;
    Ok((kind, Zeroizing::new(text.to_owned())))
}

fn read_value(kind: &str, text: Zeroizing<String>) -> Result<Node, StoreError> {
    let bad = || corrupt("a value of the SOPS file is malformed");
    Ok(match kind {
        "int" | "int64" => Node::Int(text.parse().map_err(|_| bad())?),
        "float" => Node::Float(text.parse().map_err(|_| bad())?),
        "bool" => Node::Bool(
            text.parse()
                .or_else(|_| text.to_lowercase().parse())
                .map_err(|_| bad())?,
        ),
        "str" | "bytes" | "time" => Node::Text(text),
        _ => return Err(bad()),
    })
}

/// Opens what someone else has written, under a key of their file.
#[cfg(feature = "__fuzz")]
pub(crate) fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let json = serde_json::from_str::<Node>(&text).ok();
    let yaml = text::parse(&text).ok();
    for document in json.into_iter().chain(yaml) {
        let file = File {
            document,
            more: Vec::new(),
            dates: Dates::default(),
            key: Zeroizing::new(vec![1; 32]),
        };
        let _ = file.must_seal(&["a", "shared", "b"]);
        let sealed = file.setting("mac").unwrap_or_default();
        assert!(
            open_value(&file.key, sealed, "").is_err(),
            "what was not sealed does not open"
        );
        if let Ok((plain, hash)) = file.open() {
            assert!(plain.get(METADATA).is_none() && hash.len() == 128);
        }
    }
}
