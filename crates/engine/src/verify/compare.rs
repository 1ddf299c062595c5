//! One copy against its source, in a memory that does not grow with the rows: first by sums over
//! ranges of keys, then key by key in the ranges that differ, then value by value in the rows that do.

use super::overlay::Overlay;
use super::report::{Difference, DifferentValue, Kind};
use super::sums::{Mark, Sums, range};
use super::take::{Taken, Taker};
use super::{Copy, Progress, Reading, Stop};
use rowcast_core::{CopyView, EntityName, Row, RowSet, Shape, SourceView, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::watch;

/// Keys of one side held at once.
const KEYS_MAX: u64 = 1_000_000;
/// Rows that are named, and mended, in one round.
const DETAILS_MAX: usize = 50_000;
/// Bytes of rows that are held to be named and mended.
const DETAILS_BYTES_MAX: usize = 64 << 20;

/// The two sides.
pub(super) struct Sides<'a> {
    pub(super) source: &'a mut dyn SourceView,
    pub(super) copies: &'a mut dyn CopyView,
}

/// A row that differs, with what mending needs.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) difference: Difference,
    /// The hash of its key, as the copy shows it.
    pub(super) key: u128,
    /// The row as the source has it, where it has it.
    pub(super) source: Option<Vec<u8>>,
    /// The row as the copy has it, where it has it.
    pub(super) found: Option<Vec<u8>>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Rows that the copy should hold.
    pub(super) rows: u64,
    /// Rows that differ.
    pub(super) count: u64,
    /// Keys that are parked; their rows are not among those that differ.
    pub(super) parked: u64,
    /// As many of them as can be held.
    pub(super) details: Vec<Detail>,
}

/// Both sides of one row.
#[derive(Debug, Default)]
struct Pair {
    source: Option<Vec<u8>>,
    expected: Option<Vec<u8>>,
    found: Option<Vec<u8>>,
}

/// A comparison.
pub(super) struct Compare<'a> {
    sides: Sides<'a>,
    overlay: &'a mut Overlay,
    taker: Taker,
    entity: EntityName,
    progress: &'a watch::Sender<Progress>,
    /// Keys that the log has a word on, as the copy shows them.
    changed: HashMap<u128, Vec<u8>>,
    /// Keys that are parked, and how many.
    parked: (HashSet<u128>, u64),
}

impl<'a> Compare<'a> {
    pub(super) async fn new(
        copy: &Copy,
        sides: Sides<'a>,
        overlay: &'a mut Overlay,
        (route, progress): (&rowcast_core::RouteId, &'a watch::Sender<Progress>),
    ) -> Result<Self, Stop> {
        let foresight = sides.copies.foresight(&copy.shape).await?;
        let mut taker = Taker::new(route, copy, foresight);
        let changed = taker.changed(overlay).await?;
        let pending = sides.copies.parked(&copy.subscription.into).await?;
        let parked = (taker.parked(&pending).await?, pending.len() as u64);
        let entity = copy.subscription.entity.clone();
        Ok(Self { sides, overlay, taker, entity, progress, changed, parked })
    }

    /// Compares; gives back what mending takes rows with.
    pub(super) async fn run(mut self) -> Result<(Found, Taker), Stop> {
        let (expected, found, kept) = self.sums().await?;
        let mut pairs = self.overlaid(kept).await?;
        let rows = expected.rows + pairs.values().filter(|p| p.expected.is_some()).count() as u64;
        // A parked key is what it is until parking brings it further.
        let parked = &self.parked.0;
        pairs.retain(|key, pair| pair.expected != pair.found && !parked.contains(key));
        let mut count = pairs.len() as u64;
        let mut wanted = HashMap::new();
        for group in expected.differing(&found, KEYS_MAX) {
            count += self.keys(&group, &mut wanted).await?;
        }
        if !wanted.is_empty() {
            self.rows(&mut wanted).await?;
        }
        pairs.extend(wanted);
        let shape = &self.taker.shape;
        let detail = |(key, pair): (u128, Pair)| pair.detail(shape, key);
        let mut details: Vec<_> = pairs.into_iter().filter_map(detail).collect();
        details.sort_by(|a, b| by_key(&a.difference, &b.difference));
        Ok((Found { rows, count, parked: self.parked.1, details }, self.taker))
    }

    /// Sums of both sides at once, without the changed keys; those of the copy are kept.
    async fn sums(&mut self) -> Result<(Sums, Sums, HashMap<u128, Vec<u8>>), Stop> {
        let (mut expected, mut found) = (Sums::new(), Sums::new());
        let mut kept = HashMap::new();
        let changed = &self.changed;
        let mut marker = super::sums::Marker::default();
        let shape = self.taker.shape.clone();
        let source = source_rows(
            self.sides.source,
            &self.entity,
            (self.overlay, &mut self.taker),
            self.progress,
            |mark, _, _| expected.add(mark),
        );
        let copy = copy_rows(self.sides.copies, &shape, |row| {
            let mark = marker.mark(row, &shape.key);
            if changed.contains_key(&mark.key) {
                kept.insert(mark.key, row.0.to_vec());
            } else {
                found.add(mark);
            }
        });
        let (source, copy) = tokio::join!(source, copy);
        source?;
        copy?;
        Ok((expected, found, kept))
    }

    /// Both sides of the rows that the log has a word on.
    async fn overlaid(
        &mut self,
        mut kept: HashMap<u128, Vec<u8>>,
    ) -> Result<HashMap<u128, Pair>, Stop> {
        let mut pairs = HashMap::with_capacity(self.changed.len());
        let mut set = RowSet::new();
        for (hash, key) in &self.changed {
            let row = self.overlay.row(key);
            let row = row.ok_or(Stop::Again("a row that others build on is missing"))?;
            row.iter().for_each(|row| set.push(|into| into.extend_from_slice(row)));
            pairs.insert(*hash, Pair { found: kept.remove(hash), ..Pair::default() });
        }
        let Taken { source, expected } = self.taker.take(set).await?;
        for (source, expected) in source.rows().zip(expected.rows()) {
            let mark = self.taker.mark(source, expected);
            let pair = pairs.entry(mark.key).or_default();
            (pair.source, pair.expected) = (Some(source.0.to_vec()), Some(expected.0.to_vec()));
        }
        Ok(pairs)
    }

    /// The keys that differ in some ranges; the number of them, and some to look closer at.
    async fn keys(
        &mut self,
        group: &[bool],
        wanted: &mut HashMap<u128, Pair>,
    ) -> Result<u64, Stop> {
        let mut hashes: HashMap<u128, u128> = HashMap::new();
        let parked = &self.parked.0;
        let keep = |mark: Mark, _: Row<'_>, _: Row<'_>| {
            if group[range(mark.key)] && !parked.contains(&mark.key) {
                hashes.insert(mark.key, mark.row);
            }
        };
        let taking = (&mut *self.overlay, &mut self.taker);
        source_rows(self.sides.source, &self.entity, taking, self.progress, keep).await?;
        let mut differing = Vec::new();
        let mut count = 0;
        let shape = self.taker.shape.clone();
        let (changed, taker) = (&self.changed, &mut self.taker);
        copy_rows(self.sides.copies, &shape, |row| {
            let mark = taker.found(row);
            let aside = changed.contains_key(&mark.key) || parked.contains(&mark.key);
            if !group[range(mark.key)] || aside {
                return;
            }
            if hashes.remove(&mark.key) != Some(mark.row) {
                count += 1;
                if differing.len() < DETAILS_MAX {
                    differing.push(mark.key);
                }
            }
        })
        .await?;
        count += hashes.len() as u64;
        differing.extend(hashes.into_keys().take(DETAILS_MAX));
        let room = DETAILS_MAX.saturating_sub(wanted.len());
        wanted.extend(differing.into_iter().take(room).map(|key| (key, Pair::default())));
        Ok(count)
    }

    /// Both sides of the rows with these keys, as far as there is room.
    async fn rows(&mut self, wanted: &mut HashMap<u128, Pair>) -> Result<(), Stop> {
        let mut bytes = 0;
        let take = |mark: Mark, source: Row<'_>, expected: Row<'_>| {
            let Some(pair) = wanted.get_mut(&mark.key) else { return };
            bytes += source.0.len() + expected.0.len();
            (pair.source, pair.expected) = (Some(source.0.to_vec()), Some(expected.0.to_vec()));
            if bytes > DETAILS_BYTES_MAX {
                wanted.remove(&mark.key);
            }
        };
        let taking = (&mut *self.overlay, &mut self.taker);
        source_rows(self.sides.source, &self.entity, taking, self.progress, take).await?;
        let shape = self.taker.shape.clone();
        let taker = &mut self.taker;
        copy_rows(self.sides.copies, &shape, |row| {
            let key = taker.found(row).key;
            let Some(pair) = wanted.get_mut(&key) else { return };
            bytes += row.0.len();
            pair.found = Some(row.0.to_vec());
            if bytes > DETAILS_BYTES_MAX {
                wanted.remove(&key);
            }
        })
        .await
    }
}

/// Reads the source's rows that a subscription takes, but for those that the log has a word on.
async fn source_rows(
    source: &mut dyn SourceView,
    entity: &EntityName,
    (overlay, taker): (&mut Overlay, &mut Taker),
    progress: &watch::Sender<Progress>,
    mut each: impl FnMut(Mark, Row<'_>, Row<'_>),
) -> Result<(), Stop> {
    let into = taker.shape.into.clone();
    let mut rows = 0;
    source.begin(entity).await?;
    while let Some(set) = source.next().await? {
        rows += set.len() as u64;
        let set = without_changed(set, overlay, taker);
        let taken = taker.take(set).await?;
        for (row, expected) in taken.source.rows().zip(taken.expected.rows()) {
            let mark = taker.mark(row, expected);
            each(mark, row, expected);
        }
        let reading = Some(Reading { into: into.clone(), rows });
        progress.send_replace(Progress { doing: "comparing", reading });
    }
    Ok(())
}

/// Leaves out the rows that the log has a word on, and notes those that others build on.
fn without_changed(set: RowSet, overlay: &mut Overlay, taker: &mut Taker) -> RowSet {
    if overlay.is_empty() {
        return set;
    }
    let mut rest = RowSet::new();
    for row in set.rows() {
        let key = taker.source_key(row);
        overlay.see(key, row);
        if !overlay.has(key) {
            rest.push(|into| into.extend_from_slice(row.0));
        }
    }
    rest
}

async fn copy_rows(
    copies: &mut dyn CopyView,
    shape: &Arc<Shape>,
    mut each: impl FnMut(Row<'_>),
) -> Result<(), Stop> {
    copies.begin(shape).await?;
    while let Some(set) = copies.next().await? {
        set.rows().for_each(&mut each);
    }
    Ok(())
}

impl Pair {
    /// What differs; `None` when nothing is known of it.
    fn detail(self, shape: &Shape, key: u128) -> Option<Detail> {
        let kind = match (&self.expected, &self.found) {
            (Some(_), Some(_)) => Kind::Different,
            (Some(_), None) => Kind::Missing,
            (None, Some(_)) => Kind::Extra,
            (None, None) => return None,
        };
        let expected = self.expected.as_deref().map(texts).unwrap_or_default();
        let found = self.found.as_deref().map(texts).unwrap_or_default();
        let at = |row: &[Option<String>], i: usize| row.get(i).cloned().flatten();
        let own = if kind == Kind::Extra || expected.is_empty() { &found } else { &expected };
        let name = |i: usize| shape.columns[i].name.clone();
        let mut named: Vec<_> = shape.key.iter().map(|&k| (name(k), at(own, k))).collect();
        if own.is_empty() {
            // It fits the copy nowhere, so only the source can say which row it is.
            let source = self.source.as_deref().map(texts).unwrap_or_default();
            let place = |k: usize| shape.columns[k].source;
            named = shape.key.iter().map(|&k| (name(k), at(&source, place(k)))).collect();
        }
        let mut values = Vec::new();
        if kind == Kind::Different {
            let (theirs, ours) = (raw(self.expected.as_deref()?), raw(self.found.as_deref()?));
            let differing = (0..shape.columns.len()).filter(|&i| theirs.get(i) != ours.get(i));
            values.extend(differing.map(|i| DifferentValue {
                column: name(i),
                expected: at(&expected, i),
                found: at(&found, i),
            }));
        }
        let difference = Difference { kind, key: named, values, mended: false, refused: None };
        Some(Detail { difference, key, source: self.source, found: self.found })
    }
}

fn raw(packed: &[u8]) -> Vec<Value<'_>> {
    Row(packed).values().map_while(Result::ok).collect()
}

/// A row's values for people.
fn texts(packed: &[u8]) -> Vec<Option<String>> {
    let text = |value: Value<'_>| match value {
        Value::Null | Value::Unchanged => None,
        Value::Text(t) => Some(String::from_utf8_lossy(t).into_owned()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Real(r) => Some(format!("{r:?}")),
        Value::Blob(b) => {
            let digits = b.iter().map(|byte| format!("{byte:02x}"));
            Some(format!("\\x{}", digits.collect::<String>()))
        }
    };
    raw(packed).into_iter().map(text).collect()
}

/// Numbers by size, everything else by its text.
fn by_key(a: &Difference, b: &Difference) -> std::cmp::Ordering {
    let parts = |d: &Difference| {
        let part = |(_, v): &(String, Option<String>)| {
            let text = v.clone().unwrap_or_default();
            (text.parse::<i128>().ok(), text)
        };
        d.key.iter().map(part).collect::<Vec<_>>()
    };
    parts(a).cmp(&parts(b))
}
