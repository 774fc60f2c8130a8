use std::{
    fmt,
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use age::{
    Decryptor, Encryptor, Recipient,
    armor::{ArmoredReader, ArmoredWriter, Format},
    x25519,
};
use mcp_core::secret::Secret;
use zeroize::Zeroizing;

use super::super::{KeyError, key};

/// The largest text that is opened, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// Who may open a file: the identities (private keys) that are at hand, and the recipients (public keys) that it is
/// sealed for. Of the identities `Debug` shows the number.
#[derive(Clone)]
pub struct AgeKeys {
    identities: Arc<Vec<x25519::Identity>>,
    recipients: Vec<x25519::Recipient>,
}

impl AgeKeys {
    /// Reads identities as `age-keygen` writes them: lines that begin with `AGE-SECRET-KEY-1`, and comments. Files are
    /// sealed for all of them.
    ///
    /// # Errors
    ///
    /// A line is no X25519 identity, or there is none. Identities of plugins and SSH are not taken.
    pub fn new(text: &Secret) -> Result<Self, KeyError> {
        let lines = text.secret().lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Result<Vec<x25519::Identity>, _> = lines
            .map(|line| line.parse().map_err(|_| malformed("an age identity")))
            .collect();
        let identities = identities?;
        if identities.is_empty() {
            return Err(malformed("an age identity"));
        }
        Ok(Self {
            recipients: identities.iter().map(x25519::Identity::to_public).collect(),
            identities: Arc::new(identities),
        })
    }

    /// Reads identities from a file that only its owner may read.
    ///
    /// # Errors
    ///
    /// As [`AgeKeys::new`], the file cannot be read, or others may read it.
    pub async fn from_file(path: impl Into<PathBuf>) -> Result<Self, KeyError> {
        let path = path.into();
        let bytes = tokio::task::spawn_blocking(move || key::read_private(&path)).await;
        let bytes =
            bytes.map_err(|error| KeyError::Unreadable("the file".into(), error.into()))??;
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed("an age identity"))?;
        Self::new(&Secret::new(text))
    }

    /// Seals files for another recipient too: a text that begins with `age1`.
    ///
    /// # Errors
    ///
    /// It is no X25519 recipient.
    pub fn with_recipient(mut self, recipient: &str) -> Result<Self, KeyError> {
        let recipient = recipient
            .parse()
            .map_err(|_| malformed("an age recipient"))?;
        self.recipients.push(recipient);
        Ok(self)
    }

    pub(super) fn recipients(&self) -> impl Iterator<Item = &x25519::Recipient> {
        self.recipients.iter()
    }

    /// Opens what was sealed, as text or as bytes; `None` if no identity fits or it is not whole.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decryptor = Decryptor::new(ArmoredReader::new(sealed)).ok()?;
        let all = self.identities.iter().map(|own| own as &dyn age::Identity);
        let mut text = Zeroizing::new(Vec::new());
        let reader = decryptor.decrypt(all).ok()?;
        reader.take(MAX_TEXT).read_to_end(&mut text).ok()?;
        Some(text)
    }

    /// Seals a text for all recipients.
    pub(super) fn seal(&self, text: &[u8]) -> Option<Vec<u8>> {
        seal_for(self.recipients(), text)
    }
}

/// Seals a text for some recipients, as lines of text.
pub(super) fn seal_for<'a>(
    recipients: impl IntoIterator<Item = &'a x25519::Recipient>,
    text: &[u8],
) -> Option<Vec<u8>> {
    let all = recipients.into_iter().map(|own| own as &dyn Recipient);
    let mut sealed = Vec::new();
    let armored = ArmoredWriter::wrap_output(&mut sealed, Format::AsciiArmor).ok()?;
    let mut writer = Encryptor::with_recipients(all)
        .ok()?
        .wrap_output(armored)
        .ok()?;
    writer.write_all(text).ok()?;
    writer.finish().and_then(ArmoredWriter::finish).ok()?;
    Some(sealed)
}

fn malformed(what: &str) -> KeyError {
    KeyError::Unreadable(what.to_owned(), "it is malformed".into())
}

impl fmt::Debug for AgeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgeKeys")
            .field("identities", &self.identities.len())
            .field("recipients", &self.recipients.len())
            .finish_non_exhaustive()
    }
}
