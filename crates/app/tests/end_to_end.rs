//! The real binary between real databases, in every combination: crashes, faults, odd names, every
//! type. Each promise has its tests here.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod end_to_end {
    mod bank;
    mod crash;
    mod databases;
    mod faults;
    mod names;
    mod schema_change;
    mod side;
    mod types;
    mod whole;
}
