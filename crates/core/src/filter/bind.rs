//! From nodes to conditions over one schema's rows: names become places, types are compared.

use super::FilterError;
use super::agree::{Loose, Typed, calculated, compared, number};
use super::condition::Condition;
use super::datum::Datum;
use super::like::Pattern;
use super::load::{Type, boolean};
use super::node::{Comparison, Form, Function, Node, Operation};
use super::term::Term;
use crate::Schema;
use std::borrow::Cow;
use std::ops::Range;

/// The condition that a filter is for rows of a schema.
pub(super) fn bind(node: &Node, schema: &Schema) -> Result<Condition, FilterError> {
    Binder { schema }.condition(node)
}

struct Binder<'a> {
    schema: &'a Schema,
}

/// What a node turns out to be.
enum Part {
    Condition(Condition),
    Term(Typed),
}

type Bound<T> = Result<T, FilterError>;

impl Binder<'_> {
    fn part(&self, node: &Node) -> Bound<Part> {
        let term = |term| Ok(Part::Term(Typed { at: node.at.clone(), term }));
        let constant = |of, datum| term(Loose::Of(of, Term::Constant(datum)));
        match &node.form {
            Form::Field { name, quoted } => {
                let index = self.field(name, *quoted, &node.at)?;
                match Type::of(&self.schema.columns[index]) {
                    None => Ok(Part::Condition(Condition::Field(index))),
                    Some(of) => term(Loose::Of(of, Term::Field(index, of))),
                }
            }
            Form::Number(text) => term(Loose::Number(number(text, &node.at)?)),
            Form::Text(text) => term(Loose::Quoted(text.clone())),
            Form::Bytes(bytes) => constant(Type::Bytes, Datum::Bytes(Cow::Owned(bytes.clone()))),
            Form::Null => term(Loose::Null),
            Form::Typed(of, text) => match (of.as_type(), text) {
                (Some(of), None) => constant(of, Datum::Null),
                (None, None) => Ok(Part::Condition(Condition::Constant(None))),
                (Some(of), Some(text)) => {
                    let typed = Typed { at: node.at.clone(), term: Loose::Quoted(text.clone()) };
                    term(Loose::Of(of, typed.settle(of)?))
                }
                (None, Some(text)) => truth_of(text, &node.at).map(Part::Condition),
            },
            Form::Arithmetic(operation, left, right) => {
                let (of, left, right) = self.arithmetic(*operation, left, right)?;
                let (left, right) = (Box::new(left), Box::new(right));
                let (operation, single) = (*operation, of == Type::Float32);
                term(Loose::Of(of, Term::Arithmetic { operation, single, left, right }))
            }
            Form::Negate(inner) => self.negate(node, inner).map(Part::Term),
            Form::Concat(left, right) => {
                let [left, right] = [left, right].map(|side| self.text(side));
                term(Loose::Of(Type::Text, Term::Concat(left?.into(), right?.into())))
            }
            Form::Call(Function::Coalesce, arguments) => self.coalesce(node, arguments),
            Form::Call(function, arguments) => {
                self.call(node, *function, arguments).map(Part::Term)
            }
            Form::Bool(_)
            | Form::Not(_)
            | Form::All(_)
            | Form::Any(_)
            | Form::Compare(..)
            | Form::Distinct(..)
            | Form::IsNull(_)
            | Form::Is(..)
            | Form::In(..)
            | Form::Between(..)
            | Form::Like { .. } => self.logic(node).map(Part::Condition),
        }
    }

    /// What is a condition by its form.
    fn logic(&self, node: &Node) -> Bound<Condition> {
        let all = |nodes: &[Node]| nodes.iter().map(|n| self.condition(n)).collect::<Bound<_>>();
        Ok(match &node.form {
            Form::Bool(truth) => Condition::Constant(Some(*truth)),
            Form::Not(inner) => Condition::Not(Box::new(self.condition(inner)?)),
            Form::All(parts) => Condition::All(all(parts)?),
            Form::Any(parts) => Condition::Any(all(parts)?),
            Form::Compare(how, left, right) => self.compare(*how, left, right)?,
            Form::Distinct(left, right) => match self.sides(left, right)? {
                Sides::Truths(left, right) => {
                    Condition::DistinctTruths(Box::new(left), Box::new(right))
                }
                Sides::Terms(left, right) => {
                    let (left, right) = compared(left, right, false)?;
                    Condition::Distinct(left, right)
                }
            },
            Form::IsNull(inner) => match self.part(inner)? {
                Part::Condition(condition) => Condition::Is(None, Box::new(condition)),
                Part::Term(typed) => {
                    let of = typed.of().unwrap_or(Type::Text);
                    Condition::IsNull(typed.settle(of)?)
                }
            },
            Form::Is(what, inner) => Condition::Is(*what, Box::new(self.condition(inner)?)),
            Form::In(value, list) => self.in_list(value, list)?,
            Form::Between(value, low, high) => Condition::All(vec![
                self.compare(Comparison::GreaterOrEqual, value, low)?,
                self.compare(Comparison::LessOrEqual, value, high)?,
            ]),
            Form::Like { text, pattern, escape, fold } => {
                let Form::Text(written) = &pattern.form else {
                    let what = "the pattern must be a quoted text";
                    return Err(FilterError::new(&pattern.at, what, "write `name LIKE 'A%'`"));
                };
                let Some(made) = Pattern::new(written, *escape, *fold) else {
                    let what = "the pattern ends with its escape character";
                    let help = "double it, or name another one: `LIKE '…' ESCAPE '!'`";
                    return Err(FilterError::new(&pattern.at, what, help));
                };
                Condition::Like(self.like_text(text)?, made)
            }
            _ => return self.condition(node),
        })
    }

    /// A node that must be a condition.
    fn condition(&self, node: &Node) -> Bound<Condition> {
        match self.part(node)? {
            Part::Condition(condition) => Ok(condition),
            Part::Term(Typed { term: Loose::Null, .. }) => Ok(Condition::Constant(None)),
            Part::Term(Typed { term: Loose::Quoted(text), at }) => truth_of(&text, &at),
            Part::Term(typed) => {
                let of = typed.of().map_or("a value", Type::name);
                let what = format!("this is {of}, not a condition");
                let help = "compare it with something: `field = 1`, `field <> 0`, `field = 'x'`";
                Err(FilterError::new(&typed.at, what, help))
            }
        }
    }

    fn field(&self, name: &str, quoted: bool, at: &Range<usize>) -> Bound<usize> {
        if let Some(index) = self.schema.column(name) {
            return Ok(index);
        }
        let columns = || self.schema.columns.iter();
        if !quoted {
            let mut like = columns().enumerate().filter(|(_, c)| c.name.eq_ignore_ascii_case(name));
            if let (Some((index, _)), None) = (like.next(), like.next()) {
                return Ok(index);
            }
        }
        if self.schema.computed(name).is_some() {
            let of = &self.schema.entity;
            let what = format!("{of}'s field {name:?} is computed by its database, and not sent");
            let help = "write the condition over the fields that it is computed from";
            return Err(FilterError::new(at, what, help));
        }
        let what = format!("{} has no field {name:?}", self.schema.entity);
        let names: Vec<_> = columns().map(|c| c.name.as_str()).collect();
        let mut help = format!("its published fields are {}", names.join(", "));
        if quoted {
            help.push_str("; texts are written in single quotes");
        }
        Err(FilterError::new(at, what, help))
    }

    fn sides(&self, left: &Node, right: &Node) -> Bound<Sides> {
        Ok(match (self.part(left)?, self.part(right)?) {
            (Part::Condition(left), Part::Condition(right)) => Sides::Truths(left, right),
            (Part::Condition(condition), Part::Term(typed)) => {
                Sides::Truths(condition, truth_beside(typed)?)
            }
            (Part::Term(typed), Part::Condition(condition)) => {
                Sides::Truths(truth_beside(typed)?, condition)
            }
            (Part::Term(left), Part::Term(right)) => Sides::Terms(left, right),
        })
    }

    fn compare(&self, how: Comparison, left: &Node, right: &Node) -> Bound<Condition> {
        Ok(match self.sides(left, right)? {
            Sides::Truths(left, right) => {
                Condition::CompareTruths(how, Box::new(left), Box::new(right))
            }
            Sides::Terms(left, right) => {
                let (left, right) = compared(left, right, how.orders())?;
                Condition::Compare(how, left, right)
            }
        })
    }

    fn in_list(&self, value: &Node, list: &[Node]) -> Bound<Condition> {
        let mut terms = Vec::with_capacity(list.len());
        let mut of_value = None;
        for item in list {
            match self.sides(value, item)? {
                Sides::Terms(left, right) => {
                    let (left, right) = compared(left, right, false)?;
                    of_value = Some(left);
                    terms.push(right);
                }
                Sides::Truths(..) => {
                    let equal = |i| self.compare(Comparison::Equal, value, i);
                    return list.iter().map(equal).collect::<Bound<_>>().map(Condition::Any);
                }
            }
        }
        // A literal on the left may take another type with every item.
        match of_value {
            Some(Term::Constant(_)) => {
                let equal = |i| self.compare(Comparison::Equal, value, i);
                list.iter().map(equal).collect::<Bound<_>>().map(Condition::Any)
            }
            Some(term) => Ok(Condition::In(term, terms)),
            None => Ok(Condition::Any(Vec::new())),
        }
    }

    fn arithmetic(
        &self,
        operation: Operation,
        left: &Node,
        right: &Node,
    ) -> Bound<(Type, Term, Term)> {
        let at = left.at.start.min(right.at.start)..left.at.end.max(right.at.end);
        let (of, left, right) = calculated(self.term(left)?, self.term(right)?)?;
        if operation == Operation::Remainder && matches!(of, Type::Float32 | Type::Float64) {
            let what = "floating-point numbers have no remainder";
            return Err(FilterError::new(&at, what, "% is for integers and decimals"));
        }
        Ok((of, left, right))
    }

    /// A node that must not be a condition.
    fn term(&self, node: &Node) -> Bound<Typed> {
        match self.part(node)? {
            Part::Term(typed) => Ok(typed),
            Part::Condition(_) => {
                let what = "this is true or false, where a value is needed";
                Err(FilterError::new(&node.at, what, "compare it with TRUE or FALSE instead"))
            }
        }
    }

    fn negate(&self, node: &Node, inner: &Node) -> Bound<Typed> {
        let typed = self.term(inner)?;
        let at = node.at.clone();
        if let Loose::Number(datum) = &typed.term {
            let negative = Term::Negate(Box::new(Term::Constant(datum.clone())));
            let datum = match &*negative.value(&[]) {
                Datum::Int(i) => Datum::Int(*i),
                Datum::Decimal(d) => Datum::Decimal(d.clone()),
                _ => Datum::Null,
            };
            return Ok(Typed { at, term: Loose::Number(datum) });
        }
        let of = self.number_type(&typed, "-")?;
        let term = Term::Negate(Box::new(typed.settle(of)?));
        Ok(Typed { at, term: Loose::Of(of, term) })
    }

    fn number_type(&self, typed: &Typed, what: &str) -> Bound<Type> {
        match typed.of() {
            Some(of) if of.is_number() || of == Type::Any => Ok(of),
            None => Ok(Type::Decimal),
            Some(of) => {
                let message = format!("this is {}, not a number", of.name());
                let help = format!("{what} is for numbers");
                Err(FilterError::new(&typed.at, message, help))
            }
        }
    }

    /// A node that must be text.
    fn text(&self, node: &Node) -> Bound<Term> {
        let typed = self.term(node)?;
        match typed.of() {
            None => typed.settle(Type::Text),
            Some(of) if of.is_text() || of == Type::Any => typed.settle(of),
            Some(of) => {
                let what = format!("this is {}, not text", of.name());
                Err(FilterError::new(&typed.at, what, "this operation is for text"))
            }
        }
    }

    fn like_text(&self, node: &Node) -> Bound<Term> {
        let typed = self.term(node)?;
        let (what, help) = match typed.of() {
            Some(Type::Padded) => {
                ("whether this matches hangs on its trailing blanks", "use = or IN")
            }
            Some(Type::Caseless) => {
                ("this text compares without case at its source", "write `lower(field) LIKE '…'`")
            }
            _ => return self.text(node),
        };
        Err(FilterError::new(&typed.at, what, help))
    }

    fn call(&self, node: &Node, function: Function, arguments: &[Node]) -> Bound<Typed> {
        let argument = &arguments[0];
        let (of, term) = match function {
            Function::Lower => (Type::Text, Term::Lower(Box::new(self.text(argument)?))),
            Function::Upper => (Type::Text, Term::Upper(Box::new(self.text(argument)?))),
            Function::Length => {
                let typed = self.term(argument)?;
                let term = match typed.of() {
                    Some(Type::Bytes) => typed.settle(Type::Bytes)?,
                    _ => self.text(argument)?,
                };
                (Type::Int, Term::Length(Box::new(term)))
            }
            Function::Abs => {
                let typed = self.term(argument)?;
                let of = self.number_type(&typed, function.name())?;
                (of, Term::Abs(Box::new(typed.settle(of)?)))
            }
            Function::Coalesce => return self.term(node),
        };
        Ok(Typed { at: node.at.clone(), term: Loose::Of(of, term) })
    }

    fn coalesce(&self, node: &Node, arguments: &[Node]) -> Bound<Part> {
        let parts = arguments.iter().map(|a| self.part(a)).collect::<Bound<Vec<_>>>()?;
        if parts.iter().any(|p| matches!(p, Part::Condition(_))) {
            let conditions = arguments.iter().map(|a| match self.part(a)? {
                Part::Condition(condition) => Ok(condition),
                Part::Term(typed) => truth_beside(typed),
            });
            let conditions = conditions.collect::<Bound<_>>()?;
            return Ok(Part::Condition(Condition::Coalesce(conditions)));
        }
        let typed: Vec<Typed> = parts
            .into_iter()
            .filter_map(|p| match p {
                Part::Term(typed) => Some(typed),
                Part::Condition(_) => None,
            })
            .collect();
        let mut of: Option<Type> = None;
        for one in typed.iter().filter_map(|t| Some((t.of()?, &t.at))) {
            of = Some(match (of, one.0) {
                (None, b) => b,
                (Some(a), b) if a == b => a,
                (Some(a), b) if a.is_number() && b.is_number() => wider(a, b),
                (Some(a), b) => {
                    let what = format!("this is {}, where the first is {}", b.name(), a.name());
                    let help = "all arguments of coalesce have to be of one type";
                    return Err(FilterError::new(one.1, what, help));
                }
            });
        }
        let of = of.unwrap_or(Type::Text);
        let widened = |typed: Typed| {
            let term = typed.settle(of)?;
            Ok(if of.is_number() { Term::Widened(of, Box::new(term)) } else { term })
        };
        let terms = typed.into_iter().map(widened).collect::<Bound<_>>()?;
        let term = Loose::Of(of, Term::Coalesce(terms));
        Ok(Part::Term(Typed { at: node.at.clone(), term }))
    }
}

enum Sides {
    Truths(Condition, Condition),
    Terms(Typed, Typed),
}

fn wider(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::Float64, _) | (_, Type::Float64) => Type::Float64,
        (Type::Float32, _) | (_, Type::Float32) => Type::Float64,
        (Type::Decimal, _) | (_, Type::Decimal) => Type::Decimal,
        _ => Type::Int,
    }
}

/// What stands beside a condition: a literal, or nothing that fits.
fn truth_beside(typed: Typed) -> Bound<Condition> {
    match typed.term {
        Loose::Null => Ok(Condition::Constant(None)),
        Loose::Quoted(text) => truth_of(&text, &typed.at),
        Loose::Number(_) | Loose::Of(..) => {
            let of = typed.of().map_or("a value", Type::name);
            let what = format!("this is {of}, beside what is true or false");
            let help = "compare it with TRUE or FALSE, or use it as a condition by itself";
            Err(FilterError::new(&typed.at, what, help))
        }
    }
}

fn truth_of(text: &str, at: &Range<usize>) -> Bound<Condition> {
    match boolean(text) {
        Some(truth) => Ok(Condition::Constant(Some(truth))),
        None => Err(FilterError::new(at, "this is neither true nor false", "write TRUE or FALSE")),
    }
}
