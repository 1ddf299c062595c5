//! Conformance of sources: one check per law of [`Source`], over portable SQL. An implementation
//! gives a [`SourceHarness`] and runs [`source_suite!`](crate::source_suite!).

mod copies;

pub use copies::{Cell, Copies, Copy, Told, told};

use crate::wait::{LONG, eventually_some};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowcast_core::{
    Batch, ByteSize, Database, Op, Point, Publish, Source, SourceError, SourceSpec, Start,
};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A database that a source can capture, and a way to write to it that the source knows nothing of.
#[async_trait::async_trait]
pub trait SourceHarness: Send + Sync {
    /// The database; the same one every time.
    fn database(&self) -> Arc<dyn Database>;

    /// How the configuration names the table that `CREATE TABLE name` makes.
    fn table(&self, name: &str) -> String {
        name.to_string()
    }

    /// Runs statements as one transaction, over a connection of its own. Rolls back at an error.
    async fn transaction(&self, statements: &[String]);

    /// The columns of all rows as text, ordered by these columns as bytes, `None` for NULL.
    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>>;
}

/// Makes one test of every check, over a harness that `$fresh` makes: an async expression with an
/// empty database.
#[macro_export]
macro_rules! source_suite {
    ($fresh:expr) => {
        $crate::source_suite!(@tests $fresh;
            a_snapshot_and_what_follows_build_the_same_rows,
            an_empty_table_completes,
            an_entity_begins_with_its_schema,
            a_key_change_names_the_old_key,
            a_restart_after_any_batch_repeats_what_followed,
            a_restart_inside_a_snapshot_goes_on,
            random_changes_during_a_snapshot_end_in_the_same_rows,
            a_transaction_larger_than_a_batch_is_seen_at_once,
            tables_of_one_transaction_are_seen_together,
            a_mark_is_reached_without_further_writes,
            next_may_be_cancelled,
            a_new_history_is_told_as_such,
            another_history_is_refused,
            a_second_capture_is_refused,
            an_added_column_arrives_with_its_values,
            a_missing_table_is_named,
            what_was_confirmed_need_not_come_again,
            a_masked_value_is_masked_wherever_it_stands,
            a_masked_key_keeps_rows_apart,
            a_mask_that_changes_reads_the_entity_again,
            another_mask_key_reads_the_entity_again,
            a_mask_that_cannot_be_is_refused,
            a_masked_column_that_is_renamed_does_not_leave_in_clear,
        );
    };
    (@tests $fresh:expr; $($name:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            let harness = $fresh.await;
            $crate::source_suite::$name(&harness).await;
        })*
    };
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// A spec that publishes these tables under their own names.
pub fn spec(harness: &dyn SourceHarness, tables: &[&str], batch_bytes_max: u64) -> SourceSpec {
    let publish = |name: &&str| Publish {
        entity: name.parse().expect("a suite's own name is a name"),
        table: harness.table(name),
        fields: None,
        masks: Default::default(),
    };
    SourceSpec {
        service: "shop".parse().expect("a suite's own name is a name"),
        entities: tables.iter().map(publish).collect(),
        batch_bytes_max: ByteSize(batch_bytes_max),
    }
}

/// A source under test, and everything it said.
pub struct Capture<'a> {
    harness: &'a dyn SourceHarness,
    /// What it is to capture.
    pub spec: SourceSpec,
    /// The source.
    pub source: Box<dyn Source>,
    /// Everything it said, in order.
    pub batches: Vec<Batch>,
    /// The same, folded.
    pub copies: Copies,
}

impl<'a> Capture<'a> {
    /// Starts capturing, as soon as whoever captured before has let go. A process that another test is
    /// just starting shares a file's lock for a moment, too.
    pub async fn start(
        harness: &'a dyn SourceHarness,
        spec: SourceSpec,
        start: Start,
    ) -> Result<Self, SourceError> {
        eventually_some(LONG, "whoever captured before lets go", async || {
            match Self::try_start(harness, spec.clone(), start.clone()).await {
                Err(SourceError::Busy { .. }) => None,
                other => Some(other),
            }
        })
        .await
    }

    /// [`start`](Self::start), unless somebody else captures.
    pub async fn try_start(
        harness: &'a dyn SourceHarness,
        spec: SourceSpec,
        start: Start,
    ) -> Result<Self, SourceError> {
        let mut source = harness.database().source(spec.clone());
        within("start", source.start(start)).await?;
        Ok(Self { harness, spec, source, batches: Vec::new(), copies: Copies::default() })
    }

    /// Starts at the beginning, and must.
    pub async fn begin(
        harness: &'a dyn SourceHarness,
        tables: &[&str],
        batch_bytes_max: u64,
    ) -> Self {
        let spec = spec(harness, tables, batch_bytes_max);
        let started = Self::start(harness, spec, Start::Beginning).await;
        started.unwrap_or_else(|e| panic!("a source starts: {e:?}"))
    }

    /// Takes one batch.
    pub async fn step(&mut self) -> &Batch {
        let batch = within("a batch", self.source.next()).await;
        self.take(batch);
        self.batches.last().expect("one was just pushed")
    }

    /// Takes one batch if it comes soon enough; the wait for it is dropped otherwise.
    pub async fn step_within(&mut self, wait: Duration) {
        if let Ok(batch) = tokio::time::timeout(wait, self.source.next()).await {
            self.take(batch);
        }
    }

    fn take(&mut self, batch: Result<Batch, SourceError>) {
        let batch = batch.unwrap_or_else(|e| panic!("a source goes on: {e:?}"));
        self.copies.fold(&batch);
        self.batches.push(batch);
    }

    /// Whether everything before `mark` and every snapshot is in.
    pub fn has(&self, mark: Point) -> bool {
        let complete = |p: &Publish| self.copies.is_complete(p.entity.as_str());
        let covered = self.copies.position().is_some_and(|p| p.covers(mark));
        covered && !self.copies.is_open() && self.spec.entities.iter().all(complete)
    }

    /// Takes batches until everything that is committed now is in.
    pub async fn catch_up(&mut self) {
        let mark = within("a mark", self.harness.database().mark(&self.spec.service)).await;
        let mark = mark.unwrap_or_else(|e| panic!("a database gives a mark: {e:?}"));
        while !self.has(mark) {
            self.step().await;
        }
    }

    /// Drops this source and goes on with another one, after batch number `n` of what was said.
    pub async fn restart_after(self, n: usize) -> Self {
        let mut stopped = self.stop();
        stopped.batches.truncate(n);
        stopped.copies = Copies::default();
        stopped.batches.iter().for_each(|b| stopped.copies.fold(b));
        stopped.go_on().await
    }

    /// Drops the source; its log stays.
    pub fn stop(self) -> Stopped<'a> {
        let Self { harness, spec, batches, copies, .. } = self;
        Stopped { harness, spec, batches, copies }
    }

    /// Compares a copy with its table.
    pub async fn assert_same(&self, table: &str) {
        let schema = self.copies.newest_schema(table).expect("a captured entity has a schema");
        let columns: Vec<_> = schema.columns.iter().map(|c| c.name.as_str()).collect();
        let mut is = self.copies.visible(table);
        let mut should = self.harness.rows(table, &columns).await;
        is.sort();
        should.sort();
        assert_eq!(is, should, "the copy of {table}");
    }
}

/// What is left of a capture that stopped.
pub struct Stopped<'a> {
    harness: &'a dyn SourceHarness,
    /// What it is to capture.
    pub spec: SourceSpec,
    /// Everything that was said.
    pub batches: Vec<Batch>,
    /// The same, folded.
    pub copies: Copies,
}

impl<'a> Stopped<'a> {
    /// Goes on where the log ends, and must.
    pub async fn go_on(self) -> Capture<'a> {
        let start = Start::After(self.copies.resume());
        self.start(start).await
    }

    /// Starts another source for the same log, and must.
    pub async fn start(self, start: Start) -> Capture<'a> {
        let Self { harness, spec, batches, copies } = self;
        let started = Capture::start(harness, spec.clone(), start).await;
        let started = started.unwrap_or_else(|e| panic!("a source starts again: {e:?}"));
        Capture { batches, copies, ..started }
    }
}

mod checks;
mod masks;
pub use checks::*;
pub use masks::*;
