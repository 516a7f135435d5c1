//! `top`: a running proxy, live on a terminal, or once as text.
//!
//! It reads the admin port as any client does and shares nothing with the proxy but the form of its answer. What is drawn
//! is a pure function of the answers, the view and the size of the screen ([`draw`]); [`live`] has the terminal, the
//! keys and the clock.

mod draw;
mod live;
mod overview;
mod seen;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod verdict;
mod view;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::flags::DEFAULT_FILES;
use crate::config;
use crate::config::model::Port;
use crate::io::terminal::{colour, complain, say};
use seen::Seen;
use source::Trouble;
use view::View;

/// Where an admin port usually is.
const EXAMPLE: &str = "127.0.0.1:22223";

/// The width of the text: everything fits. On a terminal it is as wide as that.
const TEXT_WIDTH: u16 = 200;

/// The arguments of `top`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The proxy's admin port, HOST:PORT; otherwise what the configuration file has as `admin`
    #[arg(value_name = "ADDR")]
    address: Option<String>,

    /// Print everything once, as text, and exit; without a terminal that is what happens anyway
    #[arg(long)]
    once: bool,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let address = match &arguments.address {
        Some(text) => written(text)?,
        None => configured(file)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let seen = match source::fetch(&address).await {
            Ok(overview) => Seen::new(address, overview),
            Err(trouble) => bail!(nobody(&address, &trouble)),
        };
        if arguments.once || !std::io::stdout().is_terminal() {
            say(&text_of(&seen));
            return Ok(ExitCode::SUCCESS);
        }
        live::run(seen, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())).await
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    result
}

/// An address as it is written on the command line; that of the dashboard in a browser will do.
fn written(text: &str) -> anyhow::Result<String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        Some((host, number)) if !host.is_empty() && port(number) => Ok(address.to_owned()),
        _ => bail!("`{text}` is not an address: write HOST:PORT, as in softmiss top {EXAMPLE}"),
    }
}

/// The admin port of the configuration file.
fn configured(file: &Path) -> anyhow::Result<String> {
    if file == Path::new(DEFAULT_FILES[0]) && !file.exists() {
        return Ok(EXAMPLE.to_owned()); // nobody said where; it is probably where it usually is
    }
    let shown = file.display();
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(report) => {
            complain(&report.render(colour()));
            bail!(
                "{shown} cannot be used; name another with -c FILE, or the admin port itself: softmiss top {EXAMPLE}"
            );
        }
    };
    match loaded.config.settings.admin {
        Port::At(address) => Ok(reachable(address).to_string()),
        Port::Unsaid => Ok(EXAMPLE.to_owned()),
        Port::Off => bail!(
            "{shown} has no admin port: write `softmiss: {{admin: {EXAMPLE}}}` into it and start the proxy again, \
             or say where the port is: softmiss top {EXAMPLE}"
        ),
    }
}

/// A port that is served on all interfaces is reached by the loopback interface.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

/// What to say when there is no first answer, and what to do about it.
fn nobody(address: &str, trouble: &Trouble) -> String {
    match trouble {
        Trouble::Refused | Trouble::TimedOut | Trouble::Io(_) => format!(
            "nobody answers at {address} ({trouble}): is softmiss running, and serves its admin port there? \
             If not, write `softmiss: {{admin: {address}}}` into its file and start it again"
        ),
        Trouble::Stranger => format!(
            "what answers at {address} is not the admin port of softmiss, \
             which is what its file has as `softmiss: {{admin: {EXAMPLE}}}`"
        ),
        Trouble::Unreadable(_) => {
            format!("{address} gives {trouble}; is the proxy of another version than this program?")
        }
    }
}

/// A frame as text, with all that there is in it.
fn text_of(seen: &Seen) -> String {
    let view = View { is_text: true, ..View::default() };
    let lines: usize = seen.now.pools.iter().map(|pool| 4 + pool.servers.len()).sum();
    let keys: usize = seen.now.pools.iter().filter_map(|pool| pool.hot_keys.as_ref().map(Vec::len)).sum();
    let height = u16::try_from(30 + lines + keys).unwrap_or(u16::MAX);
    let width = ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
    let area = Rect::new(0, 0, width.map_or(TEXT_WIDTH, |(width, _)| width.max(80)), height);
    let mut buffer = Buffer::empty(area);
    draw::draw(seen, &view, area, &mut buffer);
    plain(&buffer)
}

/// The characters of a buffer, without spaces at the ends of lines and without empty lines at its end.
fn plain(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(width).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    format!("{}\n", text.trim_end())
}
