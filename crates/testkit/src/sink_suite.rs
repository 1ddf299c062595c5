//! Conformance of sinks: one check per law of [`Sink`](rowcast_core::Sink). An implementation gives
//! a [`SinkHarness`] and runs [`sink_suite!`](crate::sink_suite!).

mod checks;
mod feed;

pub use checks::*;
pub use feed::*;

pub use crate::source_suite::Cell;
use rowcast_core::Database;
use std::sync::Arc;

/// A database that a sink can write, and a way to look into it that the sink knows nothing of.
#[async_trait::async_trait]
pub trait SinkHarness: Send + Sync {
    /// The database; the same one every time.
    fn database(&self) -> Arc<dyn Database>;

    /// How the configuration names the table that `CREATE TABLE name` makes.
    fn table(&self, name: &str) -> String {
        name.to_string()
    }

    /// Runs statements, over a connection of its own.
    async fn execute(&self, statements: &[&str]);

    /// The columns of all rows as text, `None` for NULL. No rows where there is no table.
    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>>;
}

/// Makes one test of every check, over a harness that `$fresh` makes: an async expression with an
/// empty database.
#[macro_export]
macro_rules! sink_suite {
    ($fresh:expr) => {
        $crate::sink_suite!(@tests $fresh;
            every_kind_of_change_arrives,
            unchanged_values_never_overwrite,
            columns_of_the_subscriber_stay_untouched,
            of_several_changes_to_a_key_the_last_counts,
            a_key_that_moves_takes_its_values_along,
            half_a_transaction_is_never_seen,
            half_a_transaction_leaves_nothing,
            a_target_remembers_its_checkpoint,
            a_stale_writer_is_refused,
            another_log_is_refused,
            a_table_is_made_before_its_first_row,
            a_later_column_is_added_with_its_fill,
            a_table_that_does_not_fit_is_refused,
            fields_may_have_other_names,
            rows_that_swap_a_unique_value_arrive,
            bad_data_leaves_nothing_and_names_its_row,
            a_change_of_a_missing_row_is_told_unless_it_still_arrives,
            random_changes_end_in_the_same_rows,
        );
    };
    (@tests $fresh:expr; $($name:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            let harness = $fresh.await;
            $crate::sink_suite::$name(&harness).await;
        })*
    };
}
