//! Prints an event as one line of text.

use std::fmt;

use super::{Event, StartOrigin, why_implausible};
use crate::desired::DesiredState;
use crate::offset::{ByPartition, Partition};
use crate::run::Cancelled;
use crate::source_read::{Position, Validators, quote_cursor};
use crate::watermark::Pass;

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PipelineStarted { version, roles, topic, .. } => {
                write!(f, "pipeline started by version {version} as {} on topic {topic}", roles.join(", "))
            }
            Self::PipelineStopped { clean: true } => f.write_str("pipeline stopped, everything in flight settled"),
            Self::PipelineStopped { clean: false } => f.write_str("pipeline stopped with work in flight, which will be read again"),
            Self::TransformActivated { fingerprint, .. } => write!(f, "SQL {fingerprint} activated"),
            Self::RunRequested { key, attempt, from, .. } => {
                write!(f, "run {key:?} requested, attempt {attempt}")?;
                from.as_ref().map_or(Ok(()), |from| write!(f, ", reading again from {from}"))
            }
            Self::RunStarted { at: None | Some(Position::Begin), .. } => f.write_str("run started"),
            Self::RunStarted { at: Some(at), .. } => write!(f, "run started at {at}"),
            Self::PageFetched { records, cursor, .. } => {
                write!(f, "page of {records} records fetched")?;
                cursor.as_ref().map_or(Ok(()), |cursor| write!(f, " at cursor {}", quote_cursor(cursor)))
            }
            Self::PageProduced { produced, rejected, cursor, moves, .. } => {
                write!(f, "page produced: {produced} records, {rejected} rejected")?;
                match (cursor, moves) {
                    (Some(cursor), _) => write!(f, ", next cursor {}", quote_cursor(cursor))?,
                    (None, Some(_)) => f.write_str("; its read returns to the start")?,
                    (None, None) => {}
                }
                moves.as_ref().filter(|read| !read.is_plain()).map_or(Ok(()), |read| write!(f, " of read {read}"))
            }
            Self::SourceNamed { .. } => f.write_str("source changed: its reads continue where it was last fetched from, or start over"),
            Self::CursorSet { read, from, to, by, reason } => {
                write!(f, "cursor of read {read} set from {from} to {to} by {by} ({reason})")
            }
            Self::CursorForgotten { read, cursor } => {
                write!(f, "cursor {} of read {read} dropped: its next fetch starts over", quote_cursor(cursor))
            }
            Self::WatermarkMoved { read, at, pass, .. } => {
                let at = at.as_deref().unwrap_or("the start");
                match pass {
                    Some(Pass { reached, .. }) => {
                        write!(f, "read {read} goes on behind watermark {at}, up to {}", reached.as_deref().unwrap_or("no mark"))
                    }
                    None => write!(f, "watermark of read {read} is {at}"),
                }
            }
            Self::ValidatorsKept { read, validators: Validators { etag: None, last_modified: None }, .. } => {
                write!(f, "another answer to read {read} goes to the topic")
            }
            Self::ValidatorsKept { read, validators: Validators { etag, last_modified }, .. } => {
                let of_it = etag.as_deref().or(last_modified.as_deref()).unwrap_or("nothing");
                write!(f, "read {read} is in the topic as of {}", quote_cursor(of_it))
            }
            Self::RunProduced { stop, .. } => {
                f.write_str("run is in the topic")?;
                stop.as_ref().map_or(Ok(()), |stop| write!(f, " ({stop})"))
            }
            Self::RunSucceeded { .. } => f.write_str("run succeeded"),
            Self::RunFailed { error, .. } => write!(f, "run failed at {}: {}", error.stage, error.message),
            Self::RunCancelled { cancelled: Cancelled { by, reason }, .. } => write!(f, "run cancelled by {by} ({reason})"),
            Self::StateDesired { state, by, reason } => {
                let state = match state {
                    DesiredState::Running => "running",
                    DesiredState::Paused => "paused",
                    DesiredState::Drained => "drained",
                };
                write!(f, "desired state set to {state} by {by} ({reason})")
            }
            Self::ActorRestartRequested { actor, by, reason } => write!(f, "restart of {actor} requested by {by} ({reason})"),
            Self::LettersRedriven { letters, records, by, reason } => {
                each(f, &format!("{records} dead letters redriven by {by} ({reason})"), letters, |f, range| write!(f, "{range}"))
            }
            Self::LettersDropped { letters, records, by, reason } => {
                each(f, &format!("{records} dead letters dropped by {by} ({reason})"), letters, |f, range| write!(f, "{range}"))
            }
            Self::SourceThrottled { millis, reason } => write!(f, "source throttled for {millis} ms: {reason}"),
            Self::BatchWritten { batch, ranges, rows, rejected, wait_micros, transform_micros, write_micros, .. } => {
                write!(f, "batch {batch} written: {rows} rows, {rejected} rejected")?;
                for (partition, range) in &ranges.0 {
                    write!(f, ", p{partition} {range}")?;
                }
                write!(f, "; wait {wait_micros} µs, sql {transform_micros} µs, write {write_micros} µs")
            }
            Self::OffsetsCommitted { offsets } => each(f, "offsets committed", offsets, |f, at| write!(f, "{at}")),
            Self::PartitionsAssigned { starts } => each(f, "partitions assigned", starts, |f, start| {
                let origin = match start.origin {
                    StartOrigin::Group => "group",
                    StartOrigin::Journal => "journal",
                    StartOrigin::Earliest => "earliest",
                    StartOrigin::Reset => "reset",
                };
                write!(f, "{} ({origin})", start.checkpoint.offset)
            }),
            Self::PartitionsRevoked { partitions } => write!(f, "partitions {partitions:?} revoked"),
            Self::TopicIdentified { id } => write!(f, "topic id is {id}"),
            Self::TopicRecreated { from, to } => {
                write!(f, "topic was deleted and created again: id {to} instead of {from}; reading from its start")
            }
            Self::PartitionsSeen { checkpoints } => {
                each(f, "commits of other processes observed", checkpoints, |f, checkpoint| write!(f, "{}", checkpoint.offset))
            }
            Self::OffsetsReset { by, reason, to, .. } => {
                each(f, &format!("offsets reset by {by} ({reason})"), to, |f, checkpoint| write!(f, "{}", checkpoint.offset))
            }
            Self::RangeLost { partition, range, reason } => write!(f, "p{partition} {range} lost: {reason}"),
            Self::TimestampClamped { partition, offset, timestamp_ms } => {
                write!(f, "p{partition} offset {offset} has an implausible timestamp, {timestamp_ms} ms")?;
                why_implausible(*timestamp_ms).map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::SchemaDrifted { fields } => {
                let fields: Vec<_> = fields.iter().map(ToString::to_string).collect();
                write!(f, "records have fields that the schema does not have: {}", fields.join("; "))
            }
            Self::ChildStarted { actor, incarnation } => write!(f, "{actor} started, incarnation {incarnation}"),
            Self::ChildExited { actor, incarnation, exit } => write!(f, "{actor} exited, incarnation {incarnation}: {exit}"),
            Self::ChildStuck { actor, silent_millis } => write!(f, "{actor} has made no progress for {silent_millis} ms"),
            Self::RestartScheduled { delay_millis, affected, .. } => write!(f, "restart of {} in {delay_millis} ms", affected.join(", ")),
            Self::IntensityExceeded { actor, restarts, within_millis } => {
                write!(f, "{actor}: {restarts} restarts in {within_millis} ms exceed the limit")
            }
            Self::Escalated { actor, reason } => write!(f, "{actor} escalated: {reason}"),
        }
    }
}

fn each<T>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    items: &ByPartition<T>,
    show: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_str(what)?;
    for (at, (partition, item)) in items.0.iter().enumerate() {
        let partition: &Partition = partition;
        write!(f, "{}p{partition} ", if at == 0 { ": " } else { ", " })?;
        show(f, item)?;
    }
    Ok(())
}
