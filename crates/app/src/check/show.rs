//! Findings as people and scripts read them.

use crate::check::look::Section;
use crate::config::count;
use crate::paint::Paint;
use rowcast_core::{Finding, Severity};
use serde_json::{Value, json};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr;

/// Grouped by service, with remedies, and a verdict.
pub(super) fn text(sections: &[Section], paint: Paint) -> String {
    let mut out = String::new();
    for section in sections {
        let name = section.service.as_ref().map_or("this machine", |s| s.as_str());
        let name = paint.bold(name);
        let _ = writeln!(out, "{name}  {}", paint.dim(&section.address));
        let width = section.findings.iter().map(|f| f.subject.width()).max().unwrap_or(0).min(36);
        for finding in &section.findings {
            one(&mut out, finding, width, paint);
        }
        if section.findings.is_empty() {
            let _ = writeln!(out, "  {}", paint.dim("nothing to look at"));
        }
        out.push('\n');
    }
    let all = || sections.iter().flat_map(|s| &s.findings);
    let errors = all().filter(|f| f.severity == Severity::Error).count();
    let warnings = all().filter(|f| f.severity == Severity::Warning).count();
    let fixable = all()
        .filter(|f| f.severity != Severity::Good && f.fix.as_ref().is_some_and(|f| f.safe))
        .count();
    out.push_str(&match (errors, warnings) {
        (0, 0) => paint.green("All good. `rowcast run` can start."),
        (0, w) => format!("{}. `rowcast run` can start.", paint.yellow(&count(w, "warning"))),
        (e, 0) => paint.red(&format!("{}.", count(e, "error"))),
        (e, w) => format!("{}, {}.", paint.red(&count(e, "error")), count(w, "warning")),
    });
    if fixable > 0 {
        let _ = write!(out, " `rowcast check --fix` mends {fixable} of them.");
    }
    out.push('\n');
    out
}

fn one(out: &mut String, finding: &Finding, width: usize, paint: Paint) {
    let mark = match finding.severity {
        Severity::Good => paint.green("✓"),
        Severity::Warning => paint.yellow("!"),
        Severity::Error => paint.red("✗"),
    };
    let pad = " ".repeat(width.saturating_sub(finding.subject.width()));
    let _ = writeln!(out, "  {mark} {}{pad}  {}", finding.subject, finding.message);
    if finding.severity == Severity::Good {
        return;
    }
    if !finding.help.is_empty() {
        let help = finding.help.replace('\n', "\n            ");
        let _ = writeln!(out, "      {} {help}", paint.cyan("help:"));
    }
    if let Some(fix) = &finding.fix {
        let how = if fix.safe { "`rowcast check --fix` runs this:" } else { "run this yourself:" };
        let _ = writeln!(out, "      {} {how}", paint.cyan("fix:"));
        for statement in &fix.statements {
            let statement = statement.trim_end_matches(';').replace('\n', "\n          ");
            let _ = writeln!(out, "          {statement};");
        }
    }
}

/// The same for scripts, after what is to be said of the file itself.
pub(super) fn json(problems: &[Value], sections: &[Section]) -> String {
    let finding = |f: &Finding| {
        json!({
            "severity": match f.severity {
                Severity::Good => "good",
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            "subject": f.subject,
            "message": f.message,
            "help": f.help,
            "fix": f.fix.as_ref().map(|x| json!({"safe": x.safe, "statements": x.statements})),
        })
    };
    let services: Vec<_> = sections
        .iter()
        .filter_map(|s| {
            let findings: Vec<_> = s.findings.iter().map(finding).collect();
            let name = s.service.as_ref()?.as_str();
            Some(json!({"name": name, "database": s.address, "findings": findings}))
        })
        .collect();
    let here = sections.iter().filter(|s| s.service.is_none()).flat_map(|s| &s.findings);
    let here: Vec<_> = here.map(finding).collect();
    json!({ "problems": problems, "machine": here, "services": services }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_grouped_and_problems_come_with_remedy_and_statements() {
        let bad = Finding::new(Severity::Error, "orders", "has no key", "give it one")
            .with_fix(true, vec!["ALTER TABLE orders ADD PRIMARY KEY (id)".into()]);
        let good = Finding::new(Severity::Good, "wal_level", "is logical", "");
        let sections = [Section {
            service: Some("shop".parse().unwrap()),
            address: "postgres://h/shop".into(),
            findings: vec![good, bad],
        }];
        assert_eq!(
            text(&sections, Paint::PLAIN),
            "shop  postgres://h/shop\n  ✓ wal_level  is logical\n  ✗ orders     has no key\n      \
             help: give it one\n      fix: `rowcast check --fix` runs this:\n          \
             ALTER TABLE orders ADD PRIMARY KEY (id);\n\n\
             1 error. `rowcast check --fix` mends 1 of them.\n"
        );
        let json: Value = serde_json::from_str(&json(&[], &sections)).unwrap();
        assert_eq!(json["services"][0]["findings"][1]["fix"]["safe"], true);
    }
}
