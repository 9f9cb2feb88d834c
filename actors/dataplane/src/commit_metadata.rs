//! The metadata that Forebay commits beside an offset.

use std::collections::BTreeMap;

use forebay_schemas::offset::{Checkpoint, Epoch, Offset, Partition, WriteTimestamp};
use forebay_schemas::topic::TopicId;

use crate::write_clock::WriteClock;

/// How the commit metadata opens; the number is its version. Version 1 had no epoch, version 2 no id of the topic.
const METADATA: &str = "forebay:3:";
const METADATA_1: &str = "forebay:1:";
const METADATA_2: &str = "forebay:2:";

/// What Forebay writes beside an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The write clock at the offset.
    pub clock: WriteClock,
    /// None in a commit of version 1.
    pub epoch: Option<Epoch>,
    /// The topic that the offset is of; none in a commit of version 1 or 2, and where the broker gives no ids.
    pub topic: Option<TopicId>,
}

/// The metadata to commit beside a place of a topic.
pub fn metadata_of(checkpoint: &Checkpoint, topic: Option<TopicId>) -> String {
    let topic = topic.map_or_else(String::new, |topic| topic.to_string());
    format!("{METADATA}{}:{:08x}:{topic}", checkpoint.write_clock.micros(), checkpoint.epoch.value())
}

/// The mark out of a commit's metadata.
pub fn mark_of(metadata: &str) -> Option<Mark> {
    let clock = |text: &str| WriteClock::from_micros(text.parse().ok()?);
    let epoch = |text: &str| u32::from_str_radix(text, 16).ok().map(Epoch::new);
    if let Some(text) = metadata.strip_prefix(METADATA_1) {
        return Some(Mark { clock: clock(text)?, epoch: None, topic: None });
    }
    if let Some((text, of)) = metadata.strip_prefix(METADATA_2).and_then(|rest| rest.split_once(':')) {
        return Some(Mark { clock: clock(text)?, epoch: Some(epoch(of)?), topic: None });
    }
    let (text, rest) = metadata.strip_prefix(METADATA)?.split_once(':')?;
    let (of, topic) = rest.split_once(':')?;
    let topic = if topic.is_empty() { None } else { Some(topic.parse().ok()?) };
    Some(Mark { clock: clock(text)?, epoch: Some(epoch(of)?), topic })
}

/// The place out of a commit and its metadata; none when that says no epoch, or that it is of another topic than `topic`.
pub fn checkpoint_of(offset: Offset, metadata: &str, topic: Option<TopicId>) -> Option<Checkpoint> {
    let mark = mark_of(metadata).filter(|mark| !mark.is_of_another(topic))?;
    Some(Checkpoint { offset, write_clock: WriteTimestamp::from_micros(mark.clock.micros()), epoch: mark.epoch? })
}

/// Whether a commit with that metadata may be of the topic that there is now: it is not when it names another one.
pub fn is_of_topic(metadata: &str, topic: Option<TopicId>) -> bool {
    mark_of(metadata).is_none_or(|mark| !mark.is_of_another(topic))
}

impl Mark {
    /// Whether it is of another topic than the one that Kafka has now, as far as both are known.
    pub fn is_of_another(&self, topic: Option<TopicId>) -> bool {
        self.topic.zip(topic).is_some_and(|(of, now)| of != now)
    }
}

/// The write clock out of a commit's metadata, microseconds; none when it is not Forebay's.
fn clock_of(metadata: &str) -> Option<i64> {
    mark_of(metadata).map(|mark| mark.clock.micros())
}

/// The largest write clock that is known of a topic, microseconds; 0 when none is: of the metadata of the group's commits, of all partitions, and of
/// the journal's places.
pub fn largest_clock<'a>(metadata: impl IntoIterator<Item = &'a str>, known: &BTreeMap<Partition, Checkpoint>) -> i64 {
    let committed = metadata.into_iter().filter_map(clock_of).max().unwrap_or(0);
    known.values().map(|checkpoint| checkpoint.write_clock.micros()).fold(committed, i64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(offset: Offset, clock: i64, epoch: Epoch) -> Checkpoint {
        Checkpoint { offset, write_clock: WriteTimestamp::from_micros(clock), epoch }
    }

    fn topic(bits: u128) -> Option<TopicId> {
        TopicId::from_bits(bits)
    }

    const OURS: Epoch = Epoch::new(7);

    #[test]
    fn the_largest_clock_is_that_of_any_commit_or_place() {
        let known = BTreeMap::from([(0, checkpoint(1, 300, OURS)), (4, checkpoint(1, 500, OURS))]);
        assert_eq!(largest_clock(["forebay:2:400:00000007", "", "forebay:1:450"], &known), 500);
        assert_eq!(largest_clock(["forebay:2:600:00000007", "of somebody else"], &known), 600);
        assert_eq!(largest_clock([], &BTreeMap::new()), 0);
    }

    #[test]
    fn metadata_reads_back_and_that_of_others_is_no_mark() {
        let mark = mark_of("forebay:2:1700000000000000:0000002a").unwrap();
        assert_eq!((mark.clock.micros(), mark.epoch, mark.topic), (1_700_000_000_000_000, Some(Epoch::new(42)), None));
        assert_eq!(mark_of("forebay:1:77").unwrap().epoch, None);
        let checkpoint = checkpoint(9, 77, Epoch::new(42));
        assert_eq!(metadata_of(&checkpoint, topic(1)), "forebay:3:77:0000002a:AAAAAAAAAAAAAAAAAAAAAQ");
        for topic in [None, topic(1)] {
            let mark = mark_of(&metadata_of(&checkpoint, topic)).unwrap();
            assert_eq!((mark.clock.micros(), mark.epoch, mark.topic), (77, Some(Epoch::new(42)), topic));
        }
        for metadata in [
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
            assert_eq!(mark_of(metadata), None, "{metadata}");
        }
    }
}
