//! The runs whose figure is memory: what idle clients take, and what a burst of large values leaves behind.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::generator::{Generator, SILENCE};
use crate::measure::{peak_bytes, resident_bytes, restart_peak};
use crate::task::{LoadOptions, LoadResult, Quantiles, lossy};
use crate::window::Window;

/// How long a proxy has to give back what a burst made it take.
const SETTLE: Duration = Duration::from_secs(5);

/// Opens all connections, one get on each, and reads how much memory they took.
pub(crate) fn idle(generator: &mut Generator, options: &LoadOptions) -> Result<LoadResult> {
    let connections = generator.workload.connections;
    // The first client pays for what every proxy sets up once.
    generator.connect(1, true)?;
    let before = resident_bytes(options.pid)?;
    generator.connect(connections, true)?;
    let after = resident_bytes(options.pid)?;
    let growth = lossy(after.saturating_sub(before));
    let tally = &generator.tally;
    Ok(LoadResult {
        requests: tally.requests,
        lifetime_requests: tally.requests,
        resident_bytes: after,
        bytes_per_client: Some(growth / f64::from(u32::try_from(connections)?)),
        misses: tally.misses,
        errors: tally.errors,
        ..LoadResult::default()
    })
}

/// Lets each connection ask `times` times, one after the other, and reads memory before, meanwhile and some time later.
pub(crate) fn burst(generator: &mut Generator, options: &LoadOptions, times: u32) -> Result<LoadResult> {
    let before = resident_bytes(options.pid)?;
    restart_peak(options.pid);
    let connections = generator.workload.connections;
    generator.connect(connections, false)?;
    let window = Window::open(options)?;
    let mut left = vec![times; connections];
    let mut open = connections;
    for slot in 0..connections {
        generator.ask(slot, 1)?;
    }
    let mut last_reply = window.opened();
    while open > 0 {
        let answered = generator.turn(SILENCE)?;
        // A turn may bring no more than a part of a value.
        if !answered.is_empty() {
            last_reply = Instant::now();
        } else if last_reply.elapsed() > SILENCE {
            bail!("no reply for {SILENCE:?}");
        }
        for &slot in &answered {
            left[slot] -= 1;
            match left[slot] {
                0 => open -= 1,
                _ => generator.ask(slot, 1)?,
            }
        }
        generator.give_back(answered);
    }
    let result = window.close(generator.tally.requests)?;
    let peak = peak_bytes(options.pid)?;
    std::thread::sleep(SETTLE);
    let after = resident_bytes(options.pid)?;
    let quantiles = Quantiles::of(&mut generator.tally.latencies_ns);
    Ok(LoadResult {
        lifetime_requests: result.requests,
        resident_bytes: after,
        before_bytes: Some(before),
        peak_bytes: Some(peak),
        quantiles,
        misses: generator.tally.misses,
        errors: generator.tally.errors,
        ..result
    })
}
