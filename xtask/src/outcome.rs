//! Follows what `cargo test` prints: passes it on, and adds it up.

use anyhow::{Context, Result};
use rowcast_testkit::postgres::LEFT_OUT;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::process::{Command, Stdio};

/// The sum over test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Names of tests that had no server.
    pub(crate) left_out: Vec<String>,
    /// Test programs that ended without a result: a crash, not a failed test.
    pub(crate) broken: usize,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.broken == 0
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.left_out.extend(other.left_out);
        self.broken += other.broken;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A program that broke down is at least one failure; this line must not look good.
        write!(f, "{} passed, {} failed", self.passed, self.failed + self.broken)
    }
}

/// Runs `cargo test` to its end. With `offline`, tests that said they have no server are shown as
/// left out and are no failures.
pub(crate) fn follow(mut command: Command, offline: bool) -> Result<Outcome> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let printed = BufReader::new(child.stdout.take().context("cargo's output")?);
    let mut sum = Outcome::default();
    let mut program: Option<Vec<String>> = None;
    for line in printed.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if !offline {
            println!("{line}");
        }
        if line.starts_with("running ") && (line.ends_with(" test") || line.ends_with(" tests")) {
            sum.broken += usize::from(program.is_some());
            program = Some(Vec::new());
        }
        let result = line.starts_with("test result: ");
        match &mut program {
            Some(lines) => lines.push(line),
            None if offline => println!("{line}"),
            None => {}
        }
        if result && let Some(lines) = program.take() {
            let (outcome, shown) = judge(&lines);
            if offline {
                shown.iter().for_each(|line| println!("{line}"));
            }
            sum += outcome;
        }
    }
    sum.broken += usize::from(program.is_some());
    let status = child.wait()?;
    // Only failed tests explain a failed run.
    if !status.success() && sum.failed == 0 && sum.left_out.is_empty() && sum.broken == 0 {
        sum.broken = 1;
    }
    Ok(sum)
}

/// What one test program's lines say, and how to show them when tests were left out.
fn judge(lines: &[String]) -> (Outcome, Vec<String>) {
    let mut left_out: Vec<&str> = Vec::new();
    let mut section = "";
    for line in lines {
        if let Some(name) = heading(line) {
            section = name;
        } else if line == "failures:" {
            section = "";
        }
        if !section.is_empty() && line.contains(LEFT_OUT) && !left_out.contains(&section) {
            left_out.push(section);
        }
    }
    let count = |what: &str| {
        let line = lines.last().map(String::as_str).unwrap_or_default();
        let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|word| *word == what).unwrap_or(0);
        at.checked_sub(1).and_then(|before| words[before].parse().ok()).unwrap_or(0)
    };
    let outcome = Outcome {
        passed: count("passed"),
        failed: count("failed") - left_out.len().min(count("failed")),
        left_out: left_out.iter().map(|name| (*name).to_owned()).collect(),
        broken: 0,
    };
    let shown = show(lines, &left_out, &outcome);
    (outcome, shown)
}

fn show(lines: &[String], left_out: &[&str], outcome: &Outcome) -> Vec<String> {
    let mut shown = Vec::new();
    let mut hidden = false;
    for line in lines {
        let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let test = test.map(|name| name.trim_end_matches(" - should panic"));
        if let Some(name) = heading(line) {
            hidden = left_out.contains(&name);
        } else if line == "failures:" || line.starts_with("test result: ") {
            hidden = false;
        }
        if hidden || left_out.contains(&line.trim()) {
        } else if let Some(name) = test.filter(|name| left_out.contains(name)) {
            shown.push(format!("test {name} ... left out"));
        } else if line.starts_with("test result: ") && !left_out.is_empty() {
            let word = if outcome.failed == 0 { "ok" } else { "FAILED" };
            let left = left_out.len();
            let (passed, failed) = (outcome.passed, outcome.failed);
            shown.push(format!(
                "test result: {word}. {passed} passed; {failed} failed; {left} left out"
            ));
        } else if !(line == "failures:" && outcome.failed == 0) {
            shown.push(line.clone());
        }
    }
    shown
}

/// The name in `---- name stdout ----`.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_result_line_is_counted() {
        let said = "running 4 tests\ntest a ... ok\ntest result: FAILED. 3 passed; 1 failed; 0 \
                    ignored; 0 measured; 0 filtered out; finished in 1.00s";
        let (outcome, _) = judge(&lines(said));
        assert_eq!((outcome.passed, outcome.failed), (3, 1));
        assert_eq!(outcome.to_string(), "3 passed, 1 failed");
        assert!(!outcome.is_good());
    }

    #[test]
    fn a_test_without_a_server_is_left_out_and_another_failure_is_not() {
        let said = format!(
            "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\nfailures:\n\n\
             ---- b stdout ----\nthread panicked:\n{LEFT_OUT}\n\n---- c stdout ----\n1 != 2\n\n\
             failures:\n    b\n    c\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored"
        );
        let (outcome, shown) = judge(&lines(&said));
        assert_eq!((outcome.passed, outcome.failed, outcome.left_out.len()), (1, 1, 1));
        let shown = shown.join("\n");
        assert!(shown.contains("test b ... left out") && shown.contains("1 != 2"));
        assert!(shown.ends_with("test result: FAILED. 1 passed; 1 failed; 1 left out"));
    }

    #[test]
    fn with_only_left_out_tests_the_result_is_good() {
        let said = format!(
            "running 1 test\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n{LEFT_OUT}\n\n\
             failures:\n    b\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored"
        );
        let (outcome, shown) = judge(&lines(&said));
        assert!(outcome.is_good() && shown.iter().all(|line| !line.contains("FAILED")));
    }
}
