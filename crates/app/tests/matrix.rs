//! Every way in which an object on either side can change while Rowcast runs, starts, or is stopped,
//! and what happens: followed, rebuilt, paused with a code, or parked. No cell is silently different.
//!
//! docs/schema-change.md holds this table; `ROWCAST_WRITE_DOCS=1 cargo test --test matrix` writes it.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "end_to_end/side.rs"]
mod side;

mod matrix {
    mod cells;
    mod play;
    mod table;
}
