//! Masks: what leaves a publisher in place of a value that nobody else may read.
//!
//! Law: a source masks a value before anything of it is handed on, so the log and every copy know
//! the masked value only. A key is masked in a way that keeps rows apart, or not at all.

use crate::{Column, Kind, RowWriter, Value, quote};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::Arc;

/// What stands for a value that is not shown.
const REDACTED: &[u8] = b"***";
/// Texts of fewer characters show none of them.
const PARTIAL_MIN: usize = 8;
/// Texts of this many characters and more show more of them.
const PARTIAL_LONG: usize = 16;

/// What is done to the values of a field. NULL stays NULL, unchanged stays unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mask {
    /// HMAC-SHA256 of the value's text under the service's key, as 64 lower-case hex digits. Equal
    /// values stay equal, different ones different.
    Sha256,
    /// `***`, whatever the value.
    Redact,
    /// NULL.
    Null,
    /// The text's first and last characters around `***`: two and four of 16 characters or more, one
    /// and two of 8 or more, none of shorter ones. Bytes show nothing.
    Partial,
}

impl Mask {
    /// Every mask there is.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Redact, Self::Null, Self::Partial];

    /// The mask's name, as the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Redact => "redact",
            Self::Null => "null",
            Self::Partial => "partial",
        }
    }

    /// Whether different values stay different, as those of a key must.
    pub fn keeps_apart(self) -> bool {
        match self {
            Self::Sha256 => true,
            Self::Redact | Self::Null | Self::Partial => false,
        }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let found = Self::ALL.into_iter().find(|m| m.name() == text);
        found.ok_or_else(|| MaskError::Unknown(text.into()))
    }
}

/// Why something cannot be masked as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// There is no such mask.
    #[error("there is no mask {0:?}")]
    Unknown(String),
    /// Somebody who knows how values look could try all short keys.
    #[error("a mask key has at least {} bytes", MaskKey::BYTES_MIN)]
    ShortKey,
    /// `sha256` without a key would be undone by hashing guesses.
    #[error("sha256 needs the service's `mask_key`")]
    NoKey,
}

/// The secret of a service's hashes. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MaskKey(Arc<[u8]>);

impl MaskKey {
    /// The fewest bytes of a key.
    pub const BYTES_MIN: usize = 16;

    /// A key of these bytes.
    ///
    /// # Errors
    /// [`MaskError::ShortKey`] when they are too few.
    pub fn new(secret: &[u8]) -> Result<Self, MaskError> {
        let long = secret.len() >= Self::BYTES_MIN;
        long.then(|| Self(secret.into())).ok_or(MaskError::ShortKey)
    }

    /// Tells keys apart without telling them.
    fn fingerprint(&self) -> String {
        let digest = digest(&hmac(&self.0), &[b"rowcast: which key is this"]);
        hex(&digest[..8])
    }

    /// The key of one use; what is known of one tells nothing of another.
    fn derived(&self, of: &[u8]) -> Hmac<Sha256> {
        hmac(&digest(&hmac(&self.0), &[b"rowcast: derived key of ", of]))
    }

    /// Hides bytes, for a place where values must not be read but are needed again. `nonce` has to be
    /// random.
    pub fn seal(&self, bytes: &[u8], nonce: [u8; 16]) -> Vec<u8> {
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(bytes);
        self.xor_stream(nonce, &mut sealed[16..]);
        sealed
    }

    /// What was sealed with this key; `None` for what never was. Another key gives noise.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, bytes) = sealed.split_first_chunk::<16>()?;
        let mut bytes = bytes.to_vec();
        self.xor_stream(*nonce, &mut bytes);
        Some(bytes)
    }

    /// HMAC as a stream of pseudo-random bytes, by counting.
    fn xor_stream(&self, nonce: [u8; 16], bytes: &mut [u8]) {
        let key = self.derived(b"seal");
        for (block, chunk) in (0u64..).zip(bytes.chunks_mut(32)) {
            let stream = digest(&key, &[&nonce, &block.to_le_bytes()]);
            chunk.iter_mut().zip(stream).for_each(|(byte, s)| *byte ^= s);
        }
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn digest(key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    write_hex(bytes, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn write_hex(bytes: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        into.push(DIGITS[usize::from(byte >> 4)]);
        into.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Which fields of one entity are masked, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Masks {
    /// By name.
    fields: Vec<(String, Mask)>,
    key: Option<MaskKey>,
}

impl Masks {
    /// Masks of these fields; each stands once.
    ///
    /// # Errors
    /// [`MaskError::NoKey`] when one of them needs a key and there is none.
    pub fn new(mut fields: Vec<(String, Mask)>, key: Option<MaskKey>) -> Result<Self, MaskError> {
        let hashed = fields.iter().any(|(_, mask)| *mask == Mask::Sha256);
        if hashed && key.is_none() {
            return Err(MaskError::NoKey);
        }
        fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { fields, key: key.filter(|_| hashed) })
    }

    /// Nothing is masked.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The masked fields, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Mask)> {
        self.fields.iter().map(|(name, mask)| (name.as_str(), *mask))
    }

    /// How a field is masked.
    pub fn of(&self, field: &str) -> Option<Mask> {
        self.fields().find(|(name, _)| *name == field).map(|(_, mask)| mask)
    }

    /// The key, when a mask needs one.
    pub fn key(&self) -> Option<&MaskKey> {
        self.key.as_ref()
    }

    /// What to remember of a field's mask so that another one shows: its name, and which key it has.
    pub fn note(&self, field: &str) -> Option<String> {
        let mask = self.of(field)?;
        Some(match (&self.key, mask) {
            (Some(key), Mask::Sha256) => format!("{mask} {}", key.fingerprint()),
            _ => mask.to_string(),
        })
    }

    /// The notes of all fields, as one text; empty when nothing is masked.
    pub fn notes(&self) -> String {
        let note = |(field, _)| Some(format!("{} {}", quote(field), self.note(field)?));
        self.fields().filter_map(note).collect::<Vec<_>>().join(", ")
    }

    /// What masks the values of a field of this kind; `None` for a field that is not masked.
    pub fn masker(&self, field: &str, kind: Kind) -> Option<Masker> {
        let mask = self.of(field)?;
        let keys = self.key.as_ref().filter(|_| mask == Mask::Sha256).map(Keys::of);
        Some(Masker { mask, kind, keys: keys.map(Arc::new) })
    }

    /// The column as the rest of the world sees it: a masked one holds text, or NULL only.
    pub fn column(&self, column: Column) -> Column {
        let Some(masker) = self.masker(&column.name, column.kind) else { return column };
        if masker.mask == Mask::Null {
            return Column { not_null: false, fill: None, ..column };
        }
        let fill = column.fill.map(|text| {
            let mut scratch = Vec::new();
            match masker.apply(Value::Text(text.as_bytes()), &mut scratch) {
                Value::Text(masked) => String::from_utf8_lossy(masked).into_owned(),
                _ => String::new(),
            }
        });
        Column { native: "text".into(), kind: Kind::Text, fill, ..column }
    }

    /// What keeps an entity from being masked like this, and what to do about it. A mask of a field
    /// that is not there may be misspelt, or the column renamed: its values would leave in clear.
    pub fn misfit(&self, published: &[&str], key: &[&str]) -> Option<(String, &'static str)> {
        for (field, mask) in self.fields() {
            if !published.contains(&field) {
                let what = format!("`mask` names {field:?}, which is no published field");
                return Some((what, "correct `mask`, so that nothing leaves in clear by mistake"));
            }
            if key.contains(&field) && !mask.keeps_apart() {
                let what = format!("`{mask}` on {field:?}, a part of its key, would make rows one");
                return Some((what, "mask a key with \"sha256\", which keeps rows apart"));
            }
        }
        None
    }
}

impl fmt::Display for Masks {
    /// `"email" by sha256, "note" by null`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (field, mask)) in self.fields().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{field:?} by {mask}")?;
        }
        Ok(())
    }
}

/// The hashes' keys: values of storage classes that could look alike are never the same.
#[derive(Clone)]
struct Keys {
    text: Hmac<Sha256>,
    number: Hmac<Sha256>,
    blob: Hmac<Sha256>,
}

impl Keys {
    fn of(key: &MaskKey) -> Self {
        Self { text: hmac(&key.0), number: key.derived(b"number"), blob: key.derived(b"blob") }
    }
}

/// Masks the values of one field.
#[derive(Clone)]
pub struct Masker {
    mask: Mask,
    kind: Kind,
    keys: Option<Arc<Keys>>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masker({}, {:?})", self.mask, self.kind)
    }
}

impl Masker {
    /// What leaves in the value's place. It lies in `scratch`, whose contents go.
    pub fn apply<'v>(&self, value: Value<'v>, scratch: &'v mut Vec<u8>) -> Value<'v> {
        scratch.clear();
        match (value, self.mask) {
            (Value::Null | Value::Unchanged, _) => value,
            (_, Mask::Null) => Value::Null,
            (_, Mask::Redact) => Value::Text(REDACTED),
            (_, Mask::Partial) => self.partial(value, scratch),
            (_, Mask::Sha256) => self.hash(value, scratch),
        }
    }

    /// The same, appended to a row.
    pub fn push(&self, value: Value<'_>, scratch: &mut Vec<u8>, row: &mut RowWriter<'_>) {
        row.push(self.apply(value, scratch));
    }

    fn hash<'v>(&self, value: Value<'_>, scratch: &'v mut Vec<u8>) -> Value<'v> {
        let Some(keys) = &self.keys else { return Value::Text(REDACTED) };
        // Where a column takes values of any class, 7 and '7' are two values.
        let typed = !matches!(self.kind, Kind::Any | Kind::Bytes);
        let key = match value {
            Value::Integer(_) | Value::Real(_) if !typed => &keys.number,
            Value::Blob(_) => &keys.blob,
            _ => &keys.text,
        };
        write_text(value, scratch);
        let digest = digest(key, &[scratch]);
        scratch.clear();
        write_hex(&digest, scratch);
        Value::Text(scratch)
    }

    fn partial<'v>(&self, value: Value<'_>, scratch: &'v mut Vec<u8>) -> Value<'v> {
        write_text(value, scratch);
        let bytes = matches!(value, Value::Blob(_)) || self.kind == Kind::Bytes;
        let Ok(text) = std::str::from_utf8(scratch) else { return Value::Text(REDACTED) };
        let (first, last) = match text.chars().count() {
            _ if bytes => return Value::Text(REDACTED),
            ..PARTIAL_MIN => return Value::Text(REDACTED),
            PARTIAL_MIN..PARTIAL_LONG => (1, 2),
            PARTIAL_LONG.. => (2, 4),
        };
        let head = text.char_indices().nth(first).map_or(0, |(at, _)| at);
        let tail = text.char_indices().nth_back(last - 1).map_or(text.len(), |(at, _)| at);
        let middle = head..tail;
        scratch.splice(middle, REDACTED.iter().copied());
        Value::Text(scratch)
    }
}

/// The value's text, the same for the same value in whatever class a column stores it.
fn write_text(value: Value<'_>, into: &mut Vec<u8>) {
    let written = match value {
        Value::Null | Value::Unchanged => Ok(()),
        Value::Text(bytes) | Value::Blob(bytes) => into.write_all(bytes),
        Value::Integer(i) => write!(into, "{i}"),
        // Minus zero equals zero, so both have one text.
        Value::Real(r) => write!(into, "{}", r + 0.0),
    };
    written.expect("a buffer in memory takes everything");
}

#[cfg(test)]
mod tests;
