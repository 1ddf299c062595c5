//! `rowcast log`: the event log, looked at without changing it, running or not; and compacted while
//! nothing runs.

use crate::cli;
use crate::config::{self, Plan, count};
use crate::output::Output;
use crate::paint::Paint;
use crate::report::{Exit, Failure};
use crate::run::{DataLock, log_dir, open_log};
use comfy_table::{CellAlignment, Table, presets};
use rowcast_core::{ByteSize, Code, EventLog, Offset, ServiceName};
use rowcast_store::inspect::{self, StreamCheck, StreamStat};
use std::io;
use std::path::Path;

pub(crate) async fn log(args: cli::Log, file: &Path, output: Output) -> Result<Exit, Failure> {
    let plan = config::load(file)?.plan;
    let root = log_dir(&plan);
    match args {
        cli::Log::Compact => compact(&plan, &root, output).await,
        cli::Log::Stat { json } => {
            let streams = looked(&root, |root| inspect::stat(root)).await?;
            if json {
                output.line(as_json(&streams)?)?;
            } else {
                output.raw(stat(&streams, output.paint).as_bytes())?;
            }
            Ok(verdict(streams.iter().all(|s| s.error.is_none())))
        }
        cli::Log::Check { json } => {
            let streams = looked(&root, |root| inspect::check(root)).await?;
            if json {
                output.line(as_json(&streams)?)?;
            } else {
                output.raw(check(&streams, output.paint).as_bytes())?;
            }
            Ok(verdict(streams.iter().all(|s| s.problems.is_empty())))
        }
    }
}

/// Compacts every stream, whatever its age, while no instance runs.
async fn compact(plan: &Plan, root: &Path, output: Output) -> Result<Exit, Failure> {
    let streams = looked(root, |root| inspect::stat(root)).await?;
    let _lock = DataLock::take(&plan.data).map_err(Failure::from)?;
    let log = open_log(plan)?;
    for before in &streams {
        let Ok(stream) = before.stream.parse::<ServiceName>() else { continue };
        log.compact(&stream, Offset(u64::MAX)).await.map_err(|e| Failure::of(&e))?;
        let after = log.tail(&stream).await.map_err(|e| Failure::of(&e))?;
        let (from, to) = (ByteSize(before.bytes), ByteSize(after.bytes));
        let upto = after.compacted;
        output.line(format!("{stream}: compacted to offset {upto}, {from} became {to}"))?;
    }
    log.close().await;
    Ok(Exit::Good)
}

fn verdict(good: bool) -> Exit {
    if good { Exit::Good } else { Exit::No }
}

fn as_json(streams: &impl serde::Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string(&serde_json::json!({ "streams": streams }));
    json.map_err(|e| Failure::new("the answer cannot be written as JSON", "").because(&e))
}

/// Looks at files on a thread of its own: it may take as long as the disk does.
async fn looked<T: Send + 'static>(
    root: &Path,
    look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let dir = root.to_path_buf();
    let looked = tokio::task::spawn_blocking(move || look(&dir)).await;
    let looked = looked.unwrap_or_else(|e| Err(io::Error::other(e)));
    looked.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(
            format!("there is no event log in {}", root.display()),
            "`rowcast run` makes it; `--config` names another file",
        ),
        _ => Failure::new(format!("{} cannot be read", root.display()), "")
            .with_code(Code::LogDamaged)
            .because(&e),
    })
}

fn stat(streams: &[StreamStat], paint: Paint) -> String {
    if streams.is_empty() {
        return "The event log holds no streams yet.\n".into();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "stream",
        "first",
        "compacted",
        "next",
        "position",
        "files",
        "size",
        "entities",
    ]);
    for s in streams {
        let done = s.entities.iter().filter(|e| e.snapshot.as_ref().is_some_and(|s| s.done));
        table.add_row([
            s.stream.clone(),
            s.first.to_string(),
            compacted(s),
            s.next.to_string(),
            s.position.clone().unwrap_or_else(|| "-".into()),
            s.segments.to_string(),
            ByteSize(s.bytes).to_string(),
            format!("{} of {} complete", done.count(), s.entities.len()),
        ]);
    }
    for column in [1, 2, 3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("{}\n", table.trim_fmt());
    for s in streams {
        if let Some(error) = &s.error {
            out.push_str(&format!("{} {}: {error}\n", paint.red("✗"), s.stream));
        }
        if s.unfinished > 0 {
            let what = format!("{} of an unfinished write at the end", ByteSize(s.unfinished));
            out.push_str(&format!("{} {}: {what}\n", paint.yellow("!"), s.stream));
        }
    }
    out
}

/// Up to where a stream is compacted, and how much of that is left.
fn compacted(s: &StreamStat) -> String {
    let was = s.compacted.saturating_sub(s.first);
    if was == 0 {
        return "-".into();
    }
    format!("{} ({}% left)", s.compacted, s.compacted_events.saturating_mul(100).div_ceil(was))
}

fn check(streams: &[StreamCheck], paint: Paint) -> String {
    let mut out = String::new();
    for s in streams {
        let mark = if s.problems.is_empty() { paint.green("✓") } else { paint.red("✗") };
        out.push_str(&format!(
            "{mark} {}: {} in {} and {}, {} read\n",
            s.stream,
            count(usize::try_from(s.events).unwrap_or(usize::MAX), "event"),
            count(usize::try_from(s.frames).unwrap_or(usize::MAX), "frame"),
            count(s.segments, "file"),
            ByteSize(s.bytes),
        ));
        if s.unfinished > 0 {
            let size = ByteSize(s.unfinished);
            out.push_str(&format!(
                "    {size} of an unfinished write at the end, which is no damage\n"
            ));
        }
        for problem in &s.problems {
            let until = problem.until.map_or("its end".into(), |o| format!("offset {o}"));
            out.push_str(&format!(
                "    {}:{}: {}; unreadable from offset {} to {until}\n    {} {}\n",
                problem.file.display(),
                problem.byte,
                problem.what,
                problem.offset,
                paint.cyan("help:"),
                problem.help,
            ));
        }
    }
    let damaged = streams.iter().filter(|s| !s.problems.is_empty()).count();
    out.push_str(&match (streams.len(), damaged) {
        (0, _) => "The event log holds no streams yet.\n".to_string(),
        (n, 0) => format!("All good: {}.\n", count(n, "stream")),
        (n, bad) => format!(
            "{} of {} damaged. {}\n",
            bad,
            count(n, "stream"),
            paint.dim("page: docs/errors/LOG-DAMAGED.md")
        ),
    });
    out
}
