//! The metadata that Forebay commits to Kafka with an offset.
//!
//! ```text
//!  forebay:3:WRITE_CLOCK:EPOCH:TOPIC_ID      EPOCH in hexadecimal; TOPIC_ID empty when unknown
//!  forebay:2:WRITE_CLOCK:EPOCH               an earlier version
//!  forebay:1:WRITE_CLOCK                     the first version
//! ```

use std::collections::BTreeMap;
use std::fmt;

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, WriteTimestamp};
use forebay_schemas::topic_id::TopicId;

use crate::write_clock::WriteClock;

const VERSION_1: &str = "forebay:1:";
const VERSION_2: &str = "forebay:2:";
const VERSION_3: &str = "forebay:3:";

/// What Forebay commits with an offset. Its [`Display`](fmt::Display) is the text that Kafka
/// stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitMetadata {
    /// The write clock at the offset.
    pub write_clock: WriteTimestamp,
    /// The epoch of the offset; `None` in metadata of version 1.
    pub epoch: Option<Epoch>,
    /// The id of the topic; `None` in metadata of version 1 or 2, and where the broker has no topic
    /// ids.
    pub topic: Option<TopicId>,
}

impl CommitMetadata {
    /// The metadata for a checkpoint of a topic.
    pub fn new(checkpoint: &Checkpoint, topic: Option<TopicId>) -> Self {
        Self { write_clock: checkpoint.write_clock, epoch: Some(checkpoint.epoch), topic }
    }

    /// Parses the text of any version; `None` when Forebay did not write it.
    pub fn parse(text: &str) -> Option<Self> {
        let clock = |text: &str| Some(WriteTimestamp::from_micros(WriteClock::from_micros(text.parse().ok()?)?.micros()));
        let epoch = |text: &str| u32::from_str_radix(text, 16).ok().map(Epoch::new);
        if let Some(text) = text.strip_prefix(VERSION_1) {
            return Some(Self { write_clock: clock(text)?, epoch: None, topic: None });
        }
        if let Some((text, number)) = text.strip_prefix(VERSION_2).and_then(|rest| rest.split_once(':')) {
            return Some(Self { write_clock: clock(text)?, epoch: Some(epoch(number)?), topic: None });
        }
        let (text, rest) = text.strip_prefix(VERSION_3)?.split_once(':')?;
        let (number, topic) = rest.split_once(':')?;
        let topic = if topic.is_empty() { None } else { Some(topic.parse().ok()?) };
        Some(Self { write_clock: clock(text)?, epoch: Some(epoch(number)?), topic })
    }

    /// Returns whether it names another topic than `topic`, as far as both are known.
    pub fn is_of_another_topic(&self, topic: Option<TopicId>) -> bool {
        self.topic.zip(topic).is_some_and(|(named, current)| named != current)
    }
}

impl fmt::Display for CommitMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = self.write_clock;
        let Some(epoch) = self.epoch else { return write!(f, "{VERSION_1}{clock}") };
        write!(f, "{VERSION_3}{clock}:{:08x}:", epoch.value())?;
        self.topic.map_or(Ok(()), |topic| topic.fmt(f))
    }
}

/// Returns the checkpoint that a commit stands for.
///
/// `None` when `metadata` has no epoch or names another topic than `topic`.
pub fn checkpoint_of(offset: Offset, metadata: &str, topic: Option<TopicId>) -> Option<Checkpoint> {
    let metadata = CommitMetadata::parse(metadata).filter(|metadata| !metadata.is_of_another_topic(topic))?;
    Some(Checkpoint { offset, write_clock: metadata.write_clock, epoch: metadata.epoch? })
}

/// Returns whether a commit with that metadata may be of `topic`: it is not when it names another
/// one.
pub fn is_of_topic(metadata: &str, topic: Option<TopicId>) -> bool {
    CommitMetadata::parse(metadata).is_none_or(|metadata| !metadata.is_of_another_topic(topic))
}

/// Returns the largest write clock that is known of a topic; 0 when none is.
///
/// `metadata` are the texts of the group's commits on all partitions, `known` the checkpoints in
/// the journal.
pub fn largest_clock<'a>(metadata: impl IntoIterator<Item = &'a str>, known: &BTreeMap<Partition, Checkpoint>) -> WriteTimestamp {
    let committed = metadata.into_iter().filter_map(CommitMetadata::parse).map(|metadata| metadata.write_clock);
    committed.chain(known.values().map(|checkpoint| checkpoint.write_clock)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(offset: i64, clock: i64, epoch: Epoch) -> Checkpoint {
        Checkpoint { offset: Offset(offset), write_clock: WriteTimestamp::from_micros(clock), epoch }
    }

    fn topic(bits: u128) -> Option<TopicId> {
        TopicId::from_bits(bits)
    }

    const OURS: Epoch = Epoch::new(7);

    #[test]
    fn the_largest_clock_is_that_of_any_commit_or_checkpoint() {
        let known = BTreeMap::from([(0, checkpoint(1, 300, OURS)), (4, checkpoint(1, 500, OURS))]);
        let largest = |metadata: &[&'static str], known| largest_clock(metadata.iter().copied(), known).micros();
        assert_eq!(largest(&["forebay:2:400:00000007", "", "forebay:1:450"], &known), 500);
        assert_eq!(largest(&["forebay:2:600:00000007", "of another program"], &known), 600);
        assert_eq!(largest(&[], &BTreeMap::new()), 0);
    }

    #[test]
    fn metadata_of_each_version_is_parsed() {
        let metadata = CommitMetadata::parse("forebay:2:1700000000000000:0000002a").unwrap();
        assert_eq!((metadata.write_clock.micros(), metadata.epoch, metadata.topic), (1_700_000_000_000_000, Some(Epoch::new(42)), None));
        let first = CommitMetadata::parse("forebay:1:77").unwrap();
        assert_eq!((first.epoch, first.to_string().as_str()), (None, "forebay:1:77"));
        let checkpoint = checkpoint(9, 77, Epoch::new(42));
        assert_eq!(CommitMetadata::new(&checkpoint, topic(1)).to_string(), "forebay:3:77:0000002a:AAAAAAAAAAAAAAAAAAAAAQ");
        for topic in [None, topic(1)] {
            let metadata = CommitMetadata::parse(&CommitMetadata::new(&checkpoint, topic).to_string()).unwrap();
            assert_eq!((metadata.write_clock.micros(), metadata.epoch, metadata.topic), (77, Some(Epoch::new(42)), topic));
        }
    }

    #[test]
    fn text_that_forebay_did_not_write_is_no_metadata() {
        for text in [
            "",
            "forebay:1:",
            "forebay:3:5:1",
            "forebay:3:5:1:short",
            "forebay:4:5:1:",
            "forebay:2:5",
            "forebay:2:-5:1",
            "forebay:1:9223372036854775807",
            "NO_METADATA",
        ] {
            assert_eq!(CommitMetadata::parse(text), None, "{text}");
        }
    }
}
