//! The statistics port: whoever connects gets one JSON object, as from twemproxy.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tracing::{error, warn};

use super::proxy::Observed;
use crate::stats::json::{self, Moment};

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a reader may take.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// Serves the statistics until the runtime ends.
pub(super) async fn serve(listener: std::net::TcpListener, observed: Observed) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error!(%error, "cannot serve statistics"),
    };
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => {
                let body = render(&observed);
                tokio::spawn(async move {
                    let written = tokio::time::timeout(WRITE_LIMIT, async {
                        stream.write_all(body.as_bytes()).await?;
                        stream.shutdown().await
                    });
                    let _ = written.await; // a reader that leaves early has what it wanted
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a reader of the statistics");
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
    json::render(&observed.config, &observed.board, &observed.counters, &moment)
}
