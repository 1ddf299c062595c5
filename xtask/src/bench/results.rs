//! Where figures are kept: every run by itself, and the newest of each workload for the docs.

use super::plot::plots;
use super::report::Report;
use super::workload::Workload;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/benchmarks.md";
const KEPT: &str = "docs/benchmarks";
const BEGIN: &str = "<!-- figures: written by `cargo xtask bench --save`, not by hand -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// Keeps a run by itself, for whoever looks later. Returns where.
pub(super) fn keep(report: &Report) -> Result<PathBuf> {
    let dir = crate::root()?.join("bench-results");
    write(&dir.join(format!("{}.json", report.began()?)), &json(report)?)
}

/// Replaces what the docs say of these workloads, and leaves what they say of others.
pub(super) fn publish(report: Report) -> Result<Vec<PathBuf>> {
    publish_in(crate::root()?, report)
}

/// Writes page and plots anew from the figures that are kept.
pub(super) fn redraw() -> Result<Vec<PathBuf>> {
    let root = crate::root()?;
    render(root, &kept(root)?.context("nothing was saved so far")?)
}

fn publish_in(root: &Path, report: Report) -> Result<Vec<PathBuf>> {
    let merged = match kept(root)? {
        Some(mut merged) => {
            merged.replace(report);
            merged
        }
        None => report,
    };
    let file = write(&root.join(KEPT).join("results.json"), &json(&merged)?)?;
    let mut written = render(root, &merged)?;
    written.push(file);
    Ok(written)
}

fn render(root: &Path, report: &Report) -> Result<Vec<PathBuf>> {
    let page = root.join(PAGE);
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let words = Workload::value_variants().iter();
    let words: Vec<_> = words.map(|w| format!("- `{}`: {}", w.name(), w.about())).collect();
    let figures = format!("{report}\nThe workloads:\n\n{}\n", words.join("\n"));
    let mut written = vec![write(&page, &between(&text, &figures)?)?];
    for (name, plot) in plots(report) {
        written.push(write(&root.join(KEPT).join(name), &plot)?);
    }
    Ok(written)
}

fn kept(root: &Path) -> Result<Option<Report>> {
    let path = root.join(KEPT).join("results.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)?;
    let json = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    Ok(Some(Report::from_json(&json)))
}

fn json(report: &Report) -> Result<String> {
    Ok(serde_json::to_string_pretty(&report.json())? + "\n")
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    Ok(path.to_owned())
}

/// The page with other figures between the marks.
fn between(page: &str, figures: &str) -> Result<String> {
    let marks = || format!("{PAGE} has no line {:?} before {:?}", BEGIN.trim(), END.trim());
    let (before, rest) = page.split_once(BEGIN).with_context(marks)?;
    let (_, after) = rest.split_once(END).with_context(marks)?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::Peer;
    use super::super::report::tests::some;
    use super::super::report::{Metric, Sample};
    use super::*;
    use serde_json::json;

    #[test]
    fn saving_one_workload_leaves_the_others_and_what_people_wrote() {
        let root = tempfile::tempdir().unwrap();
        let page = root.path().join(PAGE);
        write(&page, &format!("Words before.\n{BEGIN}old{END}Words after.\n")).unwrap();
        publish_in(root.path(), some()).unwrap();
        let mut newer = Report::new(json!({ "at": "2026-01-02T00:00:00Z" }));
        newer.add(Workload::Del1, &Sample::new(Peer::Rowcast, Metric::EventsPerSecond, 8888.0));
        let written = publish_in(root.path(), newer).unwrap();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("Words before.\n") && text.ends_with("Words after.\n"), "{text}");
        assert!(
            text.contains("8,888") && text.contains("`ins1`") && !text.contains("old"),
            "{text}"
        );
        assert!(written.iter().all(|path| path.is_file()), "{written:?}");
        let again = kept(root.path()).unwrap().unwrap();
        assert_eq!(again.to_string(), kept(root.path()).unwrap().unwrap().to_string());
        assert_eq!(again.workloads().count(), 2);
    }

    #[test]
    fn a_page_without_marks_is_refused_and_stays() {
        let error = between("no marks", "figures").unwrap_err().to_string();
        assert!(error.contains("docs/benchmarks.md has no line"), "{error}");
    }
}
