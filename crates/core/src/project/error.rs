//! Why a subscription cannot be served.

use crate::{Code, Diagnose, EntityName, FilterError, Remedy, ServiceName};

/// Why a subscription cannot take an entity as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    /// A named field is not published (any more).
    #[error("{to} subscribed to field {field:?} of {from}.{entity}, which has no such field")]
    NoField {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
        /// The field.
        field: String,
    },
    /// A named field is one that the publisher's database computes and does not send.
    #[error(
        "{to} subscribed to field {field:?} of {from}.{entity}, which {from}'s database computes \
             and does not send"
    )]
    Computed {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
        /// The field.
        field: String,
        /// What to do instead.
        help: String,
    },
    /// A part of the key is not taken: rows could not be told apart.
    #[error("{to}'s subscription to {from}.{entity} leaves out the key field {field:?}")]
    NoKey {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
        /// The field.
        field: String,
    },
    /// Two fields would become one column.
    #[error("{to}'s subscription to {from}.{entity} has two fields named {field:?}")]
    Twice {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
        /// The name in the copy.
        field: String,
    },
    /// The filter does not fit the entity's fields.
    #[error("{to}'s filter of {from}.{entity} does not fit: {}", .error.what)]
    Filter {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
        /// What does not fit, and where.
        error: FilterError,
        /// The place in the filter, marked, and what to do.
        help: String,
    },
    /// Whether a row passes hangs on values that neither its change nor the log says.
    #[error(
        "whether a changed row of {from}.{entity} passes {to}'s filter cannot be told: the log \
             lacks the values that the change left out"
    )]
    Unknowable {
        /// The publisher.
        from: ServiceName,
        /// The entity.
        entity: EntityName,
        /// The subscriber.
        to: ServiceName,
    },
}

impl Diagnose for ProjectError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::NoField { .. }
            | Self::Computed { .. }
            | Self::NoKey { .. }
            | Self::Twice { .. }
            | Self::Filter { .. } => Remedy::Operator(Code::SinkSchema),
            Self::Unknowable { .. } => Remedy::Operator(Code::LogTrimmed),
        }
    }

    fn help(&self) -> &str {
        match self {
            Self::NoField { .. } => {
                "take the field out of the subscription's `fields`, or publish it again; the log \
                 keeps every change meanwhile"
            }
            Self::NoKey { .. } => "add the key field to the subscription's `fields`",
            Self::Twice { .. } => "give one of them another name in the subscription's `fields`",
            Self::Filter { help, .. } | Self::Computed { help, .. } => help,
            Self::Unknowable { .. } => {
                "read the entity's rows into the log again: `rowcast run --resnapshot SERVICE`, with \
                 the publisher's name"
            }
        }
    }
}
