//! How long the machine itself keeps those waiting that want to run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Watches each CPU. A test that states a time in milliseconds grants as much on top: a busy machine is not the proxy's fault.
pub(crate) struct Hiccups {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Wait>>>,
}

/// From when a watcher was to run until it ran.
#[derive(Debug, Clone, Copy)]
struct Wait {
    from: Instant,
    to: Instant,
}

impl Wait {
    fn took(self) -> Duration {
        self.to - self.from
    }
}

impl Hiccups {
    /// A thread for each CPU that this one may run on wakes up every two milliseconds.
    pub(crate) fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let cpus = sched_getaffinity(None).expect("the CPUs of this thread");
        let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu));
        let threads = cpus.map(|cpu| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut own = CpuSet::new();
                own.set(cpu);
                // A CPU that goes away is watched from another one. Where it may, it goes before the proxy too: what that
                // takes is not the machine's.
                let _ = (sched_setaffinity(None, &own), setpriority_process(None, -20));
                let nap = Duration::from_millis(2);
                let mut waits = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let due = Instant::now() + nap;
                    std::thread::sleep(nap);
                    waits.push(Wait { from: due, to: Instant::now().max(due) });
                }
                waits
            })
        });
        let threads = threads.collect();
        Self { over, threads }
    }

    /// The longest wait so far; ends the watch.
    pub(crate) fn longest(self) -> Duration {
        self.end().longest()
    }

    /// All that was seen.
    pub(crate) fn end(self) -> Waits {
        self.over.store(true, Ordering::Relaxed);
        let each = self.threads.into_iter().map(|thread| thread.join().expect("a watch"));
        let mut waits: Vec<_> = each.flatten().collect();
        waits.sort_unstable_by_key(|wait| wait.from);
        Waits(waits)
    }
}

/// All waits of a watch, in the order in which they began.
pub(crate) struct Waits(Vec<Wait>);

impl Waits {
    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        self.0.iter().map(|wait| wait.took()).max().unwrap_or_default()
    }

    /// The 99th percentile of those that began in a time.
    pub(crate) fn p99(&self, from: Instant, to: Instant) -> Duration {
        let mut times: Vec<_> =
            self.0.iter().filter(|wait| (from..to).contains(&wait.from)).map(|wait| wait.took()).collect();
        times.sort_unstable();
        times.get(times.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// For how long of a time a CPU stood still: nobody gets on while it does who wants to run there.
    ///
    /// A wait of less than half a millisecond is the ordinary cost of waking up.
    pub(crate) fn stood_still(&self, from: Instant, to: Instant) -> Duration {
        let begun = self.0.partition_point(|wait| wait.from < from.checked_sub(LONGEST).unwrap_or(from));
        let mut total = Duration::ZERO;
        let mut counted = from;
        for wait in self.0[begun..].iter().take_while(|wait| wait.from < to) {
            let (start, end) = (wait.from.max(counted), wait.to.min(to));
            if wait.took() >= Duration::from_micros(500) && end > start {
                total += end - start;
                counted = end;
            }
        }
        total
    }
}

/// Longer than this, no machine stands still on which anything can be measured.
const LONGEST: Duration = Duration::from_secs(1);
