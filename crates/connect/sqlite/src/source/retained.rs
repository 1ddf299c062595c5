//! How much of a file is changes that wait to be captured, and how to let go of them.

use super::ledger;
use rowcast_core::Epoch;
use rusqlite::{Connection, Error, TransactionBehavior};

/// Changes whose size is looked at: the others are as large on average.
const SAMPLE: i64 = 1_000;
/// What SQLite needs for a change besides its values, about.
const CHANGE_BYTES: i64 = 40;

/// About how many bytes of changes the file holds; `None` when nobody captures it.
pub(crate) fn waiting(c: &mut Connection) -> Result<Option<u64>, Error> {
    let look = c.transaction()?;
    if ledger::identity(&look)?.is_none() {
        return Ok(None);
    }
    let ends = "SELECT min(seq), max(seq) FROM _rowcast_changes";
    let (first, last): (Option<i64>, Option<i64>) =
        look.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(Some(0)) };
    let columns: Vec<String> = look
        .prepare("SELECT name FROM pragma_table_info('_rowcast_changes') WHERE name <> 'seq'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    // It asks for lengths without reading the values.
    let size: Vec<_> = columns.iter().map(|c| format!("ifnull(octet_length({c}), 0)")).collect();
    // The newest ones: a file grows by what is written now.
    let sample = format!(
        "SELECT count(*), ifnull(sum({}), 0) FROM _rowcast_changes WHERE seq > {}",
        size.join(" + "),
        last - SAMPLE
    );
    let (count, bytes): (i64, i64) =
        look.query_row(&sample, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let each = bytes / count.max(1) + CHANGE_BYTES;
    Ok(Some((last - first + 1).saturating_mul(each).unsigned_abs()))
}

/// Takes triggers, changes and the record of the capture out of the file. Whoever goes on after the
/// old history finds that it ended.
pub(crate) fn release(c: &mut Connection, of: Option<Epoch>) -> Result<(), Error> {
    let transaction = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !ledger::is_there(&transaction)? {
        return Ok(());
    }
    for capture in ledger::captures(&transaction)? {
        ledger::retire(&transaction, capture.id)?;
    }
    ledger::forget_changes(&transaction)?;
    ledger::forget_read_captures(&transaction)?;
    if let Some(epoch) = of {
        ledger::note_released(&transaction, epoch)?;
    }
    transaction.execute("DELETE FROM _rowcast_source", [])?;
    transaction.commit()
}
