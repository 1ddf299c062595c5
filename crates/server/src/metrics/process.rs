//! What the process takes, under the names that every Prometheus client uses. What a system does not
//! tell is left out.

use super::text::{Kind, Text};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn write(text: &mut Text, started: SystemTime) {
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.family(name, Kind::Gauge, help);
            text.sample(name, &[], value);
        }
    };
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", memory());
    gauge("process_open_fds", "Number of open file descriptors.", descriptors());
    let started = started.duration_since(UNIX_EPOCH).ok().map(|s| s.as_secs_f64());
    gauge("process_start_time_seconds", "Start time since the Unix epoch in seconds.", started);
    const CPU: &str = "process_cpu_seconds_total";
    text.family(CPU, Kind::Counter, "Total user and system CPU time spent in seconds.");
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    text.sample(CPU, &[], spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9);
}

fn memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib * 1024) as f64)
}

fn descriptors() -> Option<f64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}
