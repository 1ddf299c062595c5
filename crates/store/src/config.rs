//! Settings of the event log.

use rowcast_core::ByteSize;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// Where events rest between source and target: `[log]` in the configuration file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// Size at which a new segment file is begun. From 1 MiB to 1 GiB; 64 MiB if unset. Retention
    /// removes whole segments.
    pub segment: ByteSize,
    /// What stays: `"compact"` keeps every key's latest state for ever, so that a new subscription
    /// can always be built from the log; `"all"` keeps every event; `"recent"` keeps what `keep-age`
    /// and `keep-size` allow. `"compact"` if unset.
    pub keep: Keep,
    /// With `keep = "recent"`: events older than this may be removed. A number and one of `s`,
    /// `m`, `h`, `d`, such as `"7d"`; at least one minute.
    #[serde(deserialize_with = "age")]
    pub keep_age: Option<Duration>,
    /// With `keep = "recent"`: the oldest events of a stream are removed once its files are larger
    /// than this. At least two segments.
    pub keep_size: Option<ByteSize>,
    /// With `keep = "compact"`: events younger than this stay as they are, so a reader that is no
    /// further behind sees every transaction of its own. At least one second; `"1h"` if unset.
    #[serde(deserialize_with = "some_age")]
    pub compact_after: Duration,
    /// With `keep = "compact"`: a value that was overwritten or deleted is gone from the log's files
    /// after this time, and the time that a compaction takes, also when little was written. At least
    /// `compact-after`; `"7d"` if unset.
    #[serde(deserialize_with = "some_age")]
    pub compact_within: Duration,
    /// With `keep = "compact"`: for how long deletes stay. A copy that was out of reach for longer
    /// has to be built anew. `"7d"` if unset.
    #[serde(deserialize_with = "some_age")]
    pub tombstones: Duration,
    /// Bytes a second that compaction of one stream may read and write. At least 1 MiB; 32 MiB if
    /// unset.
    pub compact_rate: ByteSize,
    /// Memory that compaction of one stream may take for rows. At least 1 MiB; 64 MiB if unset. What
    /// does not fit is sorted in files beside the stream's.
    pub compact_memory: ByteSize,
    /// Memory in which each stream keeps its newest batches for readers that are at the end. 16
    /// MiB if unset; `"0 B"` reads everything from disk.
    pub cache: ByteSize,
    /// Batches that may wait to be written, for each stream; a source that is faster waits. At
    /// least 1 MiB; 16 MiB if unset.
    pub queue: ByteSize,
    /// Compress what is written with LZ4: less disk for more processor time. `false` if unset. May
    /// be changed at any time.
    pub compress: bool,
}

/// How much of a stream stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Every key's latest state, for ever, and every recent event.
    #[default]
    Compact,
    /// Every event, for ever.
    All,
    /// What `keep-age` and `keep-size` allow.
    Recent,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment: ByteSize::mib(64),
            keep: Keep::Compact,
            keep_age: None,
            keep_size: None,
            compact_after: Duration::from_secs(60 * 60),
            compact_within: Duration::from_secs(7 * 24 * 60 * 60),
            tombstones: Duration::from_secs(7 * 24 * 60 * 60),
            compact_rate: ByteSize::mib(32),
            compact_memory: ByteSize::mib(64),
            cache: ByteSize::mib(16),
            queue: ByteSize::mib(16),
            compress: false,
        }
    }
}

impl LogConfig {
    /// Every mistake, each with the path of its key.
    pub fn check(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |good: bool, key: &str, what: &str| {
            if !good {
                problems.push(format!("log.{key}: {what}"));
            }
        };
        let limited = self.keep_age.is_some() || self.keep_size.is_some();
        let (mib, gib) = (ByteSize::mib(1), ByteSize::mib(1024));
        must((mib..=gib).contains(&self.segment), "segment", "must be from 1 MiB to 1 GiB");
        must((mib..=gib).contains(&self.queue), "queue", "must be from 1 MiB to 1 GiB");
        match self.keep {
            Keep::Compact | Keep::All => {
                let unused = "has no effect unless log.keep is \"recent\"";
                must(self.keep_age.is_none(), "keep-age", unused);
                must(self.keep_size.is_none(), "keep-size", unused);
            }
            Keep::Recent => must(limited, "keep", "\"recent\" needs log.keep-age or log.keep-size"),
        }
        let second = Duration::from_secs(1);
        must(self.compact_after >= second, "compact-after", "must be at least one second");
        let within = self.compact_within >= self.compact_after;
        must(within, "compact-within", "must be at least log.compact-after");
        must(self.compact_rate >= mib, "compact-rate", "must be at least 1 MiB");
        must(self.compact_memory >= mib, "compact-memory", "must be at least 1 MiB");
        let age = self.keep_age.is_none_or(|age| age >= Duration::from_secs(60));
        must(age, "keep-age", "must be at least one minute");
        let size = self.keep_size.is_none_or(|s| s.0 >= self.segment.0.saturating_mul(2));
        must(size, "keep-size", "must be at least twice log.segment");
        problems
    }
}

fn age<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    some_age(d).map(Some)
}

fn some_age<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
    let age = parse_age(&text).ok_or_else(|| {
        let help = "write a number and a unit, such as \"7d\" (s, m, h, d)";
        serde::de::Error::custom(format!("{text:?} is no age: {help}"))
    })?;
    Ok(age)
}

fn parse_age(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let seconds = match text[digits..].trim() {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_leave_everything_out() {
        assert_eq!(toml::from_str::<LogConfig>("").unwrap(), LogConfig::default());
        assert_eq!(LogConfig::default().check(), Vec::<String>::new());
    }

    #[test]
    fn sizes_and_ages_are_written_with_their_unit() {
        let text = "segment = '1 MiB'\nkeep = 'recent'\nkeep-age = '7d'\nkeep-size = '1 GiB'";
        let config: LogConfig = toml::from_str(text).unwrap();
        assert_eq!(config.keep_age, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(config.check(), Vec::<String>::new());
        for bad in ["7", "d", "7 weeks", "-1d", "99999999999999999999d", "9999999999999999999d"] {
            assert_eq!(parse_age(bad), None, "{bad}");
        }
        assert_eq!(parse_age("12h"), parse_age("720m"));
        assert!(toml::from_str::<LogConfig>("keep-age = '7 days'").is_err());
        assert!(toml::from_str::<LogConfig>("segments = '1 MiB'").is_err());
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let config = LogConfig {
            segment: ByteSize::kib(1),
            keep_age: Some(Duration::from_secs(1)),
            keep_size: Some(ByteSize::kib(1)),
            queue: ByteSize(0),
            compact_after: Duration::ZERO,
            compact_memory: ByteSize(0),
            ..LogConfig::default()
        };
        let problems = config.check();
        for key in [
            "log.segment",
            "log.queue",
            "log.keep-age",
            "log.keep-size",
            "log.compact-after",
            "log.compact-memory",
        ] {
            assert!(problems.iter().any(|p| p.starts_with(key)), "{key}: {problems:?}");
        }
        let config = LogConfig { keep: Keep::Recent, ..LogConfig::default() };
        assert_eq!(config.check(), ["log.keep: \"recent\" needs log.keep-age or log.keep-size"]);
    }
}
