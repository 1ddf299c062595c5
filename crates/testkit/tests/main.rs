//! The harness itself: a test that leans on it must not have to wonder.

mod postgres;
mod process;
mod proxy;
