//! What the server keeps of its log for our slot, and how it is told to let go of it.

use super::catalog::literal;
use super::publication::{note_released, slot_name};
use super::wire::{Wire, WireError};
use rowcast_core::{Epoch, Finding, Point, Retained, ServiceName, Severity, quote};
use std::time::{Duration, Instant};

/// Longest for the server to notice that nobody reads from the slot any more.
pub(super) const ACTIVE_MAX: Duration = Duration::from_secs(10);
pub(super) const ASK_EVERY: Duration = Duration::from_millis(50);

/// What the slot keeps; `None` without a slot, or when the server has given it up.
pub(crate) async fn ask(
    wire: &mut Wire,
    service: &ServiceName,
) -> Result<Option<Retained>, WireError> {
    let sql = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, \
                pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint \
         FROM pg_replication_slots WHERE slot_name = {} AND database = current_database() \
         AND restart_lsn IS NOT NULL AND wal_status <> 'lost'",
        literal(&slot_name(service))
    );
    let rows = wire.query(&sql).await?;
    // The end of the log is read before the slot is: a slot may be past it by then.
    let bytes = |text: &Option<String>| {
        let bytes = text.as_deref().and_then(|t| t.parse::<i64>().ok()).unwrap_or_default();
        u64::try_from(bytes).unwrap_or_default()
    };
    Ok(rows.first().and_then(|row| {
        let (bytes, behind) = (bytes(row.first()?), bytes(row.get(1)?));
        Some(Retained { bytes, behind })
    }))
}

/// Notes which history ends, and drops the slot as soon as nobody reads from it. In this order: a
/// slot that is gone without a note was dropped by somebody else, for all that anybody can tell.
pub(crate) async fn release(
    wire: &mut Wire,
    service: &ServiceName,
    of: Option<Epoch>,
) -> Result<(), WireError> {
    let name = slot_name(service);
    if let Some(epoch) = of
        && !note_released(wire, &name, Point::Lsn(epoch.birth)).await
    {
        tracing::warn!(
            "{service}: the role may not comment on publication {name}, so the release is known \
             only for as long as this process runs"
        );
    }
    let drop = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
         WHERE slot_name = {} AND database = current_database()",
        literal(&name)
    );
    let began = Instant::now();
    loop {
        match wire.query(&drop).await {
            Ok(_) => return Ok(()),
            Err(e) if e.state() == Some("55006") && began.elapsed() < ACTIVE_MAX => {
                tokio::time::sleep(ASK_EVERY).await;
            }
            Err(e) => return Err(e),
        }
    }
}

/// The slot of a service that publishes nothing any more.
pub(crate) async fn left_behind(wire: &mut Wire, service: &ServiceName) -> Option<Finding> {
    let name = slot_name(service);
    let find = format!(
        "SELECT pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) \
         FROM pg_replication_slots WHERE slot_name = {} AND database = current_database()",
        literal(&name)
    );
    let rows = wire.query(&find).await.ok()?;
    let kept = rows.first()?.first().cloned().flatten().unwrap_or_else(|| "some".into());
    let message = format!(
        "{service} publishes nothing any more, but its replication slot is there still, and the server \
         keeps its log for it ({kept} so far) until the disk is full."
    );
    let help =
        "Publish something again, or let go of it for good. The event log keeps what it has.";
    let statements = vec![
        format!("SELECT pg_drop_replication_slot({})", literal(&name)),
        format!("DROP PUBLICATION IF EXISTS {}", quote(&name)),
    ];
    Some(Finding::new(Severity::Warning, name, message, help).with_fix(false, statements))
}
