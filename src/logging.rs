//! Log lines: on stderr as text or as JSON objects, and the last ones kept for those who ask later; the same trouble not over and over.
//!
//! Guarantee: each line is one object with the keys `timestamp` (RFC 3339, UTC, microseconds), `level`, `target`, `message`, and `pipeline` once its file
//! is read; an error stands under `error`, an actor's path under `actor`, whatever the code calls it; numbers and truths stay such. `docs/OPERATIONS.md`
//! has the table. A warning or an error that is the same in every word as one of the last [`QUIET`] is left out, and the next line of it says how
//! often in `repeated`. Forebay's own lines from `info` on are kept, whatever stderr gets. Not guaranteed: the words of a message.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write as _};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, SubsecRound as _, Utc};
use forebay_actors::telemetry::LogRing;
use forebay_schemas::api::{LogLevel, LogLine};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// For how long the same line is left out.
const QUIET: Duration = Duration::from_secs(10);
/// How many different lines are remembered for that.
const REMEMBERED: usize = 256;
/// Keys that a line has by itself.
const OWN: [&str; 8] = ["seq", "timestamp", "level", "target", "message", "pipeline", "repeated", "cut"];
/// What the code calls things, and what they are called in a line.
const CALLED: [(&str, &str); 7] = [
    ("cause", "error"),
    ("failed", "error"),
    ("refused", "error"),
    ("rejection", "error"),
    ("trouble", "error"),
    ("why", "error"),
    ("supervisor", "actor"),
];

static PIPELINE: OnceLock<String> = OnceLock::new();

thread_local! {
    /// How often the line that is being written was left out before.
    static REPEATED: Cell<u64> = const { Cell::new(0) };
}

/// Names the pipeline in every line from here on. The first name stays.
pub(crate) fn name_pipeline(name: &str) {
    let _ = PIPELINE.set(name.to_owned());
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
        line.insert("timestamp".into(), Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true).into());
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

/// Keeps lines for those who ask later: the same as [`Json`] writes.
#[derive(Default)]
pub(crate) struct Keep(Repeats);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let fields = Fields::of(event);
        let metadata = event.metadata();
        let Some(repeated) = self.0.says(metadata, &fields) else { return };
        LogRing::of_process().keep(LogLine {
            seq: 0,
            timestamp: Utc::now().trunc_subsecs(6),
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
        let name = CALLED.iter().find(|(code, _)| *code == field.name()).map_or(field.name(), |(_, line)| line);
        let name = if OWN.contains(&name) { format!("{name}_") } else { name.to_owned() };
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

/// Leaves out warnings and errors that were said just now.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<Said>);

impl Repeats {
    /// How often a line was left out before, or nothing when it is left out.
    fn says(&self, metadata: &Metadata<'_>, fields: &Fields) -> Option<u64> {
        if *metadata.level() > Level::WARN {
            return Some(0);
        }
        let mut hasher = DefaultHasher::new();
        (metadata.target(), &fields.message).hash(&mut hasher);
        for (name, value) in &fields.others {
            (name, value.to_string()).hash(&mut hasher);
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).again(hasher.finish(), Instant::now())
    }
}

impl<S> Filter<S> for Repeats {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let said = self.says(event.metadata(), &Fields::of(event));
        REPEATED.set(said.unwrap_or_default());
        said.is_some()
    }
}

/// Which lines were said when, and how often they were left out since.
#[derive(Default)]
struct Said(HashMap<u64, (Instant, u64)>);

impl Said {
    /// Whether a line is said now: how often it was left out before, or nothing when it is left out.
    fn again(&mut self, line: u64, now: Instant) -> Option<u64> {
        if let Some((at, left_out)) = self.0.get_mut(&line) {
            if now.saturating_duration_since(*at) < QUIET {
                *left_out += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(left_out));
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (at, left_out)| *left_out > 0 && now.saturating_duration_since(*at) < 10 * QUIET);
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(line, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_said_once_in_ten_seconds_and_then_with_how_often_it_was_left_out() {
        let (mut said, now) = (Said::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(said.again(1, at(0)), Some(0));
        assert_eq!(said.again(1, at(1)), None);
        assert_eq!(said.again(2, at(1)), Some(0), "another line is another");
        assert_eq!(said.again(1, at(9)), None);
        assert_eq!(said.again(1, at(10)), Some(2));
        assert_eq!(said.again(1, at(11)), None);
        assert_eq!(said.again(1, at(40)), Some(1));
    }

    #[test]
    fn what_is_remembered_of_lines_is_bounded() {
        let (mut said, now) = (Said::default(), Instant::now());
        for line in 0..100_000 {
            said.again(line, now);
            said.again(line, now);
            assert!(said.0.len() <= REMEMBERED);
        }
    }
}
