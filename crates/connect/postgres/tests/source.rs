//! The source on real servers, one module for each capability.

#[path = "source/backlog.rs"]
mod backlog;
#[path = "source/changes.rs"]
mod changes;
#[path = "source/column_list.rs"]
mod column_list;
#[path = "source/conformance.rs"]
mod conformance;
#[path = "source/history.rs"]
mod history;
#[path = "source/login.rs"]
mod login;
#[path = "source/masks.rs"]
mod masks;
#[path = "source/partitions.rs"]
mod partitions;
#[path = "source/publication.rs"]
mod publication;
#[path = "source/readiness.rs"]
mod readiness;
#[path = "source/retained.rs"]
mod retained;
#[path = "source/schema_change.rs"]
mod schema_change;
#[path = "source/snapshot.rs"]
mod snapshot;
#[path = "source/support.rs"]
mod support;
