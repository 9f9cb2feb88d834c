//! Retention of the embedded broker's topics, by size and by age.
//!
//! Guarantees:
//! * A record that the pipeline's group has not committed is never removed. The oldest records are
//!   removed first.
//! * Without a `[consumer]` there are no commits, and records are removed by size and age alone.
//! * Dead letters are removed by age alone, and their number is logged.
//!
//! Does not guarantee the size limit while more than that is unwritten; an alert fires then. The
//! file does not shrink: removed records become free space for the next ones.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::pipeline::Pipeline;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminOptions;

use super::access::Access;
use super::blocking::{REQUEST_TIMEOUT, run_blocking};
use super::embedded;
use super::error::BrokerError;
use super::offsets;
use forebay_kernel::millis;

/// Offsets of one partition that one request removes. The broker accepts no records meanwhile.
const MAX_OFFSETS_PER_REQUEST: i64 = 10_000;
/// Requests in one round. The next round removes the rest.
const MAX_REQUESTS: usize = 100;
/// The percentage of the limit that a removal by size leaves, so that not every round removes.
const TARGET_PERCENT: u64 = 90;

/// The limits of a pipeline's topics.
#[derive(Debug, Clone)]
pub(super) struct Retention {
    topic: String,
    dead_letter_topic: String,
    /// The group whose commits protect records; `None` where the pipeline ends at the topic.
    group: Option<String>,
    bytes: u64,
    time: Duration,
}

impl Retention {
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

/// The offsets of a partition: its start, its end, and the first one that must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PartitionOffsets {
    start: Offset,
    end: Offset,
    committed: Offset,
}

impl PartitionOffsets {
    fn records(self) -> u64 {
        self.end.since(self.start)
    }

    fn removable(self) -> u64 {
        self.committed.min(self.end).since(self.start)
    }
}

/// How many records to remove so that `used` bytes of `records` records come below the limit.
fn surplus(used: u64, records: u64, limit: u64) -> u64 {
    if used <= limit || records == 0 {
        return 0;
    }
    let over = used - limit / 100 * TARGET_PERCENT;
    u64::try_from(u128::from(over) * u128::from(records) / u128::from(used)).unwrap_or(u64::MAX).max(1)
}

/// The new start offset of each partition. Removes the oldest `surplus` records, in proportion to
/// what is removable of each partition, and the `expired` ones, but none that must stay. A
/// partition that loses nothing is absent.
fn new_starts(
    topic: &BTreeMap<Partition, PartitionOffsets>,
    surplus: u64,
    expired: &BTreeMap<Partition, Offset>,
) -> BTreeMap<Partition, Offset> {
    let removable: u64 = topic.values().map(|offsets| offsets.removable()).sum();
    let new_start = |(&partition, offsets): (&Partition, &PartitionOffsets)| {
        let by_size = match removable {
            0 => 0,
            all => (u128::from(offsets.removable()) * u128::from(surplus.min(all))).div_ceil(u128::from(all)),
        };
        let by_size = offsets.start + i64::try_from(by_size).unwrap_or(i64::MAX);
        let by_age = expired.get(&partition).copied().unwrap_or(offsets.start);
        let to = by_size.max(by_age).min(offsets.committed).min(offsets.end);
        (to > offsets.start).then_some((partition, to))
    };
    topic.iter().filter_map(new_start).collect()
}

/// The number of removed records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) records: u64,
    pub(super) dead_letters: u64,
}

/// Removes what exceeds the limits.
///
/// # Errors
/// When the broker does not answer or refuses.
pub(super) async fn apply(access: &Access, limits: &Retention, wall: SystemTime) -> Result<Removed, BrokerError> {
    let oldest = wall.checked_sub(limits.time).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let oldest = oldest.map_or(0, |since| i64::try_from(millis(since)).unwrap_or(i64::MAX));
    let mut removed = Removed::default();
    let mut requests = 0;
    while requests < MAX_REQUESTS {
        let dead_letters = partition_offsets(access, &limits.dead_letter_topic, None).await?;
        let records = partition_offsets(access, &limits.topic, limits.group.as_deref()).await?;
        let used = used_bytes(access).await?;
        let all = records.values().chain(dead_letters.values()).map(|offsets| offsets.records()).sum();
        let expired = |topic: String, partitions: BTreeMap<Partition, PartitionOffsets>| async move {
            let first_young = offsets::offsets_at(access, &topic, oldest).await?;
            // A partition whose last record is old has no record of that time or later.
            let expired = |(partition, offsets): (Partition, PartitionOffsets)| {
                (partition, first_young.get(&partition).copied().unwrap_or(offsets.end))
            };
            Ok::<BTreeMap<Partition, Offset>, BrokerError>(partitions.into_iter().map(expired).collect())
        };
        let old_records = expired(limits.topic.clone(), records.clone()).await?;
        let old_dead_letters = expired(limits.dead_letter_topic.clone(), dead_letters.clone()).await?;
        let record_starts = new_starts(&records, surplus(used, all, limits.bytes), &old_records);
        let dead_letter_starts = new_starts(&dead_letters, 0, &old_dead_letters);
        if record_starts.is_empty() && dead_letter_starts.is_empty() {
            break;
        }
        removed.records += remove(access, &limits.topic, &records, &record_starts).await?;
        removed.dead_letters += remove(access, &limits.dead_letter_topic, &dead_letters, &dead_letter_starts).await?;
        requests += 1;
    }
    Ok(removed)
}

/// The offsets of a topic. Everything is removable without a group.
async fn partition_offsets(
    access: &Access,
    topic: &str,
    group: Option<&str>,
) -> Result<BTreeMap<Partition, PartitionOffsets>, BrokerError> {
    let ends = match offsets::ends(access, topic).await {
        Ok(ends) => ends,
        // The topic is created when the pipeline starts.
        Err(BrokerError::NoTopic { .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let committed = match group {
        Some(group) => Some(offsets::committed(access, group, topic).await?),
        None => None,
    };
    let committed = |partition: Partition, start, end| match &committed {
        Some(committed) => committed.get(&partition).copied().unwrap_or(start),
        None => end,
    };
    let offsets = |(partition, (start, end))| (partition, PartitionOffsets { start, end, committed: committed(partition, start, end) });
    Ok(ends.into_iter().map(offsets).collect())
}

/// The bytes of the broker's file that are in use.
async fn used_bytes(access: &Access) -> Result<u64, BrokerError> {
    run_blocking(access, |access| embedded::used_bytes(access.embedded_in().expect("only the embedded broker has retention"))).await
}

/// Removes the records before the new starts, at most [`MAX_OFFSETS_PER_REQUEST`] per partition.
/// Returns their number.
async fn remove(
    access: &Access,
    topic: &str,
    partitions: &BTreeMap<Partition, PartitionOffsets>,
    new_starts: &BTreeMap<Partition, Offset>,
) -> Result<u64, BrokerError> {
    let mut offsets = TopicPartitionList::new();
    let mut records = 0;
    for (&partition, &new_start) in new_starts {
        let start = partitions.get(&partition).map_or(new_start, |offsets| offsets.start);
        let to = new_start.min(start + MAX_OFFSETS_PER_REQUEST);
        records += to.since(start);
        offsets
            .add_partition_offset(topic, partition, rdkafka::Offset::Offset(to.value()))
            .expect("an offset of the topic is not negative");
    }
    if records == 0 {
        return Ok(0);
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let refused = |cause| access.error("remove records over [kafka] retention", cause, None);
    let answer = access.admin_client()?.delete_records(&offsets, &options).await.map_err(refused)?;
    for element in answer.elements() {
        element.error().map_err(refused)?;
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions of a start, a committed and an end offset each.
    fn offsets(partitions: &[(i64, i64, i64)]) -> BTreeMap<Partition, PartitionOffsets> {
        let offsets = |&(start, committed, end): &(i64, i64, i64)| PartitionOffsets {
            start: Offset(start),
            end: Offset(end),
            committed: Offset(committed),
        };
        (0..).zip(partitions.iter().map(offsets)).collect()
    }

    fn starts(topic: &BTreeMap<Partition, PartitionOffsets>, surplus: u64, expired: &[(Partition, i64)]) -> Vec<(Partition, i64)> {
        let expired = expired.iter().map(|&(partition, offset)| (partition, Offset(offset))).collect();
        new_starts(topic, surplus, &expired).into_iter().map(|(partition, start)| (partition, start.value())).collect()
    }

    #[test]
    fn nothing_is_removed_while_the_file_is_below_its_limit() {
        assert_eq!(surplus(1_000, 10, 1_000), 0);
        assert_eq!(surplus(5_000, 0, 1_000), 0, "an empty topic has no surplus");
        assert_eq!(starts(&offsets(&[(0, 10, 10)]), 0, &[]), []);
    }

    #[test]
    fn above_the_limit_removal_goes_down_to_nine_tenths() {
        assert_eq!(surplus(2_000, 200, 1_000), 110);
        assert_eq!(surplus(1_001, 1, 1_000), 1, "at least one record, or it would never shrink");
    }

    #[test]
    fn the_oldest_written_records_are_removed_in_proportion() {
        let offsets = offsets(&[(100, 200, 900), (0, 300, 300), (7, 7, 50)]);
        assert_eq!(starts(&offsets, 100, &[]), [(0, 125), (1, 75)]);
        assert_eq!(starts(&offsets, 100_000, &[]), [(0, 200), (1, 300)], "no unwritten one");
    }

    #[test]
    fn an_old_record_is_removed_unless_it_is_unwritten() {
        let offsets = offsets(&[(100, 200, 900), (0, 300, 300)]);
        assert_eq!(starts(&offsets, 0, &[(0, 900), (1, 50)]), [(0, 200), (1, 50)]);
    }

    #[test]
    fn an_unread_partition_keeps_every_record() {
        assert_eq!(starts(&offsets(&[(0, 0, 1_000)]), 1_000, &[(0, 1_000)]), []);
    }
}
