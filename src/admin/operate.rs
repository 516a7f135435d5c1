//! The requests that change something. Each answers with what it did, as JSON; what it refuses, it says why.

use std::net::IpAddr;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::flush;
use super::query::Query;
use super::refusal::Refusal;
use crate::config::model::{LogLevel, Protocol};
use crate::health::maintenance::{Maintenance, MaintenanceOutcome};
use crate::io::Operator;
use crate::io::reload::Refused;
use crate::io::upgrade::Stays;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdminAction {
    Eject,
    Drain,
    Restore,
    Flush,
    Log,
    Reload,
    Upgrade,
}

impl AdminAction {
    /// The parameters that it has.
    pub(super) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Eject | Self::Drain => &["pool", "server", "force"],
            Self::Restore => &["pool", "server"],
            Self::Flush => &["pool"],
            Self::Log => &["level"],
            Self::Reload | Self::Upgrade => &[],
        }
    }
}

/// Does it. `by` is who wants it.
pub(super) async fn act(
    operator: &Operator,
    action: AdminAction,
    query: &Query,
    by: IpAddr,
) -> Result<(StatusCode, Value), Refusal> {
    match action {
        AdminAction::Eject => take_out(operator, Maintenance::Eject, query, by),
        AdminAction::Drain => take_out(operator, Maintenance::Drain, query, by),
        AdminAction::Restore => restore(operator, query, by),
        AdminAction::Flush => flush(operator, query, by).await,
        AdminAction::Log => log(operator, query, by),
        AdminAction::Reload => reload(operator, by).await,
        AdminAction::Upgrade => upgrade(operator, by).await,
    }
}

fn take_out(operator: &Operator, kind: Maintenance, query: &Query, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let topology = operator.observed().topology();
    let (pool, of) = query.pool(&topology.config)?;
    let (server, named) = query.server(of)?;
    let said = operator.take_out(pool, server, kind, query.flag("force")?, by);
    let name = &named.name;
    let message = match (said, kind) {
        (MaintenanceOutcome::Last, _) => {
            let text = format!(
                "{name} is the last server in the ring of pool {}: without it every request is answered by `on_failure: \
                 {}`; with `force=1` it is taken out all the same",
                of.name,
                of.on_failure.name()
            );
            return Err(Refusal { status: StatusCode::CONFLICT, text, allow: None });
        }
        (MaintenanceOutcome::Already, _) => {
            format!("{name} was taken out before, and stays out until POST /servers/restore")
        }
        (MaintenanceOutcome::Done, Maintenance::Eject) => {
            format!("{name} is out of the ring until POST /servers/restore")
        }
        (MaintenanceOutcome::Done, Maintenance::Drain) => {
            format!(
                "{name} gets no more requests until POST /servers/restore; `in_flight` of /servers is what it still has"
            )
        }
    };
    let state = topology.registry.state(pool, server).name();
    Ok((StatusCode::OK, told(&of.name, name, state, said, &message)))
}

fn restore(operator: &Operator, query: &Query, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let topology = operator.observed().topology();
    let (pool, of) = query.pool(&topology.config)?;
    let (server, named) = query.server(of)?;
    let said = operator.let_back(pool, server, by);
    let (name, state) = (&named.name, topology.registry.state(pool, server).name());
    let message = match (said, state) {
        (MaintenanceOutcome::Done, _) => {
            format!("{name} is probed now, and is back in the ring when it has answered well")
        }
        (MaintenanceOutcome::Already | MaintenanceOutcome::Last, "up") => format!("{name} is in the ring"),
        (MaintenanceOutcome::Already | MaintenanceOutcome::Last, _) => {
            format!("{name} is being probed, and is back in the ring when it has answered well")
        }
    };
    Ok((StatusCode::OK, told(&of.name, name, state, said, &message)))
}

fn told(pool: &str, server: &str, state: &str, said: MaintenanceOutcome, message: &str) -> Value {
    json!({"pool": pool, "server": server, "state": state, "changed": said == MaintenanceOutcome::Done, "message": message})
}

async fn flush(operator: &Operator, query: &Query, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let topology = operator.observed().topology();
    let (id, pool) = query.pool(&topology.config)?;
    if pool.protocol == Protocol::Redis {
        let text = format!("pool {} speaks Redis: send it FLUSHALL or FLUSHDB", pool.name);
        return Err(Refusal::bad(text));
    }
    operator.flushes(id, by);
    let servers = flush::all(operator, id, pool).await;
    let refused = servers.iter().filter(|server| !server.flushed && !server.owed).count();
    let failed = servers.iter().filter(|server| !server.flushed).count();
    // A script must notice that somebody still has what it wanted gone.
    let status = if refused > 0 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    Ok((
        status,
        json!({"pool": pool.name, "flushed": servers.len() - failed, "not_flushed": failed, "servers": servers}),
    ))
}

fn log(operator: &Operator, query: &Query, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let wanted = query.text("level").unwrap_or_default();
    let Some((name, level)) = LogLevel::ALL.iter().find(|(name, _)| *name == wanted) else {
        let names: Vec<_> = LogLevel::ALL.iter().map(|(name, _)| *name).collect();
        return Err(Refusal::bad(format!("say which level: `level=` one of {}", names.join(", "))));
    };
    match operator.set_log_level(*level, by) {
        Some(before) => Ok((StatusCode::OK, json!({"level": name, "before": before.name()}))),
        None => Err(Refusal::missing("this process has no log whose level can be changed".to_owned())),
    }
}

/// It takes a moment until a successor serves, or has failed.
async fn upgrade(operator: &Operator, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let (own, by) = (operator.clone(), by.to_string());
    let refuse = |status, text| Refusal { status, text, allow: None };
    match tokio::task::spawn_blocking(move || own.upgrade(&by)).await {
        Ok(Ok(pid)) => Ok((StatusCode::OK, json!({"file": file(operator), "pid": pid}))),
        Ok(Err(stays @ Stays::NoFile)) => Err(refuse(StatusCode::NOT_FOUND, stays.to_string())),
        Ok(Err(stays @ (Stays::Already | Stays::TooSoon | Stays::Failed(_)))) => {
            Err(refuse(StatusCode::CONFLICT, stays.to_string()))
        }
        Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// The file that is read again, or that a successor reads.
fn file(operator: &Operator) -> Option<String> {
    operator.source().map(|source| source.path().display().to_string())
}

/// Reading a file may wait for a disk, and its names for who knows them: that keeps nobody else waiting.
async fn reload(operator: &Operator, by: IpAddr) -> Result<(StatusCode, Value), Refusal> {
    let (own, by) = (operator.clone(), by.to_string());
    let refuse = |status, text| Refusal { status, text, allow: None };
    match tokio::task::spawn_blocking(move || own.reload(&by)).await {
        Ok(Ok(changes)) => {
            let topology = operator.observed().topology();
            let text = changes.to_string();
            let fixed: Vec<_> = changes
                .fixed()
                .map(|(pool, option)| {
                    pool.map_or_else(|| option.name.clone(), |pool| format!("{pool}.{}", option.name))
                })
                .collect();
            let told = json!({
                "file": file(operator),
                "changed": !changes.is_empty(),
                "version": topology.version,
                "digest": &*topology.digest,
                "changes": text.lines().collect::<Vec<_>>(),
                "after_restart": fixed,
            });
            Ok((StatusCode::OK, told))
        }
        Ok(Err(refused @ Refused::NoFile)) => Err(refuse(StatusCode::NOT_FOUND, refused.to_string())),
        Ok(Err(
            refused @ (Refused::Listen(_)
            | Refused::Nobody { .. }
            | Refused::Ending
            | Refused::Succeeded
            | Refused::Full),
        )) => Err(refuse(StatusCode::CONFLICT, refused.to_string())),
        Ok(Err(refused @ Refused::File(_))) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string())),
        Err(error) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
