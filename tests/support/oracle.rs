//! What the table must hold, derived from the topic alone, with another Kafka client.
//!
//! Knows nothing of the program but its write clock, which it computes from the first record of
//! each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::{Job, TIMEOUT, committed, ends, unique};

/// Number of partitions of a job's topic.
pub(crate) const PARTITIONS: i32 = 4;
/// The columns outside the key. All are written, so each has a write time.
const CELLS: [&str; 11] =
    ["first_name", "last_name", "gender", "address", "post_code", "email", "username", "dob", "registered_date", "phone", "picture"];

/// A record of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) user: u32,
    pub(crate) version: u32,
    /// Does not fit the schema, so it becomes a dead letter.
    pub(crate) bad: bool,
    /// The write timestamp that its row must have.
    pub(crate) write_ts: i64,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) version: u32,
    /// The write time of all cells.
    pub(crate) write_ts: i64,
}

/// A topic and its dead letters, as read so far.
pub(crate) struct Topic {
    bootstrap: String,
    name: String,
    consumer: BaseConsumer,
    clocks: BTreeMap<i32, i64>,
    pub(crate) records: Vec<Record>,
    /// Partition and offset of the records in the dead-letter topic.
    pub(crate) letters: BTreeSet<(i32, i64)>,
    read: BTreeMap<(String, i32), i64>,
}

impl Topic {
    pub(crate) fn of(bootstrap: &str, job: &Job) -> Self {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", unique("oracle"))
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        Self {
            bootstrap: bootstrap.to_owned(),
            name: job.topic.clone(),
            consumer,
            clocks: BTreeMap::new(),
            records: Vec::new(),
            letters: BTreeSet::new(),
            read: BTreeMap::new(),
        }
    }

    /// Reads the records since the last call.
    pub(crate) fn read(&mut self) {
        let dead = format!("{}.dead", self.name);
        let mut until = BTreeMap::new();
        for (topic, partitions) in [(&self.name, PARTITIONS), (&dead, 1)] {
            until.extend(ends(&self.bootstrap, topic, partitions).into_iter().map(|(partition, end)| ((topic.clone(), partition), end)));
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in until.keys() {
            let from = self.read.get(&(topic.clone(), *partition)).copied().unwrap_or_default();
            list.add_partition_offset(topic, *partition, Offset::Offset(from)).unwrap();
        }
        self.consumer.assign(&list).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while until.iter().any(|(place, end)| self.read.get(place).copied().unwrap_or_default() < *end) {
            assert!(Instant::now() < deadline, "read only {:?} of {until:?}", self.read);
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            // A client that outlived a restart of Kafka reports it now.
            let is_over = |error: &KafkaError| {
                matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure))
            };
            if message.as_ref().is_err_and(is_over) {
                continue;
            }
            let message = message.unwrap();
            let (partition, offset) = (message.partition(), message.offset());
            let next = self.read.entry((message.topic().to_owned(), partition)).or_default();
            assert_eq!(*next, offset, "there is a gap in {}", message.topic());
            *next = offset + 1;
            if message.topic() == dead {
                let headers: BTreeMap<_, _> = message.headers().unwrap().iter().map(|h| (h.key, h.value.unwrap_or_default())).collect();
                let number = |key: &str| std::str::from_utf8(headers[key]).unwrap().parse::<i64>().unwrap();
                self.letters.insert((i32::try_from(number("forebay-partition")).unwrap(), number("forebay-offset")));
            } else {
                let clock = self.clocks.entry(partition).or_default();
                let least = (*clock + 16).max(message.timestamp().to_millis().unwrap() * 1_000);
                // Each of the first eight partitions owns every 16th microsecond.
                *clock = least + (i64::from(partition) * 2 - least).rem_euclid(16);
                let value: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                let (user, version) = (user_of(&value["login"]["uuid"]), version_of(&value["name"]["last"]));
                let bad = value["dob"]["date"] == super::BAD_DATE;
                self.records.push(Record { partition, offset, user, version, bad, write_ts: *clock });
            }
        }
    }

    /// The expected rows: for each user, the record with the highest offset.
    pub(crate) fn rows(&self) -> BTreeMap<u32, Row> {
        let mut newest = BTreeMap::<u32, Record>::new();
        for record in self.records.iter().filter(|record| !record.bad) {
            let at = newest.entry(record.user).or_insert(*record);
            assert_eq!(at.partition, record.partition, "a key is in one partition");
            if record.offset > at.offset {
                *at = *record;
            }
        }
        newest.into_iter().map(|(user, Record { version, write_ts, .. })| (user, Row { version, write_ts })).collect()
    }

    /// Partition and offset of the records that must be dead letters.
    pub(crate) fn bad(&self) -> BTreeSet<(i32, i64)> {
        self.records.iter().filter(|record| record.bad).map(|record| (record.partition, record.offset)).collect()
    }

    pub(crate) fn len(&self) -> u64 {
        self.records.len() as u64
    }
}

/// The rows of the table. Panics when the cells of a row have different write times.
pub(crate) fn rows(job: &Job) -> BTreeMap<u32, Row> {
    let times: Vec<String> = CELLS.iter().enumerate().map(|(n, cell)| format!("writetime({cell}) AS t{n}")).collect();
    let rows = job.query(&format!("SELECT id, last_name, {} FROM users_stream", times.join(", ")));
    let row = |row: Value| {
        let times: BTreeSet<i64> = (0..CELLS.len()).map(|n| row[format!("t{n}")].as_i64().unwrap_or_else(|| panic!("{row}"))).collect();
        assert_eq!(times.len(), 1, "a row from several writes: {row}");
        (user_of(&row["id"]), Row { version: version_of(&row["last_name"]), write_ts: *times.first().unwrap() })
    };
    rows.into_iter().map(row).collect()
}

/// Asserts what holds at any time, after a process has ended: no commit went back from `before`,
/// which is then updated; each record before a commit is in the table, at least as new, or is a
/// dead letter; and the journal is readable.
pub(crate) fn assert_commits(job: &Job, topic: &mut Topic, before: &mut BTreeMap<i32, i64>, after: &str) {
    let committed = committed(&topic.bootstrap, &job.group, &job.topic, PARTITIONS);
    for (partition, before) in &*before {
        let now = committed.get(partition).copied().unwrap_or_default();
        assert!(now >= *before, "{after}: the commit of partition {partition} went back from {before} to {now}");
    }
    topic.read();
    let journal = job.forebay(&["journal", "verify"]);
    assert!(journal.status.success(), "{after}: {}", String::from_utf8_lossy(&journal.stderr));
    if !committed.is_empty() {
        let rows = rows(job);
        for record in &topic.records {
            if record.offset >= committed.get(&record.partition).copied().unwrap_or_default() {
                continue;
            }
            let place = (record.partition, record.offset);
            let row = rows.get(&record.user);
            let is_in = match record.bad {
                true => topic.letters.contains(&place),
                false => row.is_some_and(|row| row.version >= record.version && row.write_ts >= record.write_ts),
            };
            assert!(is_in, "{after}: committed, but its row is {row:?}: {record:?}");
        }
    }
    *before = committed;
}

/// Writes what is left in the topic, compares the table with the topic, and returns the summary.
pub(crate) fn finish(job: &Job, topic: &mut Topic) -> Value {
    let end = job.forebay(&["run", "--until-idle", "--roles", "egress", "--json"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    topic.read();
    assert_eq!(committed(&topic.bootstrap, &job.group, &job.topic, PARTITIONS), ends(&topic.bootstrap, &job.topic, PARTITIONS));
    assert_same(&rows(job), &topic.rows());
    assert_eq!(topic.letters, topic.bad(), "the bad records are dead letters, and no others");
    serde_json::from_slice(&end.stdout).unwrap()
}

/// Asserts that a table is as it should be.
pub(crate) fn assert_same(table: &BTreeMap<u32, Row>, expected: &BTreeMap<u32, Row>) {
    let differ: Vec<_> = expected.iter().map(|(user, row)| (user, row, table.get(user))).filter(|(_, row, is)| Some(*row) != *is).collect();
    assert!(differ.is_empty(), "user, row as it should be, row as it is: {differ:?}");
    assert_eq!(table.len(), expected.len(), "no other rows");
}

fn user_of(id: &Value) -> u32 {
    u32::from_str_radix(&id.as_str().unwrap()[..8], 16).unwrap()
}

fn version_of(name: &Value) -> u32 {
    name.as_str().unwrap().strip_prefix("Last").unwrap().parse().unwrap()
}
