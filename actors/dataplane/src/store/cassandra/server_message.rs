//! Classifies Cassandra's messages about refused writes: the row, the table, or a rule of the
//! cluster.
//!
//! The texts are those of Cassandra 5.0, and the known ones of 3.x to 6.0.
//!
//! Guarantees that only the server's own text decides, in the position where the server puts it. A
//! value that the server quotes decides nothing.
//!
//! Does not guarantee that every message is known. Others are [`Subject::Unknown`], and the caller
//! has to find out.

use crate::MASK;

/// The subject of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// The size of the batch. Its halves may be accepted.
    Batch,
    /// The row, which exceeds a built-in limit of Cassandra.
    Row,
    /// A value of the row, which exceeds a limit that an operator sets.
    Value,
    /// A full disk, reported by the guardrail of this name.
    Disk(&'a str),
    /// A rule for all writes: the guardrail of this name.
    Guardrail(&'a str),
    /// The keyspace, the table or the statement.
    Table,
    /// Unknown.
    Unknown,
}

/// Prefixes of messages about a row that exceeds a built-in limit for keys, indexed values,
/// mutations or requests.
const ROW_LIMIT_PREFIXES: &[&str] = &[
    "Key may not be empty",
    "Key length of ",
    "Cannot index value of size ",
    "Rejected an oversized mutation (",
    "Encountered an oversized mutation (",
    "Mutation of ",
    "java.lang.IllegalArgumentException: Mutation of ",
    "Request is too big: length ",
    "CQL Message of size ",
    "Invalid empty or null value for column ",
];

/// Prefixes of messages about a table that does not match the statement.
const TABLE_PREFIXES: &[&str] = &[
    "unconfigured table",
    "unconfigured columnfamily",
    "Undefined column name",
    "Undefined name",
    "Unknown identifier",
    "No keyspace has been specified",
    "Cannot directly modify a materialized view",
    "Cannot provide custom timestamp for counter",
    "Cannot set the value of counter column",
    "Missing mandatory PRIMARY KEY part",
    "Some partition key parts are missing",
    "Some clustering keys are missing",
    "Invalid amount of bind variables",
];

/// Returns the subject of a message.
pub(super) fn subject_of(message: &str) -> Subject<'_> {
    let begins = |with: &[&str]| with.iter().any(|words| message.starts_with(words));
    if let Some(rest) = message.strip_prefix("Guardrail ")
        && let Some((name, _)) = rest.split_once(" violated: ")
    {
        return guardrail(name);
    }
    if message.starts_with("Batch too large") {
        Subject::Batch
    } else if begins(ROW_LIMIT_PREFIXES) {
        Subject::Row
    } else if message.starts_with("Column value does not satisfy value constraint ") {
        Subject::Value
    } else if begins(TABLE_PREFIXES) || is_missing(message) {
        Subject::Table
    } else {
        Subject::Unknown
    }
}

/// Classifies a guardrail by its name, in the server's spelling.
///
/// Value guardrails are `column_value_size` and, from 5.1 on, `column_TYPE_value_size`;
/// `collection_size` and `collection_KIND_size`; `items_per_collection`; `sai_string_term_size` and
/// the other `sai_*_term_size`. Every other guardrail is a rule for all writes.
fn guardrail(name: &str) -> Subject<'_> {
    let value = (name.starts_with("column_") && name.ends_with("value_size"))
        || (name.starts_with("collection_") && name.ends_with("size"))
        || name == "items_per_collection"
        || (name.starts_with("sai_") && name.ends_with("_term_size"));
    match name {
        _ if value => Subject::Value,
        "replica_disk_usage" | "local_data_disk_usage" => Subject::Disk(name),
        _ => Subject::Guardrail(name),
    }
}

/// Returns whether the message is `table NAME does not exist` or the same for a keyspace.
fn is_missing(message: &str) -> bool {
    let of = ["table ", "Table ", "keyspace ", "Keyspace "].iter().find_map(|what| message.strip_prefix(what));
    let name = of.and_then(|rest| rest.trim_end_matches('.').strip_suffix(" does not exist"));
    name.is_some_and(|name| !name.contains(char::is_whitespace))
}

/// Guardrails whose messages do not quote a record's value.
const GUARDRAILS_WITHOUT_VALUES: &[&str] = &[
    "write_consistency_levels",
    "user_timestamps",
    "maximum_timestamp",
    "minimum_timestamp",
    "replica_disk_usage",
    "local_data_disk_usage",
];

/// Returns the message of a rule for all writes, without values of records.
pub(super) fn guardrail_message(guardrail: &str, message: &str) -> String {
    if GUARDRAILS_WITHOUT_VALUES.contains(&guardrail) { message.to_owned() } else { format!("Guardrail {guardrail} violated") }
}

/// Returns how an operator can lift a rule for all writes.
pub(super) fn guardrail_remedy(guardrail: &str) -> String {
    match guardrail {
        "write_consistency_levels" => {
            "allow the level of [writer] consistency in the cluster, or set [writer] consistency to an allowed level".to_owned()
        }
        "user_timestamps" => {
            "set user_timestamps_enabled in the cluster, because Forebay writes each row with its own timestamp".to_owned()
        }
        "maximum_timestamp" | "minimum_timestamp" => {
            format!("raise the cluster's {guardrail} guardrail, because rows are written with the timestamps of their records")
        }
        "replica_disk_usage" | "local_data_disk_usage" => "free disk space on the nodes, or add nodes".to_owned(),
        _ => format!("lift the guardrail {guardrail} in the cluster"),
    }
}

/// Shorter values are not masked, because they occur in most texts by chance.
const MIN_MASKED_BYTES: usize = 3;

/// Masks a message for logs, notes and the journal, which must not contain a record's values.
///
/// Masks each of `values` and every word that contains a digit.
pub(super) fn mask_values<'a>(message: &str, values: impl Iterator<Item = &'a str>) -> String {
    let mut message = message.to_owned();
    for value in values.filter(|value| value.len() >= MIN_MASKED_BYTES) {
        if message.contains(value) {
            message = message.replace(value, MASK);
        }
    }
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { MASK.to_owned() } else { word.to_owned() };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_limits_are_about_the_row() {
        for message in [
            "Key may not be empty",
            "Key length of 70000 is longer than maximum of 65535",
            "Cannot index value of size 70000 for index by_v on k.t(v) (maximum allowed size=65535)",
            "Rejected an oversized mutation (17825865/16777216) for keyspace: k. Top keys are: t.a does not exist",
            "Encountered an oversized mutation (17825865/16777216) for keyspace: k. Top keys are: t.a",
            "Mutation of 27837439 bytes is too large for the maximum size of 16777216",
            "Request is too big: length 20000123 exceeds maximum allowed length 16777216.",
        ] {
            assert_eq!(subject_of(message), Subject::Row, "{message}");
        }
        assert_eq!(subject_of("Batch too large"), Subject::Batch);
    }

    #[test]
    fn value_guardrails_are_about_values_and_all_others_about_the_cluster() {
        for name in [
            "column_value_size",
            "column_text_value_size",
            "column_blob_value_size",
            "collection_size",
            "collection_map_size",
            "items_per_collection",
            "sai_string_term_size",
            "sai_frozen_term_size",
        ] {
            assert_eq!(
                subject_of(&format!("Guardrail {name} violated: Value of column 'v' has size 2KiB, this exceeds …")),
                Subject::Value,
                "{name}"
            );
        }
        for name in
            ["write_consistency_levels", "user_timestamps", "maximum_timestamp", "minimum_timestamp", "columns_per_table", "made_tomorrow"]
        {
            assert_eq!(subject_of(&format!("Guardrail {name} violated: it exceeds what is allowed")), Subject::Guardrail(name));
        }
        let full = "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold";
        assert_eq!(subject_of(full), Subject::Disk("replica_disk_usage"));
    }

    #[test]
    fn a_value_that_the_server_quotes_decides_nothing() {
        for message in [
            "Unable to make int from 'table t does not exist'",
            "Unable to make int from 'Key may not be empty'",
            "a value that says Guardrail column_value_size violated: too long",
            "this exceeds a limit, is too large, too long, out of range and may not be empty",
        ] {
            assert_eq!(subject_of(message), Subject::Unknown, "{message}");
        }
    }

    #[test]
    fn messages_about_a_missing_table_or_column_are_about_the_table() {
        for message in
            ["table t does not exist", "unconfigured table t", "Keyspace 'k' does not exist", "Undefined column name v in table k.t"]
        {
            assert_eq!(subject_of(message), Subject::Table, "{message}");
        }
    }

    #[test]
    fn a_masked_message_contains_no_value_of_the_record() {
        let partition = "Guardrail partition_size violated: Partition k.t:Ann Meyer has size 2GiB";
        assert_eq!(guardrail_message("partition_size", partition), "Guardrail partition_size violated");
        let message = mask_values("Unable to make long from 'Ann Meyer', got 41 of k.t(name)", ["Ann Meyer", "a"].into_iter());
        assert_eq!(message, "Unable to make long from '***', got *** of k.t(name)");
    }
}
