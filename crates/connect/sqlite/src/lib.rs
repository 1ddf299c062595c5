//! SQLite: capture by triggers, apply by upsert, both in one file beside the application's own
//! connections, which may live in other processes and know nothing of us.
//!
//! This room must never learn where changes go or come from: it sees `core` and SQLite.

mod check;
mod console;
mod database;
mod file;
mod locked;
mod sink;
mod source;
mod table;
mod turn;
mod types;
mod view;

pub use console::Console;
pub use database::{SqliteDatabase, UrlError};
