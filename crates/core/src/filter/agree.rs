//! How two sides of an operation come to one type: literals take the other side's, and what cannot
//! be compared soundly is refused.

use super::FilterError;
use super::datum::Datum;
use super::decimal::Decimal;
use super::load::{Type, literal};
use super::term::Term;
use std::ops::Range;

/// A term before its place in the filter is known.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) at: Range<usize>,
    pub(super) term: Loose,
}

#[derive(Debug, Clone)]
pub(super) enum Loose {
    Null,
    /// A quoted literal without a type: it takes the other side's.
    Quoted(String),
    /// A number as written.
    Number(Datum<'static>),
    Of(Type, Term),
}

impl Typed {
    /// The term as a value of a type. A literal becomes one; NULL is one already.
    pub(super) fn settle(self, of: Type) -> Result<Term, FilterError> {
        Ok(match self.term {
            Loose::Null => Term::Constant(Datum::Null),
            Loose::Quoted(text) => match literal(&text, of) {
                Some(datum) => Term::Constant(datum),
                None => {
                    let what = format!("this is not {}", of.name());
                    return Err(FilterError::new(&self.at, what, example(of)));
                }
            },
            // A number beside a float is one, and beside a value of any type as such a value.
            Loose::Number(datum @ Datum::Decimal(_))
                if matches!(of, Type::Float32 | Type::Float64 | Type::Any) =>
            {
                Term::Constant(datum.to_f64().map_or(Datum::Null, Datum::Float))
            }
            Loose::Number(datum) => Term::Constant(datum),
            Loose::Of(_, term) => term,
        })
    }

    /// Its own type; none for what takes the other side's.
    pub(super) fn of(&self) -> Option<Type> {
        match &self.term {
            Loose::Null | Loose::Quoted(_) => None,
            Loose::Number(Datum::Int(_)) => Some(Type::Int),
            Loose::Number(_) => Some(Type::Decimal),
            Loose::Of(of, _) => Some(*of),
        }
    }
}

/// A number as written.
pub(super) fn number(text: &str, at: &Range<usize>) -> Result<Datum<'static>, FilterError> {
    if let Ok(int) = text.parse() {
        return Ok(Datum::Int(int));
    }
    Decimal::parse(text).map(Datum::Decimal).ok_or_else(|| {
        FilterError::new(at, "this number is out of range", "exponents go up to 1000")
    })
}

fn example(of: Type) -> &'static str {
    match of {
        Type::Int => "write it as `42`",
        Type::Decimal | Type::Float32 | Type::Float64 => "write it as `42.5`",
        Type::Bytes => "write it as `'\\x00ff'`",
        Type::Date => "write it as `'2026-11-20'`, or `'infinity'`",
        Type::Time => "write it as `'12:34:56'`",
        Type::TimeTz => "write it as `'12:34:56+02'`",
        Type::Timestamp => "write it as `'2026-11-20 12:34:56'`, without a time zone",
        Type::TimestampTz => "write it as `'2026-11-20 12:34:56+00'`",
        Type::Uuid => "write it as `'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'`",
        Type::Opaque => "only IS NULL and IS NOT NULL are possible here",
        Type::Text | Type::Padded | Type::Label | Type::Caseless | Type::Any | Type::Other => "",
    }
}

/// What two sides are compared as; `orders` when more than their being equal is asked.
pub(super) fn compared(
    left: Typed,
    right: Typed,
    orders: bool,
) -> Result<(Term, Term), FilterError> {
    let of = match (left.of(), right.of()) {
        (None, None) => (Type::Text, Type::Text),
        (Some(of), None) | (None, Some(of)) => (of, of),
        (Some(a), Some(b)) => {
            if !comparable(a, b) {
                let at = left.at.start.min(right.at.start)..left.at.end.max(right.at.end);
                let what = format!("this compares {} with {}", a.name(), b.name());
                let help = "both sides have to be of one type; a literal takes the field's when it \
                            is quoted: `id = '5'`";
                return Err(FilterError::new(&at, what, help));
            }
            (a, b)
        }
    };
    for (side, of) in [(&left, of.0), (&right, of.1)] {
        if matches!(side.term, Loose::Of(..)) {
            sound(&side.at, of, orders)?;
        }
    }
    // A literal takes the type of the other side.
    let (for_left, for_right) = match (&left.term, &right.term) {
        (Loose::Of(..), Loose::Of(..)) => of,
        (Loose::Of(..), _) => (of.0, of.0),
        (_, Loose::Of(..)) => (of.1, of.1),
        _ => of,
    };
    Ok((left.settle(for_left)?, right.settle(for_right)?))
}

fn comparable(a: Type, b: Type) -> bool {
    let any = |one: Type, other: Type| {
        one == Type::Any
            && (other.is_number() || other.is_text() || matches!(other, Type::Bytes | Type::Any))
    };
    a == b
        || (a.is_number() && b.is_number())
        || (a.is_text() && b.is_text())
        || (a.is_moment() && b.is_moment())
        || (a == Type::Other && b == Type::Text)
        || (a == Type::Text && b == Type::Other)
        || any(a, b)
        || any(b, a)
}

/// Refuses comparisons whose outcome would not be the source's.
fn sound(at: &Range<usize>, of: Type, orders: bool) -> Result<(), FilterError> {
    let (what, help) = match of {
        Type::Opaque => (
            "values of this type cannot be compared: equal ones may be written differently",
            "only IS NULL and IS NOT NULL are possible here",
        ),
        Type::Caseless => {
            ("this text compares without case at its source", "write `lower(field) = '…'`")
        }
        Type::Label if orders => (
            "this type has an order of its own, which a filter does not know",
            "use =, <> or IN and name the values",
        ),
        Type::Other if orders => (
            "values of this type have an order that only their own database knows",
            "use =, <> or IN and name the values",
        ),
        _ => return Ok(()),
    };
    Err(FilterError::new(at, what, help))
}

/// The type of an operation on two numbers, and its operands.
pub(super) fn calculated(left: Typed, right: Typed) -> Result<(Type, Term, Term), FilterError> {
    let number = |side: &Typed| match side.of() {
        None => Ok(None),
        Some(of) if of.is_number() || of == Type::Any => Ok(Some(of)),
        Some(of) => {
            let what = format!("this is {}, with which nothing is calculated", of.name());
            Err(FilterError::new(&side.at, what, "+ - * / % are for numbers"))
        }
    };
    let of = match (number(&left)?, number(&right)?) {
        (None, None) => Type::Int,
        (Some(of), None) | (None, Some(of)) => of,
        (Some(a), Some(b)) => match (a, b) {
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (Type::Int, Type::Int) => Type::Int,
            (Type::Float32, Type::Float32) => Type::Float32,
            (Type::Int | Type::Decimal, Type::Int | Type::Decimal) => Type::Decimal,
            _ => Type::Float64,
        },
    };
    // A quoted literal beside a value of any type would stay text.
    let literal = if of == Type::Any { Type::Decimal } else { of };
    let (left, right) = (left.settle(literal)?, right.settle(literal)?);
    Ok((of, left, right))
}
