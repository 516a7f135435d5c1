//! The manual page: the flags and the commands from their definitions, the options of the file from their tables.

use std::io::{self, Write};

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::config::options::{About, Default, Only, of_a_pool, of_the_process};

const CONFIGURATION: &str = "\
A YAML file: below the name of each pool stand its options, below the reserved name softmiss those of the process. A file of \
twemproxy works unchanged. Durations are milliseconds when bare and take ms, s, m or h; sizes are bytes when bare and take kb, \
mb or gb; booleans are true or false. softmiss check says all that is wrong with a file, with places and with what to write instead.";

/// Files, and what they are.
const FILES: &[(&str, &str)] = &[
    ("/etc/softmiss/softmiss.yml", "what the service of the package serves"),
    ("/usr/share/doc/softmiss/", "the documentation, and example.yml, which shows every option"),
    ("/var/lib/softmiss", "what state_dir is under systemd: what servers missed, while the process is restarted"),
];

/// Signals, and what they do.
const SIGNALS: &[(&str, &str)] = &[
    ("SIGTERM, SIGINT", "answer what has been read, for drain_timeout at most, and end; a second one ends at once"),
    ("SIGHUP", "take up a changed file, and open the log file again"),
    ("SIGUSR1", "open the log file again"),
    ("SIGUSR2", "have a new process take over, clients included"),
    ("SIGTTIN, SIGTTOU", "log more, log less"),
];

/// Exit statuses, and what they say.
const STATUS: &[(&str, &str)] = &[
    ("0", "what was asked for has been done, and nothing is wrong"),
    ("1", "something is wrong; standard error says what, and where"),
];

/// Writes the page.
pub(super) fn write(mut command: Command, examples: &str, to: &mut dyn Write) -> io::Result<()> {
    command.build();
    // Its date would be that of the build, which says nothing.
    let page = Man::new(command.clone()).manual("softmiss");
    page.render_title(to)?;
    page.render_name_section(to)?;
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([
        bold("softmiss"),
        roman(" ["),
        bold("-c"),
        roman(" "),
        italic("FILE"),
        roman("] ["),
        italic("FLAG"),
        roman("]..."),
    ]);
    roff.control("br", []);
    roff.text([bold("softmiss"), roman(" "), italic("COMMAND"), roman(" ["), italic("ARGUMENT"), roman("]...")]);
    roff.to_writer(to)?;
    page.render_description_section(to)?;
    page.render_options_section(to)?;

    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        self::command(&mut roff, command);
    }
    roff.control("SH", ["CONFIGURATION"]);
    roff.text([roman(CONFIGURATION)]);
    roff.control("SS", ["Options of a pool"]);
    of_a_pool().for_each(|about| option(&mut roff, about));
    roff.control("SS", ["Options of the process"]);
    of_the_process().for_each(|about| option(&mut roff, about));
    for (title, rows) in [("SIGNALS", SIGNALS), ("FILES", FILES), ("EXIT STATUS", STATUS)] {
        roff.control("SH", [title]);
        for (what, means) in rows {
            entry(&mut roff, [bold(*what)], means);
        }
    }
    // As it stands: its columns are made of blanks.
    let (examples, _) = examples.split_once("\n\n").unwrap_or((examples, ""));
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in examples.lines().skip(1) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.to_writer(to)
}

/// What is said of something.
fn entry(roff: &mut Roff, of: impl Into<Vec<Inline>>, said: &str) {
    roff.control("TP", []);
    roff.text(of);
    roff.text([roman(said)]);
}

/// A subcommand, with what it takes.
fn command(roff: &mut Roff, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    roff.control("SS", [usage.trim_start_matches("Usage: ")]);
    roff.text([roman(words(command.get_about()))]);
    let hidden = ["help", "conf_file"];
    for argument in command.get_arguments().filter(|argument| !hidden.contains(&argument.get_id().as_str())) {
        entry(roff, names(argument), &words(argument.get_help()));
    }
}

fn words(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// An argument as it is given.
fn names(argument: &Arg) -> Vec<Inline> {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    let takes = argument.get_action().takes_values();
    let values = argument.get_value_names().filter(|_| takes).unwrap_or_default().join(" ");
    let blank = if flags.is_empty() || values.is_empty() { "" } else { " " };
    vec![bold(flags.join(", ")), roman(blank), italic(values)]
}

/// An option of the file.
fn option(roff: &mut Roff, about: &About) {
    let default = match about.default {
        Default::Required => "required".to_owned(),
        Default::None => "default: none".to_owned(),
        Default::Is(text) | Default::Told(text) if text.starts_with("required") => text.to_owned(),
        Default::Is(text) | Default::Told(text) => format!("default: {text}"),
    };
    let limits = Some(about.limits.in_words()).filter(|limits| !limits.is_empty());
    let only = match about.only {
        Only::Any => None,
        Only::Redis => Some("Redis only".to_owned()),
        Only::Memcached(_) => Some("memcached only".to_owned()),
    };
    let known: Vec<String> = [Some(default), limits, only].into_iter().flatten().collect();
    let known = format!(" ({})", known.join("; ").replace('`', ""));
    let alias = about.alias.map(|alias| format!(", {alias}")).unwrap_or_default();
    let said = about.what.replace('\n', " ").replace('`', "");
    entry(roff, [bold(format!("{}{alias}", about.name)), roman(known)], &said);
}
