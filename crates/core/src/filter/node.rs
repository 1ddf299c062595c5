//! A filter as it was written: well formed, with the place of every part, without types.

use std::ops::Range;

/// One part of a filter.
#[derive(Debug)]
pub(super) struct Node {
    /// Bytes of the filter's text.
    pub(super) at: Range<usize>,
    pub(super) form: Form,
}

#[derive(Debug)]
pub(super) enum Form {
    Field {
        name: String,
        quoted: bool,
    },
    Number(String),
    Text(String),
    Bytes(Vec<u8>),
    Bool(bool),
    Null,
    /// A literal with its type beside it: `DATE '2026-11-20'`; none for NULL.
    Typed(Literal, Option<String>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// Whether two values differ, NULL being a value.
    Distinct(Box<Node>, Box<Node>),
    IsNull(Box<Node>),
    /// Whether a condition comes out as this.
    Is(Option<bool>, Box<Node>),
    In(Box<Node>, Vec<Node>),
    Between(Box<Node>, Box<Node>, Box<Node>),
    Like {
        text: Box<Node>,
        pattern: Box<Node>,
        escape: Option<char>,
        fold: bool,
    },
    Arithmetic(Operation, Box<Node>, Box<Node>),
    Negate(Box<Node>),
    Concat(Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

/// A type that a literal may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Bool,
    Int,
    Decimal,
    Float32,
    Float64,
    Text,
    Bytes,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it needs an order, not only equality.
    pub(super) fn orders(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Length,
    Abs,
    Coalesce,
}

impl Function {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Length => "length",
            Self::Abs => "abs",
            Self::Coalesce => "coalesce",
        }
    }
}
