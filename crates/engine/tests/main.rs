//! The engine on databases and a log in memory, with scripted faults, on simulated time.

mod engine {
    mod deliver;
    mod faults;
    mod setup;
    mod simulation;
    mod waiting;
}
