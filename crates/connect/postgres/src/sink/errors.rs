//! A server's errors in the words of the sink seam. A value of the user's never gets into a message:
//! the server's own words, which may hold one, travel as the cause.

use crate::connect::{ConnectError, Fault, fault, is_pooled};
use crate::need::{POOLER, POOLER_HELP};
use rowcast_core::{BoxError, REFERENCE, RouteId, Row, SinkError, Value};
use tokio_postgres::error::{DbError, SqlState};

/// Whose errors they are.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) route: RouteId,
}

impl Who {
    pub(super) fn unreachable(&self, source: impl Into<BoxError>) -> SinkError {
        SinkError::Unreachable { service: self.route.to.clone(), source: source.into() }
    }

    pub(super) fn bug(&self, what: impl Into<String>) -> SinkError {
        SinkError::Bug { service: self.route.to.clone(), what: what.into() }
    }

    pub(super) fn setup(
        &self,
        what: impl Into<String>,
        help: impl Into<String>,
        source: Option<BoxError>,
    ) -> SinkError {
        let (what, help) = (what.into(), help.into());
        SinkError::Setup { service: self.route.to.clone(), what, help, source }
    }

    pub(super) fn schema(
        &self,
        table: &str,
        what: impl Into<String>,
        help: impl Into<String>,
    ) -> SinkError {
        let (table, what, help) = (table.to_string(), what.into(), help.into());
        SinkError::Schema { service: self.route.to.clone(), table, what, help }
    }

    pub(super) fn table_name(&self, table: &str, what: String) -> SinkError {
        let help = "write `into` as table or as schema.table, quoted where needed";
        self.schema(table, what, help)
    }

    pub(super) fn checkpoint(&self, what: impl Into<String>, help: impl Into<String>) -> SinkError {
        let (what, help) = (what.into(), help.into());
        SinkError::Checkpoint { route: self.route.clone(), what, help }
    }

    pub(super) fn connect(&self, error: ConnectError) -> SinkError {
        if matches!(&error, ConnectError::Refused(e) if is_pooled(e)) {
            return self.setup(POOLER, POOLER_HELP, Some(error.into()));
        }
        match error.fault() {
            Fault::Outage => self.unreachable(error),
            Fault::Setup | Fault::Schema | Fault::Data => self.setup(
                "it does not let Rowcast in",
                "check the user, the password, the database's name and the certificates of the \
                 service's `database` address, and the server's pg_hba.conf",
                Some(error.into()),
            ),
        }
    }

    /// An error of a statement that touches no row of the user's.
    pub(super) fn statement(&self, doing: &str, error: tokio_postgres::Error) -> SinkError {
        if is_pooled(&error) {
            return self.setup(POOLER, POOLER_HELP, Some(error.into()));
        }
        match fault(&error) {
            Fault::Outage => self.unreachable(error),
            Fault::Setup | Fault::Schema | Fault::Data => {
                let what = format!("{doing} was refused{}", words(&error));
                let help = "give the user of the service's `database` address what is missing; \
                            `rowcast check` says what it needs";
                self.setup(what, help, Some(error.into()))
            }
        }
    }

    /// An error of a statement that writes to a table; `key` says to which row, when it is one row.
    pub(super) fn row(
        &self,
        table: &str,
        key: Option<String>,
        error: tokio_postgres::Error,
    ) -> SinkError {
        if is_pooled(&error) {
            return self.setup(POOLER, POOLER_HELP, Some(error.into()));
        }
        match fault(&error) {
            Fault::Outage => self.unreachable(error),
            Fault::Setup => {
                let what = format!("writing to {table} was refused{}", words(&error));
                let help = "give the user of the service's `database` address SELECT, INSERT, \
                            UPDATE and DELETE on the table; `rowcast check` says what it needs";
                self.setup(what, help, Some(error.into()))
            }
            Fault::Schema => match lost(&error) {
                Some(function) => self.schema(
                    table,
                    format!(
                        "{function}, which the server runs when rows are written, does not find \
                         what it names{}",
                        words(&error)
                    ),
                    format!(
                        "Rowcast's sessions have an empty search_path, so the function needs one of \
                         its own: ALTER FUNCTION {function} SET search_path = public, pg_temp (the \
                         schemas that its names are in); `rowcast check` lists all such functions"
                    ),
                ),
                None => self.schema(
                    table,
                    format!("the server does not take its statements{}", words(&error)),
                    "the table was changed while rows were written; run `rowcast check` to see what \
                     is missing",
                ),
            },
            Fault::Data => {
                let rule = error.as_db_error().map_or_else(String::new, rule);
                self.data(table, key, rule, Some(error.into()))
            }
        }
    }

    pub(super) fn data(
        &self,
        table: &str,
        key: Option<String>,
        what: impl Into<String>,
        source: Option<BoxError>,
    ) -> SinkError {
        SinkError::Data {
            service: self.route.to.clone(),
            table: table.to_string(),
            key,
            change: None,
            what: what.into(),
            help: "change the row at its source, or the rule at the table, so that they fit (a \
                   rule that is DEFERRABLE is looked at by the commit only); nothing after it is \
                   lost meanwhile"
                .into(),
            source,
        }
    }
}

/// The function in which a name was not found.
fn lost(error: &tokio_postgres::Error) -> Option<String> {
    let error = error.as_db_error()?;
    let missing = ["42P01", "42883", "42704", "3F000", "42703", "42P02"];
    missing.contains(&error.code().code()).then(|| function(error.where_()?)).flatten()
}

/// The innermost function in what the server says of a place: `PL/pgSQL function public.f(integer) line
/// 3 at …` or `SQL function "f" during inlining`, in its own language. Other lines may hold values.
fn function(place: &str) -> Option<String> {
    place.lines().find_map(|line| {
        if let Some((_, rest)) = line.split_once("SQL function \"") {
            return rest.split_once('"').map(|(name, _)| name.to_string());
        }
        let (before, _) = line.strip_prefix("PL/")?.split_once(')')?;
        let (words, arguments) = before.split_once('(')?;
        Some(format!("{}({arguments})", words.rsplit(' ').next()?))
    })
}

/// What is said of a value that is none of its enum's here.
pub(super) const LACKS_LABEL: &str = "the publisher's enum type has a value that the type here lacks: \
                                      ALTER TYPE … ADD VALUE brings it in line";

/// Says which change an error is about.
pub(super) fn of_change(mut error: SinkError, index: u32) -> SinkError {
    if let SinkError::Data { change, .. } = &mut error {
        *change = Some(index);
    }
    error
}

/// The server's message, where it can only speak of tables and roles.
fn words(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else { return String::new() };
    match db.code().code().get(..2) {
        Some("42" | "28" | "3D" | "3F" | "0A" | "55" | "2B") => format!(": {}", db.message()),
        _ => format!(" (SQLSTATE {})", db.code().code()),
    }
}

/// Which rule a row breaks, without what is in the row.
fn rule(db: &DbError) -> String {
    let constraint = db.constraint().unwrap_or("without a name");
    let column = db.column().unwrap_or("without a name");
    match *db.code() {
        SqlState::UNIQUE_VIOLATION => format!("unique constraint {constraint} has such a row"),
        SqlState::FOREIGN_KEY_VIOLATION => {
            format!("{REFERENCE}{constraint} finds no row to refer to, or is referred to")
        }
        SqlState::NOT_NULL_VIOLATION => format!("column {column} must not be null"),
        SqlState::CHECK_VIOLATION => format!("check constraint {constraint} says no"),
        SqlState::EXCLUSION_VIOLATION => format!("exclusion constraint {constraint} says no"),
        SqlState::STRING_DATA_RIGHT_TRUNCATION => "a text is longer than its column".into(),
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE => "a number is outside its column's range".into(),
        SqlState::INVALID_TEXT_REPRESENTATION if db.message().contains(" enum ") => {
            LACKS_LABEL.into()
        }
        SqlState::INVALID_TEXT_REPRESENTATION => "a text is no value of its column's type".into(),
        SqlState::CHARACTER_NOT_IN_REPERTOIRE | SqlState::UNTRANSLATABLE_CHARACTER => {
            "a text has characters that the database's encoding lacks".into()
        }
        _ => format!("the server says no (SQLSTATE {})", db.code().code()),
    }
}

/// A key as the target would show it, for a person.
pub(super) fn key_text(row: Row<'_>, sources: &[usize]) -> Option<String> {
    let mut values = Vec::new();
    row.unpack(&mut values).ok()?;
    let text = |source: &usize| {
        Some(match *values.get(*source)? {
            Value::Null | Value::Unchanged => return None,
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Value::Integer(i) => i.to_string(),
            Value::Real(r) => r.to_string(),
            Value::Blob(blob) => format!("({} bytes)", blob.len()),
        })
    };
    let parts: Option<Vec<_>> = sources.iter().map(text).collect();
    Some(parts?.join(", "))
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn the_function_is_read_out_of_a_place_and_nothing_else() {
        for (place, name) in [
            ("PL/pgSQL function public.audit() line 3 at SQL statement", "public.audit()"),
            ("PL/pgSQL-Funktion public.f(text,integer) Zeile 3 bei SQL", "public.f(text,integer)"),
            ("SQL function \"f\" during inlining", "f"),
            ("SQL statement \"x\"\nPL/pgSQL function a.b() line 1", "a.b()"),
        ] {
            assert_eq!(function(place).as_deref(), Some(name), "{place}");
        }
        assert_eq!(function("COPY t, line 3: \"PL/x f(secret)\""), None);
    }
}
