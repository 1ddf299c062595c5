//! From text to nodes. The grammar is sqlparser's; what we do not evaluate is refused here, with its
//! place.

use super::FilterError;
use super::dialect::FilterDialect;
use super::load::hex;
use super::node::{Comparison, Form, Function, Literal, Node, Operation};
use sqlparser::ast::{
    BinaryOperator, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments,
    Spanned, UnaryOperator, Value,
};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use std::ops::Range;

/// Words, signs and literals of a filter, without the values of its lists: each may lie one deeper
/// than the one before it, and the parser's stack is not endless.
const TOKENS_MAX: usize = 1_000;
/// Values in lists.
const VALUES_MAX: usize = 10_000;
/// How deep parts may lie within parts; joined by AND or OR they lie beside each other.
const DEPTH_MAX: usize = 64;
/// Parentheses within parentheses while parsing.
const NESTED_MAX: usize = 40;

const SUPPORTED: &str = "a filter may use comparisons, AND, OR, NOT, IS [NOT] NULL/TRUE/FALSE/\
    UNKNOWN/DISTINCT FROM, IN (…), BETWEEN, LIKE, ILIKE, + - * / %, ||, lower, upper, length, abs, \
    coalesce and casts of literals";

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let place = Place { text };
    if text.trim().is_empty() {
        let help = "write a condition such as `status = 'active'`, or leave the filter out";
        return Err(FilterError::new(&(0..text.len()), "the filter is empty", help));
    }
    let dialect = FilterDialect;
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|e| {
        let start = place.byte(e.location);
        FilterError::new(&place.from(start), e.message, "quotes and comments have to be closed")
    })?;
    place.check_length(&tokens)?;
    let mut parser = Parser::new(&dialect)
        .with_recursion_limit(NESTED_MAX)
        .with_tokens_with_locations(tokens.clone());
    let expr = parser.parse_expr().map_err(|e| place.refused(&e, &tokens))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let what = format!("the condition ends before `{}`", next.token);
        return Err(FilterError::new(&place.of(next.span), what, "join conditions with AND or OR"));
    }
    place.node(&expr, DEPTH_MAX)
}

/// Turns places of the parser's into bytes of the text.
struct Place<'a> {
    text: &'a str,
}

type Parsed = Result<Node, FilterError>;

impl Place<'_> {
    fn byte(&self, at: Location) -> usize {
        let mut start = 0;
        for _ in 1..at.line {
            let Some(i) = self.text[start..].find('\n') else { return self.text.len() };
            start += i + 1;
        }
        let column = at.column.saturating_sub(1) as usize;
        let rest = self.text[start..].char_indices().nth(column);
        rest.map_or(self.text.len(), |(i, _)| start + i)
    }

    /// The bytes of a span; everything when it is empty.
    fn of(&self, span: Span) -> Range<usize> {
        if span == Span::empty() {
            return 0..self.text.len();
        }
        let (start, end) = (self.byte(span.start), self.byte(span.end));
        if end > start { start..end } else { self.from(start) }
    }

    /// One character, or the last one at the end.
    fn from(&self, start: usize) -> Range<usize> {
        match self.text[start..].chars().next() {
            Some(c) => start..start + c.len_utf8(),
            None => {
                let last = self.text.chars().next_back().map_or(0, char::len_utf8);
                self.text.len() - last..self.text.len()
            }
        }
    }

    fn check_length(&self, tokens: &[TokenWithSpan]) -> Result<(), FilterError> {
        let (mut parts, mut values, mut in_list) = (0, 0, false);
        for token in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
            let is_comma = token.token == Token::Comma;
            if is_comma || in_list {
                values += 1;
            } else {
                parts += 1;
            }
            in_list = is_comma;
            if parts > TOKENS_MAX || values > 2 * VALUES_MAX {
                let what = format!(
                    "the filter is longer than {TOKENS_MAX} words and signs, or {VALUES_MAX} values"
                );
                let help = "what is that long belongs into a column that the filter can use";
                return Err(FilterError::new(&self.of(token.span), what, help));
            }
        }
        Ok(())
    }

    /// The parser's complaint, at the token that it names.
    fn refused(&self, error: &ParserError, tokens: &[TokenWithSpan]) -> FilterError {
        let message = match error {
            ParserError::RecursionLimitExceeded => {
                return self.too_deep(&(0..self.text.len()));
            }
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        let (what, location) = match message.rsplit_once(" at Line: ") {
            Some((what, place)) => (what, location(place)),
            None => (message.as_str(), None),
        };
        let at = match location {
            Some(location) => {
                let token = tokens.iter().find(|t| t.span.start == location);
                token.map_or_else(|| self.from(self.byte(location)), |t| self.of(t.span))
            }
            None => self.from(self.text.len()),
        };
        let mut what = what.to_owned();
        if let Some(first) = what.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        FilterError::new(&at, what, SUPPORTED)
    }

    fn too_deep(&self, at: &Range<usize>) -> FilterError {
        FilterError::new(at, "the filter is nested too deeply", "write it with fewer parentheses")
    }

    fn unsupported(&self, expr: &Expr) -> FilterError {
        // The span of a call ends before its parenthesis; its name says enough.
        let at = self.of(if let Expr::Function(f) = expr { f.name.span() } else { expr.span() });
        let what = format!("`{}` is not supported in a filter", short(&self.text[at.clone()]));
        FilterError::new(&at, what, SUPPORTED)
    }

    fn boxed(&self, expr: &Expr, depth: usize) -> Result<Box<Node>, FilterError> {
        self.node(expr, depth).map(Box::new)
    }

    fn all<'e>(
        &self,
        parts: impl IntoIterator<Item = &'e Expr>,
        depth: usize,
    ) -> Result<Vec<Node>, FilterError> {
        parts.into_iter().map(|part| self.node(part, depth)).collect()
    }

    fn node(&self, expr: &Expr, depth: usize) -> Parsed {
        let at = self.of(expr.span());
        let Some(depth) = depth.checked_sub(1) else { return Err(self.too_deep(&at)) };
        let negated = |negated: bool, node: Node| {
            let at = node.at.clone();
            if negated { Node { at, form: Form::Not(Box::new(node)) } } else { node }
        };
        let node = |form| Node { at: at.clone(), form };
        let is = |what, e: &Expr| Ok(node(Form::Is(what, self.boxed(e, depth)?)));
        Ok(match expr {
            Expr::Nested(inner) => return self.node(inner, depth),
            Expr::Identifier(name) => {
                let quoted = name.quote_style.is_some();
                node(Form::Field { name: name.value.clone(), quoted })
            }
            Expr::Value(value) => node(self.literal(&value.value, expr)?),
            Expr::TypedString(typed) => {
                let of = self.literal_type(&typed.data_type.to_string(), &at)?;
                let Some(text) = typed.value.clone().into_string() else {
                    return Err(self.unsupported(expr));
                };
                node(Form::Typed(of, Some(text)))
            }
            Expr::Cast { expr: inner, data_type, format: None, .. } => {
                let of = self.literal_type(&data_type.to_string(), &at)?;
                node(Form::Typed(of, self.cast(inner)?))
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                node(Form::Not(self.boxed(expr, depth)?))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                node(Form::Negate(self.boxed(expr, depth)?))
            }
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => return self.node(expr, depth),
            Expr::BinaryOp { left, op, right } => {
                node(self.binary(expr, (left, op, right), depth)?)
            }
            Expr::IsNull(e) => node(Form::IsNull(self.boxed(e, depth)?)),
            Expr::IsNotNull(e) => negated(true, node(Form::IsNull(self.boxed(e, depth)?))),
            Expr::IsTrue(e) => return is(Some(true), e),
            Expr::IsFalse(e) => return is(Some(false), e),
            Expr::IsUnknown(e) => return is(None, e),
            Expr::IsNotTrue(e) => negated(true, is(Some(true), e)?),
            Expr::IsNotFalse(e) => negated(true, is(Some(false), e)?),
            Expr::IsNotUnknown(e) => negated(true, is(None, e)?),
            Expr::IsDistinctFrom(a, b) => {
                node(Form::Distinct(self.boxed(a, depth)?, self.boxed(b, depth)?))
            }
            Expr::IsNotDistinctFrom(a, b) => {
                let distinct = Form::Distinct(self.boxed(a, depth)?, self.boxed(b, depth)?);
                negated(true, node(distinct))
            }
            Expr::InList { expr: e, list, negated: not } => {
                negated(*not, node(Form::In(self.boxed(e, depth)?, self.all(list, depth)?)))
            }
            Expr::Between { expr: e, negated: not, low, high } => {
                let e = self.boxed(e, depth)?;
                let (low, high) = (self.boxed(low, depth)?, self.boxed(high, depth)?);
                negated(*not, node(Form::Between(e, low, high)))
            }
            Expr::Like { negated: not, any: false, expr: e, pattern, escape_char } => {
                negated(*not, node(self.like((e, pattern), escape_char.as_deref(), false, depth)?))
            }
            Expr::ILike { negated: not, any: false, expr: e, pattern, escape_char } => {
                negated(*not, node(self.like((e, pattern), escape_char.as_deref(), true, depth)?))
            }
            Expr::Function(call) => node(self.call(expr, call, depth)?),
            _ => return Err(self.unsupported(expr)),
        })
    }

    fn literal(&self, value: &Value, expr: &Expr) -> Result<Form, FilterError> {
        Ok(match value {
            Value::Number(number, false) => Form::Number(number.clone()),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Form::Text(text.clone())
            }
            Value::DollarQuotedString(text) => Form::Text(text.value.clone()),
            Value::HexStringLiteral(digits) => match hex(digits) {
                Some(bytes) => Form::Bytes(bytes),
                None => {
                    let what = "these are no bytes: two hex digits make one";
                    let help = "write `X'00ff'`";
                    return Err(FilterError::new(&self.of(expr.span()), what, help));
                }
            },
            Value::Boolean(truth) => Form::Bool(*truth),
            Value::Null => Form::Null,
            _ => return Err(self.unsupported(expr)),
        })
    }

    /// The text of a literal that is cast; none for NULL.
    fn cast(&self, expr: &Expr) -> Result<Option<String>, FilterError> {
        match expr {
            Expr::Nested(inner) => self.cast(inner),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => match &**inner {
                Expr::Value(value) => match &value.value {
                    Value::Number(number, false) => Ok(Some(format!("-{number}"))),
                    _ => Err(self.unsupported(expr)),
                },
                _ => Err(self.unsupported(expr)),
            },
            Expr::Value(value) => match self.literal(&value.value, expr)? {
                Form::Number(text) | Form::Text(text) => Ok(Some(text)),
                Form::Bool(truth) => Ok(Some(truth.to_string())),
                Form::Null => Ok(None),
                _ => Err(self.unsupported(expr)),
            },
            _ => {
                let what = "only literals can be cast";
                let help = "compare the field with a literal of the field's own type";
                Err(FilterError::new(&self.of(expr.span()), what, help))
            }
        }
    }

    fn literal_type(&self, name: &str, at: &Range<usize>) -> Result<Literal, FilterError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "bool" | "boolean" => Literal::Bool,
            "smallint" | "int" | "integer" | "bigint" | "int2" | "int4" | "int8" => Literal::Int,
            "numeric" | "decimal" | "dec" => Literal::Decimal,
            "real" | "float4" => Literal::Float32,
            "double precision" | "double" | "float" | "float8" => Literal::Float64,
            "text" | "varchar" | "character varying" => Literal::Text,
            "bytea" | "blob" => Literal::Bytes,
            "date" => Literal::Date,
            "time" | "time without time zone" => Literal::Time,
            "timetz" | "time with time zone" => Literal::TimeTz,
            "timestamp" | "timestamp without time zone" => Literal::Timestamp,
            "timestamptz" | "timestamp with time zone" => Literal::TimestampTz,
            "uuid" => Literal::Uuid,
            other => {
                let what = format!("a literal cannot be cast to `{other}` in a filter");
                let help = "boolean, integer, numeric, real, double precision, text, bytea, date, \
                            time, timetz, timestamp, timestamptz and uuid are known, without a \
                            length or precision";
                return Err(FilterError::new(at, what, help));
            }
        })
    }

    fn binary(
        &self,
        expr: &Expr,
        (left, op, right): (&Expr, &BinaryOperator, &Expr),
        depth: usize,
    ) -> Result<Form, FilterError> {
        let two = || Ok((self.boxed(left, depth)?, self.boxed(right, depth)?));
        let compare = |how| two().map(|(left, right)| Form::Compare(how, left, right));
        let arithmetic = |how| two().map(|(left, right)| Form::Arithmetic(how, left, right));
        match op {
            BinaryOperator::And => self.all(chain(expr, op), depth).map(Form::All),
            BinaryOperator::Or => self.all(chain(expr, op), depth).map(Form::Any),
            BinaryOperator::Eq => compare(Comparison::Equal),
            BinaryOperator::NotEq => compare(Comparison::NotEqual),
            BinaryOperator::Lt => compare(Comparison::Less),
            BinaryOperator::LtEq => compare(Comparison::LessOrEqual),
            BinaryOperator::Gt => compare(Comparison::Greater),
            BinaryOperator::GtEq => compare(Comparison::GreaterOrEqual),
            BinaryOperator::Plus => arithmetic(Operation::Add),
            BinaryOperator::Minus => arithmetic(Operation::Subtract),
            BinaryOperator::Multiply => arithmetic(Operation::Multiply),
            BinaryOperator::Divide => arithmetic(Operation::Divide),
            BinaryOperator::Modulo => arithmetic(Operation::Remainder),
            BinaryOperator::StringConcat => two().map(|(left, right)| Form::Concat(left, right)),
            _ => Err(self.unsupported(expr)),
        }
    }

    fn like(
        &self,
        (text, pattern): (&Expr, &Expr),
        escape: Option<&Expr>,
        fold: bool,
        depth: usize,
    ) -> Result<Form, FilterError> {
        let escape = match escape {
            None => Some('\\'),
            Some(expr) => {
                let written = match expr {
                    Expr::Value(value) => value.clone().into_string(),
                    _ => None,
                };
                let mut chars = written.as_deref().unwrap_or("too long").chars();
                match (chars.next(), chars.next()) {
                    (None, _) => None,
                    (Some(one), None) => Some(one),
                    _ => {
                        let help = "write `ESCAPE '!'`; `ESCAPE ''` for none";
                        let what = "ESCAPE takes one character";
                        return Err(FilterError::new(&self.of(expr.span()), what, help));
                    }
                }
            }
        };
        let (text, pattern) = (self.boxed(text, depth)?, self.boxed(pattern, depth)?);
        Ok(Form::Like { text, pattern, escape, fold })
    }

    fn call(&self, expr: &Expr, call: &Call, depth: usize) -> Result<Form, FilterError> {
        let name = call.name.to_string().to_ascii_lowercase();
        let function = match name.as_str() {
            "lower" => Function::Lower,
            "upper" => Function::Upper,
            "length" | "char_length" | "character_length" => Function::Length,
            "abs" => Function::Abs,
            "coalesce" => Function::Coalesce,
            _ => return Err(self.unsupported(expr)),
        };
        let FunctionArguments::List(list) = &call.args else {
            return Err(self.unsupported(expr));
        };
        let plain = call.over.is_none()
            && call.filter.is_none()
            && call.within_group.is_empty()
            && call.null_treatment.is_none()
            && list.clauses.is_empty()
            && list.duplicate_treatment.is_none();
        let mut arguments = Vec::with_capacity(list.args.len());
        for argument in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                return Err(self.unsupported(expr));
            };
            arguments.push(self.node(argument, depth)?);
        }
        let counts = match function {
            Function::Coalesce => !arguments.is_empty(),
            _ => arguments.len() == 1,
        };
        if !plain || !counts {
            return Err(self.unsupported(expr));
        }
        Ok(Form::Call(function, arguments))
    }
}

/// The parts that one operator joins, side by side.
fn chain<'e>(expr: &'e Expr, by: &BinaryOperator) -> Vec<&'e Expr> {
    let mut parts = Vec::new();
    let mut at = expr;
    while let Expr::BinaryOp { left, op, right } = at
        && op == by
    {
        parts.push(&**right);
        at = left;
    }
    parts.push(at);
    parts.reverse();
    parts
}

/// `1, Column: 5`.
fn location(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String =
        chars.by_ref().take(40).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}
