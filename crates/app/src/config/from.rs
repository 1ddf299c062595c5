//! `[service.order.from.customer]`: how the route from one publisher delivers.

use crate::config::file::{Config, Service};
use crate::config::problem::{Located, Problems};
use crate::config::suggest::advice;
use crate::config::tree::{Reader, Section, wrong_type};
use rowcast_core::{LANES_MAX, ServiceName};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// One route's settings.
#[derive(Debug)]
pub(crate) struct RouteFrom {
    /// The publisher.
    pub(crate) service: Located<ServiceName>,
    /// Transactions of the subscriber's database that may share a piece of the log, by key; from 1
    /// to 16. 1 if unset: the publisher's transactions arrive whole.
    pub(crate) lanes: Option<Located<u16>>,
}

pub(crate) fn read(at: &mut Section<'_>, reader: &mut Reader<'_>) -> Vec<RouteFrom> {
    let mut all = Vec::new();
    for (name, mut section) in at.sections("from", reader) {
        let lanes = lanes(&mut section, reader);
        let at = section.at.clone();
        section.finish(reader);
        match name.parse() {
            Ok(value) => all.push(RouteFrom { service: Located { value, at }, lanes }),
            Err(e) => {
                let help = "write `[service.order.from.customer]`, with the publisher's name";
                reader.problems.error(&at, format!("{e}"), help);
            }
        }
    }
    all
}

fn lanes(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Located<u16>> {
    let (at, value) = section.take("lanes")?;
    let help = "write `lanes = 4`, without quotes";
    let DeValue::Integer(number) = &value else {
        return wrong_type(&value, "a whole number", help, &at, reader);
    };
    let read = u16::from_str_radix(number.as_str(), number.radix()).ok();
    let Some(value) = read.filter(|n| (1..=LANES_MAX).contains(n)) else {
        let what = format!("must be from 1 to {LANES_MAX}");
        reader.problems.error(&at, what, "1 keeps the publisher's transactions whole");
        return None;
    };
    Some(Located { value, at })
}

impl Service {
    /// Lanes of its routes, by publisher, where there is more than one.
    pub(super) fn lanes(&self) -> BTreeMap<ServiceName, u16> {
        let lanes = self.from.iter().filter_map(|from| {
            let lanes = from.lanes.as_ref()?.value;
            (lanes > 1).then(|| (from.service.value.clone(), lanes))
        });
        lanes.collect()
    }

    /// Whether each publisher is there, and lanes are where they can be.
    pub(super) fn check_from(&self, config: &Config, problems: &mut Problems) {
        for from in &self.from {
            let of = &from.service.value;
            let publishers = || config.services.iter().filter(|s| !s.publish.is_empty());
            if !publishers().any(|s| s.name.value == *of) {
                let names = publishers().map(|s| s.name.value.as_str());
                let help = advice(of.as_str(), "the publishers", names);
                problems.error(&from.service.at, format!("no service `{of}` publishes"), help);
            }
            let Some(lanes) = from.lanes.as_ref().filter(|lanes| lanes.value > 1) else { continue };
            let address = self.database.as_ref().map(|d| d.value.reveal().as_str());
            if address.is_some_and(|a| a.starts_with("sqlite:")) {
                problems.error(
                    &lanes.at,
                    "a SQLite file has one writer at a time, so lanes would wait for each other",
                    "take `lanes` out; it is for subscribers on PostgreSQL",
                );
            }
        }
    }
}
