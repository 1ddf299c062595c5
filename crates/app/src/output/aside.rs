//! The way to stderr. Lines wait here in a bounded queue, and a thread of its own writes them: the work
//! never waits for a reader that went, a reader that sleeps, or a full disk.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What may wait to be written. Beyond it lines are left out, and counted.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// The process has one stderr, so it has one of these.
static ASIDE: Aside = Aside {
    waiting: Mutex::new(Waiting { texts: VecDeque::new(), bytes: 0, lost: 0, busy: false }),
    more: Condvar::new(),
    done: Condvar::new(),
};

struct Aside {
    waiting: Mutex<Waiting>,
    more: Condvar,
    done: Condvar,
}

struct Waiting {
    texts: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that nobody will see.
    lost: u64,
    /// The thread is writing.
    busy: bool,
}

/// Starts the thread. Without it, lines are written where they are said.
pub(super) fn start() {
    let writing = std::thread::Builder::new().name("stderr".into()).spawn(|| ASIDE.write());
    if let Err(e) = writing {
        let _ = writeln!(io::stderr(), "lines for stderr get no thread of their own: {e}");
    }
}

/// A line, or several. They are left out, and counted, when too many wait already.
pub(super) fn say(text: impl Into<Vec<u8>>) {
    if !ASIDE.push(text.into()) {
        ASIDE.waiting().lost += 1;
    }
}

/// A part of a picture that will be drawn again.
pub(super) fn draw(text: Vec<u8>) {
    ASIDE.push(text);
}

/// Waits until all is written, but no longer than `within`: who does not read is not waited for.
pub(super) fn settle(within: Duration) {
    let settled = |w: &mut Waiting| w.busy || !w.texts.is_empty();
    let wait = ASIDE.done.wait_timeout_while(ASIDE.waiting(), within, settled);
    drop(wait.unwrap_or_else(PoisonError::into_inner));
}

impl Aside {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, text: Vec<u8>) -> bool {
        let mut waiting = self.waiting();
        if waiting.bytes + text.len() > WAITING_BYTES_MAX {
            return false;
        }
        waiting.bytes += text.len();
        waiting.texts.push_back(text);
        self.more.notify_one();
        true
    }

    fn write(&self) {
        let mut waiting = self.waiting();
        loop {
            let Some(text) = waiting.texts.pop_front() else {
                waiting.busy = false;
                self.done.notify_all();
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            waiting.bytes -= text.len();
            waiting.busy = true;
            let lost = waiting.lost;
            drop(waiting);
            let wrote = write(&mut io::stderr().lock(), &text, lost);
            waiting = self.waiting();
            match wrote {
                Ok(()) => waiting.lost -= lost,
                Err(_) => waiting.lost += 1,
            }
        }
    }
}

/// A text, after a word on the lines that were lost before it.
fn write(to: &mut impl Write, text: &[u8], lost: u64) -> io::Result<()> {
    match lost {
        0 => {}
        1 => to.write_all(b"(a line before this one could not be written here)\n")?,
        n => writeln!(to, "({n} lines before this one could not be written here)")?,
    }
    to.write_all(text)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_lost_are_counted_in_the_next_one() {
        let mut out = Vec::new();
        write(&mut out, b"one\n", 0).unwrap();
        write(&mut out, b"two\n", 3).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "one\n(3 lines before this one could not be written here)\ntwo\n");
    }
}
