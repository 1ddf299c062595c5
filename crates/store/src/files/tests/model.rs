//! The log against a `Vec`: whatever is done in whatever order, it holds what the vector holds.

use super::disk::ScriptedDisk;
use crate::LogConfig;
use proptest::prelude::*;
use rowcast_core::{Batch, ByteSize, EventLog, LogError, Offset};
use rowcast_testkit::log_suite::{
    batch, position, put, read_all, service, snapshot, snapshot_batch,
};
use std::path::Path;

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Heartbeat,
    Snapshot(bool),
    Fresh,
    Reopen,
    /// The machine dies after so many bytes; until then so many batches are appended at once.
    Die(u64, usize),
    /// The disk is full after so many bytes.
    Full(u64),
    Trim(f64),
    Read(f64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..30).prop_map(Step::Append),
        1 => Just(Step::Heartbeat),
        1 => any::<bool>().prop_map(Step::Snapshot),
        1 => Just(Step::Fresh),
        1 => Just(Step::Reopen),
        1 => (0u64..4000, 1usize..5).prop_map(|(b, n)| Step::Die(b, n)),
        1 => (0u64..2000).prop_map(Step::Full),
        1 => (0.0..1.2).prop_map(Step::Trim),
        2 => (0.0..1.0, 1u64..9000).prop_map(|(f, m)| Step::Read(f, m)),
    ]
}

fn config() -> impl Strategy<Value = LogConfig> {
    (1u64..20_000, 0u64..20_000, any::<bool>()).prop_map(|(segment, cache, compress)| LogConfig {
        segment: ByteSize(segment),
        cache: ByteSize(cache),
        compress,
        ..LogConfig::default()
    })
}

/// What the log must hold.
struct Model {
    all: Vec<Batch>,
    epoch: u64,
    at: u64,
}

impl Model {
    fn next(&self) -> Offset {
        Offset(self.all.iter().map(|b| b.events.len() as u64).sum())
    }

    async fn compare(&self, log: &dyn EventLog, from: f64, max: ByteSize) {
        let s = service("shop");
        let tail = log.tail(&s).await.unwrap();
        assert_eq!(tail.next, self.next());
        assert_eq!(tail.position, self.all.last().map(|b| b.until));
        let from = tail.first.0 + ((tail.next.0 - tail.first.0) as f64 * from) as u64;
        let read = read_all(log, &s, Offset(from), tail.next, max).await;
        let with_events: Vec<&Batch> = self.all.iter().filter(|b| !b.events.is_empty()).collect();
        let expected = &with_events[with_events.len() - read.len()..];
        assert!(read.iter().map(|r| &*r.batch).eq(expected.iter().copied()));
    }

    /// Appends `batches` while the disk takes `bytes` more. What was acknowledged is remembered; the
    /// rest comes back.
    async fn append_until_death(
        &mut self,
        disk: &ScriptedDisk,
        log: &dyn EventLog,
        bytes: u64,
        batches: usize,
    ) -> Vec<Batch> {
        let s = service("shop");
        disk.set(|d| (d.bytes_left, d.dies) = (Some(bytes), true));
        let (mut unknown, mut commits) = (Vec::new(), Vec::new());
        for n in 0..batches as u64 {
            let batch = batch(self.epoch, self.at + n, 3);
            match log.append(&s, batch.clone()).await {
                Ok(commit) => commits.push(commit),
                Err(_) => break,
            }
            unknown.push(batch);
        }
        let mut acknowledged = 0;
        for commit in commits {
            acknowledged += usize::from(commit.await.is_ok());
        }
        let rest = unknown.split_off(acknowledged);
        self.all.extend(unknown);
        rest
    }

    /// After a death: what was acknowledged is there, and of the rest a beginning.
    async fn adopt(&mut self, log: &dyn EventLog, unknown: Vec<Batch>) {
        let position = log.tail(&service("shop")).await.unwrap().position;
        let there = unknown.iter().rposition(|b| Some(b.until) == position);
        self.all.extend(unknown.into_iter().take(there.map_or(0, |i| i + 1)));
        self.at += 100;
    }
}

async fn run(root: &Path, config: LogConfig, steps: Vec<Step>) {
    let (disk, s) = (ScriptedDisk::default(), service("shop"));
    let mut log = disk.log(root, config.clone());
    let mut model = Model { all: Vec::new(), epoch: 1, at: 0 };
    for step in steps {
        model.at += 1;
        let (epoch, at) = (model.epoch, model.at);
        let one = match step {
            Step::Append(events) => batch(epoch, at, events),
            Step::Heartbeat => Batch::empty(position(epoch, at)),
            Step::Snapshot(done) => snapshot_batch(epoch, at, snapshot("thing", at, done)),
            Step::Fresh => {
                model.epoch += 1;
                Batch { fresh: true, ..batch(model.epoch, at, 1) }
            }
            Step::Reopen => {
                drop(log);
                log = disk.log(root, config.clone());
                continue;
            }
            Step::Die(bytes, batches) => {
                let rest = model.append_until_death(&disk, &log, bytes, batches).await;
                drop(log);
                disk.set(|d| (d.bytes_left, d.dies, d.dead) = (None, false, false));
                log = disk.log(root, config.clone());
                model.adopt(&log, rest).await;
                continue;
            }
            Step::Full(bytes) => {
                disk.set(|d| d.bytes_left = Some(bytes));
                let one = batch(epoch, at, 5);
                let put = put(&log, &s, one.clone()).await;
                disk.set(|d| d.bytes_left = None);
                match put {
                    Ok(_) => model.all.push(one),
                    Err(LogError::Refused { .. }) => {}
                    Err(e) => panic!("{e:?}"),
                }
                log.tail(&s).await.unwrap();
                continue;
            }
            Step::Trim(part) => {
                let keep = (model.next().0 as f64 * part) as u64;
                let before = log.tail(&s).await.unwrap().first.0;
                log.trim(&s, Offset(keep)).await.unwrap();
                assert!(log.tail(&s).await.unwrap().first.0 <= keep.max(before));
                continue;
            }
            Step::Read(from, max) => {
                model.compare(&log, from, ByteSize(max)).await;
                continue;
            }
        };
        assert_eq!(put(&log, &s, one.clone()).await.unwrap().0, {
            model.all.push(one);
            model.next().0
        });
    }
    drop(log);
    let log = disk.log(root, config);
    model.compare(&log, 0.0, ByteSize::mib(1)).await;
    let report = crate::inspect::check(root).unwrap();
    assert!(report.iter().all(|r| r.problems.is_empty() && r.unfinished == 0), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_log_holds_what_a_vector_would(
        config in config(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(root.path(), config, steps));
    }
}
