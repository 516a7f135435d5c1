//! `reload` and `upgrade`: a running proxy reads its configuration again, or is succeeded by another process, through its
//! admin port.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::port::{self, EXAMPLE};
use crate::config;
use crate::io::terminal::{colour, complain, counted, say};

/// How long a proxy may take that has names to look up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a proxy is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Reload,
    Upgrade,
}

impl Order {
    const fn name(self) -> &'static str {
        if let Self::Reload = self { "reload" } else { "upgrade" }
    }

    const fn request(self) -> &'static str {
        if let Self::Reload = self { "POST /reload" } else { "POST /upgrade" }
    }

    /// The signal that does the same.
    const fn signal(self) -> &'static str {
        if let Self::Reload = self { "SIGHUP" } else { "SIGUSR2" }
    }
}

/// The arguments of `reload` and `upgrade`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The proxy's admin port, HOST:PORT; otherwise what the configuration file has as `admin`
    #[arg(value_name = "ADDR")]
    address: Option<String>,
}

/// What the proxy answers.
#[derive(Debug, Deserialize)]
struct Answer {
    /// What it reads.
    file: Option<PathBuf>,
    /// What a reload has changed.
    changes: Option<Vec<String>>,
    /// The process that succeeds it.
    pid: Option<u32>,
}

impl Answer {
    /// The lines that tell of it.
    fn lines(self, order: Order) -> Option<Vec<String>> {
        match order {
            Order::Upgrade => self.pid.map(|pid| vec![format!("process {pid} serves, clients go over to it")]),
            Order::Reload => {
                self.changes.map(|lines| if lines.is_empty() { vec!["nothing has changed".to_owned()] } else { lines })
            }
        }
    }
}

pub(super) fn run(order: Order, file: &Path, is_named: bool, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = config::load(file);
    let address = match (&arguments.address, &loaded) {
        (Some(text), _) => port::written(text, order.name())?,
        (None, Err(report)) if file.exists() => {
            complain(&report.render(colour()));
            let problems = counted(report.errors(), "problem");
            complain(&format!("\nsoftmiss: {} is refused, {problems}: nothing was changed", file.display()));
            return Ok(ExitCode::FAILURE);
        }
        (None, _) => port::configured(file, order.name())?,
    };
    // It is for the proxy of this file, or of this host, and nobody else.
    let is_here = arguments.address.is_none() || is_loopback(&address);
    let token = loaded.ok().filter(|_| is_here).and_then(|loaded| loaded.config.settings.admin_token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(port::ask(&address, order.request(), token.as_deref(), TIMEOUT));
    runtime.shutdown_background(); // a name that is still being looked up is not waited for
    let answer = match asked {
        Ok(answer) => answer,
        Err(trouble) => {
            complain(&format!(
                "softmiss: nobody answers at {address} ({trouble}): is softmiss running, and is that its admin port? A \
                 {} to the process does the same; what came of it stands in its log",
                order.signal()
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    match port::parts(&answer) {
        Some((200, body)) => {
            let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return Ok(stranger(order, &address)) };
            let read = answer.file.clone();
            let Some(lines) = answer.lines(order) else { return Ok(stranger(order, &address)) };
            let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            if let Some(read) = read.filter(|read| is_named && real(read) != real(file)) {
                complain(&format!(
                    "softmiss: the proxy at {address} reads {}, not {}: that is what was taken up",
                    read.display(),
                    file.display()
                ));
                return Ok(ExitCode::FAILURE);
            }
            lines.iter().for_each(|line| say(&format!("{line}\n")));
            Ok(ExitCode::SUCCESS)
        }
        Some((status @ 400..=499, body)) => {
            let text = String::from_utf8_lossy(body);
            complain(&format!("{}\n\nsoftmiss: the proxy at {address} has changed nothing", text.trim_end()));
            if status == 401 {
                let signal = order.signal();
                complain(&format!(
                    "softmiss: a {signal} to the process needs no token; what comes of it stands in its log"
                ));
            }
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(stranger(order, &address)),
    }
}

/// Whether an address is one of this host, by its number or as localhost.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

fn stranger(order: Order, address: &str) -> ExitCode {
    complain(&format!(
        "softmiss: what answers at {address} is not the admin port of a softmiss that can {}; its file has it as \
         `softmiss: {{admin: {EXAMPLE}}}`",
        order.name()
    ));
    ExitCode::FAILURE
}
