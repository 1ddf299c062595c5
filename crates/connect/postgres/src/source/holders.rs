//! Who keeps a slot in the making from being ready: transactions that write, prepared ones above all,
//! which nobody may remember.

use super::catalog::literal;
use super::wire::{Wire, WireError};
use std::future::Future;
use std::time::Duration;

/// How long making a slot may take before it is said what it waits for.
const SLOW: Duration = Duration::from_secs(5);

/// Transactions that have written and not ended, prepared ones and the oldest first: what each is, and
/// the statement that ends it. What others' sessions do shows only to a role that may see it.
const HOLDERS: &str = "\
    SELECT format('prepared transaction %L (xid %s, of role %s in database %s, %s old)', gid, \
                  transaction, owner, database, date_trunc('second', now() - prepared)), \
           format('ROLLBACK PREPARED %L, or COMMIT PREPARED %1$L, in database %s', gid, \
                  quote_ident(database)) \
    FROM (SELECT * FROM pg_prepared_xacts ORDER BY prepared LIMIT 3) p \
    UNION ALL \
    SELECT format('a transaction of process %s (xid %s, of role %s in database %s, %s old)', pid, \
                  backend_xid, usename, datname, date_trunc('second', now() - xact_start)), \
           format('SELECT pg_terminate_backend(%s)', pid) \
    FROM (SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() \
            AND now() - xact_start > interval '5 s' ORDER BY xact_start LIMIT 3) a";

/// Who holds a slot up that is made now, as a sentence; nothing when nobody does.
pub(crate) async fn ask(wire: &mut Wire) -> Result<Option<String>, WireError> {
    let rows = wire.query(HOLDERS).await?;
    let text = |row: &Vec<Option<String>>, i: usize| row.get(i).cloned().flatten();
    let who: Vec<_> = rows.iter().filter_map(|row| text(row, 0)).collect();
    let ends: Vec<_> = rows.iter().filter_map(|row| text(row, 1)).collect();
    Ok((!who.is_empty()).then(|| {
        format!(
            "capture begins once every transaction that writes now has ended, and it waits for {}. If \
             nobody is going to end it, do: {}",
            who.join(", "),
            ends.join("; ")
        )
    }))
}

/// Whether a slot of this name, or one beside it, is in the making.
pub(crate) async fn is_making(wire: &mut Wire, slot: &str) -> Result<bool, WireError> {
    let sql = format!(
        "SELECT 1 FROM pg_replication_slots WHERE starts_with(slot_name, {}) AND active \
         AND confirmed_flush_lsn IS NULL",
        literal(slot)
    );
    Ok(!wire.query(&sql).await?.is_empty())
}

/// Waits for a slot in the making, and says what holds it up when that takes long enough for somebody
/// to wonder.
pub(super) async fn told_when_slow<T>(
    slot: &str,
    sql: &mut Wire,
    making: impl Future<Output = T>,
) -> T {
    let mut making = std::pin::pin!(making);
    if let Ok(made) = tokio::time::timeout(SLOW, &mut making).await {
        return made;
    }
    // Whoever makes the slot is not kept waiting by the question.
    let asked = async {
        match ask(sql).await {
            Ok(Some(who)) => tracing::warn!(slot, "{who}"),
            Ok(None) | Err(_) => {
                tracing::info!(
                    slot,
                    "the slot begins once the transactions that write now have ended"
                );
            }
        }
    };
    tokio::join!(making, asked).0
}
