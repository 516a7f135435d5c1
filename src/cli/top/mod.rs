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
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::port::{self, EXAMPLE, Trouble};
use crate::io::terminal::say;
use seen::Seen;
use view::View;

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
        Some(text) => port::written(text, "top")?,
        None => port::configured(file, "top")?,
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
