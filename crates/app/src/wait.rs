//! `rowcast wait`: read your own write elsewhere.

use crate::cli;
use crate::instance::Instance;
use crate::output::Output;
use crate::report::{Exit, Failure};
use std::path::Path;
use std::time::Duration;

/// What the running instance may take beyond the wait itself.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn wait(args: cli::Wait, file: &Path, output: Output) -> Result<Exit, Failure> {
    let instance = Instance::reach(&args.reach, file)?;
    let mut path = format!("/v1/wait?route={}&timeout_ms={}", args.route, args.timeout.as_millis());
    if let Some(position) = &args.position {
        path.push_str(&format!("&position={position}"));
    }
    if args.live {
        path.push_str("&live=true");
    }
    let answer = instance.get(&path, args.timeout.saturating_add(GRACE)).await?;
    match answer.status {
        200 => {
            output.line(match &args.position {
                Some(position) => format!("{position} has arrived over {}", args.route),
                None => format!("{} is live", args.route),
            })?;
            Ok(Exit::Good)
        }
        400 | 404 => {
            Err(Failure::usage(answer.detail(), "`rowcast status` shows routes and positions"))
        }
        _ => Err(answer.failure("`rowcast status` shows how far the route is and why it waits")),
    }
}
