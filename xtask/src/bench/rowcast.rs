//! The release binary, run as a user would run it.

use super::contender::Setup;
use super::lab::{BEACONS, Lab, SOURCE};
use super::usage::Usage;
use anyhow::{Context, Result, ensure};
use rowcast_testkit::process::{Rowcast as Program, Running};
use std::fmt::Write;
use std::net::TcpListener;
use std::time::Duration;

const COPY_WITHIN: Duration = Duration::from_secs(1_200);
const END_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Rowcast<'a> {
    lab: &'a Lab,
    pub(super) databases: Vec<String>,
    program: Program,
    running: Option<Running>,
}

impl<'a> Rowcast<'a> {
    pub(super) fn new(lab: &'a Lab, databases: Vec<String>, setup: Setup) -> Self {
        let program = Program::new(&lab.binary, &file(lab, &databases, setup));
        Self { lab, databases, program, running: None }
    }

    pub(super) async fn copy(&mut self) -> Result<()> {
        let done = self.program.run(COPY_WITHIN, &["run", "--until-caught-up"]).await;
        ensure!(done.status.success(), "rowcast run --until-caught-up failed: {}", done.said());
        Ok(())
    }

    pub(super) fn resume(&mut self) {
        self.running = Some(self.program.start(&["run"]));
    }

    /// Lets one more have a copy, whose service subscribes to nothing so far, and waits until it has.
    pub(super) async fn join(&self, name: &str) -> Result<()> {
        let index = self.databases.iter().position(|database| database == name);
        let service = format!("copy{}", index.context("a database of ours")?);
        let subscribe =
            ["subscribe", &service, "shop.customers", "--wait-live", "--timeout", "20m"];
        self.ask(&subscribe).await
    }

    /// Asks the running instance for something, as a user would.
    pub(super) async fn ask(&self, arguments: &[&str]) -> Result<()> {
        let done = self.program.run(COPY_WITHIN, arguments).await;
        ensure!(done.status.success(), "rowcast {}: {}", arguments.join(" "), done.said());
        Ok(())
    }

    /// [`ask`](Self::ask), once it listens.
    pub(super) async fn ask_soon(&self, arguments: &[&str]) -> Result<()> {
        let listens = async || {
            self.usage()?;
            Ok(self.program.run(END_WITHIN, &["status"]).await.status.success())
        };
        self.lab.until("rowcast answers", listens).await?;
        self.ask(arguments).await
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        let running = self.running.as_ref().context("rowcast does not run")?;
        Usage::of(running.id()).with_context(|| format!("rowcast ended: {}", running.stderr()))
    }

    /// Has everything that is parked tried again, which has to fit now.
    pub(super) async fn retry_parked(&self) -> Result<()> {
        self.ask(&["parked", "retry", "shop:copy0", "--all"]).await
    }

    pub(super) async fn pause(&mut self) -> Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let done = running.terminate(END_WITHIN).await;
        ensure!(done.status.success(), "rowcast run failed: {}", done.said());
        Ok(())
    }

    /// Waits until the source may forget everything up to `end`: the log holds it.
    pub(super) async fn captured(&self, end: &str) -> Result<()> {
        let session = self.lab.source.session(SOURCE).await;
        let held = format!(
            "SELECT FROM pg_replication_slots WHERE slot_name LIKE 'rowcast%' AND NOT temporary \
             AND confirmed_flush_lsn >= '{end}'"
        );
        let done = async || {
            self.usage()?;
            Ok(!session.try_sql(&held).await?.is_empty())
        };
        self.lab.until("the log holds everything", done).await
    }
}

fn file(lab: &Lab, databases: &[String], setup: Setup) -> String {
    let from = lab.source.url(SOURCE);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_or(7117, |address| address.port());
    let mut file = format!(
        "data = \"data\"\n\n[server]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [service.shop]\ndatabase = \"{from}\"\n\n\
         [service.shop.publish.customers]\ntable = \"public.customers\"\n"
    );
    let takes = if setup.discards { BEACONS } else { "customers" };
    if setup.discards {
        let _ = write!(file, "\n[service.shop.publish.{takes}]\n");
    }
    for (index, name) in databases.iter().enumerate() {
        let options = if setup.durable { "?options=-c%20synchronous_commit%3Don" } else { "" };
        let to = lab.target.url(name) + options;
        let _ = write!(file, "\n[service.copy{index}]\ndatabase = \"{to}\"\n");
        if index >= setup.subscribers {
            continue;
        }
        let _ = write!(file, "\n[service.copy{index}.subscribe.\"shop.{takes}\"]\n");
        if let Some(fields) = setup.table.fields {
            let _ = writeln!(file, "fields = {fields:?}");
        }
        if setup.lanes > 1 {
            let _ = write!(file, "\n[service.copy{index}.from.shop]\nlanes = {}\n", setup.lanes);
        }
    }
    file
}
