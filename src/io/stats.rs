//! The statistics port: whoever connects gets one JSON object, as from twemproxy.
//!
//! It is made by the task of that connection: nothing that goes wrong there ends the task that accepts.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, warn};

use super::files::ADVICE;
use super::proxy::Observed;
use super::readers::{Readers, accept};
use crate::stats::json::{self, Moment};

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pause before the port is served again after something went wrong.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How long a reader may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Serves the statistics until the runtime ends. Should the task that does so end, it is told, and started again.
pub(super) async fn serve(listener: std::net::TcpListener, observed: Observed, serves: watch::Receiver<bool>) {
    // Shared, as a copy would need another descriptor.
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => Arc::new(listener),
        Err(error) => return error!(%error, "cannot serve statistics"),
    };
    loop {
        let served = tokio::spawn(accept_all(Arc::clone(&listener), observed.clone(), serves.clone())).await;
        let why = served.err().map(|error| error.to_string());
        error!(why, "the statistics are not served any more: trying again");
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

async fn accept_all(listener: Arc<TcpListener>, observed: Observed, mut serves: watch::Receiver<bool>) {
    let readers = Readers::new(observed.files.readers());
    let mut is_told = false;
    loop {
        match accept(&listener, &mut serves).await {
            Ok((mut stream, _)) => {
                is_told = false;
                let (reader, observed) = (readers.admit().await, observed.clone());
                readers.spawn(reader.id(), async move {
                    let body = render(&observed);
                    let written = tokio::time::timeout(WRITE_LIMIT, async {
                        stream.write_all(body.as_bytes()).await?;
                        stream.shutdown().await
                    });
                    let _ = written.await; // a reader that leaves early has what it wanted
                    drop(reader);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    warn!(%error, "cannot accept a reader of the statistics; {ADVICE}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn render(observed: &Observed) -> String {
    let now = observed.clock.now();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let moment =
        Moment { host: host.trim(), uptime: Duration::from_nanos(now.as_nanos()), wall: observed.clock.wall(now) };
    let topology = observed.topology();
    json::render(&topology.config, &topology.registry, &topology.counters, &moment)
}
