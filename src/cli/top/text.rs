//! Numbers as text for narrow columns: three digits that matter, and a unit.

use std::time::Duration;

/// A count or a rate: `0`, `0.4`, `812`, `41.2k`, `1.3M`.
pub(super) fn count(number: f64) -> String {
    match number {
        _ if number < 0.05 => "0".to_owned(),
        _ if number < 9.95 => format!("{number:.1}").trim_end_matches(".0").to_owned(),
        _ if number < 999.5 => format!("{number:.0}"),
        _ => {
            let (number, unit) = scaled(number, 1000.0, &["k", "M", "G", "T"]);
            format!("{number}{unit}")
        }
    }
}

/// A number of bytes, by powers of 1024 as in the configuration: `0 B`, `12.3 KB`, `512 MB`.
pub(super) fn bytes(number: f64) -> String {
    if number < 1024.0 {
        return format!("{number:.0} B");
    }
    let (number, unit) = scaled(number, 1024.0, &["KB", "MB", "GB", "TB"]);
    format!("{} {unit}", number.trim_end_matches(".0"))
}

/// A number that is too long, in the unit that makes it short.
fn scaled<'a>(mut number: f64, step: f64, units: &[&'a str]) -> (String, &'a str) {
    let mut unit = "";
    for next in units {
        if number < step - 0.5 {
            break;
        }
        number /= step;
        unit = next;
    }
    let digits = usize::from(number < 99.95);
    (format!("{number:.digits$}"), unit)
}

/// A part of a whole, without its sign: `96.2`, `100`.
pub(super) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    if (percent - 100.0).abs() < f64::EPSILON { "100".to_owned() } else { format!("{percent:.1}") }
}

/// A latency: `183µs`, `1.24ms`, `48.2ms`, `412ms`, `1.20s`.
pub(super) fn latency(us: u64) -> String {
    let (ms, s) = (Duration::from_micros(us).as_secs_f64() * 1000.0, Duration::from_micros(us).as_secs_f64());
    match us {
        0..1000 => format!("{us}µs"),
        1000..9995 => format!("{ms:.2}ms"),
        9995..99_950 => format!("{ms:.1}ms"),
        99_950..999_500 => format!("{ms:.0}ms"),
        _ => format!("{s:.2}s"),
    }
}

/// A span of time, to its two largest units: `0s`, `48s`, `4m10s`, `3h12m`, `12d4h`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Why a request was answered in a server's place, in at most 13 letters where that is possible.
pub(super) fn cause(name: &str) -> String {
    match name {
        "ejected" => "server out".to_owned(),
        "timeout" => "timed out".to_owned(),
        "stalled" => "server silent".to_owned(),
        other => other.replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        let counts = [
            (0.0, "0"),
            (0.04, "0"),
            (0.4, "0.4"),
            (1.0, "1"),
            (9.96, "10"),
            (812.0, "812"),
            (999.6, "1.0k"),
            (1049.0, "1.0k"),
            (41_234.0, "41.2k"),
            (999_960.0, "1.0M"),
            (123_456_789.0, "123M"),
        ];
        for (number, expected) in counts {
            assert_eq!(count(number), expected, "{number}");
        }
        for (number, expected) in [(0.0, "0 B"), (1023.0, "1023 B"), (12_595.2, "12.3 KB"), (536_870_912.0, "512 MB")] {
            assert_eq!(bytes(number), expected, "{number}");
        }
        let latencies = [
            (7, "7µs"),
            (1240, "1.24ms"),
            (9996, "10.0ms"),
            (48_200, "48.2ms"),
            (412_000, "412ms"),
            (1_204_000, "1.20s"),
        ];
        for (us, expected) in latencies {
            assert_eq!(latency(us), expected, "{us}");
        }
        for (seconds, expected) in [(0, "0s"), (250, "4m10s"), (11_520, "3h12m"), (1_051_200, "12d4h")] {
            assert_eq!(span(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!([percent(0.9621), percent(1.0), percent(0.0)], ["96.2", "100", "0.0"]);
    }
}
