//! Terms: what has a value other than a truth. Nothing here can fail: where an operation has no
//! result (a division by zero, a number that grows too large), it is NULL.

use super::datum::Datum;
use super::decimal::Decimal;
use super::like::{lower, upper};
use super::load::{Type, load};
use super::node::Operation;
use crate::Value;
use std::borrow::Cow;

#[derive(Debug, Clone)]
pub(super) enum Term {
    Constant(Datum<'static>),
    Field(usize, Type),
    /// `single` when the result has the precision of a 32-bit float.
    Arithmetic {
        operation: Operation,
        single: bool,
        left: Box<Term>,
        right: Box<Term>,
    },
    Negate(Box<Term>),
    Abs(Box<Term>),
    Concat(Box<Term>, Box<Term>),
    Lower(Box<Term>),
    Upper(Box<Term>),
    Length(Box<Term>),
    Coalesce(Vec<Term>),
    /// A number as the wider type that it is joined to.
    Widened(Type, Box<Term>),
}

impl Term {
    /// The value in a row.
    pub(super) fn value<'a>(&'a self, row: &[Value<'a>]) -> Cow<'a, Datum<'a>> {
        Cow::Owned(match self {
            Self::Constant(datum) => return Cow::Borrowed(datum),
            Self::Field(at, of) => load(row.get(*at).copied().unwrap_or(Value::Unchanged), *of),
            Self::Arithmetic { operation, single, left, right } => {
                let (left, right) = (left.value(row), right.value(row));
                missing(&left, &right).unwrap_or_else(|| {
                    let result = arithmetic(*operation, *single, &left, &right);
                    result.unwrap_or(Datum::Null)
                })
            }
            Self::Negate(term) => negate(term.value(row).into_owned()),
            Self::Abs(term) => match term.value(row).into_owned() {
                Datum::Int(i) => i.checked_abs().map_or(Datum::Null, Datum::Int),
                Datum::Decimal(d) => Datum::Decimal(d.abs()),
                Datum::Float(f) => Datum::Float(f.abs()),
                other => strange(&other),
            },
            Self::Concat(left, right) => {
                let (left, right) = (left.value(row), right.value(row));
                missing(&left, &right).unwrap_or_else(|| match (&*left, &*right) {
                    (Datum::Text(a), Datum::Text(b)) => {
                        Datum::Text(Cow::Owned([&a[..], &b[..]].concat()))
                    }
                    _ => Datum::Null,
                })
            }
            Self::Lower(term) => mapped(&term.value(row), lower),
            Self::Upper(term) => mapped(&term.value(row), upper),
            Self::Length(term) => match &*term.value(row) {
                Datum::Text(text) => {
                    Datum::Int(String::from_utf8_lossy(text).chars().count() as i64)
                }
                Datum::Bytes(bytes) => Datum::Int(bytes.len() as i64),
                other => strange(other),
            },
            Self::Coalesce(terms) => {
                let mut values = terms.iter().map(|t| t.value(row));
                let found = values.find(|v| !matches!(**v, Datum::Null));
                return found.unwrap_or(Cow::Owned(Datum::Null));
            }
            Self::Widened(of, term) => widened(*of, term.value(row).into_owned()),
        })
    }
}

/// What an operation on these gives without looking further: nothing is known of NULL, and nothing
/// yet of what the row does not say.
fn missing(left: &Datum<'_>, right: &Datum<'_>) -> Option<Datum<'static>> {
    match (left, right) {
        (Datum::Null, _) | (_, Datum::Null) => Some(Datum::Null),
        (Datum::Unknown, _) | (_, Datum::Unknown) => Some(Datum::Unknown),
        _ => None,
    }
}

/// What an operation gives on a value of a type that it is not for.
fn strange(value: &Datum<'_>) -> Datum<'static> {
    if matches!(value, Datum::Unknown) { Datum::Unknown } else { Datum::Null }
}

fn widened(of: Type, value: Datum<'_>) -> Datum<'_> {
    match (of, value) {
        (Type::Decimal, Datum::Int(i)) => Datum::Decimal(i.into()),
        (Type::Float32 | Type::Float64, value @ (Datum::Int(_) | Datum::Decimal(_))) => {
            value.to_f64().map_or(Datum::Null, Datum::Float)
        }
        (_, value) => value,
    }
}

fn mapped(value: &Datum<'_>, f: impl Fn(char) -> char) -> Datum<'static> {
    match value {
        Datum::Text(text) => {
            let text: String = String::from_utf8_lossy(text).chars().map(f).collect();
            Datum::Text(Cow::Owned(text.into_bytes()))
        }
        other => strange(other),
    }
}

fn negate(value: Datum<'_>) -> Datum<'static> {
    match value {
        Datum::Int(i) => i.checked_neg().map_or(Datum::Null, Datum::Int),
        Datum::Decimal(d) => Datum::Decimal(d.negate()),
        Datum::Float(f) => Datum::Float(-f),
        other => strange(&other),
    }
}

fn arithmetic(
    operation: Operation,
    single: bool,
    left: &Datum<'_>,
    right: &Datum<'_>,
) -> Option<Datum<'static>> {
    if let (Datum::Int(a), Datum::Int(b)) = (left, right) {
        return integers(operation, *a, *b).map(Datum::Int);
    }
    if let (Some(a), Some(b)) = (left.to_decimal(), right.to_decimal()) {
        return decimals(operation, &a, &b).map(Datum::Decimal);
    }
    let (a, b) = (left.to_f64()?, right.to_f64()?);
    if single {
        let result = floats(operation, f64::from(a as f32), f64::from(b as f32))? as f32;
        let overflows = result.is_infinite() && a.is_finite() && b.is_finite();
        return (!overflows).then(|| Datum::Float(result.into()));
    }
    floats(operation, a, b).map(Datum::Float)
}

fn integers(operation: Operation, a: i64, b: i64) -> Option<i64> {
    match operation {
        Operation::Add => a.checked_add(b),
        Operation::Subtract => a.checked_sub(b),
        Operation::Multiply => a.checked_mul(b),
        Operation::Divide => a.checked_div(b),
        Operation::Remainder if b == -1 => Some(0),
        Operation::Remainder => a.checked_rem(b),
    }
}

fn decimals(operation: Operation, a: &Decimal, b: &Decimal) -> Option<Decimal> {
    match operation {
        Operation::Add => Some(a.add(b)),
        Operation::Subtract => Some(a.add(&b.clone().negate())),
        Operation::Multiply => a.multiply(b),
        Operation::Divide => a.divide(b),
        Operation::Remainder => a.remainder(b),
    }
}

fn floats(operation: Operation, a: f64, b: f64) -> Option<f64> {
    let divides = matches!(operation, Operation::Divide | Operation::Remainder);
    if divides && b == 0.0 && !a.is_nan() {
        return None;
    }
    let result = match operation {
        Operation::Add => a + b,
        Operation::Subtract => a - b,
        Operation::Multiply => a * b,
        Operation::Divide => a / b,
        Operation::Remainder => a % b,
    };
    let overflows = result.is_infinite() && a.is_finite() && b.is_finite();
    (!overflows).then_some(result)
}
