//! What a side track shows of itself, and what it remembers from one try to the next: copies that
//! wait for their owner make way for others.

use super::Deliver;
use super::enroll::{Build, Enrolled};
use crate::pace::{Condition, HasCondition};
use crate::trouble::{Trouble, TroubleReport};
use rowcast_core::{EntityName, Offset, SinkError, Waiting, parse_path};

/// What others may see of a side track.
#[derive(Debug, Clone, Default)]
pub(crate) struct SideState {
    pub(crate) condition: Condition,
    /// Entity and table of what is not live yet.
    pub(crate) builds: Vec<(EntityName, String)>,
    /// How far it came.
    pub(crate) at: Option<Offset>,
    /// What the target makes it wait for.
    pub(crate) waiting: Waiting,
    /// Copies that were begun in a shape which their entity has left: they begin at its last reading.
    pub(super) outdated: Vec<String>,
    /// Copies that wait for their owner: others are built before them.
    pub(super) aside: Vec<String>,
}

impl HasCondition for SideState {
    fn condition(&mut self) -> &mut Condition {
        &mut self.condition
    }
}

impl SideState {
    pub(super) fn begin(&mut self, enrolled: &Enrolled) {
        self.outdated.clear();
        let all = enrolled.building.iter().chain(&enrolled.waiting);
        self.builds = all.map(|b| (b.member.entity.clone(), b.member.into.clone())).collect();
        if self.builds.is_empty() {
            *self = Self { aside: std::mem::take(&mut self.aside), ..Self::default() };
        } else if enrolled.stuck.is_none() {
            self.condition = Condition::default();
        }
    }
}

impl Deliver {
    /// Notes a copy whose table keeps its track from going on. Whether others need not wait for its
    /// owner.
    pub(super) fn set_aside(&self, enrolled: &Enrolled, trouble: &Trouble) -> bool {
        let Trouble::Sink(SinkError::Schema { table, .. }) = trouble else { return false };
        let last = |path: &str| parse_path(path).ok().and_then(|mut parts| parts.pop());
        let found = last(table).unwrap_or_else(|| table.clone());
        let ours = |b: &&Build| last(&b.member.into).is_some_and(|name| found.contains(&name));
        let Some(build) = enrolled.building.iter().filter(ours).max_by_key(|b| b.member.into.len())
        else {
            return false;
        };
        let into = &build.member.into;
        let aside = self.side.borrow().aside.clone();
        self.side.send_modify(|s| s.aside.extend((!aside.contains(into)).then(|| into.clone())));
        let mut others = enrolled.building.iter().chain(&enrolled.waiting);
        let first = others.any(|b| b.member.into != *into && !aside.contains(&b.member.into));
        if first {
            let report = TroubleReport::of(trouble);
            tracing::warn!(
                "route {}: {into} waits for its owner, and others are built before it: {}",
                self.route,
                report.line()
            );
        }
        first
    }
}
