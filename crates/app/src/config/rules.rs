//! What must fit together. A struct checks itself; the whole checks what lies between.

use crate::config::file::{Config, Publish, Service, Subscribe};
use crate::config::problem::{Place, Problems};
use crate::config::suggest::{advice, nearest};
use rowcast_core::{EntityName, EntityRef, Fields, ServiceName, plain_path};
use std::collections::{HashMap, HashSet};

impl Config {
    /// Adds everything that does not fit together.
    pub(crate) fn check(&self, problems: &mut Problems) {
        let names = self.services.iter().map(|s| s.name.value.as_str());
        self.server.check(names, problems);
        for service in &self.services {
            service.check(self, problems);
            service.check_from(self, problems);
        }
        self.check_names(problems);
        self.check_databases(problems);
        self.check_tables(problems);
        self.check_copies(problems);
        let empty = self.services.is_empty() && self.misnamed.is_empty();
        if empty && problems.errors() == 0 {
            let help = "begin with `[service.NAME]`, or let `rowcast init` write a first file";
            problems.error(&Place::default(), "there are no services", help);
        }
    }

    fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.iter().find(|s| s.name.value == *name)
    }

    /// Slots and publications know no `-`.
    fn check_names(&self, problems: &mut Problems) {
        let mut seen: HashMap<String, &ServiceName> = HashMap::new();
        for service in &self.services {
            let name = &service.name.value;
            let slot = name.as_str().replace('-', "_");
            if let Some(other) = seen.insert(slot, name) {
                problems.error(
                    &service.name.at,
                    format!("`{name}` and `{other}` would share one name in databases"),
                    "'-' and '_' are the same there: rename one of the services",
                );
            }
        }
    }

    fn check_databases(&self, problems: &mut Problems) {
        let mut seen: HashMap<&str, &ServiceName> = HashMap::new();
        for service in &self.services {
            let Some(database) = &service.database else { continue };
            let name = &service.name.value;
            if let Some(other) = seen.insert(database.value.reveal(), name) {
                problems.warning(
                    &database.at,
                    format!("`{name}` and `{other}` have the same database"),
                    "a service's database is its own; copies within one database are seldom meant",
                );
            }
        }
    }

    /// Copies of two services in one table of a database that both have; within one service it is
    /// checked there.
    fn check_tables(&self, problems: &mut Problems) {
        let mut seen: HashMap<(&str, Vec<String>), (&ServiceName, &EntityRef)> = HashMap::new();
        for service in &self.services {
            let Some(database) = &service.database else { continue };
            for subscribe in &service.subscribe {
                let (to, of) = (&service.name.value, &subscribe.of.value);
                let table =
                    (database.value.reveal().as_str(), service.place(&subscribe.into.value));
                let Some((other_to, other)) = seen.insert(table, (to, of)) else { continue };
                if other_to != to {
                    problems.error(
                        &subscribe.into.at,
                        format!("`{to}`'s copy of `{of}` and `{other_to}`'s copy of `{other}` go into one table"),
                        "the two services have one database: give each copy a table of its own with `into`",
                    );
                }
            }
        }
    }

    /// Copies that are published, and circles of them.
    fn check_copies(&self, problems: &mut Problems) {
        let mut sources: HashMap<TableId, Vec<TableId>> = HashMap::new();
        for service in &self.services {
            for subscribe in &service.subscribe {
                let copy = TableId::new(&service.name.value, &subscribe.into.value);
                let published = self.published(&subscribe.of.value);
                let of =
                    published.map(|p| TableId::new(&subscribe.of.value.service, &p.table.value));
                sources.entry(copy).or_default().extend(of);
            }
        }
        for service in &self.services {
            for publish in &service.publish {
                let table = TableId::new(&service.name.value, &publish.table.value);
                if !sources.contains_key(&table) {
                    continue;
                }
                let (entity, at) = (&publish.entity.value, &publish.table.at);
                if goes_round(&table, &sources) {
                    problems.error(
                        at,
                        format!("`{entity}` is published from a table that is a copy of itself"),
                        "changes would go round for ever: break the circle, or copy into another table",
                    );
                } else if !publish.chain {
                    problems.error(
                        at,
                        format!("`{entity}` is published from a table that is itself a copy"),
                        "subscribe to its owner instead, or say `chain = true` if this is meant",
                    );
                }
            }
        }
    }

    fn published(&self, of: &EntityRef) -> Option<&Publish> {
        self.service(&of.service)?.publish.iter().find(|p| p.entity.value == of.entity)
    }
}

impl Service {
    /// A table's name as its database tells names apart: SQLite does not see upper and lower case.
    fn place(&self, table: &str) -> Vec<String> {
        let url = self.database.as_ref().map(|d| d.value.reveal().as_str());
        let mut parts = plain_path(table);
        if url.is_some_and(|url| url.starts_with("sqlite:")) {
            parts.iter_mut().for_each(|part| part.make_ascii_lowercase());
            if parts.len() == 2 && parts[0] == "main" {
                parts.remove(0);
            }
        }
        parts
    }

    fn check(&self, config: &Config, problems: &mut Problems) {
        self.publish.iter().for_each(|p| p.check_masks(self, problems));
        let mut into: HashMap<Vec<String>, &EntityRef> = HashMap::new();
        for subscribe in &self.subscribe {
            subscribe.check(&self.name.value, config, problems);
            if subscribe.of.value.service == self.name.value {
                continue;
            }
            let table = self.place(&subscribe.into.value);
            if let Some(other) = into.insert(table, &subscribe.of.value) {
                problems.error(
                    &subscribe.into.at,
                    format!("`{}` and `{other}` go into one table", subscribe.of.value),
                    "give each copy a table of its own with `into`",
                );
            }
        }
        if self.publish.is_empty() && self.subscribe.is_empty() {
            problems.warning(
                &self.name.at,
                format!("`{}` neither publishes nor subscribes", self.name.value),
                format!(
                    "add `[service.{name}.publish.ENTITY]` or \
                     `[service.{name}.subscribe.\"SERVICE.ENTITY\"]`",
                    name = self.name.value
                ),
            );
        }
    }
}

impl Subscribe {
    fn check(&self, to: &ServiceName, config: &Config, problems: &mut Problems) {
        let EntityRef { service: from, entity } = &self.of.value;
        if from == to {
            let help =
                "a service has its own tables already; subscribe to another service's entity";
            problems.error(&self.of.at, format!("`{to}` subscribes to itself"), help);
            return;
        }
        if config.misnamed.iter().any(|m| m == from.as_str()) {
            return;
        }
        let Some(publisher) = config.service(from) else {
            let names =
                config.services.iter().map(|s| s.name.value.as_str()).filter(|s| *s != to.as_str());
            let help = advice(from.as_str(), "the other services", names);
            problems.error(&self.of.at, format!("there is no service `{from}`"), help);
            return;
        };
        let Some(publish) = publisher.publish.iter().find(|p| p.entity.value == *entity) else {
            let help = missing_entity(publisher, entity);
            problems.error(&self.of.at, format!("`{from}` publishes no entity `{entity}`"), help);
            return;
        };
        self.check_fields(publish, problems);
    }

    fn check_fields(&self, publish: &Publish, problems: &mut Problems) {
        let Some(public) = &publish.fields else { return };
        for field in &self.field_places {
            if public.iter().any(|p| p.value == field.value) {
                continue;
            }
            problems.error(
                &field.at,
                format!("`{}` publishes no field `{}`", self.of.value, field.value),
                advice(&field.value, "its fields", public.iter().map(|p| p.value.as_str())),
            );
        }
        let Fields::Named(named) = &self.fields else { return };
        let mut seen = HashSet::new();
        for (local, _) in named {
            if !seen.insert(local) {
                let help = "give each field a column of its own";
                problems.error(&self.of.at, format!("two fields become `{local}`"), help);
            }
        }
    }
}

fn missing_entity(publisher: &Service, entity: &EntityName) -> String {
    let from = &publisher.name.value;
    let names = || publisher.publish.iter().map(|p| p.entity.value.as_str());
    if publisher.publish.is_empty() {
        return format!("it publishes nothing yet: add `[service.{from}.publish.{entity}]`");
    }
    match nearest(entity.as_str(), names()) {
        Some(near) => format!("did you mean `{from}.{near}`?"),
        None => {
            let all = advice(entity.as_str(), "its entities", names());
            format!("{all}; or add `[service.{from}.publish.{entity}]`")
        }
    }
}

/// A table of a service's database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TableId(ServiceName, Vec<String>);

impl TableId {
    fn new(service: &ServiceName, table: &str) -> Self {
        Self(service.clone(), plain_path(table))
    }
}

fn goes_round(table: &TableId, sources: &HashMap<TableId, Vec<TableId>>) -> bool {
    let mut seen = HashSet::new();
    let mut open: Vec<&TableId> = sources.get(table).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if next == table {
            return true;
        }
        if seen.insert(next) {
            open.extend(sources.get(next).into_iter().flatten());
        }
    }
    false
}
