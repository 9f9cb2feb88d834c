//! What the embedded broker keeps of its topics: at most so many bytes, for at most so long.
//!
//! Guarantee: a record of the topic that the pipeline's group has not committed is never removed; the oldest ones go first. Where the
//! pipeline has no `[consumer]`, nobody's commits are known, and records go by size and age alone, which is said in the log. Dead letters go
//! by age alone, and that is said with their count. Not guaranteed: the bound while more than that waits to be written; an alert says so then.
//! The file does not shrink: what is removed becomes free space in it, which the next records take.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::Pipeline;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminOptions;

use super::access::Access;
use super::embedded;
use super::error::BrokerError;
use super::offsets;
use super::request::{REQUEST_TIMEOUT, ask};
use forebay_kernel::millis;

/// Offsets of one partition that one request removes, at most: the broker takes no records meanwhile.
const STEP: i64 = 10_000;
/// Requests in one round, at most; what is left waits for the next round.
const REQUESTS: usize = 100;
/// Of the limit, the part that is left after a removal by size, in percent, so that not every round removes.
const LEFT: u64 = 90;

/// What is kept, of whose topics.
#[derive(Debug, Clone)]
pub(super) struct Keep {
    topic: String,
    dead_letter_topic: String,
    /// The group whose commits say what is done; none where the pipeline ends at the topic.
    group: Option<String>,
    bytes: u64,
    time: Duration,
}

impl Keep {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let retention = pipeline.kafka.retention();
        Self {
            topic: pipeline.kafka.topic.clone(),
            dead_letter_topic: pipeline.kafka.dead_letter_topic(),
            group: pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()),
            bytes: retention.bytes.0,
            time: retention.time.0,
        }
    }
}

/// A partition's records: the first that is held, the end, and the first that must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    begin: Offset,
    end: Offset,
    done: Offset,
}

impl Held {
    fn records(self) -> u64 {
        u64::try_from(self.end - self.begin).unwrap_or(0)
    }

    fn removable(self) -> u64 {
        u64::try_from(self.done.min(self.end) - self.begin).unwrap_or(0)
    }
}

/// How many records of the topic are to go so that `used` bytes, which `records` records take, come under the limit.
fn surplus(used: u64, records: u64, limit: u64) -> u64 {
    if used <= limit || records == 0 {
        return 0;
    }
    let over = used - limit / 100 * LEFT;
    u64::try_from(u128::from(over) * u128::from(records) / u128::from(used)).unwrap_or(u64::MAX).max(1)
}

/// Before which offset each partition's records go: the oldest `surplus` of all, in proportion to what may go of each, and those that are
/// `expired`; none that must stay. A partition of which nothing goes is absent.
fn cuts(held: &BTreeMap<Partition, Held>, surplus: u64, expired: &BTreeMap<Partition, Offset>) -> BTreeMap<Partition, Offset> {
    let removable: u64 = held.values().map(|held| held.removable()).sum();
    let cut = |(&partition, held): (&Partition, &Held)| {
        let by_size = match removable {
            0 => 0,
            all => (u128::from(held.removable()) * u128::from(surplus.min(all))).div_ceil(u128::from(all)),
        };
        let by_size = held.begin + i64::try_from(by_size).unwrap_or(i64::MAX - held.begin);
        let by_age = expired.get(&partition).copied().unwrap_or(held.begin);
        let to = by_size.max(by_age).min(held.done).min(held.end);
        (to > held.begin).then_some((partition, to))
    };
    held.iter().filter_map(cut).collect()
}

/// What a round has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) records: u64,
    pub(super) letters: u64,
}

/// Removes what is over the limits.
///
/// # Errors
/// When the broker does not answer, or does not remove.
pub(super) async fn apply(access: &Access, keep: &Keep, wall: SystemTime) -> Result<Removed, BrokerError> {
    let oldest = wall.checked_sub(keep.time).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let oldest = oldest.map_or(0, |since| i64::try_from(millis(since)).unwrap_or(i64::MAX));
    let mut removed = Removed::default();
    let mut requests = 0;
    while requests < REQUESTS {
        let letters = held(access, &keep.dead_letter_topic, None).await?;
        let records = held(access, &keep.topic, keep.group.as_deref()).await?;
        let used = used_bytes(access).await?;
        let all = records.values().chain(letters.values()).map(|held| held.records()).sum();
        let expired = |topic: String, held: BTreeMap<Partition, Held>| async move {
            let first_young = offsets::offsets_at(access, &topic, oldest).await?;
            // A partition whose last record is old has no record of that time or later.
            let of = |(partition, held): (Partition, Held)| (partition, first_young.get(&partition).copied().unwrap_or(held.end));
            Ok::<BTreeMap<Partition, Offset>, BrokerError>(held.into_iter().map(of).collect())
        };
        let old_records = expired(keep.topic.clone(), records.clone()).await?;
        let old_letters = expired(keep.dead_letter_topic.clone(), letters.clone()).await?;
        let of_records = cuts(&records, surplus(used, all, keep.bytes), &old_records);
        let of_letters = cuts(&letters, 0, &old_letters);
        if of_records.is_empty() && of_letters.is_empty() {
            break;
        }
        removed.records += remove(access, &keep.topic, &records, &of_records).await?;
        removed.letters += remove(access, &keep.dead_letter_topic, &letters, &of_letters).await?;
        requests += 1;
    }
    Ok(removed)
}

/// What a topic holds; all of it may go where there is no group.
async fn held(access: &Access, topic: &str, group: Option<&str>) -> Result<BTreeMap<Partition, Held>, BrokerError> {
    let ends = match offsets::ends(access, topic).await {
        Ok(ends) => ends,
        // It is made when the pipeline starts.
        Err(BrokerError::NoTopic { .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let committed = match group {
        Some(group) => Some(offsets::committed(access, group, topic).await?),
        None => None,
    };
    let done = |partition: Partition, begin, end| match &committed {
        Some(committed) => committed.get(&partition).copied().unwrap_or(begin),
        None => end,
    };
    let of = |(partition, (begin, end))| (partition, Held { begin, end, done: done(partition, begin, end) });
    Ok(ends.into_iter().map(of).collect())
}

/// Bytes of the broker's file that hold something.
async fn used_bytes(access: &Access) -> Result<u64, BrokerError> {
    ask(access, |access| embedded::used_bytes(access.embedded_in().expect("retention is of the embedded broker"))).await
}

/// Removes the records before the cuts, at most [`STEP`] a partition; says how many.
async fn remove(
    access: &Access,
    topic: &str,
    held: &BTreeMap<Partition, Held>,
    cuts: &BTreeMap<Partition, Offset>,
) -> Result<u64, BrokerError> {
    let mut offsets = TopicPartitionList::new();
    let mut records = 0;
    for (&partition, &cut) in cuts {
        let begin = held.get(&partition).map_or(cut, |held| held.begin);
        let to = cut.min(begin + STEP);
        records += u64::try_from(to - begin).unwrap_or(0);
        offsets.add_partition_offset(topic, partition, rdkafka::Offset::Offset(to)).expect("an offset of the topic is an offset");
    }
    if records == 0 {
        return Ok(0);
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let refused = |cause| access.error("remove records that are over [kafka] retention", cause, None);
    let answer = access.making()?.delete_records(&offsets, &options).await.map_err(refused)?;
    for element in answer.elements() {
        element.error().map_err(refused)?;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(partitions: &[(Offset, Offset, Offset)]) -> BTreeMap<Partition, Held> {
        (0..).zip(partitions).map(|(partition, &(begin, done, end))| (partition, Held { begin, end, done })).collect()
    }

    #[test]
    fn nothing_goes_while_the_file_is_under_its_limit() {
        assert_eq!(surplus(1_000, 10, 1_000), 0);
        assert_eq!(surplus(5_000, 0, 1_000), 0, "an empty topic has nothing to give");
        assert_eq!(cuts(&held(&[(0, 10, 10)]), 0, &BTreeMap::new()), BTreeMap::new());
    }

    #[test]
    fn over_the_limit_as_many_records_go_as_bring_it_to_nine_tenths() {
        assert_eq!(surplus(2_000, 200, 1_000), 110);
        assert_eq!(surplus(1_001, 1, 1_000), 1, "a record at least, or it would never come down");
    }

    #[test]
    fn the_oldest_written_records_go_in_proportion_and_none_that_waits() {
        let held = held(&[(100, 200, 900), (0, 300, 300), (7, 7, 50)]);
        assert_eq!(cuts(&held, 100, &BTreeMap::new()), BTreeMap::from([(0, 125), (1, 75)]));
        assert_eq!(cuts(&held, 100_000, &BTreeMap::new()), BTreeMap::from([(0, 200), (1, 300)]), "all that is written, and no more");
    }

    #[test]
    fn an_old_record_goes_by_its_age_unless_it_is_not_written() {
        let held = held(&[(100, 200, 900), (0, 300, 300)]);
        assert_eq!(cuts(&held, 0, &BTreeMap::from([(0, 900), (1, 50)])), BTreeMap::from([(0, 200), (1, 50)]));
    }

    #[test]
    fn a_partition_that_nobody_has_read_keeps_all_it_has() {
        assert_eq!(cuts(&held(&[(0, 0, 1_000)]), 1_000, &BTreeMap::from([(0, 1_000)])), BTreeMap::new());
    }
}
