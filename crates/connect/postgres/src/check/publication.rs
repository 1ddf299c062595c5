//! What `rowcast check` finds at the publication.

use crate::source::catalog::Table;
use crate::source::column_list::{self, Wanted};
use crate::source::publication::{Publication, slot_name};
use crate::source::shape::Shape;
use crate::source::wire::{Wire, WireError};
use rowcast_core::{Finding, Publish, Severity, SourceSpec};

/// An entity whose table can be published.
pub(super) struct Good<'a> {
    pub(super) publish: &'a Publish,
    pub(super) table: Table,
    pub(super) shape: Shape,
}

/// What has to be said to the server before it streams these tables, and who may say it.
pub(super) async fn look(
    wire: &mut Wire,
    spec: &SourceSpec,
    good: &[Good<'_>],
    findings: &mut Vec<Finding>,
) -> Result<(), WireError> {
    let name = slot_name(&spec.service);
    let wanted = good.iter().map(|g| (g.publish, &g.table, &g.shape));
    let wanted = column_list::wanted(wire, wanted).await?;
    let found = Publication::find(wire, &name).await?;
    let statements = Publication::statements(found.as_ref(), &name, &wanted);
    if good.is_empty() || statements.is_empty() {
        return Ok(());
    }
    let strangers: Vec<_> = wanted
        .iter()
        .filter(|w| !w.table.may_own)
        .map(|w| format!("{} ({})", w.table.sql(), w.table.owner))
        .collect();
    let hidden = found.as_ref().map(|found| hides(found, &wanted)).unwrap_or_default();
    let refused = column_list::refused(wire, &name).await?;
    let refused = wanted.iter().filter(|w| refused.contains(&w.table.oid));
    let refused: Vec<_> = refused.map(|w| w.table.sql()).collect();
    // The statements name all tables of the publication: those of a part would take out the others.
    let whole = good.len() == spec.entities.len();
    let mut say = |severity, message: String, help: &str, safe: bool| {
        let finding = Finding::new(severity, name.clone(), message, help);
        let fixed = |f: Finding| f.with_fix(safe, statements.clone());
        findings.push(if whole { fixed(finding) } else { finding });
    };
    let mine = strangers.is_empty();
    if !refused.is_empty() {
        let message = format!(
            "The server refuses updates and deletes of {}: the key is another one, and the \
             publication's column list does not have it.",
            refused.join(", ")
        );
        say(Severity::Error, message, "`rowcast run` puts it right within a second.", mine);
    } else if !hidden.is_empty() {
        let message = format!("The publication hides changes: {}.", hidden.join("; "));
        let help = "`rowcast run` puts it right when it starts, or within ten seconds, and reads the \
                    tables again whose changes may be missing.";
        say(Severity::Warning, message, help, mine);
    }
    if !mine {
        let message = format!(
            "Publishing needs ownership of the tables, which others have: {}.",
            strangers.join(", ")
        );
        say(
            Severity::Error,
            message,
            "Let the tables' owner or a superuser run the statements.",
            false,
        );
    } else if refused.is_empty() && hidden.is_empty() {
        let message = "The publication is made or brought up to date at the next start.";
        findings.push(Finding::new(Severity::Good, name, message, ""));
    }
    Ok(())
}

/// What it hides of the tables that are published, in words.
fn hides(found: &Publication, wanted: &[Wanted]) -> Vec<String> {
    let everywhere = found.hides_everywhere().map(String::from);
    everywhere.into_iter().chain(wanted.iter().filter_map(|w| found.hides(w))).collect()
}
