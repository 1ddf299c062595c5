//! Whether a subscription fits what is published and where it is to be written.

use crate::begin;
use crate::refusal::{Refusal, UNCHANGED};
use crate::replay::not_from;
use crate::wanted::{Service, Services};
use rowcast_core::{
    Begin, Catalog, Diagnose, EntityRef, Entry, EventLog, ProjectError, Projection, Schema,
    ServiceName, Severity, SinkSpec, Track, advice, parse_path, plain_path,
};
use std::sync::Arc;
use std::time::Duration;

/// Longest for the subscriber's database to say whether its table fits.
const LOOK: Duration = Duration::from_secs(15);

fn unfit(what: impl Into<String>, help: impl AsRef<str>) -> Refusal {
    let help = match help.as_ref() {
        "" => UNCHANGED.into(),
        help => format!("{help}; {UNCHANGED}"),
    };
    Refusal::Unfit { what: what.into(), help }
}

fn missing(what: impl Into<String>, help: impl AsRef<str>) -> Refusal {
    Refusal::Missing { what: what.into(), help: format!("{}; {UNCHANGED}", help.as_ref()) }
}

/// Looks at everything: names, fields, the table. Asks the log for the schema in force; only when
/// nothing was captured yet, the publisher.
pub(super) async fn look(
    entry: &Entry,
    catalog: &Catalog,
    services: &Services,
    log: &dyn EventLog,
) -> Result<(), Refusal> {
    let (to, from) = names(entry, services)?;
    table(entry, to)?;
    alone(entry, catalog, services)?;
    let schema = schema(entry, from, log).await?;
    let subscriptions = vec![entry.subscription.clone()];
    let (publisher, subscriber) = (entry.from.clone(), entry.to.clone());
    let mut projection = Projection::new(publisher, subscriber, subscriptions.clone());
    let shapes = projection.shapes(&schema).map_err(|e| {
        let help = match &e {
            ProjectError::NoField { field, .. } => {
                advice(field, "its fields", schema.columns.iter().map(|c| c.name.as_str()))
            }
            ProjectError::Computed { .. }
            | ProjectError::NoKey { .. }
            | ProjectError::Twice { .. }
            | ProjectError::Filter { .. }
            | ProjectError::Unknowable { .. } => e.help().to_string(),
        };
        unfit(e.to_string(), help)
    })?;
    let spec = SinkSpec { route: entry.route(), subscriptions, track: Track::Main };
    let found = tokio::time::timeout(LOOK, to.database.check_sink(&spec, &shapes, &[])).await;
    let found = found.map_err(|_| Refusal::Late { service: entry.to.clone(), waited: LOOK })?;
    match found.into_iter().find(|f| f.severity == Severity::Error) {
        None => Ok(()),
        Some(finding) => {
            let mut help = finding.help;
            if let Some(fix) = finding.fix {
                let statements = fix.statements.join("; ");
                help = format!("{help}: {statements}");
            }
            // About the database as a whole: there is none to be asked now.
            if finding.subject == to.database.address() {
                let help = format!("{help}; {UNCHANGED}");
                return Err(Refusal::NotNow { what: finding.message, help });
            }
            Err(unfit(format!("{}'s {} {}", entry.to, finding.subject, finding.message), help))
        }
    }
}

fn names<'a>(entry: &Entry, services: &'a Services) -> Result<(&'a Service, &'a Service), Refusal> {
    let find = |name: &ServiceName| {
        services.iter().find(|s| s.name == *name).ok_or_else(|| {
            let names = services.iter().map(|s| s.name.as_str());
            let help = advice(name.as_str(), "the services", names);
            missing(format!("there is no service `{name}`"), help)
        })
    };
    let (to, from) = (find(&entry.to)?, find(&entry.from)?);
    if to.name == from.name {
        let what = format!("`{}` subscribes to itself", to.name);
        return Err(unfit(what, "a service has its own tables already"));
    }
    let EntityRef { service, entity } = entry.of();
    let published = || from.source.iter().flat_map(|s| &s.entities);
    if !published().any(|p| p.entity == entity) {
        let names = published().map(|p| p.entity.as_str());
        let help = advice(entity.as_str(), "its entities", names);
        return Err(missing(format!("`{service}` publishes no entity `{entity}`"), help));
    }
    Ok((to, from))
}

fn table(entry: &Entry, to: &Service) -> Result<(), Refusal> {
    let into = &entry.subscription.into;
    if let Err(e) = parse_path(into) {
        return Err(unfit(e.to_string(), "write `table`, `schema.table` or `\"Odd.table\"`"));
    }
    let mut published = to.source.iter().flat_map(|s| &s.entities);
    if let Some(own) = published.find(|p| plain_path(&p.table) == plain_path(into)) {
        let what = format!("{}'s table {into} is what it publishes as {}", to.name, own.entity);
        let help = "copy into another table with `--into`; a chain has to stand in the \
                    configuration file, with `chain = true`";
        return Err(unfit(what, help));
    }
    Ok(())
}

/// Whether the log holds everything from where the copy is to begin; says where `now` is. One that is
/// there already stays as it is.
pub(super) async fn begins(
    entry: &mut Entry,
    catalog: &Catalog,
    log: &dyn EventLog,
) -> Result<(), Refusal> {
    let (stream, subscription) = (&entry.from, &mut entry.subscription);
    let here = |e: &&Entry| {
        e.is(
            &entry.to,
            &EntityRef { service: stream.clone(), entity: subscription.entity.clone() },
            &subscription.into,
        )
    };
    if catalog.entries.iter().any(|e| here(&e)) {
        return Ok(());
    }
    let of = (stream, &subscription.entity);
    let start = begin::start_soon(log, of, subscription.from, LOOK).await.map_err(|e| {
        not_from(e, "take a newer backup; or leave `--from` out, and the copy is built whole")
    })?;
    if subscription.from.is_now() {
        subscription.from = Begin::Now(Some(start));
    }
    Ok(())
}

/// Whether nobody else writes into the same table, also under another service's name for the same
/// database.
pub(super) fn alone(entry: &Entry, catalog: &Catalog, services: &Services) -> Result<(), Refusal> {
    let address = |name: &ServiceName| {
        services.iter().find(|s| s.name == *name).map(|s| s.database.address())
    };
    let (here, into) = (address(&entry.to), plain_path(&entry.subscription.into));
    let mut others = catalog.entries.iter().filter(|e| e.to != entry.to);
    match others.find(|e| plain_path(&e.subscription.into) == into && address(&e.to) == here) {
        None => Ok(()),
        Some(other) => {
            let what = format!(
                "{} and {} have one database, and its table {} already holds the copy of {}",
                entry.to,
                other.to,
                entry.subscription.into,
                other.of()
            );
            Err(unfit(what, "give each copy a table of its own with `--into`"))
        }
    }
}

async fn schema(entry: &Entry, from: &Service, log: &dyn EventLog) -> Result<Arc<Schema>, Refusal> {
    let entity = &entry.subscription.entity;
    let tail = log.tail(&from.name).await?;
    if let Some(schema) = tail.schemas.into_iter().find(|s| s.entity == *entity) {
        return Ok(schema);
    }
    let not_yet = |why: &str| {
        let what = format!("{} was not captured yet, so its fields are not known{why}", entry.of());
        unfit(what, "`rowcast status` shows how its service does; try again when it is captured")
    };
    let Some(spec) = &from.source else { return Err(not_yet("")) };
    let asked = tokio::time::timeout(LOOK, from.database.offer(spec)).await;
    let given = match asked {
        Ok(Ok(given)) => given,
        Ok(Err(e)) => return Err(not_yet(&format!(": {e}"))),
        Err(_) => return Err(not_yet("")),
    };
    let found = given.schemas.into_iter().find(|(name, _)| name == entity);
    found.map(|(_, schema)| Arc::new(schema)).ok_or_else(|| not_yet(""))
}
