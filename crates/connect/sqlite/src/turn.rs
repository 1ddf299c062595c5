//! Turns at writing one file. SQLite has one writer at a time, and whoever waits for it there may be
//! passed by again and again until it gives up; here the writers of this process wait in line.

use rusqlite::{Connection, Error, ffi};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest to wait for a turn. A transaction of the publisher that is still arriving may keep it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The line before one file: numbers are served in order.
#[derive(Debug, Default)]
struct Line {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Numbers that wait or write, the first of which has its turn.
    queue: VecDeque<u64>,
}

/// A turn; dropping it lets the next one write.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(path: &Path) -> Arc<Line> {
    static LINES: Mutex<Option<HashMap<PathBuf, Arc<Line>>>> = Mutex::new(None);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut lines = locked(&LINES);
    lines.get_or_insert_default().entry(path).or_default().clone()
}

impl Turn {
    /// Waits for a turn at the connection's file.
    pub(crate) fn of(connection: &Connection) -> Result<Self, Error> {
        Self::within(Path::new(connection.path().unwrap_or_default()), PATIENCE)
    }

    fn within(path: &Path, patience: Duration) -> Result<Self, Error> {
        let line = line(path);
        let began = Instant::now();
        let mut state = locked(&line.state);
        let number = state.next;
        state.next += 1;
        state.queue.push_back(number);
        // Leaves the line when it gives up as well.
        let turn = Self { line: line.clone(), number };
        while state.queue.front() != Some(&number) {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                drop(state);
                let what = "another route or track of this instance writes one large transaction into \
                            the file; this one goes on after it";
                return Err(Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_BUSY),
                    Some(what.into()),
                ));
            }
            let waited = line.moved.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.line.state).queue.retain(|n| *n != self.number);
        self.line.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn writers_of_one_file_take_turns_in_the_order_they_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let first = Turn::within(&path, PATIENCE).unwrap();
        let refused = Turn::within(&path, Duration::from_millis(20)).unwrap_err();
        assert!(refused.to_string().contains("another route or track"), "{refused}");
        Turn::within(&dir.path().join("b.db"), Duration::ZERO).unwrap();
        let (tell, told) = channel();
        let waiting = |n: u64| {
            let (path, tell) = (path.clone(), tell.clone());
            let thread = std::thread::spawn(move || {
                let turn = Turn::within(&path, PATIENCE).unwrap();
                tell.send(n).unwrap();
                drop(turn);
            });
            while locked(&first.line.state).queue.len() < n as usize + 1 {
                std::thread::yield_now();
            }
            thread
        };
        let threads: Vec<_> = (1..=3).map(waiting).collect();
        drop(first);
        assert_eq!((0..3).map(|_| told.recv().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}
