//! What each message of the stream does. No I/O here: where a message needs an answer from the
//! server first, the step says so and the message is given again.

use super::assemble::{Assembler, Change, Filled, key_differs};
use super::pgoutput::{Cell, Message, Relation, Tuple, parse};
use super::shape::Part;
use super::snapshot::Snapshotting;
use super::trouble::Trouble;
use super::wire::{Frame, ServerError, server_error};
use postgres_protocol::message::backend;
use rowcast_core::SourceError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The prefix of our own messages in the stream.
pub(crate) const PREFIX: &str = "rowcast";

/// Why the stream cannot go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Begin again from what was handed out; nobody else needs to know.
    Again,
    /// The same, but where the stream stands there was no publication, or it is the slot that is gone.
    /// With the server's words.
    Unpublished(String),
    /// Nobody listens any more.
    Gone,
    /// The source has failed.
    Failed(SourceError),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

/// What to do about a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// Go on with the next one.
    Next,
    /// A transaction ended; go on with the next one.
    Committed,
    /// Hand out the batch first, then give the message again.
    Full,
    /// Make the shapes of this relation, then go on with the next one.
    Relation(Relation),
    /// Look these values up, then give the message again.
    LookUp(LookUp),
}

/// Values that a change left out and that its row's copy will not have.
#[derive(Debug)]
pub(crate) struct LookUp {
    pub(crate) entity: usize,
    /// In the order of the shape's columns.
    pub(crate) key: Vec<Vec<u8>>,
    /// Places in the tuple and names.
    pub(crate) columns: Vec<(usize, String)>,
}

/// A relation that the stream has spoken of.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) columns: Vec<String>,
    /// Entities made of it.
    pub(crate) entities: Arc<[usize]>,
}

/// The stream's side of capture.
pub(crate) struct Flow {
    pub(crate) trouble: Trouble,
    pub(crate) assembler: Assembler,
    pub(crate) relations: BTreeMap<u32, Known>,
    pub(crate) snapshot: Option<Snapshotting>,
    /// How far the server's sending is behind the commit, by its own clock; microseconds.
    pub(crate) behind: i64,
    /// When the server sent what we read last, in microseconds since 2000.
    sent: i64,
    /// The number of the transaction begun last.
    pub(crate) xid: u32,
    /// The server wants to hear from us.
    pub(crate) asked: bool,
    /// One of our own messages went by: say at once how far we are.
    pub(crate) prompt: bool,
    /// While the backlog is asked for, instead of being streamed.
    pub(crate) peek: Option<Peek>,
}

/// How an answer with changes of the backlog goes.
#[derive(Debug, Default)]
pub(crate) struct Peek {
    /// The server said no.
    pub(crate) refused: Option<ServerError>,
    /// Nothing more comes.
    pub(crate) over: bool,
}

/// What a binary `COPY` begins with, before its first row.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, instead of a row.
const COPY_END: &[u8] = &[0xff, 0xff];

/// The row in one message of the answer. The head comes with the first row, or, of an answer without
/// any, with the end.
fn row(body: &[u8]) -> &[u8] {
    body.strip_prefix(COPY_HEAD).unwrap_or(body)
}

/// The value of a row of one value.
fn only_value(row: &[u8]) -> Option<&[u8]> {
    let (length, value) = row.strip_prefix(&[0, 1])?.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == value.len()).then_some(value)
}

impl Flow {
    pub(crate) fn new(
        trouble: Trouble,
        assembler: Assembler,
        snapshot: Option<Snapshotting>,
    ) -> Self {
        let relations = BTreeMap::new();
        let (behind, sent, xid, asked, prompt) = (0, 0, 0, false, false);
        let peek = None;
        Self { trouble, assembler, relations, snapshot, behind, sent, xid, asked, prompt, peek }
    }

    /// Takes one message of the connection.
    pub(crate) fn frame(
        &mut self,
        frame: Frame<'_>,
        filled: &[(usize, Filled)],
    ) -> Result<Step, Stop> {
        if self.peek.is_some() {
            return self.peeked(frame, filled);
        }
        match (frame.tag, frame.body) {
            (backend::COPY_DATA_TAG, [b'w', head @ ..]) => {
                let (head, body) = head
                    .split_first_chunk::<24>()
                    .ok_or_else(|| self.trouble.data("a message without its head"))?;
                self.sent = i64::from_be_bytes(*head.last_chunk::<8>().unwrap_or(&[0; 8]));
                self.message(body, filled)
            }
            (backend::COPY_DATA_TAG, [b'k', rest @ ..]) => {
                let (end, rest) = rest
                    .split_first_chunk::<8>()
                    .ok_or_else(|| self.trouble.data("a malformed keep-alive"))?;
                self.assembler.reach(u64::from_be_bytes(*end));
                self.asked |= rest.last() == Some(&1);
                self.behind = 0;
                Ok(Step::Next)
            }
            (backend::COPY_DATA_TAG, _) => {
                Err(self.trouble.data("an unknown kind of message").into())
            }
            (backend::ERROR_RESPONSE_TAG, body) => {
                let error = server_error(body);
                if error.state == "42704" {
                    return Err(Stop::Unpublished(error.to_string()));
                }
                if error.state == "55000" {
                    return Err(self.trouble.epoch(error.to_string()).into());
                }
                Err(self.trouble.wire("the stream broke off", error.into()).into())
            }
            (backend::COPY_DONE_TAG | backend::COMMAND_COMPLETE_TAG, _) => {
                Err(self.trouble.lost("the server ended the stream").into())
            }
            _ => Ok(Step::Next),
        }
    }

    /// Takes one message of an answer: a row of it holds what the stream would have sent.
    fn peeked(&mut self, frame: Frame<'_>, filled: &[(usize, Filled)]) -> Result<Step, Stop> {
        let Some(peek) = &mut self.peek else { return Ok(Step::Next) };
        match frame.tag {
            backend::COPY_DATA_TAG if row(frame.body) != COPY_END => {
                let Some(body) = only_value(row(frame.body)) else {
                    return Err(self.trouble.data("a malformed row of the backlog").into());
                };
                self.message(body, filled)
            }
            backend::ERROR_RESPONSE_TAG => {
                peek.refused = Some(server_error(frame.body));
                Ok(Step::Next)
            }
            backend::READY_FOR_QUERY_TAG => {
                peek.over = true;
                Ok(Step::Next)
            }
            _ => Ok(Step::Next),
        }
    }

    fn message(&mut self, body: &[u8], filled: &[(usize, Filled)]) -> Result<Step, Stop> {
        // Cut only before another row, so that a transaction's last batch is never without one.
        if matches!(body.first(), Some(b'I' | b'U' | b'D' | b'T')) && self.assembler.is_full() {
            return Ok(Step::Full);
        }
        match parse(body).map_err(|e| self.trouble.data(e))? {
            Message::Begin { commit, at, xid } => {
                self.xid = xid;
                self.behind = self.sent.saturating_sub(at);
                self.assembler.begin(commit, at);
            }
            Message::Commit { end, .. } => {
                self.assembler.end(end);
                return Ok(Step::Committed);
            }
            Message::Relation(relation) => return Ok(Step::Relation(relation)),
            Message::Insert { relation, new } => {
                self.row(relation, Change::Create(new), filled)?;
            }
            Message::Update { relation, old, new } => {
                if let Some(wanted) = self.wanted(relation, old, new, filled) {
                    return Ok(Step::LookUp(wanted));
                }
                self.row(relation, Change::Update(old, new), filled)?;
            }
            Message::Delete { relation, old } => self.row(relation, Change::Delete(old), filled)?,
            Message::Truncate { relations } => self.truncate(&relations),
            Message::Logical { prefix, lsn } => {
                self.prompt |= prefix == PREFIX.as_bytes();
                self.assembler.reach(lsn);
            }
            Message::Other => {}
        }
        Ok(Step::Next)
    }

    fn row(
        &mut self,
        relation: u32,
        change: Change<'_>,
        filled: &[(usize, Filled)],
    ) -> Result<(), Stop> {
        if !self.assembler.count() {
            return Ok(());
        }
        let Some(known) = self.relations.get(&relation) else {
            return Err(self.trouble.data("a row of a relation it never spoke of").into());
        };
        let count = match change {
            Change::Create(t) | Change::Update(_, t) | Change::Delete(t) => usize::from(t.columns),
            Change::Truncate => known.columns.len(),
        };
        if count != known.columns.len() {
            return Err(self.trouble.data("a row of another width than its relation").into());
        }
        for &entity in known.entities.clone().iter() {
            if self.skips(entity, self.assembler.commit().unwrap_or_default()) {
                continue;
            }
            let filled = filled.iter().find(|(e, _)| *e == entity).map(|(_, f)| f);
            self.assembler.change(entity, change, filled);
            self.remember(entity, change)?;
        }
        Ok(())
    }

    /// Whether a change is none of an entity's story any more: the entity is read again, and the
    /// reading shows what commits before it did.
    pub(crate) fn skips(&self, entity: usize, commit: u64) -> bool {
        self.snapshot.as_ref().is_some_and(|s| s.replaces(entity) && commit < s.at)
    }

    /// Remembers the keys that a commit from L on touches, so that their rows are dropped.
    fn remember(&mut self, entity: usize, change: Change<'_>) -> Result<(), Stop> {
        let Some(snapshot) = &mut self.snapshot else { return Ok(()) };
        if !snapshot.copies(entity) || self.assembler.commit().is_none_or(|c| c < snapshot.at) {
            return Ok(());
        }
        let room = match change {
            Change::Create(new) => snapshot.remember(self.assembler.hash(entity, new, None)),
            Change::Delete(old) => snapshot.remember(self.assembler.hash(entity, old, None)),
            Change::Update(old, new) => {
                let mut room = snapshot.remember(self.assembler.hash(entity, new, old));
                if let Some(old) = old {
                    room &= snapshot.remember(self.assembler.hash(entity, old, None));
                }
                room
            }
            Change::Truncate => {
                snapshot.truncate(entity);
                true
            }
        };
        if room { Ok(()) } else { Err(Stop::Again) }
    }

    fn truncate(&mut self, relations: &[u32]) {
        if !self.assembler.count() {
            return;
        }
        let entities: Vec<usize> = relations
            .iter()
            .filter_map(|r| self.relations.get(r))
            .flat_map(|k| k.entities.iter().copied())
            .filter(|e| !self.skips(*e, self.assembler.commit().unwrap_or_default()))
            .collect();
        for entity in entities {
            self.assembler.change(entity, Change::Truncate, None);
            if let Some(snapshot) = &mut self.snapshot
                && self.assembler.commit().is_some_and(|c| c >= snapshot.at)
            {
                snapshot.truncate(entity);
            }
        }
    }

    /// The values to look up before an update can be handed on.
    ///
    /// From L on, an update that is the first change of its key: its row's copy will be dropped, and
    /// the values that it left out with it. Before L, one that gives a row another key: the copy may
    /// have passed the new key already, and never come to see the row.
    fn wanted(
        &mut self,
        relation: u32,
        old: Option<Tuple<'_>>,
        new: Tuple<'_>,
        filled: &[(usize, Filled)],
    ) -> Option<LookUp> {
        let snapshot = self.snapshot.as_ref()?;
        if !new.cells().any(|c| c == Cell::Unchanged) || !self.assembler.is_new() {
            return None;
        }
        let known = self.relations.get(&relation)?;
        let commit = self.assembler.commit()?;
        for &entity in known.entities.iter() {
            if !snapshot.copies(entity)
                || self.skips(entity, commit)
                || filled.iter().any(|(e, _)| *e == entity)
            {
                continue;
            }
            let parts = &self.assembler.shape(entity).parts;
            let moved = old.filter(|old| key_differs(parts, *old, new));
            let row = if commit < snapshot.at {
                if moved.is_none() {
                    continue;
                }
                new
            } else {
                moved.unwrap_or(new)
            };
            let columns = missing(parts, &known.columns, old, new);
            let key = key_texts(parts, row, old);
            if columns.is_empty() {
                continue;
            }
            if commit >= snapshot.at {
                let hash = self.assembler.hash(entity, row, old);
                if snapshot.remembers(hash) {
                    continue;
                }
            }
            return Some(LookUp { entity, key: key?, columns });
        }
        None
    }
}

/// The published columns that an update leaves out.
fn missing(
    parts: &[Part],
    names: &[String],
    old: Option<Tuple<'_>>,
    new: Tuple<'_>,
) -> Vec<(usize, String)> {
    let mut old = old.map(Tuple::cells);
    let mut missing = Vec::new();
    for (i, (cell, part)) in new.cells().zip(parts).enumerate() {
        let before = old.as_mut().and_then(Iterator::next);
        let known = matches!(before, Some(Cell::Text(_)));
        if cell == Cell::Unchanged && *part != Part::Skip && !known {
            missing.extend(names.get(i).map(|n| (i, n.clone())));
        }
    }
    missing
}

/// The key of a tuple as text, in the order of its columns.
fn key_texts(parts: &[Part], row: Tuple<'_>, old: Option<Tuple<'_>>) -> Option<Vec<Vec<u8>>> {
    let mut old = old.map(Tuple::cells);
    let mut key = Vec::new();
    for (cell, part) in row.cells().zip(parts) {
        let before = old.as_mut().and_then(Iterator::next);
        if *part == Part::Key {
            let text = match (cell, before) {
                (Cell::Text(text), _) | (Cell::Unchanged, Some(Cell::Text(text))) => text,
                _ => return None,
            };
            key.push(text.to_vec());
        }
    }
    Some(key)
}
