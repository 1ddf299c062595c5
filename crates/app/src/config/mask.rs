//! `mask = { field = "sha256" }` and the key that it takes.

use crate::config::file::{Publish, Service};
use crate::config::problem::{Located, Place, Problems};
use crate::config::suggest::advice;
use crate::config::tree::{Reader, Section, text, wrong_type};
use rowcast_core::{Mask, MaskError, MaskKey, Masks};
use toml::de::DeValue;

const HELP: &str = "write `mask = { email = \"sha256\" }`";
const KEY_HELP: &str = "at least 16 bytes that nobody guesses, kept out of the file: \
                        `mask_key = \"${MASK_KEY}\"`";

/// A field and its mask.
#[derive(Debug)]
pub(crate) struct MaskedField {
    pub(crate) field: Located<String>,
    pub(crate) mask: Mask,
}

/// `mask_key` of a service.
#[derive(Debug, Default)]
pub(crate) enum Key {
    /// There is none.
    #[default]
    Absent,
    /// There is one that is none; it has been said.
    Wrong,
    /// The secret.
    Good(MaskKey),
}

/// The masked fields of an entity.
pub(crate) fn read(at: &mut Section<'_>, reader: &mut Reader<'_>) -> Vec<MaskedField> {
    let Some((place, value)) = at.take("mask") else { return Vec::new() };
    let DeValue::Table(table) = value else {
        let _: Option<()> = wrong_type(&value, "a table of fields", HELP, &place, reader);
        return Vec::new();
    };
    let mut fields = Vec::new();
    for (field_at, field, at, value) in Section::new(table, place).drain() {
        let Some(name) = text(value, &at, reader) else { continue };
        match name.parse::<Mask>() {
            Ok(mask) => {
                fields.push(MaskedField { field: Located { value: field, at: field_at }, mask })
            }
            Err(error) => {
                let help = advice(&name, "the masks", Mask::ALL.map(Mask::name));
                reader.problems.error(&at, error.to_string(), help);
            }
        }
    }
    fields
}

/// The key of a service's hashes. What is wrong with it is said at the service: the line that holds
/// the key is not for showing.
pub(crate) fn read_key(at: &mut Section<'_>, reader: &mut Reader<'_>) -> Key {
    let service = at.at.clone();
    let Some((place, value)) = at.take("mask_key") else { return Key::Absent };
    let shown = Place { path: place.path, ..service };
    let Some(secret) = text(value, &shown, reader) else { return Key::Wrong };
    match MaskKey::new(secret.as_bytes()) {
        Ok(key) => Key::Good(key),
        Err(error) => {
            reader.problems.error(&shown, format!("`mask_key` is too short: {error}"), KEY_HELP);
            Key::Wrong
        }
    }
}

impl Publish {
    /// What is wrong with the masks, as far as the file tells; the table is looked at by `check`.
    pub(crate) fn check_masks(&self, service: &Service, problems: &mut Problems) {
        for MaskedField { field, mask } in &self.masks {
            let public = self.fields.as_ref();
            if let Some(public) = public.filter(|p| p.iter().all(|p| p.value != field.value)) {
                let entity = &self.entity.value;
                problems.error(
                    &field.at,
                    format!("`mask` names `{}`, which `{entity}` does not publish", field.value),
                    advice(&field.value, "its fields", public.iter().map(|p| p.value.as_str())),
                );
            }
            if *mask == Mask::Sha256 && matches!(service.mask_key, Key::Absent) {
                let error = MaskError::NoKey.to_string();
                let help = format!("add to `[service.{}]` {KEY_HELP}", service.name.value);
                problems.error(&field.at, error, help);
            }
        }
    }

    /// The masks in the source's words, once everything was checked.
    pub(crate) fn masks(&self, service: &Service) -> Masks {
        let key = match &service.mask_key {
            Key::Good(key) => Some(key.clone()),
            Key::Absent | Key::Wrong => None,
        };
        let fields = self.masks.iter().map(|m| (m.field.value.clone(), m.mask)).collect();
        // Without its key there was a mistake before, and this plan is not used.
        Masks::new(fields, key).unwrap_or_default()
    }
}
