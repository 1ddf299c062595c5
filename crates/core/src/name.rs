//! Names of things. A name is checked once, where it enters; inside it is a type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Service names become part of names in databases and of folders, so they are narrow.
    #[error("service name {0:?} must be 1 to 40 of a-z, 0-9, '_' and '-', beginning with a letter")]
    Service(String),
    /// Entity names are free, but not empty.
    #[error("an entity's name must be 1 to 200 characters without control characters, not {0:?}")]
    Entity(String),
    /// `service.entity`.
    #[error("{0:?} must be written SERVICE.ENTITY")]
    EntityRef(String),
    /// `from:to`.
    #[error("{0:?} must be written FROM:TO, two services")]
    Route(String),
}

/// The owner of one private database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let good = s.len() <= 40
            && s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
        if good { Ok(Self(s.into())) } else { Err(NameError::Service(s.into())) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a published contract, unique within its service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityName(Arc<str>);

impl EntityName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntityName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let good = !s.is_empty() && s.chars().count() <= 200 && !s.chars().any(char::is_control);
        if good { Ok(Self(s.into())) } else { Err(NameError::Entity(s.into())) }
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entity of a service, written `service.entity`. The entity's own name may hold dots.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityRef {
    /// The publisher.
    pub service: ServiceName,
    /// Its entity.
    pub entity: EntityName,
}

impl FromStr for EntityRef {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (service, entity) = s.split_once('.').ok_or_else(|| NameError::EntityRef(s.into()))?;
        Ok(Self { service: service.parse()?, entity: entity.parse()? })
    }
}

impl fmt::Display for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.entity)
    }
}

/// All subscriptions of one subscriber to one publisher, written `from:to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    /// The publisher.
    pub from: ServiceName,
    /// The subscriber.
    pub to: ServiceName,
}

impl FromStr for RouteId {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (from, to) = s.split_once(':').ok_or_else(|| NameError::Route(s.into()))?;
        Ok(Self { from: from.parse()?, to: to.parse()? })
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_reference_splits_at_its_first_dot() {
        let r: EntityRef = "shop.public.\"Odd.Name\"".parse().unwrap();
        assert_eq!((r.service.as_str(), r.entity.as_str()), ("shop", "public.\"Odd.Name\""));
        assert_eq!(r.to_string().parse::<EntityRef>().unwrap(), r);
    }

    #[test]
    fn a_service_name_that_could_not_name_a_slot_is_refused() {
        for bad in ["", "Shop", "1a", "a b", "ä", "a.b", &"a".repeat(41)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
