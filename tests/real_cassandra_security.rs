//! A Cassandra that requires TLS, a client certificate and a password.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::sync::LazyLock;

use forebay_test_services::Cassandra;
use forebay_test_services::certificates::{Authority, Certificate};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use support::source_api::{Answer, TestApi};
use support::{Job, Running, stderr, write_secret};

/// The server, and the CA of the certificates of its clients and its own.
struct Cluster {
    cassandra: Cassandra,
    authority: Authority,
}

/// The password of the user `forebay`.
const PASSWORD: &str = "a password of tests";

/// The server, for one test at a time.
fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: LazyLock<Mutex<Cluster>> = LazyLock::new(|| {
        let authority = Authority::new("CA of the cluster");
        let cassandra = Cassandra::start_secure(&authority);
        cassandra.cqlsh(&format!(
            "CREATE ROLE forebay WITH PASSWORD = '{PASSWORD}' AND LOGIN = true; GRANT CREATE ON ALL KEYSPACES TO forebay;"
        ));
        Mutex::new(Cluster { cassandra, authority })
    });
    CLUSTER.lock()
}

impl Cluster {
    /// A job with the user's password, the client's certificate, and these lines of `[cassandra]`.
    fn job(&self, lines: &str) -> Job {
        self.job_as(PASSWORD, &self.authority.issue("forebay", &[]), lines)
    }

    fn job_as(&self, password: &str, client: &Certificate, lines: &str) -> Job {
        let user = "username = { file = \"user\" }\npassword = { file = \"password\" }";
        let job = Job::new("embedded", &self.cassandra.contact_point()).with_cassandra(&format!("{user}\n{lines}"));
        let write = |name: &str, text: &str| write_secret(&job.dir().join(name), text);
        write("user", "forebay");
        write("password", password);
        write("ca.pem", &self.authority.pem());
        write("other-ca.pem", &Authority::new("another CA").pem());
        write("client.pem", &client.certificate);
        write("client.key", &client.key);
        job
    }

    fn count(&self, job: &Job) -> u64 {
        self.cassandra.count(&format!("{}.users_stream", job.keyspace))
    }
}

const TLS: &str = "tls = { ca = \"ca.pem\", certificate = \"client.pem\", key = \"client.key\" }";

/// What `doctor` says about Cassandra.
fn doctor(job: &Job) -> String {
    let end = job.forebay(&["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", stderr(&end)));
    let about = found["findings"].as_array().unwrap().iter().find(|finding| finding["what"].as_str().unwrap().starts_with("Cassandra"));
    about.unwrap()["says"].as_str().unwrap().to_owned()
}

fn written(snapshot: &Value) -> u64 {
    snapshot["totals"]["written"].as_u64().unwrap()
}

/// The note of the writer.
fn note(snapshot: &Value) -> String {
    Running::actor(snapshot, "root/egress/writer")["note"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn rows_arrive_over_tls_with_a_client_certificate_and_a_password() {
    let cluster = cluster();
    let api = TestApi::start(|_| Answer::users(0, 100));
    let job = cluster.job(&format!("datacenter = \"datacenter1\"\n{TLS}")).fetching(&api.url, Some("1h"));
    assert_eq!(doctor(&job), "answers; TLS; nodes: 1 in datacenter datacenter1");
    let summary = job.run_until_idle();
    assert_eq!((&summary["written"], &summary["rejected"]), (&100.into(), &0.into()));
    assert_eq!(cluster.count(&job), 100);
}

#[test]
fn every_refused_connection_has_one_message_with_its_remedy() {
    let cluster = cluster();
    let expired = cluster.authority.issue_expired("forebay", &[]);
    let stranger = Authority::new("another CA").issue("forebay", &[]);
    for (job, message) in [
        (cluster.job("tls = { ca = \"other-ca.pem\" }"), "unknown CA; set [cassandra.tls] ca"),
        (cluster.job("tls = { ca = \"ca.pem\" }"), "if it requires a client's certificate, set certificate and key"),
        (cluster.job_as(PASSWORD, &expired, TLS), "a pair that has not expired"),
        (cluster.job_as(PASSWORD, &stranger, TLS), "whose CA it trusts"),
        (cluster.job(""), "if it requires TLS, add a [cassandra.tls] section"),
        (cluster.job_as("not the password", &cluster.authority.issue("forebay", &[]), TLS), "check cassandra.username, cassandra.password"),
        (cluster.job(&format!("datacenter = \"DC1\"\n{TLS}")), "has no datacenter \"DC1\"; set [cassandra] datacenter = \"datacenter1\""),
    ] {
        let says = doctor(&job);
        assert!(says.contains(message) && !says.contains(PASSWORD), "{says:?} instead of {message:?}");
    }
}

#[test]
fn verification_that_is_switched_off_is_warned_of_at_check_and_at_each_start() {
    let cluster = cluster();
    let api = TestApi::start(|_| Answer::users(0, 10));
    let job = cluster.job(&TLS.replace(" }", ", verify_hostname = false }")).fetching(&api.url, Some("1h"));
    for args in [&["check"][..], &["run", "--until-idle"]] {
        let end = job.forebay(args);
        assert!(end.status.success() && stderr(&end).contains("[cassandra.tls] verify_hostname = false: whoever"), "{}", stderr(&end));
    }
    assert!(doctor(&job).contains("TLS, names of certificates not verified"), "{}", doctor(&job));
    assert_eq!(cluster.count(&job), 10);
}

#[test]
fn a_wrong_password_at_the_start_ends_the_process_with_its_message() {
    let cluster = cluster();
    let job = cluster.job_as("not the password", &cluster.authority.issue("forebay", &[]), TLS);
    let end = job.forebay(&["run"]);
    assert_eq!(end.status.code(), Some(70));
    let log = stderr(&end);
    assert!(log.contains("Provided username forebay and/or password are incorrect; check cassandra.username"), "{log}");
    assert!(!log.contains("not the password"), "{log}");
}

#[test]
fn a_revoked_permission_is_waited_for_and_rejects_no_record() {
    let cluster = cluster();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = cluster.job(TLS).fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| written(s) > 20);
    cluster
        .cassandra
        .cqlsh(&format!("REVOKE MODIFY ON TABLE {}.users_stream FROM forebay; REVOKE MODIFY ON KEYSPACE {0} FROM forebay", job.keyspace));
    let waiting = running.wait_until("the permission is reported", |s| note(s).contains("no MODIFY permission"));
    assert!(note(&waiting).contains("grant the user MODIFY on the table"), "{}", note(&waiting));
    cluster.cassandra.cqlsh(&format!("GRANT MODIFY ON TABLE {}.users_stream TO forebay", job.keyspace));
    let before = written(&waiting);
    let end = running.wait_until("records flow again", |s| written(s) > before + 20);
    assert_eq!((&end["totals"]["rejected"], &end["totals"]["restarts"]), (&0.into(), &0.into()), "{end:#}");
    assert!(running.stop().success());
}

#[test]
fn an_expired_certificate_of_the_node_is_waited_for_until_it_is_renewed() {
    let mut cluster = cluster();
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = cluster.job(TLS).fetching(&api.url, Some("100ms"));
    let running = job.start(&[], &[]);
    running.wait_until("records flow", |s| written(s) > 20);
    let (expired, renewed) = (cluster.authority.issue_expired("node", &["127.0.0.1"]), cluster.authority.issue("node", &["127.0.0.1"]));
    cluster.cassandra.set_certificate(&expired);
    cluster.cassandra.restart();
    let waiting = running.wait_until("the certificate is reported", |s| note(s).contains("renew it on the node"));
    cluster.cassandra.set_certificate(&renewed);
    cluster.cassandra.restart();
    let before = written(&waiting);
    let end = running.wait_until("records flow again", |s| written(s) > before + 20);
    assert_eq!((&end["totals"]["rejected"], &end["totals"]["restarts"]), (&0.into(), &0.into()), "{end:#}");
    assert!(running.stop().success());
}
