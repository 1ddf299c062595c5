//! A table that is published without a replica identity makes the server refuse updates and deletes
//! to the application that owns it.
//!
//! Law: publishing never breaks the publisher's own writes. Such a table is not published; one that
//! is, by now, is taken out of the publication at once. Once it is mended the next start puts it back,
//! finds that it was not there, and reads it again.

use super::catalog::{self, Which, literal};
use super::leaves::harms;
use super::prepare::place;
use super::publication::{Publication, slot_name};
use super::wire::{Wire, WireError};
use rowcast_core::{SourceError, SourceSpec, quote};
use tracing::warn;

/// Longest to wait for whoever holds the table, vacuuming it for example.
const LOCK_WITHIN: &str = "4s";

/// Takes out of the publication whatever does harm in it. Returns `error`, which a look at the tables
/// gave, with the word on that.
pub(crate) async fn harmful(wire: &mut Wire, spec: &SourceSpec, error: SourceError) -> SourceError {
    let SourceError::Schema { service, entity, what, help } = error else { return error };
    let help = match withdraw(wire, spec).await {
        Ok(None) => help,
        Ok(Some(word)) => format!("{help}; {word}"),
        Err(error) => {
            warn!(%service, %error, "whether the publication does harm cannot be seen");
            help
        }
    };
    SourceError::Schema { service, entity, what, help }
}

/// What became of the tables that do harm; `None` when none does.
async fn withdraw(wire: &mut Wire, spec: &SourceSpec) -> Result<Option<String>, WireError> {
    let places: Vec<_> = spec.entities.iter().filter_map(|e| place(e).ok()).collect();
    let mut tables = catalog::tables(wire, Which::Named(&places)).await?;
    tables.retain(harms);
    if tables.is_empty() {
        return Ok(None);
    }
    let name = slot_name(&spec.service);
    let found = Publication::find(wire, &name).await?;
    let mut refused = Vec::new();
    for table in &tables {
        let all = found.as_ref().is_some_and(|p| p.all_tables);
        if all {
            refused.push(format!("DROP PUBLICATION {}", quote(&name)));
        } else if found.as_ref().is_some_and(|p| p.has_member(table.oid)) {
            let drop =
                format!("ALTER PUBLICATION {} DROP TABLE {}", quote(&name), table.sql_only());
            let limited = format!("SET LOCAL lock_timeout = {}; {drop}", literal(LOCK_WITHIN));
            match wire.query(&limited).await {
                Ok(_) => warn!(
                    service = %spec.service,
                    table = %table.sql(),
                    "taken out of the publication, where its updates and deletes would be refused or \
                     lost"
                ),
                Err(WireError::Server(error)) => {
                    warn!(service = %spec.service, table = %table.sql(), %error, "stays published");
                    refused.push(drop);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(word(&name, refused)))
}

fn word(publication: &str, mut refused: Vec<String>) -> String {
    refused.dedup();
    if refused.is_empty() {
        return format!(
            "until then it stays out of publication {publication}, so that its updates and deletes \
             are not refused, and is read after that"
        );
    }
    format!(
        "until then the server refuses updates and deletes of it, since this role may not take it out \
         of publication {publication}: let the publication's owner run: {}",
        refused.join("; ")
    )
}
