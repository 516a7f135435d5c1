//! The command line: its definitions, and one module a subcommand.
//!
//! twemproxy's flags keep their meaning, so the binary can be put in its place; subcommands stand beside them.

mod check;
pub mod daemon;
mod flags;
mod health;
mod manual;
mod port;
mod reload;
mod route;
mod run;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::flags::{Flags, default_file};
use crate::io::terminal::{complain, say};

const ABOUT: &str = "A sharding proxy for memcached and Redis that turns a dead cache server into misses.";

// No line is longer than a terminal of 80 columns: longer ones would be broken where it does not help.
const EXAMPLES: &str = "\
Examples:
  softmiss demo                    see it work: three nodes, a load, a monkey
  softmiss check conf/example.yml  all that is wrong with a file, at once
  softmiss -c conf/example.yml     run
  softmiss top 127.0.0.1:22223     watch it run, by its admin port
  softmiss health                  whether it is alive, for a container's probe
  softmiss check --diff conf/twemproxy.yml conf/example.yml
                                   what another file would change, and how many
                                   keys would move
  softmiss reload                  have it take up its changed file, live
  softmiss upgrade                 have a new binary take over, clients included
  softmiss route -c conf/example.yml user:42
                                   which server a key belongs to, and why
  softmiss route -c conf/example.yml --dead cache-a user:42
                                   where it would go if cache-a were gone
  softmiss man                     the manual page: softmiss man | man -l -
  softmiss completions bash        what bash completes, for
                                   /etc/bash_completion.d/softmiss

Every option of the file is in the manual page, and in conf/example.yml. SIGTERM and SIGINT
answer what has been read and end; SIGHUP takes up a changed file and reopens
the log file; SIGUSR1 reopens the log file only; SIGUSR2 has a new process take
over; SIGTTIN and SIGTTOU make the log louder and quieter.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "softmiss", version, about = ABOUT, after_help = EXAMPLES, disable_version_flag = true)]
#[command(max_term_width = 80)]
#[command(args_override_self = true)] // as with twemproxy, the last of several wins
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong with configuration files; exit 0 if nothing is
    Check(check::Arguments),
    /// Say which pool and server keys belong to, and why
    Route(route::Arguments),
    /// Have a running proxy read its configuration again; exit 1 if that is refused
    Reload(reload::Arguments),
    /// Have another process, of a new binary say, take over from a running proxy
    Upgrade(reload::Arguments),
    /// Say whether a running proxy is alive; exit 1 if it is not, or nobody answers
    Health(health::Arguments),
    /// Watch a running proxy: pools, servers, events, rates and latencies, live
    Top(top::Arguments),
    /// Show the proxy at work: nodes, load and faults inside this one process
    Demo(crate::demo::Options),
    /// Print what a shell completes: bash, zsh, fish, elvish, powershell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, with every option of the file
    Man,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // As twemproxy: help is a success, a bad option is exit status 1.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("softmiss: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, flags } = cli;
    let file = flags.conf_file.clone().unwrap_or_else(default_file);
    match command {
        Some(Command::Check(arguments)) => check::run(file, flags.conf_file.is_some(), arguments),
        Some(Command::Route(arguments)) => route::run(&file, &arguments),
        Some(Command::Reload(arguments)) => {
            reload::run(reload::Order::Reload, &file, flags.conf_file.is_some(), &arguments)
        }
        Some(Command::Upgrade(arguments)) => {
            reload::run(reload::Order::Upgrade, &file, flags.conf_file.is_some(), &arguments)
        }
        Some(Command::Health(arguments)) => health::run(&file, &arguments),
        Some(Command::Top(arguments)) => top::run(&file, &arguments),
        Some(Command::Demo(options)) => crate::demo::run(&options).map(|()| ExitCode::SUCCESS),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "softmiss", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man) => {
            manual::write(Cli::command(), EXAMPLES, &mut std::io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        None if flags.version => {
            say(&format!("This is softmiss-{}\n", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        None if flags.describe_stats => {
            say(&check::describe_stats());
            Ok(ExitCode::SUCCESS)
        }
        None if flags.test_conf => Ok(check::test(&file)),
        None => run::run(&file, &flags),
    }
}
