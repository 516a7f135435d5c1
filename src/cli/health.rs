//! `health`: whether a running proxy is alive, by its admin port; for whoever starts it anew if it is not.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::port::{self, EXAMPLE};
use crate::io::terminal::{complain, say};

/// Workers are given 800 ms to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The arguments of `health`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The proxy's admin port, HOST:PORT; otherwise what the configuration file has as `admin`
    #[arg(value_name = "ADDR")]
    address: Option<String>,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let address = match &arguments.address {
        Some(text) => port::written(text, "health")?,
        None => port::configured(file, "health")?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(port::ask(&address, "GET /healthz", None, TIMEOUT));
    runtime.shutdown_background(); // a name that is still being looked up is not waited for
    let answer = match asked {
        Ok(answer) => answer,
        Err(trouble) => {
            complain(&format!("softmiss: nobody answers at {address} ({trouble})"));
            return Ok(ExitCode::FAILURE);
        }
    };
    match port::parts(&answer) {
        Some((200, b"ok\n")) => {
            say("ok\n");
            Ok(ExitCode::SUCCESS)
        }
        // Whoever keeps what a probe prints looks for the reason there.
        Some((503, reason)) => {
            say(&format!("{}\n", String::from_utf8_lossy(reason).trim_end()));
            Ok(ExitCode::FAILURE)
        }
        _ => {
            complain(&format!(
                "softmiss: what answers at {address} is not the admin port of softmiss; its file has it as \
                 `softmiss: {{admin: {EXAMPLE}}}`"
            ));
            Ok(ExitCode::FAILURE)
        }
    }
}
