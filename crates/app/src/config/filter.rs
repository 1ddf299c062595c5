//! `where`: a condition in SQL, whose mistakes are shown at their place in the file.

use crate::config::problem::Place;
use crate::config::tree::{Reader, Section};
use rowcast_core::Filter;
use std::ops::Range;

/// The filter of a subscription. `None` when there is none, or after saying what is wrong with it.
pub(crate) fn filter(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Filter> {
    let written = section.text("where", reader)?;
    match written.value.parse::<Filter>() {
        Ok(filter) => Some(filter),
        Err(e) => {
            let span = within(reader.text, &written.at.span, &written.value, &e.at);
            let at = Place { span, path: written.at.path };
            reader.problems.error(&at, e.what, e.help);
            None
        }
    }
}

/// The bytes of the file that a part of a value comes from; those of the whole value where it does
/// not stand in the file as it is, because of escapes or variables.
fn within(file: &str, span: &Range<usize>, value: &str, part: &Range<usize>) -> Range<usize> {
    let found =
        file.get(span.clone()).and_then(|raw| raw.find(value)).filter(|_| !value.is_empty());
    match found {
        Some(at) => span.start + at + part.start..span.start + at + part.end,
        None => span.clone(),
    }
}
