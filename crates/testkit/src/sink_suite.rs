//! Conformance of sinks: one check per law of [`Sink`](rowcast_core::Sink). An implementation gives
//! a [`SinkHarness`] and runs [`sink_suite!`](crate::sink_suite!).

mod builds;
mod checks;
mod feed;
mod filter;
mod parking;

pub use builds::*;
pub use checks::*;
pub use feed::*;
pub use filter::*;
pub use parking::*;
mod hold;
mod lanes;

pub use hold::*;
pub use lanes::*;

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

    /// Drops all build tables, as somebody might who does not know what they are.
    async fn drop_builds(&self);

    /// The columns of all rows as text, `None` for NULL. No rows where there is no table.
    async fn rows(&self, table: &str, columns: &[&str]) -> Vec<Vec<Cell>>;
}

/// Makes one test of every check of lanes, for databases that take several writers at once; as
/// [`sink_suite!`](crate::sink_suite!).
#[macro_export]
macro_rules! lane_suite {
    ($fresh:expr) => {
        $crate::sink_suite!(@tests $fresh;
            lanes_write_at_once_and_keep_their_places,
            a_lane_out_of_place_writes_nothing,
            lanes_have_one_owner,
            a_mend_waits_for_lanes,
        );
    };
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
            after_bad_data_a_sink_goes_on_without_being_asked,
            parked_keys_are_noted_with_the_rows,
            what_half_a_transaction_parks_goes_with_it,
            rows_that_do_not_fit_are_left_out,
            a_change_of_a_missing_row_is_told_unless_it_still_arrives,
            random_changes_end_in_the_same_rows,
            rows_come_and_go_with_a_filter,
            many_rows_come_and_go_with_a_filter_at_once,
            a_mend_leaves_the_checkpoint_where_it_is,
            a_dropped_hold_lets_go,
            a_target_remembers_its_members,
            a_table_is_empty_without_rows_or_at_all,
            a_copy_that_is_built_beside_is_seen_with_its_join,
            a_first_copy_is_built_in_its_own_table,
            a_copy_whose_table_is_lost_is_built_again,
            a_first_copy_whose_table_is_lost_begins_once_more,
            marks_and_joins_compare_the_checkpoints,
            a_build_that_is_given_up_leaves_nothing,
            a_copy_that_is_built_again_begins_with_its_rows,
            a_swap_may_trade_unique_values,
            a_swap_brings_columns_that_the_copy_lacks,
            a_build_table_that_is_dropped_is_not_swapped_in,
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
