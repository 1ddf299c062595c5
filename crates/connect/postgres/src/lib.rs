//! PostgreSQL: how its changes are read and how copies are written into it. Sees the words and seams
//! of `rowcast-core` and must never learn of an engine, a log or another database.

mod check;
mod connect;
mod database;
mod enums;
mod sink;
mod source;

pub use connect::AddressError;
pub use database::PostgresDatabase;
pub use sink::PostgresSink;
