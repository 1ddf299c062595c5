//! Files tell one story, functions one step of it. What is longer stands in a list that only
//! shrinks.

use super::SourceFile;
use super::lex::{code, functions};
use anyhow::{Context, Result};
use std::collections::BTreeMap;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const EXCEPTIONS: &str = "xtask/tidy-exceptions.txt";

pub(super) fn look(files: &[SourceFile], findings: &mut Vec<String>) -> Result<()> {
    let mut allowed = exceptions(files)?;
    for file in files.iter().filter(|file| file.has_extension("rs")) {
        let lines = file.text.lines().count();
        judge(&mut allowed, findings, file.path.clone(), &file.path, lines, FILE_LINES_MAX);
        for function in functions(&code(&file.text)) {
            let name = format!("{}:{}", file.path, function.name);
            let place = format!("{}:{}: fn {}", file.path, function.line, function.name);
            judge(&mut allowed, findings, name, &place, function.lines, FUNCTION_LINES_MAX);
        }
    }
    for name in allowed.keys() {
        findings.push(format!("{EXCEPTIONS}: {name} is short enough or gone: remove its line"));
    }
    Ok(())
}

fn judge(
    allowed: &mut BTreeMap<String, usize>,
    findings: &mut Vec<String>,
    name: String,
    place: &str,
    lines: usize,
    max: usize,
) {
    if lines <= max {
        return;
    }
    match allowed.remove(&name) {
        Some(limit) if lines > limit => {
            findings.push(format!("{place}: {lines} lines, and its exception ends at {limit}"));
        }
        Some(limit) if lines < limit => {
            findings.push(format!("{EXCEPTIONS}: {name} has shrunk: lower {limit} to {lines}"));
        }
        Some(_) => {}
        None => {
            findings.push(format!("{place}: {lines} lines; look for the second story at {max}"))
        }
    }
}

/// Lines of `NAME LINES`; `#` begins a comment.
fn exceptions(files: &[SourceFile]) -> Result<BTreeMap<String, usize>> {
    let list = files.iter().find(|file| file.path == EXCEPTIONS);
    let list = list.with_context(|| format!("{EXCEPTIONS} is missing"))?;
    let lines = list.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, limit) = line.rsplit_once(' ').with_context(|| format!("{line:?}"))?;
            Ok((name.to_owned(), limit.parse().with_context(|| format!("{line:?}"))?))
        })
        .collect()
}
