//! Checks of a pipeline file beyond its keys: ranges, names, and sections that need each other.
//!
//! Guarantees:
//! * Every error points at the key and says what to write instead. Only the first error is
//!   reported.
//! * Nothing outside the file is read.

use std::time::Duration;

use super::{
    Bytes, CassandraSection, ConsumerSection, ContactPoints, FetcherSection, FileError, HumanDuration, LineageSection, Pipeline, Property,
    RESERVED_PROPERTIES, api_checks, paging_checks, request, secret_checks, source_checks, source_incremental, writer_checks,
};
use crate::run_plan::Warning;

/// Checks a parsed pipeline file.
pub(super) fn check(p: &Pipeline) -> Result<(), FileError> {
    check_sections(p)?;
    check_names(p)?;
    check_kafka(p)?;
    if let Some(cassandra) = &p.cassandra {
        check_cassandra(p, cassandra)?;
    }
    if let Some(fetcher) = &p.fetcher {
        check_fetcher(p, fetcher)?;
    }
    if let Some(producer) = &p.producer {
        check_pointer(p, &["producer", "key"], &producer.key)?;
        if producer.key.is_empty() {
            return Err(p.error_at(&["producer", "key"], "the key is empty", "use a field of the record, such as \"/id\""));
        }
    }
    if let Some(consumer) = &p.consumer {
        check_consumer(p, consumer)?;
    }
    if let Some(writer) = &p.writer {
        writer_checks::check(p, writer)?;
    }
    api_checks::check(p)?;
    in_range(p, &["journal", "segment"], i64::try_from(p.journal.segment.0).unwrap_or(i64::MAX), 64 << 10, 1 << 30)?;
    if let Some(lineage) = &p.lineage {
        check_lineage(p, lineage)?;
    }
    secret_checks::check(p)?;
    check_supervisor(p)
}

fn check_lineage(p: &Pipeline, lineage: &LineageSection) -> Result<(), FileError> {
    match (&lineage.url, &lineage.file) {
        (Some(_), None) => {}
        (None, Some(_)) if lineage.token.is_some() => {
            return Err(p.error_at(&["lineage", "token"], "a file takes no token", "remove it, or set url instead of file"));
        }
        (None, Some(_)) => {}
        _ => {
            let remedy = "set url = \"http://127.0.0.1:5000/api/v1/lineage\" or file = \"lineage.ndjson\"";
            return Err(p.error_at(&["lineage"], "[lineage] needs either url or file", remedy));
        }
    }
    if lineage.namespace.is_empty() {
        return Err(p.error_at(&["lineage", "namespace"], "the namespace is empty", "remove the key for the default, \"forebay\""));
    }
    Ok(())
}

fn check_sections(p: &Pipeline) -> Result<(), FileError> {
    let present = [
        ("fetcher", p.fetcher.is_some()),
        ("producer", p.producer.is_some()),
        ("consumer", p.consumer.is_some()),
        ("transformer", p.transformer.is_some()),
        ("writer", p.writer.is_some()),
        ("cassandra", p.cassandra.is_some()),
    ];
    for (half, sections) in [("into the topic", &present[..2]), ("from the topic into the table", &present[2..])] {
        let missing: Vec<_> = sections.iter().filter(|(_, is_present)| !is_present).map(|(name, _)| format!("[{name}]")).collect();
        if let Some((name, _)) = sections.iter().find(|(_, is_present)| *is_present)
            && !missing.is_empty()
        {
            return Err(p.error_at(
                &[name],
                format!("[{name}] needs {}", missing.join(", ")),
                format!("the half {half} needs all its sections; add the missing ones, or remove all of them"),
            ));
        }
    }
    if present.iter().all(|(_, is_present)| !is_present) {
        return Err(p.error_at(
            &["pipeline"],
            "the pipeline file configures no actor",
            "add [fetcher] and [producer], or [consumer], [transformer], [writer] and [cassandra], or all of them; `forebay init` creates an example",
        ));
    }
    Ok(())
}

fn check_names(p: &Pipeline) -> Result<(), FileError> {
    let name = &p.meta.name;
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !fits {
        return Err(p.error_at(
            &["pipeline", "name"],
            format!("{name:?} is not a valid pipeline name"),
            "use 1 to 64 letters, digits, `-` and `_`",
        ));
    }
    Ok(())
}

fn check_kafka(p: &Pipeline) -> Result<(), FileError> {
    let kafka = &p.kafka;
    if !kafka.is_embedded() {
        check_servers(p, &["kafka", "bootstrap"], kafka.bootstrap.split(','))?;
    }
    let dead = kafka.dead_letter_topic();
    for (key, topic) in [("topic", &kafka.topic), ("dead_letter_topic", &dead)] {
        // Kafka's own rule: org.apache.kafka.common.internals.Topic.
        let fits = (1..=249).contains(&topic.len())
            && topic != "."
            && topic != ".."
            && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !fits {
            return Err(p.error_at(
                &["kafka", key],
                format!("{topic:?} is not a valid topic name"),
                "use 1 to 249 letters, digits, `.`, `_` and `-`",
            ));
        }
    }
    if dead == kafka.topic {
        return Err(p.error_at(
            &["kafka", "dead_letter_topic"],
            "the dead-letter topic is the topic itself",
            "remove the key for the default, the topic's name plus `.dead`",
        ));
    }
    in_range(p, &["kafka", "partitions"], i64::from(kafka.partitions), 1, 10_000)?;
    if let Some(retention) = &kafka.retention {
        if !kafka.is_embedded() {
            return Err(p.error_at(
                &["kafka", "retention"],
                "[kafka] retention applies to the embedded broker, but kafka.bootstrap is a real one",
                "remove it, and set retention.ms and retention.bytes of the topics with Kafka's own tools",
            ));
        }
        bytes_in_range(p, &["kafka", "retention", "bytes"], retention.bytes, 16 << 20, 1 << 50)?;
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        duration_in_range(p, &["kafka", "retention", "time"], retention.time, Duration::from_secs(60), 100 * year)?;
    }
    in_range(p, &["kafka", "replication"], i64::from(kafka.replication), 1, 100)?;
    for name in ["sasl.mechanism", "sasl.mechanisms"] {
        if let Some(Property::Plain(mechanism)) = kafka.properties.get(name)
            && mechanism.eq_ignore_ascii_case("OAUTHBEARER")
        {
            return Err(p.error_at(
                &["kafka", "properties", name],
                "OAUTHBEARER is not supported: the built-in librdkafka has no HTTP client to get tokens with",
                "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or a client certificate with security.protocol = \"ssl\"",
            ));
        }
    }
    if let Some(name) = kafka.properties.keys().find(|name| RESERVED_PROPERTIES.contains(&name.as_str())) {
        return Err(p.error_at(
            &["kafka", "properties", name],
            format!("`{name}` is set by Forebay"),
            "remove the line; Forebay's guarantees rely on this property",
        ));
    }
    Ok(())
}

fn check_cassandra(p: &Pipeline, cassandra: &CassandraSection) -> Result<(), FileError> {
    let key = &["cassandra", "contact_points"];
    match &cassandra.contact_points {
        ContactPoints::Word(word) if word == "embedded" => {}
        ContactPoints::Word(word) => {
            return Err(p.error_at(
                key,
                format!("{word:?} is neither \"embedded\" nor a list"),
                format!("write \"embedded\", or a list: [{word:?}]"),
            ));
        }
        ContactPoints::Servers(servers) if servers.is_empty() => {
            return Err(p.error_at(key, "the list is empty", "add at least one server: [\"127.0.0.1:9042\"]"));
        }
        ContactPoints::Servers(servers) => check_servers(p, key, servers.iter().map(String::as_str))?,
    }
    writer_checks::check_table_name(p, &["cassandra", "keyspace"], &cassandra.keyspace)?;
    in_range(p, &["cassandra", "replication"], i64::from(cassandra.replication), 1, 100)?;
    if cassandra.username.is_some() != cassandra.password.is_some() {
        return Err(p.error_at(&["cassandra"], "username and password belong together", "set both, or neither"));
    }
    check_cassandra_connection(p, cassandra)
}

/// Checks the keys that protect and direct the connections to Cassandra.
fn check_cassandra_connection(p: &Pipeline, cassandra: &CassandraSection) -> Result<(), FileError> {
    if cassandra.is_embedded() {
        let set = [("tls", cassandra.tls.is_some()), ("datacenter", cassandra.datacenter.is_some())];
        return match set.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(p.error_at(&["cassandra", name], format!("the embedded store has no `{name}`"), "remove it")),
            None => Ok(()),
        };
    }
    if cassandra.datacenter_failover && cassandra.datacenter.is_none() {
        let key = &["cassandra", "datacenter_failover"];
        return Err(p.error_at(key, "datacenter_failover needs a datacenter", "set datacenter = \"dc1\", or remove datacenter_failover"));
    }
    if let Some(tls) = &cassandra.tls {
        check_client_pair(p, "cassandra", tls.certificate.is_some(), tls.key.is_some())?;
        if tls.hostname.is_some() && !tls.verify_hostname {
            return Err(p.error_at(&["cassandra", "tls", "hostname"], "verify_hostname = false ignores hostname", "remove one of them"));
        }
    }
    if cassandra.sends_plaintext_password() && !cassandra.plaintext_password {
        return Err(p.error_at(
            &["cassandra", "password"],
            "the password would cross the network without TLS, where others can read it",
            "add a [cassandra.tls] section, or set plaintext_password = true in [cassandra] if the network is trusted",
        ));
    }
    Ok(())
}

impl CassandraSection {
    /// Whether the password crosses a network without TLS.
    fn sends_plaintext_password(&self) -> bool {
        let ContactPoints::Servers(servers) = &self.contact_points else { return false };
        self.password.is_some() && self.tls.is_none() && !servers.iter().all(|server| is_loopback(host_of(server)))
    }

    /// Settings that trust a server or a network that may not be the intended one.
    pub(super) fn security_warnings(&self) -> Vec<Warning> {
        let names = "[cassandra.tls] verify_hostname = false: whoever has any certificate of the CA can pose as Cassandra; set hostname to a \
                     name that the certificates have, or issue certificates with the nodes' IP addresses";
        let password =
            "[cassandra] plaintext_password = true: whoever can read the network's traffic can read the password; add [cassandra.tls]";
        let found = [
            ("verification_off", names, self.tls.as_ref().is_some_and(|tls| !tls.verify_hostname)),
            ("plaintext_password", password, self.sends_plaintext_password()),
        ];
        let found = found.into_iter().filter(|(.., is_found)| *is_found);
        found.map(|(code, what, _)| Warning { code: code.to_owned(), what: what.to_owned() }).collect()
    }
}

fn check_fetcher(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    source_checks::check(p, fetcher)?;
    if let Some(cursor) = &fetcher.cursor {
        check_pointer(p, &["fetcher", "cursor", "next"], &cursor.next)?;
        for (key, value, such) in [("next", &cursor.next, "/info/next"), ("param", &cursor.param, "since")] {
            if value.is_empty() {
                let remedy = format!("set it as the API defines it, such as {such:?}; if it has no cursors, remove `cursor`");
                return Err(p.error_at(&["fetcher", "cursor", key], format!("the cursor's `{key}` is empty"), remedy));
            }
        }
        if let Some(has_more) = &cursor.has_more {
            check_pointer(p, &["fetcher", "cursor", "has_more"], has_more)?;
            if has_more.is_empty() {
                let remedy = "set it as the API defines it, such as \"/has_more\"; remove it if only the next cursor counts";
                return Err(p.error_at(&["fetcher", "cursor", "has_more"], "the cursor's `has_more` is empty", remedy));
            }
        }
        in_range(p, &["fetcher", "cursor", "max_empty_pages"], i64::from(cursor.max_empty_pages), 0, 10_000)?;
    }
    paging_checks::check(p, fetcher)?;
    source_incremental::check(p, fetcher)?;
    check_params(p, fetcher)?;
    request::check(p, fetcher)?;
    in_range(p, &["fetcher", "max_pages"], i64::from(fetcher.max_pages), 1, 100_000)?;
    in_range(p, &["fetcher", "fetch_ahead"], i64::from(fetcher.fetch_ahead), 0, 64)?;
    in_range(p, &["fetcher", "max_active_runs"], i64::from(fetcher.max_active_runs), 1, 16)?;
    if let Some(every) = fetcher.every {
        duration_in_range(p, &["fetcher", "every"], every, Duration::from_millis(1), Duration::from_secs(366 * 86_400))?;
    }
    duration_in_range(p, &["fetcher", "timeout"], fetcher.timeout, Duration::from_millis(1), Duration::from_secs(3_600))?;
    bytes_in_range(p, &["fetcher", "max_page_bytes"], fetcher.max_page_bytes, 1 << 10, 1 << 30)?;
    if let Some(producer) = &p.producer {
        bytes_in_range(p, &["producer", "max_record_bytes"], producer.max_record_bytes, 1, 1 << 30)?;
        if producer.budget.0 < fetcher.max_page_bytes.0 {
            return Err(p.error_at(
                &["producer", "budget"],
                format!("the budget of {} is too small for a page of {}", producer.budget, fetcher.max_page_bytes),
                "set producer.budget to at least fetcher.max_page_bytes",
            ));
        }
    }
    Ok(())
}

fn check_params(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    let key = &["fetcher", "params"];
    for param in &fetcher.params {
        if param.is_empty() || param.chars().count() > 128 {
            return Err(p.error_at(
                key,
                format!("{param:?} is not a valid parameter"),
                "use a query parameter of the API, of 1 to 128 characters",
            ));
        }
        if let Some(paging) = fetcher.paging()
            && (paging.param.as_ref() == Some(param) || paging.size_param.as_ref() == Some(param))
        {
            let carried = if paging.param.as_ref() == Some(param) { paging.next.carries().unwrap_or("cursor") } else { "page size" };
            return Err(p.error_at(
                key,
                format!("`{param}` carries the {carried}"),
                "remove it: a run continues at the cursor of its read; `forebay cursor set` moves the cursor",
            ));
        }
    }
    Ok(())
}

fn check_consumer(p: &Pipeline, consumer: &ConsumerSection) -> Result<(), FileError> {
    if consumer.group.is_empty() || consumer.group.len() > 255 {
        return Err(p.error_at(&["consumer", "group"], "a consumer group's name has 1 to 255 bytes", "set a name, such as \"users\""));
    }
    let batch = &consumer.batch;
    let records = i64::try_from(batch.max_records).unwrap_or(i64::MAX);
    in_range(p, &["consumer", "batch", "max_records"], records, 1, 1_000_000)?;
    bytes_in_range(p, &["consumer", "batch", "max_bytes"], batch.max_bytes, 1 << 10, 1 << 30)?;
    duration_in_range(p, &["consumer", "batch", "max_wait"], batch.max_wait, Duration::ZERO, Duration::from_secs(60))?;
    if consumer.budget.0 < batch.max_bytes.0 {
        return Err(p.error_at(
            &["consumer", "budget"],
            format!("the budget of {} is too small for a batch of {}", consumer.budget, batch.max_bytes),
            "set consumer.budget to at least consumer.batch.max_bytes; several times that keeps the writer busy",
        ));
    }
    bytes_in_range(p, &["consumer", "budget"], consumer.budget, 1 << 10, 64 << 30)
}

/// Whether a host, without brackets or port, is a name or an address of the loopback interface.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(super) fn host_of(server: &str) -> &str {
    server.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']'])
}

fn check_supervisor(p: &Pipeline) -> Result<(), FileError> {
    let s = &p.supervisor;
    let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
    in_range(p, &["supervisor", "max_restarts"], i64::from(s.max_restarts), 0, 10_000)?;
    duration_in_range(p, &["supervisor", "within"], s.within, ms, 24 * hour)?;
    duration_in_range(p, &["supervisor", "backoff_min"], s.backoff_min, ms, hour)?;
    duration_in_range(p, &["supervisor", "backoff_max"], s.backoff_max, s.backoff_min.0, hour)?;
    duration_in_range(p, &["supervisor", "backoff_reset"], s.backoff_reset, ms, 24 * hour)?;
    duration_in_range(p, &["supervisor", "shutdown"], s.shutdown, ms, hour)
}

/// Checks that the `tls` of a section has a certificate and a key, or neither.
pub(super) fn check_client_pair(p: &Pipeline, section: &str, certificate: bool, key: bool) -> Result<(), FileError> {
    if certificate == key {
        return Ok(());
    }
    let set = if key { "key" } else { "certificate" };
    Err(p.error_at(&[section, "tls", set], "certificate and key belong together", "set both, or neither"))
}

pub(super) fn check_pointer(p: &Pipeline, key: &[&str], pointer: &str) -> Result<(), FileError> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(p.error_at(
        key,
        format!("{pointer:?} is not a JSON pointer"),
        format!("a JSON pointer starts with a slash: \"/{}\"", pointer.replace('.', "/")),
    ))
}

pub(super) fn check_servers<'a>(p: &Pipeline, key: &[&str], servers: impl Iterator<Item = &'a str>) -> Result<(), FileError> {
    for server in servers {
        if server.contains('@') {
            return Err(p.error_at(key, "the address contains a user or a password", "write `host:port` only"));
        }
        let port = server.trim().rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(p.error_at(key, format!("{server:?} is not `host:port`"), "write a host and a port, such as \"127.0.0.1:9092\""));
        }
    }
    Ok(())
}

pub(super) fn in_range(p: &Pipeline, key: &[&str], value: i64, min: i64, max: i64) -> Result<(), FileError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {min} to {max}")))
}

fn bytes_in_range(p: &Pipeline, key: &[&str], value: Bytes, min: u64, max: u64) -> Result<(), FileError> {
    if (min..=max).contains(&value.0) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {} to {}", Bytes(min), Bytes(max))))
}

pub(super) fn duration_in_range(p: &Pipeline, key: &[&str], value: HumanDuration, min: Duration, max: Duration) -> Result<(), FileError> {
    if (min..=max).contains(&value.0) {
        return Ok(());
    }
    Err(p.error_at(key, format!("{value} is out of range"), format!("use {} to {}", HumanDuration(min), HumanDuration(max))))
}
