//! What an error of a server means for us. An outage must never look like bad data, nor bad data like
//! an outage: the first would set a row aside for nothing, the second would wait for ever.

use crate::need::is_pooler;
use std::error::Error as _;
use std::io;

/// The kinds of trouble a server makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It will pass: no connection, a full disk, a deadlock, a time-out, a stopping server.
    Outage,
    /// A privilege, a setting, a password: a person must act. Also whatever we do not know, because
    /// waiting for it and blaming a row for it may both be wrong.
    Setup,
    /// A table, column, type or function is not what we took it for.
    Schema,
    /// A value breaks a rule of the table it goes to.
    Data,
}

/// Tells the kind of trouble by SQLSTATE.
pub(crate) fn fault(error: &tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(_) if is_pooled(error) => Fault::Setup,
        Some(code) => by_state(code.code()),
        None if is_certificate(error) => Fault::Setup,
        // tokio-postgres tells a missing or wrong-typed password by message only.
        None if error.to_string().starts_with("authentication error") => Fault::Setup,
        None => Fault::Outage,
    }
}

/// Whether a pooler answered, and not the server itself.
pub(crate) fn is_pooled(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| is_pooler(e.code().code(), e.message()))
}

fn is_certificate(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(e) = cause {
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|e| e.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = inner.or(e.downcast_ref()) {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Tells the kind of trouble from the bare SQLSTATE.
pub(crate) fn by_state(state: &str) -> Fault {
    match state {
        // Single states first, where their class says something else.
        "08P01" | "25006" | "25P03" | "26000" | "57014" | "57P01" | "57P02" | "57P03" | "57P05"
        | "55P03" | "55006" => Fault::Outage,
        "42501" | "42939" | "57P04" | "53400" => Fault::Setup,
        "54000" | "42P22" => Fault::Data,
        _ => by_class(state.get(..2).unwrap_or_default()),
    }
}

fn by_class(class: &str) -> Fault {
    match class {
        // Connection, rolled back by the server, out of resources, stopped, the machine, its disk,
        // a foreign server.
        "08" | "40" | "53" | "57" | "58" | "HV" | "72" | "XX" => Fault::Outage,
        // Cardinality, value, constraint, view's check, and what triggers and functions raise over
        // a row; limits that one row meets.
        "21" | "22" | "23" | "38" | "39" | "44" | "P0" | "54" => Fault::Data,
        // Not there, or not so.
        "42" | "3F" | "2B" => Fault::Schema,
        _ => Fault::Setup,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_no_bad_data_and_bad_data_no_outage() {
        for state in [
            "08006", "08P01", "57P01", "57P02", "57P03", "53100", "53200", "53300", "40001",
            "40P01", "55P03", "57014", "58030", "25006", "XX001", "26000",
        ] {
            assert_eq!(by_state(state), Fault::Outage, "{state}");
        }
        for state in [
            "22001", "22003", "22P02", "22021", "23502", "23503", "23505", "23514", "23P01",
            "44000", "21000", "54000", "P0001",
        ] {
            assert_eq!(by_state(state), Fault::Data, "{state}");
        }
        for state in ["42P01", "42703", "42883", "3F000", "42804", "42P10", "428C9"] {
            assert_eq!(by_state(state), Fault::Schema, "{state}");
        }
        for state in ["42501", "28P01", "28000", "3D000", "0A000", "55000", "99999", ""] {
            assert_eq!(by_state(state), Fault::Setup, "{state}");
        }
    }

    #[test]
    fn every_class_of_states_has_its_kind_of_trouble() {
        let data = ["21", "22", "23", "38", "39", "44", "54", "P0"];
        let outage = ["08", "40", "53", "57", "58", "72", "HV", "XX"];
        let schema = ["2B", "3F", "42"];
        let setup = [
            "00", "01", "02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "24",
            "25", "26", "27", "28", "2D", "2F", "34", "3B", "3D", "55", "F0",
        ];
        let all = [
            (&data[..], Fault::Data),
            (&outage, Fault::Outage),
            (&schema, Fault::Schema),
            (&setup, Fault::Setup),
        ];
        for (classes, kind) in all {
            for class in classes {
                assert_eq!(by_state(&format!("{class}999")), kind, "class {class}");
            }
        }
        // What surrounds a row is never the row's fault.
        for state in ["53100", "53200", "53300", "40P01", "57014", "55P03", "25006", "42501"] {
            assert_ne!(by_state(state), Fault::Data, "{state}");
        }
    }
}
