//! Which subscriptions a target's checkpoint covers, and which are being built beside it.
//!
//! Law: a subscription is written by one track at a time. What the target says of it, in the transaction
//! that changes it, is the only truth about which one.

use crate::{EntityName, Fields, Lane, LogId, Offset, Position, Shape, Subscription};
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Which of a route's checkpoints a sink moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Track {
    /// The one that covers every live subscription.
    #[default]
    Main,
    /// The one of the subscriptions that are being built until they join the others.
    Side,
    /// One of the main track's parallel lanes.
    Lane(Lane),
}

/// What a subscription's answer hangs on besides its table: two subscriptions with the same
/// definition make the same rows of the same log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Definition(pub u64);

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Subscription {
    /// The definition; stored at targets, so what goes into it must mean the same for ever.
    pub fn definition(&self) -> Definition {
        let mut hash = Xxh3::new();
        let mut part = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(self.entity.as_str());
        match &self.fields {
            Fields::All => part("all"),
            Fields::Named(named) => {
                part("named");
                for (local, published) in named {
                    part(local);
                    part(published);
                }
            }
        }
        // Rows without a filter have the definition that they had before there were any.
        if let Some(filter) = &self.filter {
            part("where");
            part(filter.as_str());
        }
        // Other places to begin at make the same copy in the end.
        if self.from.is_now() {
            part("now");
        }
        Definition(hash.digest())
    }
}

/// What a target holds of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    /// Nothing yet; it waits to be built.
    New,
    /// A copy that is whole but no longer followed; it waits to be built anew.
    Stale,
    /// It is being filled in its own table, which was empty before.
    Direct,
    /// It is being filled in a build table, beside a copy that stays as it is until the swap.
    Beside,
    /// The log is applied to it again from somewhere, beside a copy that stays as it is until the
    /// swap: its build table begins with the rows that the copy has.
    Again,
    /// The route's checkpoint covers it.
    Live,
    /// Nobody wants it any more.
    Gone,
}

impl Membership {
    /// The name under which targets store it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Stale => "stale",
            Self::Direct => "direct",
            Self::Beside => "beside",
            Self::Again => "again",
            Self::Live => "live",
            Self::Gone => "gone",
        }
    }

    /// The membership with this stored name. A name that nobody gave means that the copy is to be
    /// built anew: that is always safe.
    pub fn read(name: &str) -> Self {
        let all = [Self::New, Self::Direct, Self::Beside, Self::Again, Self::Live, Self::Gone];
        all.into_iter().find(|m| m.as_str() == name).unwrap_or(Self::Stale)
    }

    /// The side track fills it.
    pub fn is_building(self) -> bool {
        matches!(self, Self::Direct | Self::Beside | Self::Again)
    }

    /// It is filled in a table of its own until it takes the copy's place.
    pub fn has_build_table(self) -> bool {
        matches!(self, Self::Beside | Self::Again)
    }

    /// It waits for a side track.
    pub fn is_waiting(self) -> bool {
        matches!(self, Self::New | Self::Stale)
    }
}

/// One subscription of a route as its target knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The copy's table, as the subscription writes it; names the member within its route.
    pub into: String,
    /// Of which entity.
    pub entity: EntityName,
    /// What the copy was, or is being, made from.
    pub definition: Definition,
    /// What became of it.
    pub state: Membership,
    /// Events before this offset are no part of it.
    pub start: Offset,
    /// Whose offsets these are.
    pub log: LogId,
}

/// Everything a target remembers of a route beside its checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roll {
    /// Every subscription it ever knew; none when an earlier Rowcast filled it.
    pub members: Vec<Member>,
    /// The next offset that the side track lacks, while there is one.
    pub side: Option<Offset>,
}

/// What is to become of a side track's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideMark {
    /// It stays as it is.
    Leave,
    /// When there is none, it is made at this offset.
    Open(Offset),
    /// There is none any more.
    Drop,
}

/// What a target is to remember of a route's subscriptions, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where the route's checkpoint stands; compared first.
    pub at: Offset,
    /// The members that change. A build table goes when its member
    /// [becomes](Membership::has_build_table) something else.
    pub members: Vec<Member>,
    /// The side track's checkpoint.
    pub side: SideMark,
}

/// How the side track's subscriptions join the others.
#[derive(Debug, Clone)]
pub struct Join {
    /// The route's checkpoint before; compared.
    pub from: Offset,
    /// The route's checkpoint after; the side track's checkpoint before, compared too.
    pub next: Offset,
    /// The source's position at `next`.
    pub position: Position,
    /// What every joining subscription is now; only these columns are swapped in.
    pub shapes: Vec<Arc<Shape>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Begin;

    #[test]
    fn a_definition_is_what_rows_hang_on_and_nothing_else() {
        let fields = |named: &[(&str, &str)]| {
            Fields::Named(named.iter().map(|(l, p)| (l.to_string(), p.to_string())).collect())
        };
        let all = Subscription {
            entity: "customer".parse().unwrap(),
            into: "a".into(),
            fields: Fields::All,
            create: true,
            filter: None,
            from: Default::default(),
        };
        let elsewhere = Subscription { into: "b".into(), create: false, ..all.clone() };
        assert_eq!(all.definition(), elsewhere.definition());
        let ab = Subscription { fields: fields(&[("a", "b")]), ..all.clone() };
        let ba = Subscription { fields: fields(&[("b", "a")]), ..all.clone() };
        let joined = Subscription { fields: fields(&[("ab", "")]), ..all.clone() };
        let other = Subscription { entity: "order".parse().unwrap(), ..all.clone() };
        let part = Subscription { from: Begin::Now(None), ..all.clone() };
        let known = Subscription { from: Begin::Now(Some(Offset(7))), ..all.clone() };
        assert_eq!(part.definition(), known.definition());
        let restored = Subscription { from: Begin::Offset(Offset(7)), ..all.clone() };
        assert_eq!(all.definition(), restored.definition());
        let mut seen: Vec<_> =
            [&all, &ab, &ba, &joined, &other, &part].map(|s| s.definition().0).into();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
        // Stored at targets: it must not change with a release.
        assert_eq!(all.definition().to_string(), "f067817ddc9027f3");
    }

    #[test]
    fn a_membership_reads_back_and_an_unknown_one_is_built_anew() {
        use Membership::{Again, Beside, Direct, Gone, Live, New, Stale};
        for state in [New, Stale, Direct, Beside, Again, Live, Gone] {
            assert_eq!(Membership::read(state.as_str()), state);
        }
        assert_eq!(Membership::read("half"), Stale);
    }
}
