//! After the trouble: what an operator would do, until the copies are right or a code stays.

use super::{Run, STOP_WITHIN, TortureError, Verdict};
use crate::console::Dialect;
use crate::instance::Finished;
use crate::judge::{self, Side};
use crate::table::{self, qualified};
use std::collections::BTreeSet;

/// How often what a code asks for is done before the code is the answer.
const ROUNDS: usize = 6;

impl Run<'_> {
    pub(super) async fn settle(&mut self) -> Result<Verdict, TortureError> {
        self.journal.say("the trouble is over");
        if !self.instance.stop(STOP_WITHIN).await {
            return Ok(defect(format!("`rowcast run` did not stop within {STOP_WITHIN:?}")));
        }
        let mut resnapshot = false;
        for round in 0..ROUNDS {
            self.look().await;
            self.instance.run(&["check", "--fix"], self.options.patience).await?;
            let mut arguments = vec!["run", "--until-caught-up"];
            let service = self.service.clone();
            if std::mem::take(&mut resnapshot) {
                arguments.extend(["--resnapshot", &service]);
            }
            let ran = self.instance.run(&arguments, self.options.patience).await?;
            self.journal.say(&format!("{} → {:?}\n{}", arguments.join(" "), ran.code, ran.stderr));
            let codes = codes(&ran);
            match (ran.code, codes.is_empty()) {
                (Some(0), _) => match self.judge().await? {
                    Judged::Same => return self.teeth().await,
                    Judged::Parked if round + 1 < ROUNDS => self.rebuild().await,
                    Judged::Parked => return Ok(Verdict::Told("SINK-DATA".into())),
                    Judged::Differs(what) => return Ok(defect(what)),
                },
                (None, _) => {
                    let patience = self.options.patience;
                    let what = format!("the copies stood still for {patience:?}: {}", ran.stderr);
                    return Ok(defect(what));
                }
                (Some(1), false) if round + 1 == ROUNDS => {
                    return Ok(Verdict::Told(Vec::from_iter(codes).join(", ")));
                }
                (Some(1), false) => {
                    resnapshot = self.remedy(&codes).await;
                }
                (Some(code), _) => {
                    return Ok(defect(format!("exit code {code} without a code: {}", ran.stderr)));
                }
            }
        }
        Ok(Verdict::Told("SINK-DATA".into()))
    }

    /// What an operator does about these codes; whether the source has to be read again.
    async fn remedy(&mut self, codes: &BTreeSet<String>) -> bool {
        let any = |prefix: &str| codes.iter().any(|code| code.starts_with(prefix));
        if any("SOURCE-SCHEMA") || any("SOURCE-SETUP") {
            self.restore().await;
        }
        if any("SINK-SCHEMA") || any("SINK-DATA") || any("SINK-PARKED") || any("SINK-SETUP") {
            self.rebuild().await;
        }
        any("SOURCE-EPOCH") || any("SINK-CHECKPOINT") || any("LOG-")
    }

    /// Makes the source's tables ones that can be published.
    async fn restore(&mut self) {
        let (dialect, names) = (self.from.dialect(), self.names.clone());
        let known = self.known();
        for name in names.iter().filter(|n| !known.iter().any(|t| t.name == **n)) {
            for statement in table::create(dialect, name, &mut self.random) {
                self.statement(true, &statement).await;
            }
        }
        if dialect == Dialect::Postgres {
            let identities = "SELECT format('ALTER TABLE public.%I REPLICA IDENTITY DEFAULT', \
                 relname) FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^torture_'";
            let statements = self.source.run(identities).await.unwrap_or_default();
            for statement in statements.into_iter().flatten().flatten() {
                self.statement(true, &statement).await;
            }
        }
        self.look().await;
    }

    /// Drops the copies: Rowcast makes them again.
    async fn rebuild(&mut self) {
        let dialect = self.to.dialect();
        for name in self.names.clone() {
            let copy = qualified(dialect, &format!("{name}_copy"));
            self.statement(false, &format!("DROP TABLE IF EXISTS {copy}")).await;
        }
    }

    async fn judge(&mut self) -> Result<Judged, TortureError> {
        let verified = self.verify(&[]).await?;
        let answer: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap_or_default();
        self.journal.say(&format!("verify → {:?}\n{}", verified.code, verified.stdout));
        let parked = answer.to_string().contains("\"parked\":true")
            || answer["routes"][0]["parked"].as_u64().is_some_and(|keys| keys > 0);
        match verified.code {
            Some(0) => {}
            _ if parked => return Ok(Judged::Parked),
            _ => {
                return Ok(Judged::Differs(format!(
                    "caught up, and `rowcast verify` ends with {:?}: {}{}",
                    verified.code, verified.stdout, verified.stderr
                )));
            }
        }
        let known = self.known();
        let from = Side { dialect: self.from.dialect(), console: &mut *self.source };
        let to = Side { dialect: self.to.dialect(), console: &mut *self.target };
        match judge::differences(from, to, &known).await {
            Ok(none) if none.is_empty() => Ok(Judged::Same),
            Ok(found) => Ok(Judged::Differs(format!(
                "`rowcast verify` says identical, and the databases do not: {}",
                found.join("; ")
            ))),
            Err(what) => Ok(Judged::Differs(format!("the databases cannot be compared: {what}"))),
        }
    }

    /// Changes rows of copies by hand: `verify` has to notice, and to mend.
    async fn teeth(&mut self) -> Result<Verdict, TortureError> {
        let dialect = self.to.dialect();
        let mut changed = 0;
        for table in self.known() {
            let copy = qualified(dialect, &table.copy());
            let some = format!("id IN (SELECT id FROM {copy} ORDER BY id LIMIT 3)");
            let before = self.target.run(&format!("SELECT count(*) FROM {copy}")).await;
            let rows = before.ok().and_then(|rows| rows.first()?.first()?.clone());
            if rows.is_none_or(|rows| rows == "0") {
                continue;
            }
            self.statement(false, &format!("DELETE FROM {copy} WHERE {some}")).await;
            changed += 1;
        }
        if changed == 0 {
            return Ok(Verdict::Clean);
        }
        let noticed = self.verify(&[]).await?;
        if noticed.code != Some(1) {
            let what = format!("rows were taken out of copies, and verify says {:?}", noticed.code);
            return Ok(defect(what));
        }
        self.verify(&["--repair"]).await?;
        Ok(match self.judge().await? {
            Judged::Same => Verdict::Clean,
            Judged::Parked => defect("a repair parked rows".into()),
            Judged::Differs(what) => defect(format!("after a repair: {what}")),
        })
    }

    async fn verify(&self, more: &[&str]) -> Result<Finished, TortureError> {
        let arguments = [&["verify", "--json"], more].concat();
        Ok(self.instance.run(&arguments, self.options.patience).await?)
    }
}

enum Judged {
    Same,
    /// Rows are set aside, and said to be.
    Parked,
    Differs(String),
}

fn defect(what: String) -> Verdict {
    Verdict::Defect(what)
}

/// The codes in what a command said: `SINK-SCHEMA` and the like.
fn codes(ran: &Finished) -> BTreeSet<String> {
    let said = format!("{}\n{}", ran.stdout, ran.stderr);
    let is_code = |word: &str| {
        ["SOURCE-", "SINK-", "LOG-"].iter().any(|prefix| word.starts_with(prefix))
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '-')
    };
    said.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| is_code(word))
        .map(str::to_string)
        .collect()
}
