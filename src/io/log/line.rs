//! A line of the log: time, level, message, and then fields that every reader of logfmt takes apart.
//!
//! Text is in quotes, an address too, however it was handed in; numbers, `true` and `false` are not. Whatever a field
//! holds, a line is one line, and nothing in it changes the terminal that it is shown on.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::is_unseen;

/// Writes an event as such a line.
#[derive(Debug)]
pub(super) struct Line;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Line {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        SystemTime.format_time(&mut out)?;
        let level = *event.metadata().level();
        if out.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => 31,
                Level::WARN => 33,
                Level::INFO => 32,
                _ => 34,
            };
            write!(out, " \x1b[{colour}m{level:>5}\x1b[0m ")?;
        } else {
            write!(out, " {level:>5} ")?;
        }
        // As bare words if they can be told from a field.
        if parts.message.contains(['=', '"', '\\']) || parts.message.contains(is_unseen) {
            out.write_str("message=")?;
            quote(&mut out, &parts.message)?;
        } else {
            out.write_str(&parts.message)?;
        }
        writeln!(out, "{}", parts.fields)
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Parts {
    message: String,
    /// Each with a blank before it.
    fields: String,
}

impl Parts {
    fn field(&mut self, field: &Field, value: &str, is_word: bool) {
        let out = &mut self.fields;
        let _ = write!(out, " {}=", field.name());
        // Writing to a string does not fail.
        let _ = if is_word || !is_plain(value) { quote(out, value) } else { out.write_str(value) };
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message.push_str(value) } else { self.field(field, value, true) }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.field(field, &format!("{value:?}"), false);
        }
    }
}

/// Whether a value is a number or a truth.
fn is_plain(value: &str) -> bool {
    matches!(value, "true" | "false") || value.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Writes a value in quotes, as JSON has it.
fn quote(out: &mut impl fmt::Write, value: &str) -> fmt::Result {
    out.write_char('"')?;
    for one in value.chars() {
        match one {
            '"' | '\\' => write!(out, "\\{one}")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            one if is_unseen(one) => write!(out, "\\u{:04x}", u32::from(one))?,
            one => out.write_char(one)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{error, info};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if let Ok(mut all) = self.0.lock() {
                all.extend_from_slice(bytes);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged, without the time.
    fn logged(log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let to = memory.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).event_format(Line).with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        text.split_once("Z ").unwrap().1.to_owned()
    }

    #[test]
    fn values_are_quoted_where_they_would_be_taken_apart() {
        let plain = logged(|| info!(pool = "a", address = %"127.0.0.1:1", number = 7, part = 0.5, "server ejected"));
        assert_eq!(plain, " INFO server ejected pool=\"a\" address=\"127.0.0.1:1\" number=7 part=0.5\n");
        let mixed = logged(|| info!(whole = true, word = %"silent", truth = %"false", by = ?7, nan = %"nan", "x"));
        assert_eq!(mixed, " INFO x whole=true word=\"silent\" truth=false by=7 nan=\"nan\"\n");
        let odd = logged(
            || error!(reason = %"connection refused", empty = %"", equal = %"a=b", text = "a\"\\\n\u{1b}", none = None::<u8>, "no"),
        );
        assert_eq!(
            odd,
            "ERROR no reason=\"connection refused\" empty=\"\" equal=\"a=b\" text=\"a\\\"\\\\\\n\\u001b\"\n"
        );
        let message = logged(|| error!("panicked: left = {}\nright", 7));
        assert_eq!(message, "ERROR message=\"panicked: left = 7\\nright\"\n");
    }
}
