//! Refusals of a real Cassandra: of rows, by built-in and configured limits, and of all writes, by
//! rules of the cluster.

use std::path::Path;

use forebay_test_services::{Cassandra as Server, CommitlogSync};

use super::proxy_tests::{UNKNOWN_MESSAGE, behind};
use super::*;
use crate::store::fixtures::{pairs, pipeline, small, write_secret};
use crate::store::{RetryReason, Store};
use forebay_schemas::error_class::{Class, Classified};

/// `count` rows with this value, whose keys start with `prefix`.
fn many(spec: &TableSpec, prefix: &str, count: usize, value: &str) -> RowSet {
    let names: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    pairs(spec, &names.iter().map(|name| (name.as_str(), Some(value))).collect::<Vec<_>>(), 7)
}

/// Writes rows. Like the writer, retries those that failed because the server dropped the prepared
/// statement, which it does when an index is created.
async fn write(store: &Store, rows: &RowSet) -> WriteOutcome {
    let (mut all, mut left) = (WriteOutcome::default(), rows.clone());
    for _ in 0..100 {
        let outcome = store.write(&left, &|| ()).await.unwrap();
        all.written += outcome.written;
        all.rejected.extend(outcome.rejected);
        match outcome.unwritten {
            Some((rows, failure)) if failure.reason() == RetryReason::Other => left = rows,
            unwritten => {
                all.unwritten = unwritten;
                return all;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} rows are not written", left.len())
}

/// A short form of an outcome, because rows may be large.
fn shown(outcome: &WriteOutcome) -> String {
    let failure = outcome.unwritten.as_ref().map(|(rows, failure)| format!("{} rows: {failure}", rows.len()));
    format!("written {}, refused {:?}, unwritten {failure:?}", outcome.written, refused(outcome))
}

/// The rejected rows, and the reason of the first of them.
fn refused(outcome: &WriteOutcome) -> (Vec<u32>, &str) {
    let mut rows: Vec<u32> = outcome.rejected.iter().map(|refusal| refusal.row).collect();
    rows.sort_unstable();
    (rows, outcome.rejected.first().map_or("", |refusal| refusal.reason.full()))
}

/// Asserts that all `rows` are to be retried. Returns the error.
#[track_caller]
fn waits(outcome: &WriteOutcome, rows: usize, reason: RetryReason) -> String {
    assert_eq!((outcome.written, refused(outcome).0), (0, vec![]), "{}", shown(outcome));
    let (unwritten, failure) = outcome.unwritten.as_ref().expect("nothing was written");
    assert_eq!((unwritten.len(), failure.class(), failure.reason()), (rows, Class::Transient, reason), "{failure}");
    failure.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_rule_for_all_writes_is_retried_and_rejects_no_row() {
    let (proxy, store, spec, direct) = behind("fb_rules").await;
    let rows = many(&spec, "a", 100, "v");
    for message in [UNKNOWN_MESSAGE, "this exceeds a limit, is too large, too long, out of range, and may not be empty"] {
        proxy.refuse(Some(message));
        let failure = waits(&write(&store, &rows).await, 100, RetryReason::Policy);
        assert!(failure.contains(message) && failure.contains("has not accepted any row"), "{failure}");
    }
    proxy.refuse(None);
    assert_eq!(write(&store, &rows).await.written, 100);
    for message in [
        UNKNOWN_MESSAGE,
        "Guardrail column_value_size violated: Value of column 'v' has size 1KiB, this exceeds the failure threshold of 1B.",
    ] {
        proxy.refuse(Some(message));
        let failure = waits(&write(&store, &many(&spec, "b", 100, "v")).await, 100, RetryReason::Policy);
        assert!(failure.contains("refuses a row that it accepted before"), "{failure}");
        waits(&write(&store, &many(&spec, "b", 1, "v")).await, 1, RetryReason::Policy);
    }
    for (message, reason) in [
        (
            "Guardrail write_consistency_levels violated: Provided values [LOCAL_QUORUM] are not allowed for write consistency levels",
            RetryReason::Policy,
        ),
        ("Guardrail user_timestamps violated: User provided timestamps (USING TIMESTAMP) is not allowed", RetryReason::Policy),
        (
            "Guardrail maximum_timestamp violated: The modification to table t has a timestamp 9 after the maximum allowable 8",
            RetryReason::Policy,
        ),
        ("Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold", RetryReason::DiskFull),
    ] {
        proxy.refuse(Some(message));
        let failure = waits(&write(&store, &many(&spec, "b", 100, "v")).await, 100, reason);
        assert!(failure.contains(message) && failure.contains("the rows are not at fault"), "{failure}");
    }
    proxy.refuse(None);
    assert_eq!(write(&store, &many(&spec, "b", 100, "v")).await.written, 100);
    let rows = direct.query_unpaged("SELECT writetime(v) FROM fb_rules.t", ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), 200);
    assert!(rows.rows::<(i64,)>().unwrap().all(|row| row.unwrap().0 == 7), "the control row was written again with its own timestamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_row_with_an_unknown_refusal_is_rejected_once_another_is_accepted() {
    let (_proxy, store, spec, direct) = behind("fb_words").await;
    direct.query_unpaged("CREATE INDEX by_v ON fb_words.t (v)", ()).await.unwrap();
    let secret = "secret".repeat(12_000);
    let alone = pairs(&spec, &[("alone", Some(secret.as_str()))], 7);
    let failure = waits(&write(&store, &alone).await, 1, RetryReason::Policy);
    assert!(failure.contains(UNKNOWN_MESSAGE) && !failure.contains("72000"), "{failure}");

    let values: Vec<(&str, Option<&str>)> = vec![("a", Some("v")), ("b", Some(&secret)), ("c", Some("v")), ("d", Some(&secret))];
    let outcome = write(&store, &pairs(&spec, &values, 7)).await;
    assert_eq!((outcome.written, outcome.unwritten.is_none()), (2, true), "{}", shown(&outcome));
    let (rows, why) = refused(&outcome);
    assert!(rows == [1, 3] && why.contains(UNKNOWN_MESSAGE), "{}", shown(&outcome));
    assert_eq!(refused(&write(&store, &alone).await).0, [0], "another row was accepted");
    assert_eq!(
        refused(&write(&store, &many(&spec, "all", 40, &secret)).await).0.len(),
        40,
        "a whole batch, because the control row is accepted"
    );
}

/// A session of the superuser, which the server creates soon after it starts to listen.
async fn as_admin(server: &Server) -> Session {
    let mut failure = None;
    for _ in 0..150 {
        match SessionBuilder::new().known_node(server.contact_point()).user("cassandra", "cassandra").build().await {
            Ok(session) => return session,
            Err(error) => failure = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("{failure:?}")
}

/// The store of a user, on a server with authentication.
async fn of_user(server: &Server, folder: &Path, user: &str, consistency: &str) -> (Store, TableSpec) {
    for (file, text) in [("user", user), ("password", if user == "cassandra" { "cassandra" } else { "a password of tests" })] {
        write_secret(&folder.join(file), text);
    }
    let to = format!("[\"{}\"]\nusername = {{ file = \"user\" }}\npassword = {{ file = \"password\" }}", server.contact_point());
    let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"{consistency}\"");
    let spec = small("fb_limits", "t");
    (Store::connect(&pipeline(&folder.join("f.toml"), &to, "fb_limits", &writer), Some(&spec)).await.unwrap(), spec)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_value_limits_reject_their_rows_and_rules_reject_none() {
    let server = Server::start_with(
        CommitlogSync::Periodic,
        &[
            ("authenticator", "PasswordAuthenticator"),
            ("authorizer", "CassandraAuthorizer"),
            ("commitlog_segment_size", "2MiB"), // limits mutations to 1 MiB, far below the 16 MiB of a request
            ("column_value_size_fail_threshold", "32KiB"),
            ("write_consistency_levels_disallowed", "[ONE]"),
        ],
    );
    let direct = as_admin(&server).await;
    for cql in [
        "CREATE KEYSPACE fb_limits WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE ROLE forebay WITH PASSWORD = 'a password of tests' AND LOGIN = true",
        "GRANT ALL ON KEYSPACE fb_limits TO forebay",
    ] {
        direct.query_unpaged(cql, ()).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let (admin, spec) = of_user(&server, folder.path(), "cassandra", "LOCAL_ONE").await;
    let (user, _) = of_user(&server, folder.path(), "forebay", "LOCAL_ONE").await;
    let (forbidden, _) = of_user(&server, folder.path(), "forebay", "ONE").await;

    // A rule rejects no row.
    let failure = waits(&write(&forbidden, &many(&spec, "rule", 1_000, "v")).await, 1_000, RetryReason::Policy);
    assert!(failure.contains("write_consistency_levels") && failure.contains("[writer] consistency"), "{failure}");

    // A value limit rejects the row, but not a whole batch before any row was accepted.
    let long = "x".repeat(40_000);
    waits(&write(&user, &many(&spec, "whole", 40, &long)).await, 40, RetryReason::Policy);
    let outcome = write(&user, &pairs(&spec, &[("a", Some("v")), ("b", Some(&long)), ("c", Some("v"))], 7)).await;
    assert!(outcome.written == 2 && refused(&outcome).0 == [1] && refused(&outcome).1.contains("column_value_size"), "{}", shown(&outcome));
    assert_eq!(refused(&write(&user, &many(&spec, "whole", 40, &long)).await).0.len(), 40, "the control row is accepted");

    // A mutation over the commit log's limit. Guardrails do not apply to superusers.
    let huge = "z".repeat(1_500_000);
    let outcome = write(&admin, &pairs(&spec, &[("d", Some("v")), ("e", Some(&huge)), ("f", Some("v"))], 7)).await;
    assert!(
        outcome.written == 2 && refused(&outcome).0 == [1] && refused(&outcome).1.contains("oversized mutation"),
        "{}",
        shown(&outcome)
    );

    // A value over an index's limit.
    direct.query_unpaged("CREATE INDEX by_v ON fb_limits.t (v) USING 'sai'", ()).await.unwrap();
    let term = "y".repeat(10_000);
    let outcome = write(&user, &pairs(&spec, &[("g", Some("v")), ("h", Some(&term)), ("i", Some("v"))], 7)).await;
    assert!(
        outcome.written == 2 && refused(&outcome).0 == [1] && refused(&outcome).1.contains("sai_string_term_size"),
        "{}",
        shown(&outcome)
    );
    direct.query_unpaged("DROP INDEX fb_limits.by_v", ()).await.unwrap();
    direct.query_unpaged("CREATE INDEX by_v ON fb_limits.t (v)", ()).await.unwrap();
    let indexed = "w".repeat(70_000);
    let outcome = write(&admin, &pairs(&spec, &[("j", Some("v")), ("k", Some(&indexed)), ("l", Some("v"))], 7)).await;
    assert!(
        outcome.written == 2 && refused(&outcome).0 == [1] && refused(&outcome).1.contains("Cannot index value"),
        "{}",
        shown(&outcome)
    );

    // A missing permission rejects no row, and the rows are written once it is granted. The server
    // caches permissions for two seconds.
    direct.query_unpaged("REVOKE MODIFY ON KEYSPACE fb_limits FROM forebay", ()).await.unwrap();
    let rows = many(&spec, "m", 3, "v");
    let mut outcome = write(&user, &rows).await;
    for _ in 0..100 {
        if outcome.unwritten.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        outcome = write(&user, &rows).await;
    }
    let failure = waits(&outcome, 3, RetryReason::Policy);
    assert!(failure.contains("no MODIFY permission") && failure.contains("grant the user MODIFY"), "{failure}");
}
