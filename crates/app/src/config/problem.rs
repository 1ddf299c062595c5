//! What is wrong with a file, all of it, each with its place.

use crate::config::secret::{without_mask_key, without_passwords};
use crate::paint::Paint;
use rowcast_core::Code;
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::ops::Range;
use unicode_width::UnicodeWidthStr;

/// Where something stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Bytes of the file.
    pub(crate) span: Range<usize>,
    /// Its name from the top: `service.order.database`.
    pub(crate) path: String,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: Place,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Warning,
    Error,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) weight: Weight,
    pub(crate) at: Place,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Everything that is wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn error(
        &mut self,
        at: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Weight::Error, at, message.into(), help.into());
    }

    pub(crate) fn warning(
        &mut self,
        at: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Weight::Warning, at, message.into(), help.into());
    }

    fn add(&mut self, weight: Weight, at: &Place, message: String, help: String) {
        self.0.push(Problem { weight, at: at.clone(), message, help });
    }

    pub(crate) fn errors(&self) -> usize {
        self.0.iter().filter(|p| p.weight == Weight::Error).count()
    }

    /// In the file's order.
    fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|p| p.at.span.start);
        sorted
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A file's name and text, for showing problems in it.
#[derive(Clone)]
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl fmt::Debug for SourceFile {
    /// The text may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({})", self.name)
    }
}

struct Line<'a> {
    number: usize,
    column: usize,
    before: &'a str,
    marked: &'a str,
    after: &'a str,
}

impl SourceFile {
    /// Every problem with its line, in the file's order.
    pub(crate) fn render(&self, problems: &Problems, paint: Paint) -> String {
        let mut out = String::new();
        for problem in problems.sorted() {
            self.render_one(problem, paint, &mut out);
            out.push('\n');
        }
        out
    }

    /// The same for scripts. What stands in the lines stays out of it: that is for who may read
    /// the file.
    pub(crate) fn json(&self, problems: &Problems) -> Vec<Value> {
        let one = |problem: &Problem| {
            let line = self.line(&problem.at.span);
            json!({
                "severity": match problem.weight {
                    Weight::Warning => "warning",
                    Weight::Error => "error",
                },
                "code": Code::Config.as_str(),
                "subject": problem.at.path,
                "message": problem.message,
                "help": problem.help,
                "file": self.name,
                "line": line.number,
                "column": line.column,
            })
        };
        problems.sorted().into_iter().map(one).collect()
    }

    fn render_one(&self, problem: &Problem, paint: Paint, out: &mut String) {
        let (word, colour): (_, fn(Paint, &str) -> String) = match problem.weight {
            Weight::Error => ("error", Paint::red),
            Weight::Warning => ("warning", Paint::yellow),
        };
        let line = self.line(&problem.at.span);
        let number = line.number.to_string();
        let margin = " ".repeat(number.len());
        let bar = paint.dim("|");
        // Passwords are taken out piece by piece, so that the mark stays under what it marks.
        let before = without_passwords(line.before);
        let marked = if problem.at.path.ends_with(".token") {
            "***".into()
        } else {
            without_passwords(line.marked)
        };
        let after = without_passwords(line.after);
        let whole = format!("{before}{marked}{after}");
        let (before, marked, after) = match without_mask_key(&whole) {
            Some(shown) => (String::new(), shown, String::new()),
            None => (before, marked, after),
        };
        let width = before.width();
        let marks = "^".repeat(marked.width().max(1));
        let _ = writeln!(out, "{}: {}", colour(paint, word), paint.bold(&problem.message));
        let _ = writeln!(
            out,
            "{margin}{} {}:{}:{}{}",
            paint.dim("-->"),
            self.name,
            line.number,
            line.column,
            if problem.at.path.is_empty() {
                String::new()
            } else {
                format!("  ({})", problem.at.path)
            },
        );
        let _ = writeln!(out, "{} {bar} {before}{marked}{after}", paint.dim(&number));
        let _ = writeln!(out, "{margin} {bar} {}{}", " ".repeat(width), colour(paint, &marks));
        if !problem.help.is_empty() {
            let _ = writeln!(out, "{margin} {} {}", paint.dim("= help:"), problem.help);
        }
    }

    fn line(&self, span: &Range<usize>) -> Line<'_> {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let begin = self.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        let stop = self.text.floor_char_boundary(span.end.clamp(start, end));
        let text = &self.text;
        Line {
            number: text[..begin].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            before: &text[begin..start],
            marked: &text[start..stop],
            after: text[stop..end].trim_end_matches('\r'),
        }
    }
}
