//! The stretch of time that counts: CPU time of all who take part, from its opening to its close.

use std::time::Instant;

use anyhow::Result;

use crate::measure::cpu_ns;
use crate::task::{LoadOptions, LoadResult};

/// An open window.
pub(crate) struct Window<'a> {
    options: &'a LoadOptions,
    servers_ns: Option<u64>,
    load_ns: u64,
    target_ns: u64,
    opened: Instant,
}

impl<'a> Window<'a> {
    /// Reads where every account stands; the target's last, so that its stretch is the window's own.
    pub(crate) fn open(options: &'a LoadOptions) -> Result<Self> {
        let servers_ns = servers_ns(options)?;
        let load_ns = cpu_ns(std::process::id())?;
        let target_ns = cpu_ns(options.pid)?;
        Ok(Self { options, servers_ns, load_ns, target_ns, opened: Instant::now() })
    }

    /// When it was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Reads the accounts again, the target's first.
    pub(crate) fn close(self, requests: u64) -> Result<LoadResult> {
        let target_ns = cpu_ns(self.options.pid)?;
        let seconds = self.opened.elapsed().as_secs_f64();
        let load_ns = cpu_ns(std::process::id())?;
        let servers_ns = servers_ns(self.options)?;
        Ok(LoadResult {
            requests,
            seconds,
            cpu_ns: target_ns - self.target_ns,
            load_cpu_ns: load_ns - self.load_ns,
            servers_cpu_ns: servers_ns.zip(self.servers_ns).map(|(after, before)| after - before),
            ..LoadResult::default()
        })
    }
}

/// The servers together; nothing when there are none behind the target.
fn servers_ns(options: &LoadOptions) -> Result<Option<u64>> {
    if options.servers.is_empty() {
        return Ok(None);
    }
    let mut total = 0;
    for &pid in &options.servers {
        total += cpu_ns(pid)?;
    }
    Ok(Some(total))
}
