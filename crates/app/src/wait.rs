//! `rowcast wait`: read your own write elsewhere.

use crate::cli;
use crate::config;
use crate::instance::Instance;
use crate::output::Output;
use crate::report::{Exit, Failure};
use std::path::Path;
use std::time::Duration;

/// What the running instance may take beyond the wait itself.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn wait(args: cli::Wait, file: &Path, output: Output) -> Result<Exit, Failure> {
    let loaded = config::load(file)?;
    let instance = Instance::expect(&loaded.plan.data)?;
    let path = format!(
        "/v1/wait?route={}&position={}&timeout_ms={}",
        args.route,
        args.position,
        args.timeout.as_millis()
    );
    let answer = instance.get(&path, args.timeout.saturating_add(GRACE)).await?;
    match answer.status {
        200 => {
            output.line(format!("{} has arrived over {}", args.position, args.route))?;
            Ok(Exit::Good)
        }
        400 | 404 => {
            Err(Failure::usage(answer.detail(), "`rowcast status` shows routes and positions"))
        }
        _ => Err(Failure::new(
            answer.detail(),
            "`rowcast status` shows how far the route is and why it waits",
        )),
    }
}
