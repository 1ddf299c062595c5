//! PostgreSQL's own logical replication: one subscription, and so one slot, for each subscriber.

use super::lab::{Lab, SOURCE};
use anyhow::Result;

pub(super) struct Native<'a> {
    lab: &'a Lab,
    pub(super) databases: Vec<String>,
    durable: bool,
}

impl<'a> Native<'a> {
    pub(super) async fn new(lab: &'a Lab, databases: Vec<String>, durable: bool) -> Self {
        lab.source.sql(SOURCE, "CREATE PUBLICATION bench FOR TABLE customers").await;
        Self { lab, databases, durable }
    }

    pub(super) async fn copy(&mut self) -> Result<()> {
        let from = self.lab.source.url(SOURCE);
        let commit = if self.durable { "on" } else { "off" };
        for name in &self.databases {
            let create = format!(
                "CREATE SUBSCRIPTION {name} CONNECTION '{from}' PUBLICATION bench \
                 WITH (synchronous_commit = {commit})"
            );
            self.lab.target.sql(name, &create).await;
        }
        let waits = "SELECT FROM pg_subscription_rel WHERE srsubstate NOT IN ('s', 'r')";
        for name in &self.databases {
            let session = self.lab.target.session(name).await;
            let ready = async || Ok(session.try_sql(waits).await?.is_empty());
            self.lab.until("the native initial copy", ready).await?;
        }
        self.pause().await
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
