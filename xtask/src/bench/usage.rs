//! What a process has used, as Linux counts it.

use anyhow::{Context, Result};
use std::time::Duration;

/// Ticks a second in /proc, on every Linux there is.
const TICKS: u64 = 100;

/// A process's use of the machine so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Time on a core, of all threads.
    pub(super) cpu: Duration,
    /// Memory now, in MiB.
    pub(super) resident: f64,
    /// The most it ever had, in MiB.
    pub(super) peak: f64,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let status = read("status")?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<f64>().ok()
        };
        let stat = read("stat")?;
        // The name in parentheses may hold anything; user and system time are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").context("an odd stat file")?;
        let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
        let mut next = || times.next().and_then(Result::ok).context("an odd stat file");
        let ticks = next()? + next()?;
        let mib = |key| kib(key).map(|kib| kib / 1024.0).with_context(|| format!("no {key}"));
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
            resident: mib("VmRSS")?,
            peak: mib("VmHWM")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0.5 && usage.peak >= usage.resident);
    }
}
