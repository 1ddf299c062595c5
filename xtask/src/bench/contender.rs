//! What both contenders can do, under one name each.

use super::Peer;
use super::lab::Lab;
use super::native::Native;
use super::rowcast::Rowcast;
use super::usage::Usage;
use anyhow::Result;

/// How a contender is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    /// How many databases get a copy.
    pub(super) subscribers: usize,
    /// Whether their commits are durable one by one, instead of soon.
    pub(super) durable: bool,
}

impl Setup {
    pub(super) const ONE: Self = Self { subscribers: 1, durable: false };
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
            lab.subscriber(name).await;
        }
        Ok(match peer {
            Peer::Native => Self::Native(Native::new(lab, databases, setup.durable).await),
            Peer::Rowcast => Self::Rowcast(Rowcast::new(lab, databases, setup.durable)),
        })
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
