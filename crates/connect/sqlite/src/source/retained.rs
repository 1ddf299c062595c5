//! How much of a file is changes that wait to be captured, and how to let go of them.

use super::ledger;
use rowcast_core::{Epoch, Finding, ServiceName, Severity, quote};
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

/// The triggers of a service that publishes nothing any more.
pub(crate) fn left_behind(
    c: &mut Connection,
    service: &ServiceName,
) -> Result<Option<Finding>, Error> {
    let ours = "SELECT name FROM sqlite_schema WHERE type = 'trigger' \
                AND name LIKE '\\_rowcast\\_%' ESCAPE '\\' ORDER BY name";
    let mut ours = c.prepare(ours)?;
    let triggers = ours.query_map([], |row| row.get::<_, String>(0))?;
    let triggers = triggers.collect::<Result<Vec<_>, _>>()?;
    if triggers.is_empty() {
        return Ok(None);
    }
    let message = format!(
        "{service} publishes nothing any more, but its triggers are there still, and every change goes \
         on to be written to _rowcast_changes."
    );
    let help =
        "Publish something again, or let go of it for good. The event log keeps what it has.";
    let drop = triggers.iter().map(|t| format!("DROP TRIGGER {}", quote(t)));
    let forget = ["DELETE FROM _rowcast_changes", "DELETE FROM _rowcast_source"];
    let statements = drop.chain(forget.map(String::from)).collect();
    let finding = Finding::new(Severity::Warning, "_rowcast_changes", message, help);
    Ok(Some(finding.with_fix(false, statements)))
}
