//! Which server and history it is. A standby that is promoted goes on in a timeline of its own: it is
//! the same history for us when it branched off where our log ends, or later.

use super::prepare::Prepare;
use super::slot::Slot;
use super::wire::{Wire, WireError};
use rowcast_core::{ByteSize, Epoch, Point, Position, Resume, SourceError};
use xxhash_rust::xxh3::Xxh3;

/// Which server and history it is.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) version: u32,
    pub(crate) system: String,
    pub(crate) timeline: String,
    pub(crate) database: String,
    /// The timelines that the server's own one goes on from.
    pub(crate) past: Vec<Past>,
}

/// A timeline that another one goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    timeline: String,
    /// Where the other one branched off: of what comes from here on it has nothing.
    until: Point,
}

/// How a server's history stands to a position that was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descent {
    /// The position lies in it.
    Same,
    /// It goes on from the history in which the position lies, and everything that was logged is in
    /// it.
    GoesOn,
    /// It goes on from that history, but branched off before the position.
    Behind(Point),
    /// It is another one, for all that can be known.
    Other,
}

impl Server {
    /// What makes the history of its timeline this one and no other, as the slot captures it.
    pub(crate) fn identity(&self, slot: &str) -> u64 {
        self.identity_in(&self.timeline, slot)
    }

    fn identity_in(&self, timeline: &str, slot: &str) -> u64 {
        let mut hash = Xxh3::new();
        for part in [&self.system, timeline, &self.database, slot] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.digest()
    }

    /// How its history stands to a position that was logged from `slot`.
    pub(crate) fn descent(&self, slot: &str, logged: &Position) -> Descent {
        let identity = logged.epoch.identity;
        if identity == self.identity(slot) {
            return Descent::Same;
        }
        let of = |past: &&Past| self.identity_in(&past.timeline, slot) == identity;
        let Some(past) = self.past.iter().find(of) else { return Descent::Other };
        let (at, until) = (logged.point.value(), past.until.value());
        // Of a half-logged transaction the position is its commit, which has to be there.
        let holds = if logged.index == 0 { at <= until } else { at < until };
        if holds { Descent::GoesOn } else { Descent::Behind(past.until) }
    }

    /// Why it cannot go on from where the log ends.
    pub(crate) fn branched_before(&self, until: Point, logged: Point) -> String {
        let ahead = ByteSize(logged.value() - until.value());
        format!(
            "a standby was promoted, or the database restored, at {until}, and the event log ends at \
             {logged}: it is {ahead} ahead, and may hold changes that this server never had. It goes \
             on in timeline {} without them",
            self.timeline
        )
    }

    /// Why it cannot go on although it holds all that was logged.
    pub(crate) fn left_behind(&self, slot: &str) -> String {
        let why = if self.version < 170_000 {
            format!("before PostgreSQL 17 slots do not follow (this is {})", self.version / 10_000)
        } else {
            "slots follow when the standby has `sync_replication_slots = on`, and only those that were \
             synchronised once"
                .to_string()
        };
        format!(
            "a standby was promoted, and replication slot {slot} did not come along: nobody kept what \
             came after the promotion. {why}"
        )
    }
}

impl Prepare<'_> {
    /// Refuses to go on in a history that is not the log's, or that has moved on without it. One that
    /// goes on in another timeline has another epoch from here on.
    pub(super) fn same_history(
        &self,
        server: &Server,
        name: &str,
        (slot, gap): (Option<&Slot>, Option<Point>),
        resume: &Resume,
    ) -> Result<Option<Epoch>, SourceError> {
        let epoch = |what: String| Err(self.trouble.epoch(what));
        let logged = resume.position;
        // Only whoever logs the history that was released has this gap.
        let released = gap == Some(Point::Lsn(logged.epoch.birth));
        let descent = match logged.point {
            Point::Lsn(_) => server.descent(name, &logged),
            Point::Sequence(_) => Descent::Other,
        };
        match descent {
            Descent::Same | Descent::GoesOn => {}
            Descent::Behind(until) => {
                return epoch(server.branched_before(until, logged.point));
            }
            Descent::Other => {
                return epoch(
                    "the database is another one, was restored, or lives on another timeline"
                        .into(),
                );
            }
        }
        let Some(slot) = slot else {
            if released {
                return Err(self.trouble.released(name));
            }
            if descent == Descent::GoesOn {
                return epoch(server.left_behind(name));
            }
            return epoch(format!("replication slot {name} is gone, and with it what it kept"));
        };
        if slot.plugin != "pgoutput" || !slot.here {
            return epoch(format!("replication slot {name} is not the one that was made for it"));
        }
        if let Some(reason) = &slot.lost {
            return epoch(format!(
                "the server gave up replication slot {name} ({reason}): changes that were not \
                 captured in time are gone"
            ));
        }
        match slot.confirmed {
            Some(confirmed) if confirmed.value() <= logged.point.value() => {}
            // A new one was begun, and the log never heard of it.
            _ if released => return Err(self.trouble.released(name)),
            _ => {
                return epoch(format!(
                    "replication slot {name} was made anew or moved on to {}, past {}, where the \
                     event log ends",
                    slot.confirmed.unwrap_or(Point::Lsn(0)),
                    logged.point
                ));
            }
        }
        let onto = Epoch { identity: server.identity(name), birth: logged.epoch.birth };
        Ok((descent == Descent::GoesOn).then(|| {
            tracing::info!(
                "{}: a standby was promoted; the history goes on from {} in timeline {}",
                self.spec.service,
                logged.point,
                server.timeline
            );
            onto
        }))
    }
}

/// Asks for the timelines that `timeline` goes on from. The first one goes on from none, and one whose
/// history file is gone is not known to go on from any.
pub(crate) async fn past(stream: &mut Wire, timeline: &str) -> Result<Vec<Past>, WireError> {
    if timeline == "1" || timeline.parse::<u32>().is_err() {
        return Ok(Vec::new());
    }
    match stream.query(&format!("TIMELINE_HISTORY {timeline}")).await {
        Ok(rows) => {
            let text = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
            Ok(read(text))
        }
        Err(WireError::Server(error)) => {
            tracing::warn!(timeline, %error, "the timeline's history cannot be read");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Reads a history file: one line for each timeline, with the place where the next one begins.
fn read(text: &str) -> Vec<Past> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let timeline = words.next().filter(|t| t.parse::<u32>().is_ok())?.to_string();
        Some(Past { timeline, until: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(timeline: &str, history: &str) -> Server {
        let (system, database) = ("7".to_string(), "shop 5".to_string());
        let timeline = timeline.to_string();
        Server { version: 170_000, system, timeline, database, past: read(history) }
    }

    #[test]
    fn a_branch_goes_on_from_what_it_holds_whole_and_from_nothing_else() {
        let history = "1\t0/3000000\tno recovery target specified\n\n# a word\n2\t0/5000000\tx\n";
        let (first, third) = (server("1", ""), server("3", history));
        let stands = |lsn: &str, index| {
            let epoch = Epoch { identity: first.identity("rowcast_shop"), birth: 1 };
            third.descent("rowcast_shop", &Position { epoch, point: lsn.parse().unwrap(), index })
        };
        let behind = Descent::Behind("0/3000000".parse().unwrap());
        assert_eq!(stands("0/2000000", 7), Descent::GoesOn);
        assert_eq!(stands("0/3000000", 0), Descent::GoesOn);
        assert_eq!(stands("0/3000000", 1), behind, "its commit comes after the branch");
        assert_eq!(stands("0/3000008", 0), behind);
        let epoch = Epoch { identity: third.identity("rowcast_shop"), birth: 1 };
        let own = Position::new(epoch, Point::Lsn(9));
        assert_eq!(third.descent("rowcast_shop", &own), Descent::Same);
        assert_eq!(third.descent("rowcast_other", &own), Descent::Other);
        assert_eq!(first.descent("rowcast_shop", &own), Descent::Other, "back to the old primary");
    }
}
