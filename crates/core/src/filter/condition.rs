//! Conditions: what is true, false or unknown.

use super::datum::{Datum, compare};
use super::like::Pattern;
use super::load::truth;
use super::node::Comparison;
use super::outcomes::Outcomes;
use super::term::Term;
use crate::Value;
use std::cmp::Ordering;

#[derive(Debug, Clone)]
pub(super) enum Condition {
    Constant(Option<bool>),
    /// A boolean column.
    Field(usize),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Compare(Comparison, Term, Term),
    /// False before true.
    CompareTruths(Comparison, Box<Condition>, Box<Condition>),
    Distinct(Term, Term),
    DistinctTruths(Box<Condition>, Box<Condition>),
    IsNull(Term),
    Is(Option<bool>, Box<Condition>),
    In(Term, Vec<Term>),
    Like(Term, Pattern),
    Coalesce(Vec<Condition>),
}

impl Condition {
    /// What it may come out as for a row.
    pub(super) fn outcomes(&self, row: &[Value<'_>]) -> Outcomes {
        match self {
            Self::Constant(truth) => Outcomes::sure(*truth),
            Self::Field(at) => match truth(row.get(*at).copied().unwrap_or(Value::Unchanged)) {
                Some(truth) => Outcomes::sure(truth),
                None => Outcomes::ANY,
            },
            Self::Not(condition) => condition.outcomes(row).not(),
            Self::All(parts) => fold(parts, row, Outcomes::TRUE, Outcomes::FALSE, Outcomes::and),
            Self::Any(parts) => fold(parts, row, Outcomes::FALSE, Outcomes::TRUE, Outcomes::or),
            Self::Compare(how, left, right) => compared(*how, &left.value(row), &right.value(row)),
            Self::CompareTruths(how, left, right) => left
                .outcomes(row)
                .pairs(right.outcomes(row), |a, b| Some(comes_out(*how, a?.cmp(&b?)))),
            Self::Distinct(left, right) => distinct(&left.value(row), &right.value(row)),
            Self::DistinctTruths(left, right) => {
                left.outcomes(row).pairs(right.outcomes(row), |a, b| Some(a != b))
            }
            Self::IsNull(term) => match &*term.value(row) {
                Datum::Unknown => Outcomes::EITHER,
                value => Outcomes::sure(Some(matches!(value, Datum::Null))),
            },
            Self::Is(what, condition) => condition.outcomes(row).map(|truth| Some(truth == *what)),
            Self::In(term, list) => {
                let value = term.value(row);
                let mut outcomes = Outcomes::FALSE;
                for item in list {
                    outcomes = outcomes.or(compared(Comparison::Equal, &value, &item.value(row)));
                    if outcomes == Outcomes::TRUE {
                        break;
                    }
                }
                outcomes
            }
            Self::Like(term, pattern) => match &*term.value(row) {
                Datum::Unknown => Outcomes::ANY,
                Datum::Text(text) => {
                    Outcomes::sure(Some(pattern.matches(&String::from_utf8_lossy(text))))
                }
                _ => Outcomes::NULL,
            },
            Self::Coalesce(parts) => {
                let mut parts = parts.iter();
                let first = parts.next().map_or(Outcomes::NULL, |p| p.outcomes(row));
                parts.fold(first, |all, part| all.coalesce(part.outcomes(row)))
            }
        }
    }
}

/// Joins parts until what they come to is decided.
fn fold(
    parts: &[Condition],
    row: &[Value<'_>],
    begin: Outcomes,
    decided: Outcomes,
    join: impl Fn(Outcomes, Outcomes) -> Outcomes,
) -> Outcomes {
    let mut all = begin;
    for part in parts {
        all = join(all, part.outcomes(row));
        if all == decided {
            break;
        }
    }
    all
}

fn compared(how: Comparison, left: &Datum<'_>, right: &Datum<'_>) -> Outcomes {
    match (left, right) {
        (Datum::Null, _) | (_, Datum::Null) => Outcomes::NULL,
        (Datum::Unknown, _) | (_, Datum::Unknown) => Outcomes::ANY,
        _ => Outcomes::sure(compare(left, right).map(|order| comes_out(how, order))),
    }
}

fn distinct(left: &Datum<'_>, right: &Datum<'_>) -> Outcomes {
    match (left, right) {
        (Datum::Unknown, _) | (_, Datum::Unknown) => Outcomes::EITHER,
        (Datum::Null, Datum::Null) => Outcomes::FALSE,
        (Datum::Null, _) | (_, Datum::Null) => Outcomes::TRUE,
        _ => Outcomes::sure(Some(compare(left, right) != Some(Ordering::Equal))),
    }
}

fn comes_out(how: Comparison, order: Ordering) -> bool {
    match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}
