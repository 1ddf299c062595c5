//! `cargo xtask tidy`: looks for what no compiler sees. Every finding is one line: where, and what.

mod docs;
mod lex;
mod rooms;
mod sizes;
mod words;

use crate::run::output;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file of the project.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|has| has == extension)
    }

    /// Whether all of it is test code.
    pub(crate) fn is_test(&self) -> bool {
        let within = |room: &str| self.path.split('/').any(|part| part == room);
        within("tests")
            || within("benches")
            || within("testkit")
            || self.path.ends_with("/tests.rs")
    }

    /// Name of the package it belongs to.
    pub(crate) fn package(&self) -> Option<String> {
        let root = crate::root().ok()?;
        let manifest = Path::new(&self.path).ancestors().skip(1).find_map(|dir| {
            let text = std::fs::read_to_string(root.join(dir).join("Cargo.toml")).ok()?;
            text.contains("[package]").then_some(text)
        })?;
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some(name.trim_matches('"').to_owned())
    }
}

pub(crate) fn tidy() -> Result<()> {
    let files = files()?;
    let mut findings = Vec::new();
    rooms::look(&files, &mut findings);
    sizes::look(&files, &mut findings)?;
    words::look(&files, &mut findings);
    docs::look(&files, &mut findings)?;
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: all good");
            Ok(())
        }
        1 => bail!("tidy: 1 finding"),
        count => bail!("tidy: {count} findings"),
    }
}

/// The Rust files of the project.
pub(crate) fn sources() -> Result<Vec<SourceFile>> {
    Ok(files()?.into_iter().filter(|file| file.has_extension("rs")).collect())
}

/// Every text file that is, or would be, under version control.
fn files() -> Result<Vec<SourceFile>> {
    let root = crate::root()?;
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let mut paths: Vec<String> = output(&mut git)?.split('\0').map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    let read = |path: String| {
        // A file that was just removed, or is no text, has nothing to say.
        let text = std::fs::read_to_string(PathBuf::from(root).join(&path)).ok()?;
        Some(SourceFile { path, text })
    };
    Ok(paths.into_iter().filter(|path| !path.is_empty()).filter_map(read).collect())
}
