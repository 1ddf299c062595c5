//! `[log]`: the store's own settings, read with the store's own words and shown in place.

use crate::config::problem::Place;
use crate::config::tree::{Reader, Section, unknown};
use rowcast_store::LogConfig;
use serde::de::value::Error as Untold;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) fn read(section: Option<Section<'_>>, reader: &mut Reader<'_>) -> LogConfig {
    let Some(mut section) = section else { return LogConfig::default() };
    let known = keys_of::<LogConfig>();
    let mut good = DeTable::new();
    let mut places: Vec<(String, Place)> = Vec::new();
    for (key_at, key, at, value) in section.drain() {
        if !known.contains(&key.as_str()) {
            unknown(&key, &key_at, known, reader);
            continue;
        }
        let Some(value) = expanded(value, &at, reader) else { continue };
        // Each key alone first: one mistake must not hide the next.
        if let Err(message) = parse(entry(&key, &at, value.clone())) {
            reader.problems.error(&at, message, "docs/configuration.md lists the limits");
            continue;
        }
        good.extend(entry(&key, &at, value));
        places.push((key, at));
    }
    let Ok(config) = parse(good) else { return LogConfig::default() };
    for mistake in config.check() {
        let (path, what) = mistake.split_once(": ").unwrap_or(("log", &mistake));
        let key = path.strip_prefix("log.").unwrap_or_default();
        let place = places.iter().find(|(k, _)| k == key).map(|(_, at)| at);
        let what = what.to_string();
        reader.problems.error(
            place.unwrap_or(&section.at),
            what,
            "docs/configuration.md lists the limits",
        );
    }
    config
}

fn expanded<'d>(value: DeValue<'d>, at: &Place, reader: &mut Reader<'_>) -> Option<DeValue<'d>> {
    match value {
        DeValue::String(text) => Some(DeValue::String(Cow::Owned(reader.expand(&text, at)?))),
        other => Some(other),
    }
}

fn entry<'d>(key: &str, at: &Place, value: DeValue<'d>) -> DeTable<'d> {
    let key = Spanned::new(at.span.clone(), Cow::Owned(key.to_string()));
    DeTable::from_iter([(key, Spanned::new(at.span.clone(), value))])
}

fn parse(table: DeTable<'_>) -> Result<LogConfig, String> {
    let document = toml::Deserializer::from(Spanned::new(0..0, table));
    LogConfig::deserialize(document).map_err(|e| e.message().to_string())
}

/// The keys that a struct's `Deserialize` knows.
fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // It always fails: only the question is of interest.
    let _: Result<T, Untold> = T::deserialize(Keys(&mut keys));
    keys
}

struct Keys<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = Untold;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Untold> {
        Err(Untold::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Untold> {
        *self.0 = fields;
        Err(Untold::custom("only the keys were wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
