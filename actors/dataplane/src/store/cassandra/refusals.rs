//! What a real Cassandra refuses: rows, by its own limits and by what an operator sets, and all rows, by a rule.

use std::path::Path;

use forebay_test_services::{Cassandra as Server, CommitlogSync};

use super::outage::{UNHEARD, behind};
use super::*;
use crate::store::testing::{pairs, pipeline, small};
use crate::store::{Reason, Store};
use forebay_schemas::failure::{Class, Classified};

/// `count` rows, whose keys begin with `prefix`, each with this value.
fn many(spec: &TableSpec, prefix: &str, count: usize, value: &str) -> RowSet {
    let names: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    pairs(spec, &names.iter().map(|name| (name.as_str(), Some(value))).collect::<Vec<_>>(), 7)
}

/// Writes rows. What failed since the server forgot the prepared statement, as it does when an index is made, is written again, as the writer does.
async fn write(store: &Store, rows: &RowSet) -> WriteEnd {
    let (mut all, mut left) = (WriteEnd::default(), rows.clone());
    for _ in 0..100 {
        let end = store.write(&left, &|| ()).await.unwrap();
        all.written += end.written;
        all.rejected.extend(end.rejected);
        match end.unwritten {
            Some((rows, trouble)) if trouble.reason() == Reason::Other => left = rows,
            unwritten => {
                all.unwritten = unwritten;
                return all;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{} rows are not written", left.len())
}

/// An end in short, for rows may be large.
fn shown(end: &WriteEnd) -> String {
    let trouble = end.unwritten.as_ref().map(|(rows, trouble)| format!("{} rows: {trouble}", rows.len()));
    format!("written {}, refused {:?}, unwritten {trouble:?}", end.written, refused(end))
}

/// Which rows were refused, and why the first of them was.
fn refused(end: &WriteEnd) -> (Vec<u32>, &str) {
    let mut rows: Vec<u32> = end.rejected.iter().map(|refusal| refusal.row).collect();
    rows.sort_unstable();
    (rows, end.rejected.first().map_or("", |refusal| refusal.reason.full()))
}

/// Asserts that all `rows` wait, and gives the trouble.
#[track_caller]
fn waits(end: &WriteEnd, rows: usize, reason: Reason) -> String {
    assert_eq!((end.written, refused(end).0), (0, vec![]), "{}", shown(end));
    let (unwritten, trouble) = end.unwritten.as_ref().expect("nothing was written");
    assert_eq!((unwritten.len(), trouble.class(), trouble.reason()), (rows, Class::Transient, reason), "{trouble}");
    trouble.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_rule_for_all_writes_is_waited_for_whatever_its_words_and_no_row_is_set_aside() {
    let (proxy, store, spec, direct) = behind("fb_rules").await;
    let rows = many(&spec, "a", 100, "v");
    for said in [UNHEARD, "this exceeds a limit, is too large, too long, out of range, and may not be empty"] {
        proxy.rule.send_replace(Some(said));
        let trouble = waits(&write(&store, &rows).await, 100, Reason::Policy);
        assert!(trouble.contains(said) && trouble.contains("has taken no row"), "{trouble}");
    }
    proxy.rule.send_replace(None);
    assert_eq!(write(&store, &rows).await.written, 100);
    for said in
        [UNHEARD, "Guardrail column_value_size violated: Value of column 'v' has size 1KiB, this exceeds the failure threshold of 1B."]
    {
        proxy.rule.send_replace(Some(said));
        let trouble = waits(&write(&store, &many(&spec, "b", 100, "v")).await, 100, Reason::Policy);
        assert!(trouble.contains("refuses a row that it took before"), "{trouble}");
        waits(&write(&store, &many(&spec, "b", 1, "v")).await, 1, Reason::Policy);
    }
    for (said, reason) in [
        (
            "Guardrail write_consistency_levels violated: Provided values [LOCAL_QUORUM] are not allowed for write consistency levels",
            Reason::Policy,
        ),
        ("Guardrail user_timestamps violated: User provided timestamps (USING TIMESTAMP) is not allowed", Reason::Policy),
        (
            "Guardrail maximum_timestamp violated: The modification to table t has a timestamp 9 after the maximum allowable 8",
            Reason::Policy,
        ),
        ("Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold", Reason::DiskFull),
    ] {
        proxy.rule.send_replace(Some(said));
        let trouble = waits(&write(&store, &many(&spec, "b", 100, "v")).await, 100, reason);
        assert!(trouble.contains(said) && trouble.contains("no fault of the rows"), "{trouble}");
    }
    proxy.rule.send_replace(None);
    assert_eq!(write(&store, &many(&spec, "b", 100, "v")).await.written, 100);
    let rows = direct.query_unpaged("SELECT writetime(v) FROM fb_rules.t", ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), 200);
    assert!(rows.rows::<(i64,)>().unwrap().all(|row| row.unwrap().0 == 7), "the good row was written again with its own timestamp");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_a_row_that_it_refuses_in_words_nobody_knows_is_set_aside_once_another_row_is_taken() {
    let (_proxy, store, spec, direct) = behind("fb_words").await;
    direct.query_unpaged("CREATE INDEX by_v ON fb_words.t (v)", ()).await.unwrap();
    let secret = "secret".repeat(12_000);
    let alone = pairs(&spec, &[("alone", Some(secret.as_str()))], 7);
    let trouble = waits(&write(&store, &alone).await, 1, Reason::Policy);
    assert!(trouble.contains(UNHEARD) && !trouble.contains("72000"), "{trouble}");

    let values: Vec<(&str, Option<&str>)> = vec![("a", Some("v")), ("b", Some(&secret)), ("c", Some("v")), ("d", Some(&secret))];
    let end = write(&store, &pairs(&spec, &values, 7)).await;
    assert_eq!((end.written, end.unwritten.is_none()), (2, true), "{}", shown(&end));
    let (rows, why) = refused(&end);
    assert!(rows == [1, 3] && why.contains(UNHEARD), "{}", shown(&end));
    assert_eq!(refused(&write(&store, &alone).await).0, [0], "now that another row was taken");
    assert_eq!(refused(&write(&store, &many(&spec, "all", 40, &secret)).await).0.len(), 40, "also a whole batch: the good row is taken");
}

/// A session of the superuser, whom the server makes soon after it listens.
async fn as_admin(server: &Server) -> Session {
    let mut trouble = None;
    for _ in 0..150 {
        match SessionBuilder::new().known_node(server.contact_point()).user("cassandra", "cassandra").build().await {
            Ok(session) => return session,
            Err(error) => trouble = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("{trouble:?}")
}

/// A user's store, on a server that asks for one.
async fn of_user(server: &Server, folder: &Path, user: &str, consistency: &str) -> (Store, TableSpec) {
    for (file, text) in [("user", user), ("password", if user == "cassandra" { "cassandra" } else { "a password of tests" })] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let to = format!("[\"{}\"]\nusername = {{ file = \"user\" }}\npassword = {{ file = \"password\" }}", server.contact_point());
    let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"{consistency}\"");
    let spec = small("fb_limits", "t");
    (Store::connect(&pipeline(&folder.join("f.toml"), &to, "fb_limits", &writer), Some(&spec)).await.unwrap(), spec)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_limits_of_values_set_their_rows_aside_and_rules_set_none() {
    let server = Server::start_with(
        CommitlogSync::Periodic,
        &[
            ("authenticator", "PasswordAuthenticator"),
            ("authorizer", "CassandraAuthorizer"),
            ("commitlog_segment_size", "2MiB"), // and so mutations of 1 MiB, far below the 16 MiB of a request
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

    // A rule: nothing is set aside.
    let trouble = waits(&write(&forbidden, &many(&spec, "rule", 1_000, "v")).await, 1_000, Reason::Policy);
    assert!(trouble.contains("write_consistency_levels") && trouble.contains("[writer] consistency"), "{trouble}");

    // A limit of values: the row alone, but not the whole of a batch before one row was taken.
    let long = "x".repeat(40_000);
    waits(&write(&user, &many(&spec, "whole", 40, &long)).await, 40, Reason::Policy);
    let end = write(&user, &pairs(&spec, &[("a", Some("v")), ("b", Some(&long)), ("c", Some("v"))], 7)).await;
    assert!(end.written == 2 && refused(&end).0 == [1] && refused(&end).1.contains("column_value_size"), "{}", shown(&end));
    assert_eq!(refused(&write(&user, &many(&spec, "whole", 40, &long)).await).0.len(), 40, "the good row is taken");

    // A mutation beyond the commit log's limit. Guardrails are not for superusers.
    let huge = "z".repeat(1_500_000);
    let end = write(&admin, &pairs(&spec, &[("d", Some("v")), ("e", Some(&huge)), ("f", Some("v"))], 7)).await;
    assert!(end.written == 2 && refused(&end).0 == [1] && refused(&end).1.contains("oversized mutation"), "{}", shown(&end));

    // A value beyond an index's limit.
    direct.query_unpaged("CREATE INDEX by_v ON fb_limits.t (v) USING 'sai'", ()).await.unwrap();
    let term = "y".repeat(10_000);
    let end = write(&user, &pairs(&spec, &[("g", Some("v")), ("h", Some(&term)), ("i", Some("v"))], 7)).await;
    assert!(end.written == 2 && refused(&end).0 == [1] && refused(&end).1.contains("sai_string_term_size"), "{}", shown(&end));
    direct.query_unpaged("DROP INDEX fb_limits.by_v", ()).await.unwrap();
    direct.query_unpaged("CREATE INDEX by_v ON fb_limits.t (v)", ()).await.unwrap();
    let indexed = "w".repeat(70_000);
    let end = write(&admin, &pairs(&spec, &[("j", Some("v")), ("k", Some(&indexed)), ("l", Some("v"))], 7)).await;
    assert!(end.written == 2 && refused(&end).0 == [1] && refused(&end).1.contains("Cannot index value"), "{}", shown(&end));

    // A permission: it stops, and nothing is set aside.
    direct.query_unpaged("REVOKE MODIFY ON KEYSPACE fb_limits FROM forebay", ()).await.unwrap();
    let mut error = None;
    for _ in 0..100 {
        // The server caches permissions for two seconds.
        match user.write(&many(&spec, "m", 3, "v"), &|| ()).await {
            Err(it) => error = Some(it),
            Ok(end) => assert!(end.rejected.is_empty(), "{}", shown(&end)),
        }
        if error.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let error = error.expect("what may not be written is not written");
    assert_eq!(error.class(), Class::Fatal, "{error}");
}
