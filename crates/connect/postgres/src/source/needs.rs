//! What capturing needs of a server beyond its settings: see [`Need`].

use super::catalog::{Table, literal};
use super::prepare::Prepare;
use super::shape::Shape;
use super::wire::{Wire, WireError};
use crate::connect::Address;
use crate::need::Need;
use rowcast_core::{Publish, Schema, SourceError, Start, quote};

/// Refuses what would fail later, when a slot is there already.
pub(super) async fn refuse(
    prepare: &Prepare<'_>,
    sql: &mut Wire,
    (tables, shapes): (&[Table], &[Shape]),
    start: &Start,
) -> Result<(), SourceError> {
    let read = |e| prepare.trouble.wire("what the role may do cannot be read", e);
    let mut lacking: Vec<_> =
        writes(sql, prepare.address).await.map_err(read)?.into_iter().collect();
    // Streaming takes no right to read: only a first copy does.
    if !matches!(start, Start::After(_)) {
        let places: Vec<_> = tables.iter().map(|t| (t.schema.clone(), t.name.clone())).collect();
        lacking.extend(schemas(sql, &places).await.map_err(read)?);
        let user = user(sql).await.map_err(read)?;
        let all = prepare.spec.entities.iter().zip(tables).zip(shapes);
        lacking.extend(all.filter_map(|((p, t), s)| reading(t, p, Some(&s.schema), &user)));
    }
    let Some(first) = lacking.into_iter().next() else { return Ok(()) };
    let (what, help) = first.words();
    Err(prepare.trouble.setup(what, help))
}

/// What the role lacks to use the schemas of these places.
pub(crate) async fn schemas(
    wire: &mut Wire,
    places: &[(String, String)],
) -> Result<Vec<Need>, WireError> {
    let names: Vec<_> = places.iter().map(|(schema, _)| literal(schema)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT quote_ident(nspname), quote_ident(current_user) FROM pg_namespace \
         WHERE nspname IN ({}) AND NOT has_schema_privilege(oid, 'USAGE') ORDER BY nspname",
        names.join(",")
    );
    let lacking = |row: &Vec<Option<String>>| {
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        Need::usage(&text(0), &text(1))
    };
    Ok(wire.query(&sql).await?.iter().map(lacking).collect())
}

/// Whether the server takes the writes that publishing takes.
pub(crate) async fn writes(wire: &mut Wire, address: &Address) -> Result<Option<Need>, WireError> {
    let sql = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
               quote_ident(current_user), quote_ident(current_database())";
    let rows = wire.query(sql).await?;
    let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
    let answers = (text(0) == "t", text(1) == "t");
    Ok(Need::writes(address.to_string(), answers, (&text(2), &text(3))))
}

/// Who we are.
pub(crate) async fn user(wire: &mut Wire) -> Result<String, WireError> {
    let rows = wire.query("SELECT current_user::text").await?;
    Ok(rows.first().and_then(|r| r.first()?.clone()).unwrap_or_default())
}

/// What the role lacks to read a table for its first copy. A right to the published fields is enough;
/// which those are is not known of a table that cannot be published.
pub(crate) fn reading(
    table: &Table,
    publish: &Publish,
    schema: Option<&Schema>,
    user: &str,
) -> Option<Need> {
    let subject = publish.table.clone();
    let may = |name: &str| table.column(name).is_some_and(|c| c.may_select);
    let may_read = match schema {
        Some(schema) => schema.columns.iter().all(|c| may(&c.name)),
        None => table.columns.iter().any(|c| c.may_select),
    };
    if !table.may_select && !may_read {
        let fields = schema.filter(|_| publish.fields.is_some()).map(|schema| {
            let names: Vec<_> = schema.columns.iter().map(|c| quote(&c.name)).collect();
            format!(" ({})", names.join(", "))
        });
        let (sql, fields) = (table.sql(), fields.unwrap_or_default());
        return Some(Need {
            subject,
            what: format!(
                "The role may not read the published fields of {sql}, so they cannot be copied at \
                 first."
            ),
            help: "Let the table's owner run the statement".into(),
            fix: vec![format!("GRANT SELECT{fields} ON {sql} TO {}", quote(user))],
        });
    }
    table.hides_rows.then(|| Need {
        subject,
        what: format!(
            "A row-level policy of {} hides rows from the role, so the first copy would have holes.",
            table.sql()
        ),
        help: "Connect as the table's owner, or let a superuser run the statement".into(),
        fix: vec![format!("ALTER ROLE {} BYPASSRLS", quote(user))],
    })
}
