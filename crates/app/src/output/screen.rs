//! A terminal for progress bars that never fails and never makes the work wait: what it shows goes the
//! way of all other lines.

use super::aside;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};
use rustix::termios::tcgetwinsize;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often bars are drawn in a second.
const FRAMES: u8 = 20;

/// Bars on stderr when it is a terminal, and none elsewhere.
pub(crate) fn bars(wanted: bool) -> MultiProgress {
    let target = if wanted && io::stderr().is_terminal() {
        ProgressDrawTarget::term_like_with_hz(Box::new(Screen::default()), FRAMES)
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
}

#[derive(Debug, Default)]
struct Screen(Mutex<String>);

impl Screen {
    fn frame(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steps(&self, n: usize, towards: char) -> io::Result<()> {
        if n > 0 {
            let _ = write!(self.frame(), "\x1b[{n}{towards}");
        }
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        tcgetwinsize(io::stderr()).ok().map(|s| s.ws_col).filter(|n| *n > 0).unwrap_or(80)
    }

    fn height(&self) -> u16 {
        tcgetwinsize(io::stderr()).ok().map(|s| s.ws_row).filter(|n| *n > 0).unwrap_or(24)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.steps(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.steps(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.steps(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.steps(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.frame().extend([s, "\n"]);
        Ok(())
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.frame().push_str(s);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.frame().push_str("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame());
        if !frame.is_empty() {
            aside::draw(frame.into_bytes());
        }
        Ok(())
    }
}
