//! Processor time and memory of processes, from `/proc`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What else may run while a side is measured, in processors.
const QUIET_CORES: f64 = 0.15;
/// How long the host is watched to see whether it is quiet.
const QUIET_LOOK: Duration = Duration::from_millis(400);
/// Clock ticks a second in `/proc`; the same on every Linux of today.
const TICKS_PER_S: f64 = 100.0;

/// Resident memory in MiB: now and at its highest.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now_mib: f64,
    pub(crate) peak_mib: f64,
}

/// The memory of process `pid`.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    };
    Memory { now_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:") }
}

/// Processes whose time is taken; with their children.
#[derive(Clone)]
pub(crate) struct Watch {
    pids: Vec<(&'static str, u32)>,
}

/// Times at one instant.
pub(crate) struct Sample {
    at: Instant,
    seconds: Vec<(&'static str, f64)>,
    host: f64,
}

/// Processor time spent between two samples.
pub(crate) struct Usage {
    pub(crate) seconds: Vec<(&'static str, f64)>,
    /// Processors used by what is not watched.
    pub(crate) foreign_cores: f64,
}

impl Watch {
    pub(crate) fn new(pids: &[(&'static str, Option<u32>)]) -> Self {
        let mut pids: Vec<_> = pids.iter().filter_map(|(name, pid)| Some((*name, (*pid)?))).collect();
        pids.push(("generator", std::process::id()));
        Self { pids }
    }

    /// Waits until nothing else keeps the host busy, for `patience` at the most.
    pub(crate) fn wait_until_quiet(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let before = self.sample();
            std::thread::sleep(QUIET_LOOK);
            if self.since(&before).foreign_cores <= QUIET_CORES || Instant::now() >= deadline {
                return;
            }
        }
    }

    pub(crate) fn sample(&self) -> Sample {
        let children = children();
        let seconds = self.pids.iter().map(|(name, pid)| (*name, tree_seconds(*pid, &self.pids, &children)));
        Sample { at: Instant::now(), seconds: seconds.collect(), host: host_seconds() }
    }

    pub(crate) fn since(&self, before: &Sample) -> Usage {
        let now = self.sample();
        let elapsed = now.at - before.at;
        let seconds: Vec<_> = now
            .seconds
            .iter()
            .zip(&before.seconds)
            .map(|((name, now), (_, before))| (*name, (now - before).max(0.0)))
            .collect();
        let watched: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
        let foreign = (now.host - before.host - watched) / elapsed.as_secs_f64().max(1e-9);
        Usage { seconds, foreign_cores: foreign.max(0.0) }
    }
}

impl Usage {
    /// Microseconds of processor time per operation, by process.
    pub(crate) fn per_operation(&self, count: usize) -> String {
        let count = super::generator::to_f64(count.max(1));
        let parts = self.seconds.iter().map(|(name, seconds)| format!("{name} {:.0}", seconds * 1e6 / count));
        let parts: Vec<String> = parts.collect();
        format!("µs CPU each: {}; foreign cores {:.2}", parts.join(", "), self.foreign_cores)
    }
}

fn children() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return children };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(fields) = stat(pid)
            && let Some(parent) = fields.get(1).and_then(|text| text.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The fields of `/proc/<pid>/stat` from the third on: the second may hold spaces.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// The time of `pid`, of its children that ended and of those that live, apart from those watched themselves.
fn tree_seconds(pid: u32, watched: &[(&'static str, u32)], children: &HashMap<u32, Vec<u32>>) -> f64 {
    let ticks = |fields: &[String], index: usize| {
        fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let own = stat(pid).map_or(0.0, |fields| (11..=14).map(|index| ticks(&fields, index)).sum::<f64>());
    let living = children.get(&pid).into_iter().flatten();
    let living = living.filter(|child| watched.iter().all(|(_, other)| other != *child));
    own / TICKS_PER_S + living.map(|child| tree_seconds(*child, watched, children)).sum::<f64>()
}

/// The time that all processors were busy.
fn host_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let Some(line) = text.lines().next() else { return 0.0 };
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // Idle and waiting for the disk are the fourth and fifth; guest time is counted in user time already.
    let busy = ticks.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    busy.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_S
}
