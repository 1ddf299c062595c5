//! Filters: SQL conditions over an entity's published fields, that say which rows a subscriber
//! takes.
//!
//! Text becomes a [`Filter`] once, a filter and a schema become a [`Bound`] once per schema, and a
//! bound filter gives a [`Verdict`] for every row. All mistakes are found before the first row;
//! judging a row cannot fail.

mod agree;
mod bind;
mod condition;
mod datum;
mod decimal;
mod dialect;
mod like;
mod load;
mod moment;
mod node;
mod outcomes;
mod parse;

mod term;

use crate::{Row, Schema, Value};
use condition::Condition;
use node::Node;
use outcomes::Outcomes;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

/// A condition as it was written, known to be well formed: `status = 'active' AND credit > 1000`.
/// Two filters are equal when their texts are.
#[derive(Clone)]
pub struct Filter {
    text: Arc<str>,
    node: Arc<Node>,
}

impl Filter {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter over rows of one schema. It may use any field, also those that a subscription
    /// does not take.
    ///
    /// # Errors
    /// When a field is missing, or types do not go together; with the place in the text.
    pub fn bind(&self, schema: &Schema) -> Result<Bound, FilterError> {
        let condition = bind::bind(&self.node, schema)?;
        Ok(Bound { filter: self.clone(), condition })
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Ok(Self { text: text.into(), node: Arc::new(parse::parse(text)?) })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.text)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct FilterError {
    /// What is wrong, as a sentence.
    pub what: String,
    /// What to write instead.
    pub help: String,
    /// The bytes of the filter's text that are meant; never empty, and on character boundaries,
    /// unless the text is empty.
    pub at: Range<usize>,
}

impl FilterError {
    fn new(at: &Range<usize>, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into(), at: at.clone() }
    }

    /// The line of the filter's text that is meant, and a line of carets under the place.
    pub fn shown(&self, text: &str) -> String {
        let start = text.floor_char_boundary(self.at.start.min(text.len()));
        let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let stop = text.floor_char_boundary(self.at.end.clamp(start, end));
        // A tab stays one, so that the carets stand below what they mean.
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let margin: String = text[begin..start].chars().map(blank).collect();
        let carets = "^".repeat(text[start..stop].chars().count().max(1));
        format!("{}\n{margin}{carets}", &text[begin..end])
    }
}

/// Whether a row passes a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The condition is true.
    Yes,
    /// The condition is false or unknown (NULL).
    No,
    /// It hangs on a value that the row does not say ([`Value::Unchanged`]).
    Depends,
}

/// A filter that knows the types of the fields it uses.
#[derive(Clone)]
pub struct Bound {
    filter: Filter,
    condition: Condition,
}

impl Bound {
    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Judges a row of the schema that the filter was bound to. A row that is malformed passes, so
    /// that whoever unpacks it next says so.
    pub fn verdict(&self, row: Row<'_>) -> Verdict {
        let mut values = Vec::new();
        match row.unpack(&mut values) {
            Ok(()) => self.verdict_of(&values),
            Err(_) => Verdict::Yes,
        }
    }

    /// As [`verdict`](Self::verdict), for a row that is unpacked already. Values that are not there
    /// count as [`Value::Unchanged`].
    pub fn verdict_of(&self, values: &[Value<'_>]) -> Verdict {
        let outcomes = self.condition.outcomes(values);
        if outcomes == Outcomes::TRUE {
            Verdict::Yes
        } else if outcomes.has_true() {
            Verdict::Depends
        } else {
            Verdict::No
        }
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bound({:?})", self.filter.text)
    }
}

/// Bound to what, the shape that holds it says.
impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.filter == other.filter
    }
}

impl Eq for Bound {}

#[cfg(test)]
mod tests;
