//! The engine on databases and a log in memory, with scripted faults, on simulated time.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod engine {
    mod builds;
    mod comings;
    mod compact;
    mod deliver;
    mod faults;
    mod following;
    mod lanes;
    mod parking;
    mod replay;
    mod retain;
    mod setup;
    mod simulation;
    mod verify;
    mod waiting;
}
