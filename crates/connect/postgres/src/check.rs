//! What `rowcast check` finds at a database that is to be captured.

mod publication;

use crate::connect::Address;
use crate::need::{self, Need};
use crate::source::catalog::{self, Table, Which};
use crate::source::holders;
use crate::source::needs;
use crate::source::prepare::{VERSION_MIN, place};
use crate::source::publication::slot_name;
use crate::source::shape;
use crate::source::slot::Slot;
use crate::source::wire::{Purpose, Wire, WireError};
use publication::Good;
use rowcast_core::{
    Finding, Publish, Schema, ServiceName, Severity, SourceSpec, quote, quote_path,
};
use std::error::Error;

/// Everything that capture needs, looked at.
pub(crate) async fn source(address: &Address, spec: &SourceSpec) -> Vec<Finding> {
    let mut wire = match Wire::connect(address, "rowcast check", Purpose::Sql).await {
        Ok(wire) => wire,
        Err(error) => return vec![unreachable(address, &error)],
    };
    let mut findings =
        vec![Finding::new(Severity::Good, address.to_string(), "The server answers.", "")];
    if let Err(error) = look(&mut wire, address, spec, &mut findings).await {
        findings.push(unreachable(address, &error));
    }
    findings
}

fn unreachable(address: &Address, error: &WireError) -> Finding {
    if error.is_pooled() {
        return need::pooler(address.to_string()).finding();
    }
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        message = format!("{message}: {e}");
        cause = e.source();
    }
    Finding::new(
        Severity::Error,
        address.to_string(),
        format!("The server does not let us in: {message}."),
        "Is it running, and are address, user, password and sslmode right?",
    )
}

async fn look(
    wire: &mut Wire,
    address: &Address,
    spec: &SourceSpec,
    findings: &mut Vec<Finding>,
) -> Result<(), WireError> {
    if !server(wire, spec, findings).await? {
        return Ok(());
    }
    let (user, may_replicate) = role(wire, findings).await?;
    if may_replicate {
        // Only a real one shows whether pg_hba.conf lets us in this way.
        if let Err(e) = Wire::connect(address, "rowcast check", Purpose::Replication).await {
            findings.push(unreachable(address, &e));
        }
    }
    findings.extend(needs::writes(wire, address).await?.map(Need::finding));
    let mut good = Vec::new();
    let places: Vec<_> = spec.entities.iter().filter_map(|e| place(e).ok()).collect();
    findings.extend(needs::schemas(wire, &places).await?.into_iter().map(Need::finding));
    let found = catalog::tables(wire, Which::Named(&places)).await?;
    for publish in &spec.entities {
        table(publish, &user, &found, findings, &mut good);
    }
    publication::look(wire, spec, &good, findings).await
}

/// The server as a whole; whether it is worth looking on.
async fn server(
    wire: &mut Wire,
    spec: &SourceSpec,
    findings: &mut Vec<Finding>,
) -> Result<bool, WireError> {
    let rows = wire
        .query(
            "SELECT current_setting('server_version_num'), current_setting('server_version'), \
             pg_is_in_recovery(), current_setting('wal_level'), \
             current_setting('max_replication_slots')::int - \
               (SELECT count(*) FROM pg_replication_slots), \
             current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication), \
             current_setting('max_slot_wal_keep_size')",
        )
        .await?;
    let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
    let number = |i: usize| text(i).parse::<i64>().unwrap_or_default();
    if number(0) < i64::from(VERSION_MIN) {
        let message = format!("PostgreSQL {} is too old to be captured.", text(1));
        findings.push(Finding::new(Severity::Error, "version", message, "Upgrade to 14 or newer."));
        return Ok(false);
    }
    let message = format!("PostgreSQL {} can be captured.", text(1));
    findings.push(Finding::new(Severity::Good, "version", message, ""));
    if text(2) == "t" {
        findings.push(Finding::new(
            Severity::Error,
            "standby",
            "The server is a standby; changes are captured at the primary.",
            "Let the service's `database` name the primary.",
        ));
        return Ok(false);
    }
    findings.push(wal_level(&text(3)));
    let slot = Slot::find(wire, &slot_name(&spec.service)).await?;
    let wanted = i64::from(slot.is_none()) + 1;
    findings.push(room("max_replication_slots", number(4), wanted));
    findings.push(room("max_wal_senders", number(5), 2));
    findings.push(slot_limit(&text(6), &spec.service));
    let name = slot_name(&spec.service);
    if let Some((what, help)) = slot.as_ref().and_then(|s| s.elsewhere(&name)) {
        findings.push(Finding::new(Severity::Error, &name, sentence(&what), sentence(help)));
    }
    if slot.is_none()
        && let Some(holders) = holders::ask(wire).await?
    {
        let help = "End it, or let it end, before the first `rowcast run`.";
        findings.push(Finding::new(Severity::Warning, "transactions", sentence(&holders), help));
    }
    if let Some(lost) = slot.and_then(|s| s.lost) {
        findings.push(Finding::new(
            Severity::Error,
            slot_name(&spec.service),
            format!(
                "The server gave the slot up ({lost}): changes that were not captured in time are gone."
            ),
            format!(
                "Run `rowcast run --resnapshot {}`: it reads everything again.",
                spec.service
            ),
        ));
    }
    Ok(true)
}

/// What the source's errors say, as findings say it.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// While Rowcast is down nothing of ours can watch what the slot keeps; the server can.
fn slot_limit(limit: &str, service: &ServiceName) -> Finding {
    const SETTING: &str = "max_slot_wal_keep_size";
    if limit != "-1" {
        let message = format!(
            "The server gives a slot up when it holds back more than {limit}. Capture stops then, until \
             `rowcast run --resnapshot {service}` reads everything again."
        );
        return Finding::new(Severity::Good, SETTING, message, "");
    }
    Finding::new(
        Severity::Warning,
        SETTING,
        "While Rowcast is down the server keeps its log for it without any limit, until the disk is \
         full.",
        "Let a superuser set a limit: less than the disk has free, more than an outage you want to \
         get over. Beyond it capture stops until `rowcast run --resnapshot` reads everything again.",
    )
    .with_fix(
        false,
        vec![
            format!("ALTER SYSTEM SET {SETTING} = '20GB'"),
            "SELECT pg_reload_conf()".into(),
        ],
    )
}

fn wal_level(level: &str) -> Finding {
    if level == "logical" {
        return Finding::new(Severity::Good, "wal_level", "wal_level is logical.", "");
    }
    Finding::new(
        Severity::Error,
        "wal_level",
        format!("wal_level is {level}, so changes are not written in a way that can be captured."),
        "Let a superuser run the statement, then restart the server.",
    )
    .with_fix(false, vec!["ALTER SYSTEM SET wal_level = logical".into()])
}

fn room(setting: &str, free: i64, wanted: i64) -> Finding {
    if free >= wanted {
        let message = format!("{setting} leaves room: {free} free.");
        return Finding::new(Severity::Good, setting, message, "");
    }
    Finding::new(
        if free >= 1 { Severity::Warning } else { Severity::Error },
        setting,
        format!(
            "{setting} leaves {free} free, and capture needs {wanted} while it takes a snapshot."
        ),
        format!("Let a superuser raise {setting} with ALTER SYSTEM, then restart the server."),
    )
}

/// What the role may do; its name, and whether it may replicate.
async fn role(wire: &mut Wire, findings: &mut Vec<Finding>) -> Result<(String, bool), WireError> {
    let rows = wire
        .query(
            "SELECT rolname, rolreplication OR rolsuper, \
                    has_database_privilege(current_database(), 'CREATE'), current_database() \
             FROM pg_roles WHERE rolname = current_user",
        )
        .await?;
    let text = |i: usize| rows.first().and_then(|r| r.get(i)?.clone()).unwrap_or_default();
    let may = text(1) == "t";
    findings.push(if may {
        Finding::new(Severity::Good, text(0), "The role may replicate.", "")
    } else {
        let help = "Let a superuser run the statement.";
        Finding::new(Severity::Error, text(0), "The role may not replicate.", help)
            .with_fix(false, vec![format!("ALTER ROLE {} REPLICATION", quote(&text(0)))])
    });
    if text(2) != "t" {
        findings.push(
            Finding::new(
                Severity::Warning,
                text(0),
                "The role may not create publications in this database.",
                "Grant it, or let a superuser create the publication as printed below.",
            )
            .with_fix(
                false,
                vec![format!(
                    "GRANT CREATE ON DATABASE {} TO {}",
                    quote(&text(3)),
                    quote(&text(0))
                )],
            ),
        );
    }
    Ok((text(0), may))
}

fn table<'a>(
    publish: &'a Publish,
    user: &str,
    found: &[Table],
    findings: &mut Vec<Finding>,
    good: &mut Vec<Good<'a>>,
) {
    let mut say = |severity, subject: &str, message: String, help: &str| {
        findings.push(Finding::new(severity, subject, message, help));
    };
    let (schema, name) = match place(publish) {
        Ok(place) => place,
        Err(what) => {
            return say(Severity::Error, &publish.table, format!("{what}."), "Correct `table`.");
        }
    };
    let Some(table) = found.iter().find(|t| t.schema == schema && t.name == name) else {
        let message = format!("There is no table {}.", quote_path(&[&schema, &name]));
        return say(
            Severity::Error,
            &publish.table,
            message,
            "Create it, or correct the entity's `table`; upper and lower case count.",
        );
    };
    let shape = match shape::of_table(table, publish) {
        Ok(shape) => shape,
        Err(unfit) => {
            let message = format!("{}.", unfit.what);
            let mut finding =
                Finding::new(Severity::Error, &publish.table, message, sentence(&unfit.help));
            finding.fix = unfit.fix;
            findings.push(finding);
            findings.extend(needs::reading(table, publish, None, user).map(Need::finding));
            return;
        }
    };
    let unread = needs::reading(table, publish, Some(&shape.schema), user);
    if let Some(need) = unread {
        findings.push(need.finding());
        // Who owns it is worth saying in the same round.
        return good.push(Good { publish, table: table.clone(), shape });
    }
    if table.has_children {
        findings.push(Finding::new(
            Severity::Warning,
            &publish.table,
            "Other tables inherit from it; their rows are not part of the entity.",
            "Publish them as entities of their own if they matter.",
        ));
    }
    findings.extend(leaves(publish, table, &shape.schema));
    good.push(Good { publish, table: table.clone(), shape });
}

/// What leaves, what of it masked, and what does not leave because of that.
fn leaves(publish: &Publish, table: &Table, schema: &Schema) -> Vec<Finding> {
    let subject = &publish.table;
    let key: Vec<_> = schema.key().iter().map(|i| schema.columns[*i].name.clone()).collect();
    let message = format!("{} fields, told apart by {}.", schema.columns.len(), key.join(", "));
    let mut findings = vec![Finding::new(Severity::Good, subject, message, "")];
    if !publish.masks.is_empty() {
        let message = format!("Leaves masked: {}.", publish.masks);
        findings.push(Finding::new(Severity::Good, subject, message, ""));
    }
    let computed = table.columns.iter().filter(|c| !shape::carries(c, publish));
    findings.extend(computed.map(|c| {
        let message = format!("{} is computed from masked columns, so no copy has it.", c.name);
        Finding::new(Severity::Good, subject, message, "")
    }));
    findings
}
