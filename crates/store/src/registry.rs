//! Registries: in memory for tests, in a file of the data directory for keeps.

mod file;
mod memory;
mod words;

pub use file::SqliteRegistry;
pub use memory::MemoryRegistry;

#[cfg(test)]
mod tests;
