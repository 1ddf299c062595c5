//! What a source's database keeps on its own disk for us, watched: a capture that cannot go on must
//! not fill somebody else's disk unseen.

use crate::capture::CaptureState;
use crate::pace::Phase;
use rowcast_core::{ByteSize, Database, Diagnose, Epoch, Retained, ServiceName, SourceError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Looks in a row that find a capture stuck over its limit before what is kept is released.
const LOOKS_BEFORE_RELEASE: u32 = 3;

/// What a status says between a release and the new history.
pub(crate) const GAP: &str = "its database let go of changes before they were captured, over its \
     limit: once both database and event log work, a new history begins with a snapshot, and \
     copies are built anew beside the present ones";

/// What is done when a source keeps more than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverLimit {
    /// It is said, in the log and in the status.
    #[default]
    Alarm,
    /// When capture cannot go on or falls further behind, the source is told to let go of it. The
    /// history ends with that, and capture begins a new one as soon as it can: every entity is read
    /// again.
    Release,
}

/// How much a source may keep for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// From here on it is said once.
    pub warn: ByteSize,
    /// From here on it is an error.
    pub limit: Option<ByteSize>,
    /// What is done then.
    pub over: OverLimit,
}

impl Default for Retain {
    fn default() -> Self {
        Self { warn: ByteSize::mib(1024), limit: None, over: OverLimit::Alarm }
    }
}

/// What the last look found; part of a capture's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) bytes: Option<u64>,
    /// What somebody should know about it.
    pub(crate) warning: Option<String>,
}

/// Watches one source.
pub(crate) struct Watch {
    pub(crate) service: ServiceName,
    pub(crate) database: Arc<dyn Database>,
    pub(crate) retain: Retain,
    pub(crate) state: Arc<watch::Sender<CaptureState>>,
}

/// What looks have in common.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    warned: bool,
    alarmed: bool,
    behind: Option<u64>,
    stuck: u32,
}

/// What a look asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// `true` the first time.
    Warn(bool),
    /// `true` the first time.
    Alarm(bool),
    Release,
}

impl Looks {
    fn judge(&mut self, retain: &Retain, kept: Retained, running: bool) -> Verdict {
        let before = self.behind.replace(kept.behind);
        let Some(limit) = retain.limit.filter(|l| kept.bytes >= l.0) else {
            (self.alarmed, self.stuck) = (false, 0);
            let warn = kept.bytes >= retain.warn.0;
            let again = std::mem::replace(&mut self.warned, warn);
            return if warn { Verdict::Warn(!again) } else { Verdict::Fine };
        };
        self.warned = true;
        // What a running capture works off is no reason to give it up, nor is what is kept for
        // another reason than ours.
        let falls_back = kept.behind >= limit.0 && before.is_some_and(|b| kept.behind >= b);
        self.stuck = if !running || falls_back { self.stuck + 1 } else { 0 };
        if retain.over == OverLimit::Release && self.stuck >= LOOKS_BEFORE_RELEASE {
            return Verdict::Release;
        }
        Verdict::Alarm(!std::mem::replace(&mut self.alarmed, true))
    }
}

impl Watch {
    /// Looks again and again; ends when what is kept has to be released, with how much it is.
    /// Cancel safe.
    pub(crate) async fn until_over(&self, looks: &mut Looks) -> ByteSize {
        loop {
            if let Some(bytes) = self.look(looks).await {
                return bytes;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, looks: &mut Looks) -> Option<ByteSize> {
        let kept = match self.database.retained(&self.service).await {
            Ok(kept) => kept,
            // Capture says that the database cannot be reached, if it cannot.
            Err(error) => {
                tracing::debug!(service = %self.service, %error, "what is kept cannot be seen");
                return None;
            }
        };
        if kept.is_none() {
            *looks = Looks::default();
        }
        let phase = self.state.borrow().condition.phase;
        let running = phase == Phase::Running;
        if running {
            // An idle source answers here, and so does its capture, or it would not be at work.
            self.state.send_if_modified(|s| {
                s.hear();
                false
            });
        }
        let verdict = kept.map_or(Verdict::Fine, |k| looks.judge(&self.retain, k, running));
        let told = kept.map(|k| self.told(k, phase));
        // Until a capture has begun nothing is kept that could be worse news.
        let waits = match phase {
            Phase::Running => None,
            _ => self.database.waits_for(&self.service).await,
        };
        let warning = waits.or(told.filter(|_| verdict != Verdict::Fine));
        self.show(Kept { bytes: kept.map(|k| k.bytes), warning: warning.clone() });
        let text = warning.unwrap_or_default();
        match verdict {
            Verdict::Warn(true) => tracing::warn!("{}: {text}", self.service),
            Verdict::Alarm(true) => tracing::error!(
                "{}: {text}\n  help: mend what keeps capture from going on before the disk is full; \
                 docs/source-disk.md says how to set a limit on the server itself",
                self.service
            ),
            Verdict::Release => return kept.map(|k| ByteSize(k.bytes)),
            Verdict::Fine | Verdict::Warn(false) | Verdict::Alarm(false) => {}
        }
        None
    }

    fn show(&self, kept: Kept) {
        self.state.send_if_modified(|s| {
            let news = s.kept != kept;
            s.kept = kept;
            news
        });
    }

    /// What is kept and why, as a sentence.
    fn told(&self, kept: Retained, phase: Phase) -> String {
        let over = self.retain.limit.filter(|l| kept.bytes >= l.0);
        let over = over.map(|l| format!(", more than its limit of {l}")).unwrap_or_default();
        let why = match phase {
            Phase::Starting => "capture begins",
            Phase::Retrying | Phase::Paused => "capture does not go on",
            Phase::Running if kept.behind >= kept.bytes / 2 => "capture is behind",
            Phase::Running => "capture is up to date, so a transaction that stays open keeps it",
        };
        format!("its database keeps {} of changes for us{over}: {why}", ByteSize(kept.bytes))
    }

    /// Tells the source to let go of everything, the history `of` included, and says so.
    ///
    /// # Errors
    /// When the source cannot be told.
    pub(crate) async fn release(
        &self,
        bytes: ByteSize,
        of: Option<Epoch>,
    ) -> Result<(), SourceError> {
        let service = &self.service;
        if let Err(error) = self.database.release(service, of).await {
            tracing::warn!(
                "{service}: what it keeps cannot be released: {error}; {}",
                error.help()
            );
            let service = service.clone();
            return Err(SourceError::Unreachable { service, source: Box::new(error) });
        }
        self.show(Kept::default());
        let limit = self.retain.limit.unwrap_or(bytes);
        tracing::error!(
            "{service}: its database kept {bytes} of changes that capture did not take, more than \
             the limit of {limit}, and was told to let go of them, as `retain` says\n  help: \
             nothing has to be typed: once database and event log work, capture begins anew with a \
             snapshot; the copies stay as they are until new ones, built beside them, take their \
             place"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETAIN: Retain =
        Retain { warn: ByteSize(10), limit: Some(ByteSize(100)), over: OverLimit::Release };

    fn kept(bytes: u64, behind: u64) -> Retained {
        Retained { bytes, behind }
    }

    #[test]
    fn each_crossing_is_told_once() {
        let mut looks = Looks::default();
        let mut judge = |bytes| looks.judge(&RETAIN, kept(bytes, 0), true);
        assert_eq!(judge(9), Verdict::Fine);
        assert_eq!(judge(10), Verdict::Warn(true));
        assert_eq!(judge(11), Verdict::Warn(false));
        assert_eq!(judge(100), Verdict::Alarm(true));
        assert_eq!(judge(120), Verdict::Alarm(false));
        assert_eq!(judge(99), Verdict::Warn(false));
        assert_eq!(judge(100), Verdict::Alarm(true));
        assert_eq!(judge(1), Verdict::Fine);
        assert_eq!(judge(10), Verdict::Warn(true));
    }

    #[test]
    fn only_a_capture_that_does_not_go_on_or_falls_back_is_released() {
        let judge_all = |all: &[(u64, bool)], over| {
            let mut looks = Looks::default();
            let retain = Retain { over, ..RETAIN };
            let judge = |&(behind, running)| looks.judge(&retain, kept(500, behind), running);
            all.iter().map(judge).last().unwrap()
        };
        let release = OverLimit::Release;
        let waits = [(500, false); 3];
        assert_eq!(judge_all(&waits, release), Verdict::Release);
        assert_eq!(judge_all(&waits, OverLimit::Alarm), Verdict::Alarm(false));
        let falls = [(300, true), (300, true), (300, true), (400, true)];
        assert_eq!(judge_all(&falls, release), Verdict::Release);
        // It works it off, or something else keeps it.
        let works = [(500, true), (400, true), (300, true), (200, true)];
        assert_eq!(judge_all(&works, release), Verdict::Alarm(false));
        assert_eq!(judge_all(&[(5, true); 5], release), Verdict::Alarm(false));
        // One look may have met it between two tries.
        let tries = [(500, false), (500, false), (400, true), (500, false), (500, false)];
        assert_eq!(judge_all(&tries, release), Verdict::Alarm(false));
    }
}
