//! What a report must say before its first figure: the machine, the programs, how often and how long.

use std::fs;

use serde::Serialize;

use crate::options::Options;
use crate::process::find_program;
use crate::target::{Target, version};
use crate::workload::Workload;

/// Where and with what the figures were measured.
#[derive(Serialize)]
pub(crate) struct Circumstances {
    machine: String,
    programs: Vec<String>,
    rounds: usize,
    seconds: f64,
}

impl Circumstances {
    /// Asks the kernel and every program.
    pub(crate) fn new(options: &Options, targets: &[Target], workloads: &[Workload]) -> Self {
        let mut programs: Vec<String> = Vec::new();
        for target in targets.iter().filter(|target| workloads.iter().any(|workload| target.takes(workload))) {
            let name = if target.label == "direct" { "memcached" } else { &target.label };
            programs.push(format!("{name} {}", target.version()));
        }
        if let Some(redis) = find_program("redis-server").filter(|_| workloads.iter().any(|workload| workload.redis)) {
            programs.push(format!("Redis {}", version(&redis, "-v")));
        }
        Self { machine: machine(), programs, rounds: options.rounds, seconds: options.seconds }
    }

    /// Three lines for the top of a report.
    pub(crate) fn lines(&self) -> [String; 3] {
        [
            format!("machine: {}", self.machine),
            format!("programs: {}", self.programs.join(", ")),
            format!(
                "runs: {} x {} s, targets in turn; proxies (unless named otherwise) and their three servers with one \
                 thread each, timeouts of 400 ms",
                self.rounds, self.seconds
            ),
        ]
    }
}

/// CPU, cores, kernel, and how busy all that was at the start.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpus.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("", |(_, value)| value)
    };
    let model = Some(field("model name")).filter(|model| !model.is_empty()).unwrap_or("unknown CPU");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let guest = if field("flags").split(' ').any(|flag| flag == "hypervisor") { ", a virtual machine" } else { "" };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{model}, {cores} CPUs{guest}, Linux {}, load average {load} at the start", kernel.trim())
}
