//! The commands that the ledger decides on.

use forebay_schemas::desired::DesiredState;
use forebay_schemas::drift::DriftedField;
use forebay_schemas::event::{Checkpoints, Event, Starts};
use forebay_schemas::offset::Ranges;
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{Cancelled, RunError, Stop};
use forebay_schemas::source_read::{Position, Read, Validators};
use forebay_schemas::topic_id::TopicId;
use forebay_schemas::watermark::Pass;
use uuid::Uuid;

/// How far an incremental read has got. The fields are those of [`Event::WatermarkMoved`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the event")]
pub struct PassProgress {
    pub at: Option<String>,
    pub pass: Option<Pass>,
    pub seen: Vec<String>,
}

/// A request to the ledger, or a report that it decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the events")]
pub enum Command {
    /// A process starts.
    StartProcess { version: String, roles: Vec<String>, topic: String, group: String },
    /// The source that is fetched from now on.
    NameSource { source: String },
    /// The SQL that is in use from now on.
    ActivateSql { sql: String, fingerprint: String },
    /// The fetcher starts a run, or continues it after a restart.
    StartRun { run: Uuid },
    /// The API answered with a page, of a run or of a scheduled fetch.
    PageFetched { run: Uuid, records: u64, cursor: Option<String> },
    /// Kafka acknowledged a page that was requested at `asked`, after event `requested`. `next` is
    /// the position of the next one, where it changed: the start after the last page of a read that
    /// begins again.
    PageProduced {
        run: Uuid,
        ranges: Ranges,
        produced: u64,
        rejected: u64,
        asked: Position,
        requested: u64,
        next: Option<Position>,
        rejects: Rejects,
        /// How far an incremental read has got with the page.
        progress: Option<Box<PassProgress>>,
        /// What the page said of itself, where it is a whole answer.
        validators: Option<Box<Validators>>,
    },
    /// The API answered a fetch, where requests are conditional, and its answer says this of
    /// itself. From its first record in Kafka on, what another one said does not hold.
    ForgetValidators { run: Uuid, answer: Option<Validators> },
    /// An operator sets the cursor of a read.
    SetCursor { read: Read, to: Position, by: String, reason: String },
    /// Every page of the run is produced. `stop` says why no further page was requested.
    RunProduced { run: Uuid, stop: Option<Stop> },
    /// The run can't continue.
    FailRun { run: Uuid, error: RunError },
    /// A client or an operator cancels the run.
    CancelRun { run: Uuid, cancelled: Cancelled },
    /// The group assigned partitions, which are read from `starts`.
    AssignPartitions { starts: Starts },
    /// Kafka reports the id of the topic.
    IdentifyTopic { id: TopicId },
    /// The group's committed checkpoints of any partitions.
    ObserveCommitted { checkpoints: Checkpoints },
    /// Records have fields that the schema does not have.
    SeeFields { fields: Vec<DriftedField> },
    /// An operator pauses, drains or resumes the pipeline.
    SetDesiredState { state: DesiredState, by: String, reason: String },
    /// An event that needs no decision.
    Record(Event),
}

#[cfg(test)]
impl Command {
    /// A page in Kafka, without dead letters, of a source that is neither incremental nor
    /// conditional.
    pub(crate) fn page_produced(
        run: Uuid,
        ranges: Ranges,
        produced: u64,
        (asked, requested): (Position, u64),
        next: Option<Position>,
    ) -> Self {
        let rejects = Rejects::default();
        Self::PageProduced { run, ranges, produced, rejected: 0, asked, requested, next, rejects, progress: None, validators: None }
    }
}
