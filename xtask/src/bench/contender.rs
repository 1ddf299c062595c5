//! What both contenders can do, under one name each.

use super::Peer;
use super::lab::Lab;
use super::native::Native;
use super::rowcast::Rowcast;
use super::table::{CUSTOMERS, Table};
use super::usage::Usage;
use anyhow::Result;

/// How a contender is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// How many databases get a copy.
    pub(super) subscribers: usize,
    /// Whether their commits are durable one by one, instead of soon.
    pub(super) durable: bool,
    /// What is copied.
    pub(super) table: Table,
    /// Whether the subscribers take nothing of it, only the beacons beside it.
    pub(super) discards: bool,
    /// How many of Rowcast's transactions may share a piece of the log.
    pub(super) lanes: u16,
}

impl Setup {
    pub(super) const ONE: Self =
        Self { subscribers: 1, durable: false, table: CUSTOMERS, discards: false, lanes: 1 };
}

/// One of the two, with databases of its own on the target's server.
pub(super) enum Contender<'a> {
    Native(Native<'a>),
    Rowcast(Rowcast<'a>),
}

impl<'a> Contender<'a> {
    /// Makes its databases. Nothing runs yet.
    pub(super) async fn new(peer: Peer, lab: &'a Lab, setup: Setup) -> Result<Self> {
        let databases: Vec<String> =
            (0..setup.subscribers).map(|i| format!("bench_{}_{i}", peer.name())).collect();
        for name in &databases {
            lab.subscriber(name, setup.table).await;
        }
        Ok(match peer {
            Peer::Native => Self::Native(Native::new(lab, databases, setup).await),
            Peer::Rowcast => Self::Rowcast(Rowcast::new(lab, databases, setup)),
        })
    }

    /// [`new`](Self::new), and one database that nobody copies into before it [`join`](Self::join)s.
    pub(super) async fn with_newcomer(peer: Peer, lab: &'a Lab, setup: Setup) -> Result<Self> {
        let mut this = Self::new(peer, lab, setup).await?;
        let name = format!("bench_{}_{}", peer.name(), setup.subscribers);
        lab.subscriber(&name, setup.table).await;
        if let Self::Rowcast(rowcast) = &mut this {
            let databases = [rowcast.databases.as_slice(), &[name]].concat();
            *rowcast = Rowcast::new(lab, databases, setup);
        }
        Ok(this)
    }

    /// Lets one more database have a copy while the others follow, and waits until it has.
    pub(super) async fn join(&mut self, name: &str) -> Result<()> {
        match self {
            Self::Native(native) => native.join(name).await,
            Self::Rowcast(rowcast) => rowcast.join(name).await,
        }
    }

    /// The databases that get a copy.
    pub(super) fn databases(&self) -> &[String] {
        match self {
            Self::Native(native) => &native.databases,
            Self::Rowcast(rowcast) => &rowcast.databases,
        }
    }

    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Native(_) => Peer::Native,
            Self::Rowcast(_) => Peer::Rowcast,
        }
    }

    /// Copies what is there, from nothing, and pauses. What is written from now on waits.
    pub(super) async fn copy(&mut self) -> Result<()> {
        match self {
            Self::Native(native) => native.copy().await,
            Self::Rowcast(rowcast) => rowcast.copy().await,
        }
    }

    /// Goes on.
    pub(super) async fn resume(&mut self) {
        match self {
            Self::Native(native) => native.resume().await,
            Self::Rowcast(rowcast) => rowcast.resume(),
        }
    }

    /// What the running process has used; the native one has none of its own.
    pub(super) fn usage(&self) -> Result<Option<Usage>> {
        match self {
            Self::Native(_) => Ok(None),
            Self::Rowcast(rowcast) => rowcast.usage().map(Some),
        }
    }

    /// Pauses again.
    pub(super) async fn pause(&mut self) -> Result<()> {
        match self {
            Self::Native(native) => native.pause().await,
            Self::Rowcast(rowcast) => rowcast.pause().await,
        }
    }

    /// Takes its slots away.
    pub(super) async fn end(self) -> Result<()> {
        match self {
            Self::Native(native) => native.end().await,
            Self::Rowcast(mut rowcast) => rowcast.pause().await,
        }
    }
}
