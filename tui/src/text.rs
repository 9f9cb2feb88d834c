//! Formats numbers, durations and states, and cuts and wraps text. Pure.

use forebay_schemas::offset::Offset;
use forebay_schemas::printable;
use forebay_schemas::run::RunState;
use forebay_schemas::snapshot::ActorState;
use ratatui::text::Span;

/// `8412009` as `8,412,009`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count that was averaged; rounded.
pub(crate) fn count_f64(n: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and is not negative")]
    count(n.max(0.0).round() as u64)
}

/// An offset; `-` if it is unknown.
pub(crate) fn offset(offset: Offset) -> String {
    u64::try_from(offset.value()).map_or_else(|_| "-".to_owned(), count)
}

/// `1234.5` as `1.2 k`: at most four digits and a unit.
pub(crate) fn short(n: f64) -> String {
    const UNITS: [&str; 5] = ["", " k", " M", " G", " T"];
    let mut n = if n.is_finite() { n.max(0.0) } else { 0.0 };
    let mut unit = 0;
    while n >= 999.5 && unit + 1 < UNITS.len() {
        n /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(n < 99.95 && (unit > 0 || (n < 9.95 && n.fract() >= 0.05)));
    format!("{n:.decimals$}{}", UNITS[unit])
}

/// A rate per second; `-` if it is not known yet.
pub(crate) fn rate(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| "-".to_owned(), |n| format!("{}/s", short(n)))
}

/// Milliseconds, or seconds from 1 s.
pub(crate) fn millis(ms: f64) -> String {
    match ms {
        ms if !ms.is_finite() => "-".to_owned(),
        ms if ms < 0.95 => format!("{ms:.2} ms"),
        ms if ms < 99.5 => format!("{ms:.1} ms"),
        ms if ms < 995.0 => format!("{ms:.0} ms"),
        ms => seconds(ms / 1000.0),
    }
}

/// Microseconds in a fitting unit.
pub(crate) fn micros(us: u64) -> String {
    millis(us as f64 / 1000.0)
}

/// A configured duration in microseconds: whole milliseconds have no decimals.
pub(crate) fn whole_micros(us: u64) -> String {
    if us < 1_000_000 && us.is_multiple_of(1_000) { format!("{} ms", us / 1_000) } else { micros(us) }
}

/// Seconds in a fitting unit.
pub(crate) fn seconds(s: f64) -> String {
    match s.max(0.0) {
        s if !s.is_finite() => "-".to_owned(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7_170.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// An elapsed time as `02:14:09` or `3d 02:14:09`; zero if it is negative, which a clock step can
/// cause.
pub(crate) fn clock(passed: chrono::TimeDelta) -> String {
    let s = passed.num_seconds().max(0);
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60);
    let days = if days > 0 { format!("{days}d ") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{seconds:02}")
}

/// An elapsed time in the form of [`seconds`].
pub(crate) fn ago(passed: chrono::TimeDelta) -> String {
    seconds(passed.num_milliseconds() as f64 / 1000.0)
}

/// Bytes with a binary unit.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut n, mut unit) = (n as f64, 0);
    while n >= 1023.5 && unit + 1 < UNITS.len() {
        n /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && n < 99.95);
    format!("{n:.decimals$} {}", UNITS[unit])
}

/// `part` of `whole` in percent; 0 if `whole` is 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let percent = if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    format!("{percent:.0} %")
}

/// The width of the text in terminal columns.
pub(crate) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    Span::raw(text).width()
}

/// The text on one line of at most `columns`, printable; its end is replaced by `mark` if it does
/// not fit.
pub(crate) fn cut(text: &str, columns: usize, mark: &str) -> String {
    // The fast path: most texts are short and ASCII.
    if text.len() <= columns && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    let text = printable(text);
    if width(&text) <= columns {
        return text.into_owned();
    }
    let mark = if width(mark) <= columns { mark } else { "" };
    let room = columns - width(mark);
    let (mut out, mut taken) = (String::new(), 0);
    for c in text.chars() {
        let w = width(c.encode_utf8(&mut [0; 4]));
        if taken + w > room {
            break;
        }
        taken += w;
        out.push(c);
    }
    out + mark
}

/// The text, printable, in lines of at most `columns`, broken at spaces if possible. A wider
/// character gets a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    for part in text.lines() {
        let mut line = String::new();
        // The position of the last space in the line, and the width of the line.
        let (mut space, mut wide) = (None, 0);
        for c in printable(part).chars() {
            let w = width(c.encode_utf8(&mut [0; 4]));
            if wide + w > columns && !line.is_empty() {
                let rest = match space.filter(|_| c != ' ') {
                    Some(space) => line.split_off(space + 1),
                    None => String::new(),
                };
                lines.push(std::mem::replace(&mut line, rest));
                (space, wide) = (None, width(&line));
                if c == ' ' {
                    continue;
                }
            }
            if c == ' ' {
                space = Some(line.len());
            }
            line.push(c);
            wide += w;
        }
        lines.push(line);
    }
    lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
    lines
}

/// How the state of an actor is shown: upper case if it needs attention.
pub(crate) fn actor_state(state: ActorState) -> &'static str {
    match state {
        ActorState::Up => "up",
        ActorState::Waiting => "WAITING",
        ActorState::Stuck => "STUCK",
        ActorState::Restarting => "RESTARTING",
        ActorState::Ended => "ENDED",
    }
}

/// How the state of a run is shown.
pub(crate) fn run_state(state: RunState) -> &'static str {
    match state {
        RunState::Requested => "requested",
        RunState::Running => "running",
        RunState::Draining => "draining",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "FAILED",
        RunState::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(8_412_009), "8,412,009");
        assert_eq!(offset(Offset::UNKNOWN), "-");
    }

    #[test]
    fn short_numbers_have_at_most_four_digits() {
        for (n, text) in [(0.0, "0"), (0.2, "0.2"), (7.0, "7"), (312.0, "312"), (999.6, "1.0 k"), (1_234.0, "1.2 k"), (123_456.0, "123 k")]
        {
            assert_eq!(short(n), text);
        }
        assert_eq!(short(8_412_009.0), "8.4 M");
        assert_eq!(short(f64::NAN), "0");
    }

    #[test]
    fn an_unknown_rate_is_a_dash() {
        assert_eq!(rate(None), "-");
        assert_eq!(rate(Some(1_234.0)), "1.2 k/s");
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        assert_eq!([5_000, 500, 1_500, 1_000_000].map(whole_micros), ["5 ms", "0.50 ms", "1.5 ms", "1.0 s"]);
        assert_eq!(micros(420), "0.42 ms");
        assert_eq!(micros(5_100), "5.1 ms");
        assert_eq!(micros(1_234_000), "1.2 s");
        assert_eq!(micros(12_340_000), "12 s");
        assert_eq!(seconds(0.26), "0.3 s");
        assert_eq!(seconds(600.0), "10 min");
        assert_eq!(clock(TimeDelta::seconds(8_049)), "02:14:09");
        assert_eq!(clock(TimeDelta::seconds(3 * 86_400 + 61)), "3d 00:01:01");
        assert_eq!(clock(TimeDelta::seconds(-5)), "00:00:00");
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(8 << 20), "8.0 MiB");
        assert_eq!(bytes(1_000_000), "977 KiB");
    }

    #[test]
    fn wrapped_text_keeps_its_words_and_fits_the_width() {
        assert_eq!(wrap("write timed out at 127.0.0.1", 11), ["write timed", "out at", "127.0.0.1"]);
        assert_eq!(wrap("abcdefgh\n\nx", 3), ["abc", "def", "gh", "", "x"]);
        for columns in 0..8 {
            assert!(wrap("Müller 日本 and more", columns).iter().all(|line| width(line) <= columns.max(2)), "{columns}");
        }
    }

    #[test]
    fn cut_text_never_exceeds_its_columns() {
        assert_eq!(cut("writer", 6, "…"), "writer");
        assert_eq!(cut("writer", 5, "…"), "writ…");
        assert_eq!(cut("日本語", 5, "…"), "日本…");
        assert_eq!(cut("two\nlines", 20, "…"), "two\\nlines");
        assert_eq!(cut("writer", 0, "…"), "");
        for columns in 0..8 {
            assert!(width(&cut("Müller 日本", columns, "..")) <= columns);
        }
    }
}
