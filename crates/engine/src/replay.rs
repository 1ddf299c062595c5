//! Replay: a part of the log, or all of it, is applied to copies again, beside the rows that readers
//! see.

use crate::begin;
use crate::board::Board;
use crate::deliver::{Rebuild, Rebuilding};
use crate::refusal::{Refusal, UNCHANGED};
use rowcast_core::{Begin, Diagnose, EntityName, LogError, Offset, RouteId, advice};
use std::time::Duration;
use tokio::sync::oneshot;

/// Longest for a route to reach its target and write down what was asked for.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);

/// What a replay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// How many copies are built.
    pub copies: usize,
    /// The offset from which on the log is applied to the rows that they have; `None` where they
    /// are built from nothing.
    pub from: Option<Offset>,
}

impl Board {
    /// Has the log applied to copies of a route again, of some entities or of all when none is named.
    /// From the beginning they are built from nothing, else from the rows that they have. It happens
    /// beside them, and they stay as they are until what was built is swapped in. Returns once the
    /// target remembers it. Cancel safe: what was asked for is done.
    ///
    /// # Errors
    /// When there is no such route or entity, it does not run, or the log does not hold enough.
    pub async fn replay(
        &self,
        route: &RouteId,
        entities: Vec<EntityName>,
        begin: Begin,
    ) -> Result<Replayed, Refusal> {
        let live = self.live();
        let entry = live.routes.iter().find(|r| r.route == *route);
        let entry = entry.ok_or_else(|| missing(format!("there is no route {route}"), "routes"))?;
        if let Some(entity) = entities.iter().find(|e| !entry.entities.contains(e)) {
            let what = format!("route {route} has no subscription to {entity}");
            let names = entry.entities.iter().map(EntityName::as_str);
            let help = format!("{}; {UNCHANGED}", advice(entity.as_str(), "its entities", names));
            return Err(Refusal::Missing { what, help });
        }
        if let Some(pause) = &entry.pause {
            let help = format!("`rowcast resume {route}` first; {UNCHANGED}");
            return Err(Refusal::NotNow { what: format!("route {route} is {pause}"), help });
        }
        let chosen = if entities.is_empty() { &entry.entities } else { &entities };
        let from = self.from(route, chosen, begin).await?;
        let (done, answer) = oneshot::channel();
        let rebuild = Rebuild { entities, from, done };
        let wish = async {
            entry.rebuild.send(rebuild).await.ok()?;
            answer.await.ok()
        };
        let taken = tokio::time::timeout(TAKEN_WITHIN, wish).await;
        match taken.map_err(|_| late(route))?.ok_or_else(|| late(route))? {
            Rebuilding::Copies(0) => Err(nothing(route)),
            Rebuilding::Copies(copies) => Ok(Replayed { copies, from }),
            Rebuilding::Busy => Err(busy(route)),
        }
    }

    /// The earliest of the places at which the entities' copies begin; none at the beginning.
    async fn from(
        &self,
        route: &RouteId,
        entities: &[EntityName],
        begin: Begin,
    ) -> Result<Option<Offset>, Refusal> {
        match begin {
            Begin::Beginning => return Ok(None),
            Begin::Now(_) => {
                let what = "a replay from now on would leave out what is waiting".into();
                let help = format!(
                    "`rowcast unsubscribe` the entity and `rowcast subscribe` it again with `--from \
                     now`, if that is what you want; {UNCHANGED}"
                );
                return Err(Refusal::Unfit { what, help });
            }
            Begin::Offset(_) | Begin::Position(_) => {}
        }
        let mut earliest: Option<Offset> = None;
        for entity in entities {
            let of = (&route.from, entity);
            let start = begin::start_soon(&*self.log, of, begin, TAKEN_WITHIN).await;
            let start =
                start.map_err(|e| not_from(e, "`--from beginning` builds the copy anew"))?;
            earliest = Some(earliest.map_or(start, |e| e.min(start)));
        }
        Ok(earliest)
    }
}

/// Why a copy cannot begin where somebody wants it to.
pub(crate) fn not_from(error: LogError, instead: &str) -> Refusal {
    let help = match &error {
        LogError::Older { .. } => instead,
        LogError::NotYet { .. } => "look at the place once more, or try again in a moment",
        LogError::Foreign { .. } => error.help(),
        _ => return error.into(),
    };
    Refusal::Unfit { what: error.to_string(), help: format!("{help}; {UNCHANGED}") }
}

fn missing(what: String, which: &str) -> Refusal {
    Refusal::Missing { what, help: format!("`rowcast status` lists the {which}; {UNCHANGED}") }
}

fn late(route: &RouteId) -> Refusal {
    let what = format!("route {route} did not get to its target within {TAKEN_WITHIN:?}");
    let help = "it begins once the route gets there, unless `rowcast run` is restarted before; \
                `rowcast status` says why it waits";
    Refusal::NotNow { what, help: help.into() }
}

fn nothing(route: &RouteId) -> Refusal {
    let what =
        format!("route {route} has no live copy there to which the log could be applied again");
    let help = format!(
        "a copy that is empty or is being built is made with `--from beginning`; one that begins with \
         `now` cannot be; {UNCHANGED}"
    );
    Refusal::NotNow { what, help }
}

fn busy(route: &RouteId) -> Refusal {
    let what =
        format!("route {route} is building copies now, and one thing is done after the other");
    let help = format!("`rowcast wait --live --route {route}`, then ask again; {UNCHANGED}");
    Refusal::NotNow { what, help }
}
