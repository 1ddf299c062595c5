//! What `rowcast.toml` says, as structs. Reading collects what is malformed; `check` what does not
//! fit together.

use crate::config::filter::filter;
use crate::config::from::{self, RouteFrom};
use crate::config::log;
use crate::config::mask::{self, MaskedField};
use crate::config::problem::{Located, Place};
use crate::config::retain;
use crate::config::secret::Secret;
use crate::config::server::Server;
use crate::config::tree::{Reader, Section, text, wrong_type};
use rowcast_core::{Begin, EntityName, EntityRef, Fields, Filter, ServiceName, parse_path};
use rowcast_engine::Retain;
use rowcast_store::LogConfig;
use std::path::PathBuf;
use toml::de::DeValue;

/// The whole file.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where the event log and the lock live. `rowcast-data` beside the file if unset.
    pub(crate) data: PathBuf,
    /// The services, in the file's order.
    pub(crate) services: Vec<Service>,
    /// Names that stand in the file as services but are malformed; not worth a second complaint.
    pub(crate) misnamed: Vec<String>,
    /// What a running instance answers on.
    pub(crate) server: Server,
    /// Where events rest.
    pub(crate) log: LogConfig,
}

/// `[service.NAME]`: the owner of one private database.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: Located<ServiceName>,
    /// `postgres://user@host/database` or `sqlite:file.db`. Required.
    pub(crate) database: Option<Located<Secret<String>>>,
    /// The secret of its hashes. Required where `mask` says `sha256`.
    pub(crate) mask_key: mask::Key,
    /// What its database may keep for us. 1 GiB before a warning, and no limit, if unset.
    pub(crate) retain: Retain,
    /// Its entities.
    pub(crate) publish: Vec<Publish>,
    /// Its interest in others' entities.
    pub(crate) subscribe: Vec<Subscribe>,
    /// `[service.NAME.from.PUBLISHER]`: how its routes deliver.
    pub(crate) from: Vec<RouteFrom>,
}

/// `[service.NAME.publish.ENTITY]`: a public contract.
#[derive(Debug)]
pub(crate) struct Publish {
    /// The entity.
    pub(crate) entity: Located<EntityName>,
    /// The table it comes from. The entity's name if unset.
    pub(crate) table: Located<String>,
    /// The public fields. All columns if unset.
    pub(crate) fields: Option<Vec<Located<String>>>,
    /// The fields that leave masked. None if unset.
    pub(crate) masks: Vec<MaskedField>,
    /// The table may be a copy of somebody else's.
    pub(crate) chain: bool,
}

/// `[service.NAME.subscribe."SERVICE.ENTITY"]`: a copy somebody wants.
#[derive(Debug)]
pub(crate) struct Subscribe {
    /// Of what.
    pub(crate) of: Located<EntityRef>,
    /// The copy's table. The entity's name if unset.
    pub(crate) into: Located<String>,
    /// Which fields, under which names. All, also later ones, if unset.
    pub(crate) fields: Fields,
    /// Where each published name of `fields` stands.
    pub(crate) field_places: Vec<Located<String>>,
    /// Where the copy begins: `beginning`, `now`, an offset or a position. `beginning` if unset.
    pub(crate) from: Begin,
    /// `where`: which rows. All of them if unset.
    pub(crate) filter: Option<Filter>,
    /// The table may be made when it is missing. True if unset.
    pub(crate) create: bool,
}

const DATABASE_HELP: &str =
    "write `database = \"postgres://user@host/name\"` or `database = \"sqlite:file.db\"`";

impl Config {
    pub(crate) fn read(mut top: Section<'_>, reader: &mut Reader<'_>) -> Self {
        let data = top.text("data", reader);
        if let Some(empty) = data.as_ref().filter(|d| d.value.is_empty()) {
            reader.problems.error(
                &empty.at,
                "must name a directory",
                "the default is `rowcast-data`",
            );
        }
        let mut services = Vec::new();
        let mut misnamed = Vec::new();
        for (name, mut section) in top.sections("service", reader) {
            let at = section.at.clone();
            match name.parse() {
                Ok(value) => {
                    let name = Located { value, at };
                    services.push(Service::read(name, section, reader));
                }
                Err(e) => {
                    let help = "such as `shop` or `shop_eu`";
                    reader.problems.error(&at, e.to_string(), help);
                    section.drain();
                    misnamed.push(name);
                }
            }
        }
        let server = Server::read(top.section("server", reader), reader);
        let log = log::read(top.section("log", reader), reader);
        top.finish(reader);
        let data = data.map_or_else(|| "rowcast-data".into(), |d| d.value).into();
        Self { data, services, misnamed, server, log }
    }
}

impl Service {
    fn read(name: Located<ServiceName>, mut at: Section<'_>, reader: &mut Reader<'_>) -> Self {
        let database = at.required_text("database", DATABASE_HELP, reader);
        let database = database.map(|d| Located { value: Secret::new(d.value), at: d.at });
        let mask_key = mask::read_key(&mut at, reader);
        let retain = retain::read(&mut at, reader);
        let mut publish = Vec::new();
        for (entity, section) in at.sections("publish", reader) {
            publish.extend(Publish::read(&entity, section, reader));
        }
        let mut subscribe = Vec::new();
        for (of, section) in at.sections("subscribe", reader) {
            subscribe.extend(Subscribe::read(&of, section, reader));
        }
        let from = from::read(&mut at, reader);
        at.finish(reader);
        Self { name, database, mask_key, retain, publish, subscribe, from }
    }
}

impl Publish {
    fn read(entity: &str, mut at: Section<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let place = at.at.clone();
        let table = table("table", entity, &mut at, reader);
        let fields = at.take("fields").and_then(|(at, value)| texts(value, &at, reader));
        let masks = mask::read(&mut at, reader);
        let chain = at.boolean("chain", reader).unwrap_or(false);
        at.finish(reader);
        if fields.as_ref().is_some_and(Vec::is_empty) {
            let help = "name the public fields, or leave `fields` out to publish all columns";
            reader.problems.error(&place, "`fields` is empty", help);
        }
        let entity = parsed(entity, &place, reader)?;
        Some(Self { entity: Located { value: entity, at: place }, table, fields, masks, chain })
    }
}

impl Subscribe {
    fn read(of: &str, mut at: Section<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let place = at.at.clone();
        let reference: Option<EntityRef> = parsed(of, &place, reader);
        let default = reference.as_ref().map_or("copy", |r| r.entity.as_str()).to_string();
        let into = table("into", &default, &mut at, reader);
        let (fields, field_places) = match at.take("fields") {
            None => (Fields::All, Vec::new()),
            Some((at, value)) => named_fields(value, &at, reader),
        };
        let filter = filter(&mut at, reader);
        let create = at.boolean("create", reader).unwrap_or(true);
        let from = begin(&mut at, reader);
        at.finish(reader);
        let of = Located { value: reference?, at: place };
        Some(Self { of, into, fields, field_places, filter, create, from })
    }
}

/// `from`: a text, or an offset as a number.
fn begin(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Begin {
    let Some((at, value)) = section.take("from") else { return Begin::Beginning };
    let written = match value {
        DeValue::Integer(n) => Some(n.to_string()),
        other => text(other, &at, reader),
    };
    let Some(written) = written else { return Begin::Beginning };
    written.parse().unwrap_or_else(|_| {
        let help = "write `\"beginning\"`, `\"now\"`, an offset of the event log such as 1234, or a \
                    position of the publisher's such as `\"0/16B3748\"` or `\"position:1234\"`";
        reader.problems.error(&at, format!("`{written}` is no place to begin at"), help);
        Begin::Beginning
    })
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
    at: &Place,
    reader: &mut Reader<'_>,
) -> Option<T> {
    let help = "names of services are short and in lower case; entities may be named freely";
    text.parse().map_err(|e: T::Err| reader.problems.error(at, e.to_string(), help)).ok()
}

/// A table name; the default is quoted when it has to be.
fn table(
    key: &'static str,
    default: &str,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Located<String> {
    let default = match parse_path(default) {
        Ok(parts) if parts.len() == 1 => default.to_string(),
        _ => rowcast_core::quote(default),
    };
    let at = section.at.clone();
    let Some(written) = section.text(key, reader) else { return Located { value: default, at } };
    if let Err(e) = parse_path(&written.value) {
        let help = "write `table`, `schema.table` or `\"Odd schema\".\"Odd.table\"`";
        reader.problems.error(&written.at, e.to_string(), help);
        return Located { value: default, at };
    }
    written
}

fn texts(value: DeValue<'_>, at: &Place, reader: &mut Reader<'_>) -> Option<Vec<Located<String>>> {
    let DeValue::Array(items) = value else {
        return wrong_type(&value, "a list of names", "write `[\"id\", \"name\"]`", at, reader);
    };
    let mut texts: Vec<Located<String>> = Vec::new();
    for item in items {
        let at = Place { span: item.span(), path: at.path.clone() };
        let Some(value) = text(item.into_inner(), &at, reader) else { continue };
        if texts.iter().any(|t| t.value == value) {
            reader.problems.error(&at, format!("`{value}` stands here twice"), "take one out");
        }
        texts.push(Located { value, at });
    }
    Some(texts)
}

/// `["id", "name"]`, or `{ local = "published" }`.
fn named_fields(
    value: DeValue<'_>,
    at: &Place,
    reader: &mut Reader<'_>,
) -> (Fields, Vec<Located<String>>) {
    let mut named = Vec::new();
    let mut places = Vec::new();
    match value {
        DeValue::Array(_) => {
            for field in texts(value, at, reader).unwrap_or_default() {
                named.push((field.value.clone(), field.value.clone()));
                places.push(field);
            }
        }
        DeValue::Table(table) => {
            for (_, local, at, value) in Section::new(table, at.clone()).drain() {
                let Some(value) = text(value, &at, reader) else { continue };
                named.push((local, value.clone()));
                places.push(Located { value, at });
            }
        }
        other => {
            let help = "write `[\"id\", \"name\"]`, or `{ local = \"published\" }`";
            let _: Option<()> = wrong_type(&other, "a list or a table of names", help, at, reader);
            return (Fields::All, places);
        }
    }
    if named.is_empty() && reader.problems.errors() == 0 {
        let help = "name the fields, or leave `fields` out to take all of them";
        reader.problems.error(at, "no fields are taken", help);
    }
    (Fields::Named(named), places)
}
