//! Kafka's own command-line tools, against any broker, for independent checks.
//!
//! Each call starts a JVM and takes one to three seconds.

use std::process::Command;

use crate::process::{output, output_with_input};
use crate::{Kafka, Result, java, kafka, must};

/// What a consumer group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The committed offset, if any.
    pub committed: Option<i64>,
    /// The end offset of the partition.
    pub end: i64,
}

/// Creates a topic with one replica.
///
/// # Panics
/// If the broker refuses, or Java or Maven is missing.
#[track_caller]
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32) {
    let partitions = partitions.to_string();
    let arguments = ["--create", "--topic", topic, "--partitions", &partitions, "--replication-factor", "1"];
    must(tool("org.apache.kafka.tools.TopicCommand", bootstrap, &arguments).and_then(|mut tool| output(&mut tool, 60)));
}

/// Returns the names of all topics, without Kafka's internal ones.
///
/// # Panics
/// If the broker does not answer, or Java or Maven is missing.
#[track_caller]
pub fn topics(bootstrap: &str) -> Vec<String> {
    let arguments = ["--list", "--exclude-internal"];
    let text = must(tool("org.apache.kafka.tools.TopicCommand", bootstrap, &arguments).and_then(|mut tool| output(&mut tool, 60)));
    text.lines().map(str::to_owned).collect()
}

/// Returns the values of up to `max_records` records of a topic, each partition in order; stops
/// when none arrives for 10 s.
///
/// # Panics
/// If the broker does not answer, or Java or Maven is missing.
#[track_caller]
pub fn console_consumer(bootstrap: &str, topic: &str, max_records: usize) -> Vec<String> {
    let max_records = max_records.to_string();
    let arguments = ["--topic", topic, "--from-beginning", "--max-messages", &max_records, "--timeout-ms", "10000"];
    let text =
        must(tool("org.apache.kafka.tools.consumer.ConsoleConsumer", bootstrap, &arguments).and_then(|mut tool| output(&mut tool, 300)));
    text.lines().map(str::to_owned).collect()
}

/// Returns what a consumer group has committed, sorted by topic and partition.
///
/// # Panics
/// If the broker does not know the group, or Java or Maven is missing.
#[track_caller]
pub fn group_offsets(bootstrap: &str, group: &str) -> Vec<GroupOffset> {
    let arguments = ["--describe", "--offsets", "--group", group];
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let text = must(tool(class, bootstrap, &arguments).and_then(|mut tool| output(&mut tool, 60)));
    must(offsets(&text))
}

/// Produces records with Kafka's console producer: `acks=all`, partitioned by key, `None` for no
/// key. Keys and values must not contain line breaks, and keys no tabs.
///
/// # Panics
/// If the broker refuses a record, or Java or Maven is missing.
#[track_caller]
pub fn produce<K: AsRef<str>, V: AsRef<str>>(bootstrap: &str, topic: &str, records: impl IntoIterator<Item = (Option<K>, V)>) {
    const NO_KEY: &str = "\u{1}"; // can't be part of JSON text
    let mut lines = String::new();
    for (key, value) in records {
        let key = key.as_ref().map_or(NO_KEY, AsRef::as_ref);
        lines.extend([key, "\t", value.as_ref(), "\n"]);
    }
    let null = format!("null.marker={NO_KEY}");
    let arguments = ["--topic", topic, "--property", "parse.key=true", "--property", "key.separator=\t", "--property", &null];
    must(
        tool("org.apache.kafka.tools.ConsoleProducer", bootstrap, &arguments)
            .and_then(|mut tool| output_with_input(&mut tool, 300, lines.as_bytes())),
    );
}

/// The tools, on this server.
impl Kafka {
    /// [`create_topic`] on this server.
    #[track_caller]
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        create_topic(self.bootstrap(), topic, partitions);
    }

    /// [`topics`] of this server.
    #[track_caller]
    pub fn topics(&self) -> Vec<String> {
        topics(self.bootstrap())
    }

    /// [`console_consumer`] on this server.
    #[track_caller]
    pub fn console_consumer(&self, topic: &str, max_records: usize) -> Vec<String> {
        console_consumer(self.bootstrap(), topic, max_records)
    }

    /// [`group_offsets`] of this server.
    #[track_caller]
    pub fn group_offsets(&self, group: &str) -> Vec<GroupOffset> {
        group_offsets(self.bootstrap(), group)
    }

    /// [`produce`] on this server.
    #[track_caller]
    pub fn produce<K: AsRef<str>, V: AsRef<str>>(&self, topic: &str, records: impl IntoIterator<Item = (Option<K>, V)>) {
        produce(self.bootstrap(), topic, records);
    }
}

fn tool(class: &str, bootstrap: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = java::java(&kafka::installed()?.join("lib"))?;
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]);
    command.arg(class).args(["--bootstrap-server", bootstrap]).args(arguments);
    Ok(command)
}

/// Parses the table `GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …`.
fn offsets(table: &str) -> Result<Vec<GroupOffset>> {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        Some(GroupOffset {
            topic: (*cells.get(1)?).to_owned(),
            partition: cells.get(2)?.parse().ok()?,
            committed: match *cells.get(3)? {
                "-" => None,
                number => Some(number.parse().ok()?),
            },
            end: cells.get(4)?.parse().ok()?,
        })
    };
    let lines =
        table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("GROUP ") && !line.contains("has no active members"));
    let mut rows = lines
        .map(|line| row(line).ok_or_else(|| format!("not a row of the consumer group table: {line:?}")))
        .collect::<Result<Vec<_>>>()?;
    rows.sort();
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::{GroupOffset, offsets};

    #[test]
    fn committed_offsets_are_parsed_from_the_table_in_order() {
        let table = "\nConsumer group 'users' has no active members.\n\n\
            GROUP  TOPIC        PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG  CONSUMER-ID  HOST  CLIENT-ID\n\
            users  users_stream 1          -               7               -    -            -     -\n\
            users  users_stream 0          5               8               3    -            -     -\n";
        let row = |partition, committed, end| GroupOffset { topic: "users_stream".into(), partition, committed, end };
        assert_eq!(offsets(table).unwrap(), [row(0, Some(5), 8), row(1, None, 7)]);
    }

    #[test]
    fn an_unknown_row_is_an_error() {
        assert!(offsets("users users_stream zero 5 8 3").is_err());
    }
}
