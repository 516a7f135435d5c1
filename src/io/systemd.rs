//! What a service manager is told (`Type=notify-reload` of systemd): that the process is ready, reloads, ends, is alive,
//! and how it is in one line. Without one, nobody is.

use std::time::Duration;

use sd_notify::NotifyState;

use super::operator::Operator;
use super::terminal::counted;
use crate::health::maintenance::RoutingState;

/// Between two looks at how the process is, where no watchdog asks for more.
const PERIOD: Duration = Duration::from_secs(5);

/// How long a worker may take to turn its loop.
const TURN_LIMIT: Duration = Duration::from_secs(1);

/// Servers that are named when they are out. Beyond these, how many there are.
const MOST_NAMED: usize = 3;

/// It serves.
pub(super) fn ready(operator: &Operator) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(operator))]);
}

/// It takes up another configuration; [`ready`] is the end of that.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// Another process is the one that serves.
pub(super) fn succeeded_by(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("answers what has been read, then ends")]);
}

/// Tells for as long as the process runs how it is, and that it is alive, as long as every worker turns its loop.
pub(super) async fn attend(operator: Operator) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let period = watchdog.map_or(PERIOD, |limit| limit / 3);
    let mut told = String::new();
    loop {
        tokio::time::sleep(period).await;
        if watchdog.is_some() && operator.silent_workers(period.min(TURN_LIMIT)).await.is_empty() {
            tell(&[NotifyState::Watchdog]);
        }
        let status = status(&operator);
        if status != told {
            tell(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state); // whoever started it does not listen any more
}

/// One line: whether all servers are in service, and which are not.
fn status(operator: &Operator) -> String {
    let topology = operator.observed().topology();
    let (mut servers, mut out) = (0, Vec::new());
    for pool in &topology.config.pools {
        let routing = topology.registry.routing(pool.id);
        servers += pool.servers.len();
        let is_out = |id: usize| routing.get(id).is_some_and(|state| *state != RoutingState::Up);
        let names = pool.servers.iter().filter(|server| is_out(server.id.index()));
        out.extend(names.map(|server| format!("{}/{}", pool.name, server.name)));
    }
    let refused = match topology.counters[0].reload_refused.value() {
        0 => "",
        _ => "the configuration file is refused, an earlier one is in force; ",
    };
    if out.is_empty() {
        return format!("{refused}all is well: {} in service", counted(servers, "server"));
    }
    let more = out.len().saturating_sub(MOST_NAMED);
    let names = out.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{refused}{} of {} out of service: {names}{more}", out.len(), counted(servers, "server"))
}
