//! The engine on databases and a log in memory, with scripted faults, on simulated time.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod engine {
    mod deliver;
    mod faults;
    mod setup;
    mod simulation;
    mod waiting;
}
