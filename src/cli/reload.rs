//! `reload`: a running proxy reads its configuration again, through its admin port.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::check::problems;
use super::port::{self, EXAMPLE};
use crate::config;
use crate::config::model::Port;
use crate::io::terminal::{colour, complain, say};

/// How long a proxy may take that has names to look up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The arguments of `reload`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The proxy's admin port, HOST:PORT; otherwise what the configuration file has as `admin`
    #[arg(value_name = "ADDR")]
    address: Option<String>,
}

/// What the proxy answers.
#[derive(Debug, Deserialize)]
struct Answer {
    changes: Vec<String>,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let loaded = config::load(file);
    let address = match (&arguments.address, &loaded) {
        (Some(text), _) => port::written(text, "reload")?,
        (None, Err(report)) if file.exists() => {
            complain(&report.render(colour()));
            let problems = problems(report.errors());
            complain(&format!("\nsoftmiss: {} is refused, {problems}: nothing was changed", file.display()));
            return Ok(ExitCode::FAILURE);
        }
        (None, _) => port::configured(file, "reload")?,
    };
    // The one that is in force: whoever changes it in the file still has to say the old one.
    let settings = loaded.ok().map(|loaded| loaded.config.settings);
    let is_its = |admin: Port| arguments.address.is_none() || admin == Port::Unsaid || matches!(admin, Port::At(_));
    let token = settings.filter(|settings| is_its(settings.admin)).and_then(|settings| settings.admin_token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(port::ask(&address, "POST /reload", token.as_deref(), TIMEOUT));
    runtime.shutdown_background(); // a name that is still being looked up is not waited for
    let answer = match asked {
        Ok(answer) => answer,
        Err(trouble) => {
            complain(&format!(
                "softmiss: nobody answers at {address} ({trouble}): is softmiss running, and is that its admin port? A \
                 SIGHUP to the process does the same; what came of it stands in its log"
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    match port::parts(&answer) {
        Some((200, body)) => {
            let Ok(Answer { changes }) = serde_json::from_slice(body) else { return Ok(stranger(&address)) };
            if changes.is_empty() {
                say("nothing has changed\n");
            }
            changes.iter().for_each(|change| say(&format!("{change}\n")));
            Ok(ExitCode::SUCCESS)
        }
        Some((400..=499, body)) => {
            let text = String::from_utf8_lossy(body);
            complain(&format!("{}\n\nsoftmiss: the proxy at {address} has changed nothing", text.trim_end()));
            Ok(ExitCode::FAILURE)
        }
        _ => Ok(stranger(&address)),
    }
}

fn stranger(address: &str) -> ExitCode {
    complain(&format!(
        "softmiss: what answers at {address} is not the admin port of a softmiss that can reload; its file has it as \
         `softmiss: {{admin: {EXAMPLE}}}`"
    ));
    ExitCode::FAILURE
}
