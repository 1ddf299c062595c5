//! What a start needs of this machine. `check` and `run` ask the same list, so that neither lets pass
//! what the other refuses.

use crate::config::Plan;
use crate::instance::Instance;
use crate::report::Failure;
use crate::run::log_dir;
use rowcast_core::{Finding, Severity};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Each need: looked at without leaving anything behind. The answer is a word on what is good.
type Need = fn(&Plan) -> Result<Finding, Failure>;

/// All of them.
const NEEDS: [Need; 2] = [data, listen];

/// What there is and what is lacking.
pub(crate) fn look(plan: &Plan) -> Vec<Result<Finding, Failure>> {
    NEEDS.iter().map(|need| need(plan)).collect()
}

/// A directory for data that can be made, or written to.
fn data(plan: &Plan) -> Result<Finding, Failure> {
    for directory in [plan.data.clone(), log_dir(plan)] {
        let made_in = standing(&directory);
        let probe = if made_in.is_dir() {
            tempfile::tempdir_in(&made_in).map(drop)
        } else {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory"))
        };
        probe.map_err(|e| {
            let help = "make it a directory that this user may write to, or name another one with `data = \
                        \"…\"`";
            Failure::usage(format!("{} cannot hold Rowcast's data", directory.display()), help)
                .because(&io::Error::new(e.kind(), format!("{}: {e}", made_in.display())))
        })?;
    }
    let subject = plan.data.display().to_string();
    Ok(Finding::new(Severity::Good, subject, "can hold Rowcast's data", ""))
}

/// The path itself, or the part of it that is there.
fn standing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let standing = path.ancestors().find(|p| p.symlink_metadata().is_ok());
    standing.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// An address to listen on.
fn listen(plan: &Plan) -> Result<Finding, Failure> {
    let subject = plan.listen.to_string();
    if let Some(running) = Instance::find(&plan.data)
        && running.listens_on(plan.listen.port())
    {
        let message = format!("{} answers there", running.name());
        return Ok(Finding::new(Severity::Good, subject, message, ""));
    }
    // Let go of at once: a port that was only bound is free for the next.
    TcpListener::bind(plan.listen).map(drop).map_err(|e| unusable(plan, &e))?;
    Ok(Finding::new(Severity::Good, subject, "can be listened on", ""))
}

/// What to say when nothing can listen where the plan says.
pub(crate) fn unusable(plan: &Plan, error: &io::Error) -> Failure {
    let help = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses it, perhaps another `rowcast run`; choose another one under `[server] \
             listen`, or port 0 for any free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no network interface of this machine has this address; name one that has under `[server] \
             listen`"
        }
        _ => {
            "choose another address or port under `[server] listen`; ports below 1024 take a privilege"
        }
    };
    Failure::usage(format!("{} cannot be listened on", plan.listen), help).because(error)
}
