//! The seam's laws over both registries, and what only a file can meet.

use super::*;
use async_trait::async_trait;
use rowcast_core::{Code, Diagnose, Registry, RegistryError, Remedy};
use rowcast_testkit::registry_suite::{Registries, entry, pause_of, subscribe};
use std::path::PathBuf;

struct InMemory;

#[async_trait]
impl Registries for InMemory {
    async fn open(&self) -> Box<dyn Registry> {
        Box::new(MemoryRegistry::new())
    }

    async fn reopen(&self, _: Box<dyn Registry>) -> Option<Box<dyn Registry>> {
        None
    }
}

struct InFile(tempfile::TempDir);

impl InFile {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("registry.db")
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

#[async_trait]
impl Registries for InFile {
    async fn open(&self) -> Box<dyn Registry> {
        Box::new(SqliteRegistry::open(self.path()).unwrap())
    }

    async fn reopen(&self, registry: Box<dyn Registry>) -> Option<Box<dyn Registry>> {
        drop(registry);
        Some(self.open().await)
    }
}

mod in_memory {
    use super::*;
    rowcast_testkit::registry_suite!(InMemory);
}

mod in_a_file {
    use super::*;
    rowcast_testkit::registry_suite!(InFile::new());
}

fn is_refused(error: &RegistryError) -> bool {
    !error.help().is_empty() && error.remedy() == Remedy::Operator(Code::Registry)
}

#[tokio::test]
async fn two_handles_on_one_file_edit_one_after_the_other() {
    let file = InFile::new();
    let (one, two) = (file.open().await, file.open().await);
    let (seen, _) = one.load().await.unwrap();
    let made = two.edit(seen, subscribe("order", "shop.a", "a")).await.unwrap();
    let stale = one.edit(seen, subscribe("order", "shop.b", "b")).await.unwrap_err();
    assert!(matches!(stale, RegistryError::Stale { now, .. } if now == made), "{stale}");
    one.edit(made, subscribe("order", "shop.b", "b")).await.unwrap();
    assert_eq!(two.load().await.unwrap().1.entries.len(), 2);
}

#[tokio::test]
async fn an_edit_that_was_cut_short_leaves_nothing() {
    let file = InFile::new();
    let registry = file.open().await;
    let (seen, _) = registry.load().await.unwrap();
    registry.edit(seen, subscribe("order", "shop.a", "a")).await.unwrap();
    drop(registry);
    // What a process that dies in the middle of an edit leaves behind: a transaction without its end.
    let cut = rusqlite::Connection::open(file.path()).unwrap();
    cut.execute_batch("BEGIN IMMEDIATE; DELETE FROM subscription; UPDATE version SET number = 7")
        .unwrap();
    let (main, wal) = (file.path(), file.path().with_extension("db-wal"));
    let copy = InFile::new();
    std::fs::copy(&main, copy.path()).unwrap();
    std::fs::copy(&wal, copy.path().with_extension("db-wal")).unwrap();
    let (version, catalog) = copy.open().await.load().await.unwrap();
    assert_eq!((version.0, catalog.entries.len()), (1, 1));
}

#[test]
fn a_file_that_is_no_registry_is_refused() {
    let file = InFile::new();
    std::fs::write(file.path(), "these are not the bytes of a database, not at all; ".repeat(99))
        .unwrap();
    let refused = SqliteRegistry::open(file.path()).unwrap_err();
    assert!(is_refused(&refused) && refused.to_string().contains("registry.db"), "{refused}");
    let file = InFile::new();
    file.sql("CREATE TABLE of_somebody_else (id INT)");
    let refused = SqliteRegistry::open(file.path()).unwrap_err();
    assert!(is_refused(&refused) && refused.to_string().contains("another program"), "{refused}");
}

#[tokio::test]
async fn a_newer_format_and_a_newer_word_are_refused_and_not_ignored() {
    let file = InFile::new();
    let registry = file.open().await;
    registry.edit(Default::default(), subscribe("order", "shop.a", "a")).await.unwrap();
    drop(registry);
    file.sql(r#"UPDATE subscription SET definition = '{"create":true,"rows":"only mine"}'"#);
    let refused = SqliteRegistry::open(file.path()).unwrap_err();
    assert!(matches!(refused, RegistryError::Newer { .. }) && is_refused(&refused), "{refused}");
    file.sql("PRAGMA user_version = 2");
    let refused = SqliteRegistry::open(file.path()).unwrap_err();
    assert!(refused.to_string().contains("format 2"), "{refused}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let file = InFile::new();
    let registry = file.open().await;
    for n in 0..200 {
        let (seen, _) = registry.load().await.unwrap();
        let into = format!("a_table_with_a_rather_long_name_so_that_pages_fill_{n}");
        registry.edit(seen, subscribe("order", "shop.a", &into)).await.unwrap();
    }
    drop(registry);
    let mut bytes = std::fs::read(file.path()).unwrap();
    assert!(bytes.len() > 8192, "more than a page or two");
    bytes[4096..].fill(0x5a);
    std::fs::write(file.path(), bytes).unwrap();
    let refused = SqliteRegistry::open(file.path()).unwrap_err();
    assert!(matches!(refused, RegistryError::Damaged { .. }) && is_refused(&refused), "{refused}");
}

#[tokio::test]
async fn everything_a_subscription_says_reads_back() {
    let file = InFile::new();
    let registry = file.open().await;
    let mut odd = entry("order", "shop.Odd \"Entity\" 🎉", "\"Co\"\"py. 🎉\"");
    odd.subscription.create = false;
    odd.subscription.fields = rowcast_core::Fields::Named(vec![("lo'cal".into(), "pub\"".into())]);
    let (seen, _) = registry.load().await.unwrap();
    let seen = registry.edit(seen, rowcast_core::Edit::Subscribe(odd.clone())).await.unwrap();
    registry.edit(seen, pause_of("shop:order")).await.unwrap();
    let before = registry.load().await.unwrap();
    assert_eq!(before.1.entries, [odd]);
    let again = file.reopen(registry).await.unwrap();
    assert_eq!(again.load().await.unwrap(), before);
}
