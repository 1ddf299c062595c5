//! Walks a parsed file: each getter says what it expects and where it did not find it; what nobody
//! asked for is unknown.

use crate::config::expand::{Environment, expand};
use crate::config::problem::{Located, Place, Problems};
use crate::config::suggest::advice;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What reading carries along.
pub(crate) struct Reader<'e> {
    /// The whole file, to find places inside a value.
    pub(crate) text: &'e str,
    pub(crate) env: Environment<'e>,
    pub(crate) problems: Problems,
}

impl Reader<'_> {
    /// The value with its variables replaced; `None` after saying why not.
    pub(crate) fn expand(&mut self, text: &str, at: &Place) -> Option<String> {
        match expand(text, self.env) {
            Ok(value) => Some(value),
            Err(e) => {
                self.problems.error(at, e.to_string(), e.help());
                None
            }
        }
    }
}

const TABLE_HELP: &str = "write it as `[section]`, or as `{ key = \"value\" }`";

struct Entry<'d> {
    key: String,
    key_span: Range<usize>,
    value: Spanned<DeValue<'d>>,
}

/// One table of the file.
pub(crate) struct Section<'d> {
    /// Where its name stands.
    pub(crate) at: Place,
    entries: Vec<Entry<'d>>,
    asked: Vec<&'static str>,
}

impl<'d> Section<'d> {
    pub(crate) fn new(table: DeTable<'d>, at: Place) -> Self {
        let mut entries: Vec<Entry<'d>> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: key.span(),
                key: key.into_inner().into_owned(),
                value,
            })
            .collect();
        entries.sort_by_key(|e| e.key_span.start);
        Self { at, entries, asked: Vec::new() }
    }

    fn path_of(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let key = if bare { key.to_string() } else { format!("{key:?}") };
        if self.at.path.is_empty() { key } else { format!("{}.{key}", self.at.path) }
    }

    /// Whether a value is there that was not taken out yet, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// Takes a value out, with the place of the value.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<(Place, DeValue<'d>)> {
        self.asked.push(key);
        let index = self.entries.iter().position(|e| e.key == key)?;
        let path = self.path_of(key);
        let value = self.entries.remove(index).value;
        Some((Place { span: value.span(), path }, value.into_inner()))
    }

    /// A string, expanded. `None` when it is absent or wrong; what is wrong has been said.
    pub(crate) fn text(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Located<String>> {
        let (at, value) = self.take(key)?;
        text(value, &at, reader).map(|value| Located { value, at })
    }

    /// As [`text`](Self::text), for what must be there.
    pub(crate) fn required_text(
        &mut self,
        key: &'static str,
        help: &str,
        reader: &mut Reader<'_>,
    ) -> Option<Located<String>> {
        if !self.entries.iter().any(|e| e.key == key) {
            reader.problems.error(&self.at, format!("`{key}` is missing"), help);
        }
        self.text(key, reader)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, key: &'static str, reader: &mut Reader<'_>) -> Option<bool> {
        let (at, value) = self.take(key)?;
        match value {
            DeValue::Boolean(b) => Some(b),
            other => wrong_type(&other, "true or false", "write it without quotes", &at, reader),
        }
    }

    /// The tables under a key, each by its name: `[service.NAME]`.
    pub(crate) fn sections(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Vec<(String, Section<'d>)> {
        let Some((at, value)) = self.take(key) else { return Vec::new() };
        let DeValue::Table(table) = value else {
            let _: Option<()> = wrong_type(&value, "a table", TABLE_HELP, &at, reader);
            return Vec::new();
        };
        let mut named = Vec::new();
        let mut group = Section::new(table, at);
        for entry in std::mem::take(&mut group.entries) {
            let at = Place { span: entry.key_span.clone(), path: group.path_of(&entry.key) };
            match entry.value.into_inner() {
                DeValue::Table(table) => named.push((entry.key, Section::new(table, at))),
                other => {
                    let _: Option<()> = wrong_type(&other, "a table", TABLE_HELP, &at, reader);
                }
            }
        }
        named
    }

    /// One table under a key.
    pub(crate) fn section(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Section<'d>> {
        let (at, value) = self.take(key)?;
        match value {
            DeValue::Table(table) => Some(Section::new(table, at)),
            other => wrong_type(&other, "a table", TABLE_HELP, &at, reader),
        }
    }

    /// All entries, whatever their keys, as (place of the key, key, place of the value, value).
    pub(crate) fn drain(&mut self) -> Vec<(Place, String, Place, DeValue<'d>)> {
        let entries = std::mem::take(&mut self.entries);
        let places = entries.into_iter().map(|e| {
            let path = self.path_of(&e.key);
            let key_at = Place { span: e.key_span, path: path.clone() };
            let at = Place { span: e.value.span(), path };
            (key_at, e.key, at, e.value.into_inner())
        });
        places.collect()
    }

    /// Says of everything that nobody asked for that it is unknown.
    pub(crate) fn finish(self, reader: &mut Reader<'_>) {
        for entry in &self.entries {
            let at = Place { span: entry.key_span.clone(), path: self.path_of(&entry.key) };
            unknown(&entry.key, &at, &self.asked, reader);
        }
    }
}

/// Says that a key is unknown and what may have been meant.
pub(crate) fn unknown(key: &str, at: &Place, known: &[&str], reader: &mut Reader<'_>) {
    let help = advice(key, "keys here", known.iter().copied());
    reader.problems.error(at, format!("unknown key `{key}`"), help);
}

/// A string value, expanded.
pub(crate) fn text(value: DeValue<'_>, at: &Place, reader: &mut Reader<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => reader.expand(&text, at),
        other => wrong_type(&other, "a text", "write it in double quotes", at, reader),
    }
}

/// Says that a value has the wrong type; always `None`.
pub(crate) fn wrong_type<T>(
    value: &DeValue<'_>,
    expected: &str,
    help: &str,
    at: &Place,
    reader: &mut Reader<'_>,
) -> Option<T> {
    let found = match value.type_str() {
        "array" => "a list",
        "table" => "a table",
        "integer" | "float" => "a number",
        "boolean" => "true or false",
        "datetime" => "a date",
        _ => "a text",
    };
    reader.problems.error(at, format!("must be {expected}, not {found}"), help);
    None
}
