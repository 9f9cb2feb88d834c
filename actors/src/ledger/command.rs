//! What the ledger is asked to decide on.

use forebay_schemas::desired::DesiredState;
use forebay_schemas::event::{Checkpoints, Event, Starts};
use forebay_schemas::offset::Ranges;
use forebay_schemas::read::{Position, Read};
use forebay_schemas::rejects::Rejects;
use forebay_schemas::run::{Cancelled, RunError, Stop};
use forebay_schemas::topic::TopicId;
use uuid::Uuid;

/// What somebody wants, or says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the events")]
pub enum Command {
    /// A process begins.
    Begin { version: String, roles: Vec<String>, topic: String, group: String },
    /// What is fetched from here on.
    Fetch { source: String },
    /// The SQL that is in use from here on.
    Activate { sql: String, fingerprint: String },
    /// The fetcher began; again, after a restart, for a run that is under way.
    Start { run: Uuid },
    /// The API answered a page, of a run or of a scheduled fetch.
    PageFetched { run: Uuid, records: u64, cursor: Option<String> },
    /// Kafka acknowledged a page that was asked for at `asked`, and the next is to be asked for with `cursor`, if that changed.
    PageProduced { run: Uuid, ranges: Ranges, produced: u64, rejected: u64, asked: Position, cursor: Option<String>, rejects: Rejects },
    /// Somebody sets the cursor of a read.
    SetCursor { read: Read, to: Position, by: String, reason: String },
    /// Every page of it is produced, and why no further one was asked for.
    AllProduced { run: Uuid, stop: Option<Stop> },
    /// It can't go on.
    Fail { run: Uuid, error: RunError },
    /// Somebody calls it off.
    Cancel { run: Uuid, cancelled: Cancelled },
    /// The group gave partitions, and here they are read from.
    Assigned { starts: Starts },
    /// Kafka says which topic there is now.
    Identified { id: TopicId },
    /// What the group has committed, of whichever partitions.
    Seen { checkpoints: Checkpoints },
    /// Somebody says what the pipeline is meant to do.
    Desire { state: DesiredState, by: String, reason: String },
    /// A fact that nobody decides on.
    Saw(Event),
}
