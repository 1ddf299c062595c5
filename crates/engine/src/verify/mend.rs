//! Mending: the rows that differ become what they must be at the copy's checkpoint of that moment,
//! which is held meanwhile, so that no newer change is overwritten and none comes between.

use super::compare::Detail;
use super::overlay::{Key, Overlay};
use super::take::Taker;
use super::window::Replayed;
use super::{Compared, History, Stop, Verify, VerifyError};
use rowcast_core::{
    BatchBuilder, Checkpoint, Epoch, Malformed, Offset, Op, Point, Position, Progress, Row,
    RowWriter, Rows, Sink, SinkError, SinkSpec, Stored, Value,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that are tried one by one after all of them together were refused.
const ONE_BY_ONE_MAX: usize = 1_000;

/// What a row is to become.
enum Must {
    /// This row, as the source has it.
    Be(Vec<u8>),
    /// No row; a row as wide as the source's holds its key.
    Go(Vec<u8>),
}

impl Verify {
    /// Mends what was found. Comparing again proves it.
    pub(super) async fn mend(
        &self,
        history: &mut dyn History,
        replayed: &mut Replayed,
        compared: &mut Compared,
    ) -> Result<(), Stop> {
        let spec = SinkSpec {
            track: Default::default(),
            route: self.sink.route.clone(),
            subscriptions: vec![compared.copy.subscription.clone()],
        };
        let mut sink = self.subscriber.sink(spec);
        let (details, taker) = (&mut compared.found.details, &mut compared.taker);
        let all = self.mend_some(history, replayed, (sink.as_mut(), taker), details).await;
        let Err(Stop::Failed(VerifyError::Sink(SinkError::Data { .. }))) = all else {
            return all;
        };
        for detail in details.chunks_mut(1).take(ONE_BY_ONE_MAX) {
            match self.mend_some(history, replayed, (sink.as_mut(), taker), detail).await {
                Err(Stop::Failed(VerifyError::Sink(SinkError::Data { what, .. }))) => {
                    detail[0].difference.refused = Some(what);
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn mend_some(
        &self,
        history: &mut dyn History,
        replayed: &mut Replayed,
        (sink, taker): (&mut dyn Sink, &mut Taker),
        details: &[Detail],
    ) -> Result<(), Stop> {
        let held = sink.hold(history.log()).await?;
        let Checkpoint { next, position: Some(position) } = held else {
            return Err(Stop::Again("the copy was begun anew"));
        };
        // What was parked since is for parking to bring further.
        let into = &taker.shape.into;
        let parked = sink.parked().await?.into_iter().filter(|p| p.table == *into);
        let parked: Vec<_> = parked.map(|p| p.pending).collect();
        let parked = taker.parked(&parked).await?;
        self.replay(history, replayed, next).await?;
        let overlay = replayed.overlays.get_mut(&taker.schema.entity);
        let overlay = overlay.ok_or(Stop::Again("an entity is no longer published"))?;
        for detail in details {
            if let Some(row) = &detail.source {
                overlay.see(taker.source_key(Row(row)), Row(row));
            }
        }
        let changed = taker.changed(overlay).await?;
        let ours = details.iter().filter(|d| !parked.contains(&d.key));
        let musts: Vec<_> = ours.filter_map(|d| must(d, taker, overlay, &changed)).collect();
        let rows = rows(taker, &musts)?;
        let progress = Progress { from: next, next, position, commit: true };
        Ok(sink.apply(&rows, progress).await?)
    }
}

/// What a row must be at the checkpoint up to which the overlay was replayed; `None` when that cannot
/// be told.
fn must(
    detail: &Detail,
    taker: &mut Taker,
    overlay: &Overlay,
    changed: &HashMap<u128, Key>,
) -> Option<Must> {
    if let Some(key) = changed.get(&detail.key) {
        return match overlay.row(key)? {
            Some(row) => Some(Must::Be(row)),
            None => overlay.key_row(key).ok().map(Must::Go),
        };
    }
    match (&detail.source, &detail.found) {
        (Some(row), _) => Some(Must::Be(row.clone())),
        (None, Some(found)) => key_of(taker, found).ok().map(Must::Go),
        (None, None) => None,
    }
}

/// A copy's key in a row as wide as the source's.
fn key_of(taker: &Taker, found: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut values = Vec::new();
    Row(found).unpack(&mut values)?;
    let mut wide = vec![Value::Unchanged; taker.schema.columns.len()];
    for &k in &taker.shape.key {
        wide[taker.shape.columns[k].source] = values.get(k).copied().unwrap_or(Value::Null);
    }
    let mut packed = Vec::new();
    let mut writer = RowWriter::new(&mut packed);
    wide.into_iter().for_each(|value| writer.push(value));
    Ok(packed)
}

/// Deletes come first, so that a key that only looks different makes room.
fn rows(taker: &mut Taker, musts: &[Must]) -> Result<Rows, VerifyError> {
    let mut batch = BatchBuilder::new();
    let schema = batch.schema(taker.shape.schema, &taker.schema);
    batch.begin(Point::Sequence(0), 0);
    for must in musts {
        if let Must::Go(key) = must {
            batch.push(Op::Delete, schema, |into| into.extend_from_slice(key), |_| {});
        }
    }
    for must in musts {
        if let Must::Be(row) = must {
            batch.push(Op::Update, schema, |_| {}, |into| into.extend_from_slice(row));
        }
    }
    let nowhere = Position::new(Epoch::default(), Point::Sequence(0));
    let stored = Stored { base: Offset(0), batch: Arc::new(batch.finish(nowhere, true)) };
    let end = stored.end();
    Ok(taker.projection.rows(&[stored], Offset(0), end, |_, _| true)?)
}
