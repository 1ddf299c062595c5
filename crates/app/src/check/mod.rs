//! `rowcast check`: every problem with its remedy, before anything moves.

mod look;
mod show;

use crate::cli;
use crate::config;
use crate::config::{ConfigError, Weight};
use crate::output::Output;
use crate::report::{Exit, Failure};
use look::{Section, look};
use rowcast_core::{Fix, Severity};
use std::path::Path;

pub(crate) async fn check(args: cli::Check, file: &Path, output: Output) -> Result<Exit, Failure> {
    let checked = config::load(file).and_then(|mut loaded| {
        loaded.tls(Weight::Error)?;
        Ok(loaded)
    });
    let loaded = match checked {
        Ok(loaded) => loaded,
        Err(e) => return mistaken(e, args.json, output),
    };
    output.warnings(&loaded);
    let problems = loaded.file.json(&loaded.warnings);
    let plan = &loaded.plan.with_run_time().await.map_err(|e| Failure::of(&e))?;
    let mut sections = look(plan, args.timeout).await;
    if args.fix {
        let fixed = fix(plan, &sections, output).await?;
        if fixed > 0 {
            sections = look(plan, args.timeout).await;
        }
    }
    if args.json {
        output.line(show::json(&problems, &sections))?;
    } else {
        output.raw(show::text(&sections, output.paint).as_bytes())?;
    }
    let errors = sections.iter().flat_map(|s| &s.findings).any(|f| f.severity == Severity::Error);
    Ok(if errors { Exit::No } else { Exit::Good })
}

/// There is nothing to look at. A file with mistakes is an answer here, which a script reads too; a
/// file that is not there is wrong usage.
fn mistaken(error: ConfigError, json: bool, output: Output) -> Result<Exit, Failure> {
    let ConfigError::Wrong { file, problems } = &error else { return Err(error.into()) };
    if json {
        output.line(show::json(&file.json(problems), &[]))?;
    }
    Err(Failure::from(error).with_exit(Exit::No))
}

/// Runs what is safe to run, and says what; the number of findings it was run for.
async fn fix(plan: &config::Plan, sections: &[Section], output: Output) -> Result<usize, Failure> {
    let mut fixed = 0;
    for section in sections {
        let Some(name) = &section.service else { continue };
        let Some(service) = plan.service(name) else { continue };
        for finding in section.findings.iter().filter(|f| f.severity != Severity::Good) {
            let Some(Fix { statements, safe: true }) = &finding.fix else { continue };
            for statement in statements {
                output.aside(format!("{} {}: {statement}", output.aside.green("fix"), name));
            }
            match service.database.fix(statements).await {
                Ok(()) => fixed += 1,
                // The second look shows that it is still wrong; here is why.
                Err(e) => {
                    output.failure(&Failure::of(&e));
                }
            }
        }
    }
    Ok(fixed)
}
