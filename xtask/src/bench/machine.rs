//! Where a measurement was taken: without that its figures say little.

use super::lab::Lab;
use crate::run::output;
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;

/// The machine, the server and the code, for the report.
pub(super) async fn describe(lab: &Lab) -> Result<Value> {
    let proc = |file: &str, key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches([':', '\t', ' ']).to_owned())
    };
    let version = lab.source.sql("postgres", "SHOW server_version").await;
    let git = |arguments: &[&str]| {
        let root = crate::root().ok()?;
        let said = output(Command::new("git").args(arguments).current_dir(root)).ok()?;
        Some(said.trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    Ok(json!({
        "processor": proc("cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": proc("meminfo", "MemTotal"),
        "kernel": proc("sys/kernel/osrelease", ""),
        "postgres": version[0][0],
        "commit": git(&["rev-parse", "--short", "HEAD"]),
        "changed since": changed.is_some_and(|changed| !changed.is_empty()),
        "at": output(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?.trim(),
    }))
}
