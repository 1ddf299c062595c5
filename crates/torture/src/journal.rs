//! What was done, in order, so that a person can read how it came to a verdict.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

/// Every move with the second it was made, in a file.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    began: Instant,
    /// Moves made.
    pub(crate) moves: u64,
    /// Moves that the database refused: a part of them is meant to be.
    pub(crate) refused: u64,
}

impl Journal {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, began: Instant::now(), moves: 0, refused: 0 })
    }

    pub(crate) fn say(&mut self, what: &str) {
        let seconds = self.began.elapsed().as_secs_f32();
        // A journal that cannot be written takes nothing from the verdict.
        let _ = writeln!(self.file, "{seconds:9.3} {what}");
    }

    /// Notes a move and how the database took it.
    pub(crate) fn done<T>(&mut self, what: &str, result: &Result<T, String>) {
        self.moves += 1;
        match result {
            Ok(_) => self.say(what),
            Err(error) => {
                self.refused += 1;
                self.say(&format!("{what}\n          refused: {error}"));
            }
        }
    }
}
