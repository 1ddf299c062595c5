//! `retain = { warn = "1 GiB", limit = "10 GiB", action = "alarm" }`: what a source's disk may keep for us.

use crate::config::problem::Located;
use crate::config::suggest::advice;
use crate::config::tree::{Reader, Section};
use rowcast_core::ByteSize;
use rowcast_engine::{OverLimit, Retain};

const ACTIONS: [&str; 2] = ["alarm", "release"];

/// The budget of a service; the default where the file says nothing.
pub(crate) fn read(at: &mut Section<'_>, reader: &mut Reader<'_>) -> Retain {
    let mut retain = Retain::default();
    let Some(mut section) = at.section("retain", reader) else { return retain };
    let warn = size("warn", &mut section, reader);
    let limit = size("limit", &mut section, reader);
    if let Some(warn) = &warn {
        retain.warn = warn.value;
    }
    retain.limit = limit.as_ref().map(|l| l.value);
    if let Some(action) = section.text("action", reader) {
        match action.value.as_str() {
            "alarm" => {}
            "release" if limit.is_some() => retain.over = OverLimit::Release,
            "release" => {
                let help = "add `limit = \"10 GiB\"`: how much may be kept before it is let go";
                reader.problems.error(&action.at, "`release` needs a `limit`", help);
            }
            other => {
                let help = advice(other, "the actions", ACTIONS);
                reader.problems.error(&action.at, format!("there is no action `{other}`"), help);
            }
        }
    }
    match (&warn, &limit) {
        (Some(warn), Some(limit)) if warn.value > limit.value => {
            let help = "a warning that comes after the limit warns of nothing: make it smaller";
            reader.problems.error(&warn.at, "`warn` is larger than `limit`", help);
        }
        (None, Some(limit)) => retain.warn = retain.warn.min(limit.value),
        _ => {}
    }
    section.finish(reader);
    retain
}

fn size(
    key: &'static str,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Located<ByteSize>> {
    let text = section.text(key, reader)?;
    match text.value.parse::<ByteSize>() {
        Ok(value) if value.0 > 0 => Some(Located { value, at: text.at }),
        Ok(_) => {
            reader.problems.error(&text.at, "must be more than nothing", "such as \"10 GiB\"");
            None
        }
        Err(error) => {
            reader.problems.error(&text.at, error.to_string(), "such as \"10 GiB\"");
            None
        }
    }
}
