//! Log lines: on stderr as text or as JSON objects, and the last ones in memory for the API.
//!
//! Guarantees:
//! * A JSON line is one object with the keys `timestamp` (RFC 3339, UTC, microseconds), `level`,
//!   `target`, `message`, and `pipeline` once the pipeline file has been read.
//! * A failure has the key `error`, an actor's path the key `actor`. Numbers and booleans keep
//!   their type. `docs/OPERATIONS.md` has the table of keys.
//! * A warning or error that equals one of the last [`REPEAT_INTERVAL`] is dropped; the next one
//!   that is written has the number of dropped lines in `repeated`.
//! * A text line is one line, and has no control characters but its colours.
//! * Forebay's own lines of level `info` and above are kept in memory, whatever the level on
//!   stderr.
//!
//! Does not guarantee the wording of messages.

use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::{Hash as _, Hasher as _};
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use forebay_actors::ProcessClock;
use forebay_actors::telemetry::LogRing;
use forebay_kernel::Clock as _;
use forebay_schemas::api::{LogLevel, LogLine};
use forebay_schemas::printable;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::output::colour_wanted;

/// For how long an equal line is dropped.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How many different lines are remembered to detect repeats.
const MAX_REMEMBERED: usize = 256;
/// Keys that every line may have. A field of the same name gets a trailing underscore.
const RESERVED_KEYS: [&str; 8] = ["seq", "timestamp", "level", "target", "message", "pipeline", "repeated", "cut"];
static PIPELINE: OnceLock<String> = OnceLock::new();

thread_local! {
    /// How often the line that is being written was dropped before.
    static REPEATED: Cell<u64> = const { Cell::new(0) };
}

/// Sets the `pipeline` of all further lines. Only the first call has an effect.
pub(crate) fn name_pipeline(name: &str) {
    let _ = PIPELINE.set(name.to_owned());
}

/// The time of a line.
fn now() -> DateTime<Utc> {
    ProcessClock.wall().into()
}

/// Writes the time of a line of text.
struct Now;

impl FormatTime for Now {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&now().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// Format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Writes a line as JSON.
pub(crate) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (metadata, fields, repeated) = (event.metadata(), Fields::of(event), REPEATED.take());
        let mut line = Map::new();
        line.insert("timestamp".into(), now().to_rfc3339_opts(SecondsFormat::Micros, true).into());
        line.insert("level".into(), metadata.level().as_str().into());
        line.insert("target".into(), metadata.target().into());
        line.insert("message".into(), fields.message.into());
        line.extend(PIPELINE.get().map(|name| ("pipeline".to_owned(), name.as_str().into())));
        if repeated > 0 {
            line.insert("repeated".into(), repeated.into());
        }
        line.extend(fields.others);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Writes a field of a text line. The message comes first.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = printable(&value);
    match field.name() {
        "message" => write!(writer, "{value}"),
        // Repeats what the line has already: the line came from the crate `log`.
        name if name.starts_with("log.") => Ok(()),
        name if writer.has_ansi_escapes() => write!(writer, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
        name => write!(writer, " {name}={value}"),
    }
}

/// Keeps the lines that [`Json`] writes in memory, for the API.
#[derive(Default)]
pub(crate) struct KeepInMemory(Repeats);

impl<S: Subscriber> Layer<S> for KeepInMemory {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let fields = Fields::of(event);
        let metadata = event.metadata();
        let Some(repeated) = self.0.admit(metadata, &fields) else { return };
        LogRing::global().push(LogLine {
            seq: 0,
            timestamp: now().trunc_subsecs(6),
            level: match *metadata.level() {
                Level::ERROR => LogLevel::Error,
                Level::WARN => LogLevel::Warn,
                _ => LogLevel::Info,
            },
            target: metadata.target().to_owned(),
            message: fields.message,
            pipeline: PIPELINE.get().cloned(),
            repeated,
            cut: false,
            fields: fields.others,
        });
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let name = if RESERVED_KEYS.contains(&name) { format!("{name}_") } else { name.to_owned() };
        self.others.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string does not fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { value.clone_into(&mut self.message) } else { self.put(field, value.into()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// Drops warnings and errors that repeat a recent one.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<RecentLines>);

impl Repeats {
    /// How often the line was dropped before; `None` when it is dropped now.
    fn admit(&self, metadata: &Metadata<'_>, fields: &Fields) -> Option<u64> {
        if *metadata.level() > Level::WARN {
            return Some(0);
        }
        let mut hasher = DefaultHasher::new();
        (metadata.target(), &fields.message).hash(&mut hasher);
        for (name, value) in &fields.others {
            (name, value.to_string()).hash(&mut hasher);
        }
        self.0.lock().admit(hasher.finish(), Instant::now())
    }
}

impl<S> Filter<S> for Repeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let repeated = self.admit(event.metadata(), &Fields::of(event));
        REPEATED.set(repeated.unwrap_or_default());
        repeated.is_some()
    }
}

/// When each recent line was written, and how often it was dropped since.
#[derive(Default)]
struct RecentLines(HashMap<u64, (Instant, u64)>);

impl RecentLines {
    /// How often the line was dropped before; `None` when it is dropped now.
    fn admit(&mut self, line: u64, now: Instant) -> Option<u64> {
        if let Some((at, dropped)) = self.0.get_mut(&line) {
            if now.saturating_duration_since(*at) < REPEAT_INTERVAL {
                *dropped += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(dropped));
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (at, dropped)| *dropped > 0 && now.saturating_duration_since(*at) < 10 * REPEAT_INTERVAL);
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(line, (now, 0));
        Some(0)
    }
}

/// Starts logging: Forebay's own lines from `level` on go to stderr, and no other crate's, unless
/// `FOREBAY_LOG` is set. Lines from `info` on are also kept in memory.
pub(crate) fn start_logging(format: LogFormat, level: &str) {
    let filter = std::env::var("FOREBAY_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("forebay={level},forebay_actors={level}")));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let own = Targets::new().with_target("forebay", LevelFilter::INFO);
    let registry = tracing_subscriber::registry().with(KeepInMemory::default().with_filter(own));
    // A second call in one process has no effect.
    let _ = match format {
        LogFormat::Json => registry.with(lines.event_format(Json).with_filter(Repeats::default()).with_filter(filter)).try_init(),
        LogFormat::Text => {
            let colour = colour_wanted() && std::io::stderr().is_terminal();
            let lines = lines.with_timer(Now).with_ansi(colour).with_target(false).compact().fmt_fields(debug_fn(write_field));
            registry.with(lines.with_filter(Repeats::default()).with_filter(filter)).try_init()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_line_is_written_once_in_ten_seconds_with_the_number_of_dropped_ones() {
        let (mut lines, now) = (RecentLines::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(lines.admit(1, at(0)), Some(0));
        assert_eq!(lines.admit(1, at(1)), None);
        assert_eq!(lines.admit(2, at(1)), Some(0), "a different line is written");
        assert_eq!(lines.admit(1, at(9)), None);
        assert_eq!(lines.admit(1, at(10)), Some(2));
        assert_eq!(lines.admit(1, at(11)), None);
        assert_eq!(lines.admit(1, at(40)), Some(1));
    }

    #[test]
    fn the_number_of_remembered_lines_is_bounded() {
        let (mut lines, now) = (RecentLines::default(), Instant::now());
        for line in 0..100_000 {
            lines.admit(line, now);
            lines.admit(line, now);
            assert!(lines.0.len() <= MAX_REMEMBERED);
        }
    }
}
