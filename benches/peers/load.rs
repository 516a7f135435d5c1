//! The load generator: what its process does in order.
//!
//! It runs as a process of its own, so that it can be pinned apart from the proxy. It reads the proxy's CPU time
//! itself, at the very turn of the loop at which the window opens and closes; a second process would have to be
//! woken for that, and the requests in between would be counted wrongly.

use std::io::{self, BufRead as _, Read as _, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail};

use crate::content::Content;
use crate::generator::Generator;
use crate::memory;
use crate::task::{Address, LoadOptions, Phase, parse_address};
use crate::workload::{Pace, Workload, by_name};

/// Values that are stored with one write when the caches are filled.
const FILL_BYTES: usize = 256 << 10;

/// Runs one load process: prints `ready`, waits for a line on standard input, loads, prints the result.
pub(crate) fn main(options: &LoadOptions) -> Result<()> {
    let workload = by_name(&options.workload).with_context(|| format!("no workload {:?}", options.workload))?;
    let workload = Workload { binary: workload.binary && !options.text, ..workload };
    if options.phase == Phase::Fill {
        // Values are the same whoever asks for them.
        return fill(&options.address, &Content::new(&Workload { binary: false, ..workload }));
    }
    let content = Content::new(&workload);
    let mut generator = Generator::new(&options.address, workload, content)?;
    let result = match workload.pace {
        Pace::Idle => {
            wait_for_go()?;
            memory::idle(&mut generator, options)?
        }
        Pace::Burst(times) => {
            wait_for_go()?;
            memory::burst(&mut generator, options, times)?
        }
        Pace::Reconnect(_) => {
            wait_for_go()?;
            generator.load(options)?
        }
        Pace::Sliding | Pace::Batch => {
            generator.connect(workload.silent, true)?;
            generator.connect(workload.connections, false)?;
            wait_for_go()?;
            generator.load(options)?
        }
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &result)?;
    writeln!(out)?;
    Ok(())
}

fn wait_for_go() -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("nobody says go");
    }
    Ok(())
}

/// Stores every key, a batch at a time.
fn fill(address: &str, content: &Content) -> Result<()> {
    let mut stream: Box<dyn ReadWrite> = match parse_address(address)? {
        Address::Tcp(address) => Box::new(std::net::TcpStream::connect(address)?),
        Address::Unix(path) => Box::new(UnixStream::connect(path)?),
    };
    let keys: Vec<u32> = (0..content.keys()).collect();
    // Large values go one at a time: what is under way must not depend on how much a proxy can hold.
    let batch = (FILL_BYTES / content.value(0).len()).clamp(1, 16);
    let mut request = Vec::new();
    for batch in keys.chunks(batch) {
        request.clear();
        for &key in batch {
            content.push_set(&mut request, key);
        }
        stream.write_all(&request)?;
        let mut reply = vec![0; content.stored().len() * batch.len()];
        stream.read_exact(&mut reply).context("filling the caches")?;
        if reply != content.stored().repeat(batch.len()) {
            bail!("filling the caches was answered with {:?}", String::from_utf8_lossy(&reply));
        }
    }
    Ok(())
}

trait ReadWrite: io::Read + Write {}
impl<T: io::Read + Write> ReadWrite for T {}
