//! What Cassandra's words about a refused write are about: the row, its table, or a rule of the cluster.
//!
//! Guarantee: only what the server itself names decides. The words are those of Cassandra 5.0 and what is known of 3.x to 6.0, looked for
//! where the server puts them, so that a value that the server quotes decides nothing. Not guaranteed: that all words are known; those that
//! are not are [`About::Unknown`], and the caller has to find out.
use crate::MASK;

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About<'a> {
    /// The size of a batch: its halves may pass.
    Batch,
    /// The row, by a limit of Cassandra's own that nobody can lift for it.
    Row,
    /// A value of the row, by a limit that an operator sets.
    Value,
    /// The nodes' disks, by the guardrail of this name.
    Disk(&'a str),
    /// A rule for all writes, by the guardrail of this name.
    Rule(&'a str),
    /// Keyspace, table or statement.
    Table,
    /// Not known.
    Unknown,
}

/// How Cassandra begins to say that a row is beyond a limit of its own: of keys, of indexed values, of mutations, of requests.
const ROW: &[&str] = &[
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

/// How it begins to say that table and statement do not fit.
const TABLE: &[&str] = &[
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

/// What words of the server are about.
pub(super) fn about(said: &str) -> About<'_> {
    let begins = |with: &[&str]| with.iter().any(|words| said.starts_with(words));
    if let Some(rest) = said.strip_prefix("Guardrail ")
        && let Some((name, _)) = rest.split_once(" violated: ")
    {
        return guardrail(name);
    }
    if said.starts_with("Batch too large") {
        About::Batch
    } else if begins(ROW) {
        About::Row
    } else if said.starts_with("Column value does not satisfy value constraint ") {
        About::Value
    } else if begins(TABLE) || is_missing(said) {
        About::Table
    } else {
        About::Unknown
    }
}

/// Guardrails by their names, in the server's own spelling. Those of values: `column_value_size` and from 5.1 on `column_TYPE_value_size`,
/// `collection_size` and `collection_KIND_size`, `items_per_collection`, `sai_string_term_size` and its like. Any other one that a write meets is a rule.
fn guardrail(name: &str) -> About<'_> {
    let value = (name.starts_with("column_") && name.ends_with("value_size"))
        || (name.starts_with("collection_") && name.ends_with("size"))
        || name == "items_per_collection"
        || (name.starts_with("sai_") && name.ends_with("_term_size"));
    match name {
        _ if value => About::Value,
        "replica_disk_usage" | "local_data_disk_usage" => About::Disk(name),
        _ => About::Rule(name),
    }
}

/// `table NAME does not exist`, and the same of a keyspace.
fn is_missing(said: &str) -> bool {
    let of = ["table ", "Table ", "keyspace ", "Keyspace "].iter().find_map(|what| said.strip_prefix(what));
    let name = of.and_then(|rest| rest.trim_end_matches('.').strip_suffix(" does not exist"));
    name.is_some_and(|name| !name.contains(char::is_whitespace))
}

/// Guardrails whose words quote no value of a record.
const QUOTE_NOTHING: &[&str] = &[
    "write_consistency_levels",
    "user_timestamps",
    "maximum_timestamp",
    "minimum_timestamp",
    "replica_disk_usage",
    "local_data_disk_usage",
];

/// What the server says of a guardrail that is a rule for all writes, without values of records.
pub(super) fn of_rule(guardrail: &str, said: &str) -> String {
    if QUOTE_NOTHING.contains(&guardrail) { said.to_owned() } else { format!("Guardrail {guardrail} violated") }
}

/// What lifts a guardrail that is a rule for all writes.
pub(super) fn remedy(guardrail: &str) -> String {
    match guardrail {
        "write_consistency_levels" => "allow the level of [writer] consistency in the cluster, or write at one that it allows".to_owned(),
        "user_timestamps" => "allow user_timestamps_enabled in the cluster: each row is written with its own timestamp".to_owned(),
        "maximum_timestamp" | "minimum_timestamp" => {
            format!("raise the cluster's {guardrail} guardrail: rows are written with the timestamps of their records")
        }
        "replica_disk_usage" | "local_data_disk_usage" => "free disk space on the nodes, or add nodes".to_owned(),
        _ => format!("lift the guardrail {guardrail} in the cluster"),
    }
}

/// A value that is shorter stands in most texts by chance.
const SHORTEST_MASKED: usize = 3;

/// Words of the server for log, note and journal, where no value of a record may stand: each of `values` that they quote is masked, and each
/// word with a digit in it.
pub(super) fn masked<'a>(said: &str, values: impl Iterator<Item = &'a str>) -> String {
    let mut said = said.to_owned();
    for value in values.filter(|value| value.len() >= SHORTEST_MASKED) {
        if said.contains(value) {
            said = said.replace(value, MASK);
        }
    }
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { MASK.to_owned() } else { word.to_owned() };
    said.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_cassandra_itself_are_about_the_row() {
        for said in [
            "Key may not be empty",
            "Key length of 70000 is longer than maximum of 65535",
            "Cannot index value of size 70000 for index by_v on k.t(v) (maximum allowed size=65535)",
            "Rejected an oversized mutation (17825865/16777216) for keyspace: k. Top keys are: t.a does not exist",
            "Encountered an oversized mutation (17825865/16777216) for keyspace: k. Top keys are: t.a",
            "Mutation of 27837439 bytes is too large for the maximum size of 16777216",
            "Request is too big: length 20000123 exceeds maximum allowed length 16777216.",
        ] {
            assert_eq!(about(said), About::Row, "{said}");
        }
        assert_eq!(about("Batch too large"), About::Batch);
    }

    #[test]
    fn guardrails_of_values_are_about_values_and_all_others_are_about_the_cluster() {
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
                about(&format!("Guardrail {name} violated: Value of column 'v' has size 2KiB, this exceeds …")),
                About::Value,
                "{name}"
            );
        }
        for name in
            ["write_consistency_levels", "user_timestamps", "maximum_timestamp", "minimum_timestamp", "columns_per_table", "made_tomorrow"]
        {
            assert_eq!(about(&format!("Guardrail {name} violated: it exceeds what is allowed")), About::Rule(name));
        }
        let full = "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold";
        assert_eq!(about(full), About::Disk("replica_disk_usage"));
    }

    #[test]
    fn what_the_server_quotes_of_a_record_decides_nothing() {
        for said in [
            "Unable to make int from 'table t does not exist'",
            "Unable to make int from 'Key may not be empty'",
            "a value that says Guardrail column_value_size violated: too long",
            "this exceeds a limit, is too large, too long, out of range and may not be empty",
        ] {
            assert_eq!(about(said), About::Unknown, "{said}");
        }
    }

    #[test]
    fn a_table_that_is_missing_or_has_other_columns_is_about_the_table() {
        for said in
            ["table t does not exist", "unconfigured table t", "Keyspace 'k' does not exist", "Undefined column name v in table k.t"]
        {
            assert_eq!(about(said), About::Table, "{said}");
        }
    }

    #[test]
    fn words_in_the_log_have_no_value_of_the_record() {
        let partition = "Guardrail partition_size violated: Partition k.t:Ann Meyer has size 2GiB";
        assert_eq!(of_rule("partition_size", partition), "Guardrail partition_size violated");
        let said = masked("Unable to make long from 'Ann Meyer', got 41 of k.t(name)", ["Ann Meyer", "a"].into_iter());
        assert_eq!(said, "Unable to make long from '***', got *** of k.t(name)");
    }
}
