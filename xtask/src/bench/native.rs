//! PostgreSQL's own logical replication: one subscription, and so one slot, for each subscriber.

use super::contender::Setup;
use super::lab::{Lab, SOURCE};
use anyhow::Result;

pub(super) struct Native<'a> {
    lab: &'a Lab,
    pub(super) databases: Vec<String>,
    durable: bool,
}

impl<'a> Native<'a> {
    pub(super) async fn new(lab: &'a Lab, databases: Vec<String>, setup: Setup) -> Self {
        let columns = setup.table.fields.map(|fields| format!(" ({})", fields.join(", ")));
        let create = "CREATE PUBLICATION bench FOR TABLE customers".to_owned();
        lab.source.sql(SOURCE, &(create + &columns.unwrap_or_default())).await;
        Self { lab, databases, durable: setup.durable }
    }

    pub(super) async fn copy(&mut self) -> Result<()> {
        for name in &self.databases {
            self.subscribe(name).await;
        }
        for name in &self.databases {
            self.ready(name).await?;
        }
        self.pause().await
    }

    /// Lets one more have a copy, and waits until it has.
    pub(super) async fn join(&mut self, name: &str) -> Result<()> {
        self.subscribe(name).await;
        self.databases.push(name.to_owned());
        self.ready(name).await
    }

    async fn subscribe(&self, name: &str) {
        let from = self.lab.source.url(SOURCE);
        let commit = if self.durable { "on" } else { "off" };
        let create = format!(
            "CREATE SUBSCRIPTION {name} CONNECTION '{from}' PUBLICATION bench \
             WITH (synchronous_commit = {commit})"
        );
        self.lab.target.sql(name, &create).await;
    }

    async fn ready(&self, name: &str) -> Result<()> {
        let waits = "SELECT FROM pg_subscription_rel WHERE srsubstate NOT IN ('s', 'r')";
        let session = self.lab.target.session(name).await;
        let ready = async || Ok(session.try_sql(waits).await?.is_empty());
        self.lab.until("the native initial copy", ready).await
    }

    pub(super) async fn resume(&mut self) {
        for name in &self.databases {
            self.lab.target.sql(name, &format!("ALTER SUBSCRIPTION {name} ENABLE")).await;
        }
    }

    pub(super) async fn pause(&mut self) -> Result<()> {
        for name in &self.databases {
            self.lab.target.sql(name, &format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
        }
        let active = "SELECT FROM pg_replication_slots WHERE active AND slot_name LIKE 'bench%'";
        let session = self.lab.source.session("postgres").await;
        let still = async || Ok(session.try_sql(active).await?.is_empty());
        self.lab.until("the native subscriptions pause", still).await
    }

    pub(super) async fn end(mut self) -> Result<()> {
        self.pause().await?;
        for name in &self.databases {
            self.lab.target.sql(name, &format!("DROP SUBSCRIPTION {name}")).await;
        }
        Ok(())
    }
}
