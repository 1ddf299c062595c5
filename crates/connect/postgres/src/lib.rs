//! PostgreSQL: how its changes are read and how copies are written into it. Sees the words and seams
//! of `rowcast-core` and must never learn of an engine, a log or another database.

mod check;
mod connect;
mod console;
mod database;
mod enums;
mod making;
mod need;
mod sink;
mod source;

pub use connect::AddressError;
pub use console::Console;
pub use database::PostgresDatabase;
pub use sink::PostgresSink;
