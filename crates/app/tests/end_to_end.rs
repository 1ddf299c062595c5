//! The real binary between real databases, in every combination: crashes, faults, odd names, every
//! type. Each promise has its tests here.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod end_to_end {
    mod bank;
    mod builds;
    mod bytes;
    mod circles;
    mod compact;
    mod computed;
    mod copies;
    mod crash;
    mod data_directory;
    mod databases;
    mod failover;
    mod faults;
    mod filter;
    mod first_start;
    mod keys;
    mod labels;
    mod lanes;
    mod limits;
    mod mask;
    mod mend;
    mod names;
    mod parking;
    mod preconditions;
    mod replay;
    mod schema_change;
    mod side;
    mod silence;
    mod source_disk;
    mod stuck;
    mod subscribe;
    mod types;
    mod verify;
    mod whole;
}
