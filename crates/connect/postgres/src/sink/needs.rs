//! What writing copies needs of a server: see [`Need`].

use super::errors::Who;
use super::table::TableName;
use crate::connect::{Address, Session};
use crate::need::{self, Need};
use rowcast_core::SinkError;
use tokio_postgres::SimpleQueryMessage;

const PID: &str = "BEGIN; SELECT pg_catalog.pg_backend_pid(); ";

/// What the server lacks, whatever is to be written.
pub(super) async fn of_server(
    session: &Session,
    address: &Address,
) -> Result<Option<Need>, tokio_postgres::Error> {
    // First, because behind a pooler nothing else can be relied on.
    if is_shared(session, address).await? {
        return Ok(Some(need::pooler(address.to_string())));
    }
    writes(session, address).await
}

/// Whether it takes writes.
pub(super) async fn writes(
    session: &Session,
    address: &Address,
) -> Result<Option<Need>, tokio_postgres::Error> {
    let sql = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
               quote_ident(current_user), quote_ident(current_database())";
    let row = session.query_one(sql, &[]).await?;
    let (user, database): (String, String) = (row.get(2), row.get(3));
    Ok(Need::writes(address.to_string(), (row.get(0), row.get(1)), (&user, &database)))
}

/// Whether another session of ours gets the same process of the server while this one is open: then
/// neither has one of its own.
async fn is_shared(session: &Session, address: &Address) -> Result<bool, tokio_postgres::Error> {
    let pid = pid(session, "COMMIT").await?;
    // No room for a second session is another matter, and no proof of a pooler.
    let Ok(other) = address.connect("rowcast check", &[]).await else { return Ok(false) };
    Ok(pid.is_some() && self::pid(&other, "ROLLBACK").await.ok().flatten() == pid)
}

async fn pid(session: &Session, end: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let answers = session.simple_query(&format!("{PID}{end}")).await?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// What the role lacks to use a copy's schema, if that is there.
pub(super) async fn of_schema(
    session: &Session,
    name: &TableName,
) -> Result<Option<Need>, tokio_postgres::Error> {
    let sql = "SELECT quote_ident(nspname), quote_ident(current_user) FROM pg_namespace
               WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')";
    let row = session.query_opt(sql, &[&name.schema]).await?;
    Ok(row.map(|row| Need::usage(row.get(0), row.get(1))))
}

/// As an error of the seam.
pub(super) fn refused(need: Need, who: &Who) -> SinkError {
    let (what, help) = need.words();
    who.setup(what, help, None)
}
