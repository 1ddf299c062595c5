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
    /// Memory now that it shares with nobody, in MiB. A server's cache is not in it.
    pub(super) private: f64,
    /// Bytes it made the disk write, unless that is a secret here.
    pub(super) written: Option<u64>,
}

impl Usage {
    pub(super) fn of(process: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let status = read("status")?;
        let mib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let kib = line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<f64>().ok()?;
            Some(kib / 1024.0)
        };
        let needed = |key| mib(key).with_context(|| format!("no {key}"));
        let written = read("io").ok().and_then(|io| {
            let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
            line.parse().ok()
        });
        Ok(Self {
            cpu: Stat::of(&read("stat")?)?.cpu,
            resident: needed("VmRSS")?,
            peak: needed("VmHWM")?,
            private: mib("RssAnon").unwrap_or_default(),
            written,
        })
    }
}

/// The line that Linux keeps of each process and of each thread.
#[derive(Debug)]
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) parent: u32,
    pub(super) cpu: Duration,
}

impl Stat {
    pub(super) fn of(line: &str) -> Result<Self> {
        let odd = || format!("an odd stat file: {line}");
        // The name in parentheses may hold anything.
        let (name, fields) = line.rsplit_once(") ").with_context(odd)?;
        let (_, name) = name.split_once('(').with_context(odd)?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        // User and system time are fields 14 and 15, the name is the second.
        let ticks = number(11).with_context(odd)? + number(12).with_context(odd)?;
        Ok(Self {
            name: name.to_owned(),
            parent: u32::try_from(number(1).with_context(odd)?)?,
            cpu: Duration::from_millis(ticks * 1000 / TICKS),
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
        assert!(usage.private > 0.0 && usage.private <= usage.peak);
    }

    #[test]
    fn a_name_may_hold_what_separates() {
        let fields = "S 7 2 3 4 5 6 7 8 9 10 30 12 13";
        let stat = Stat::of(&format!("42 (log) a (b) {fields}")).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("log) a (b", 7));
        assert_eq!(stat.cpu, Duration::from_millis(420));
        assert!(Stat::of("42 (cut").is_err());
    }
}
