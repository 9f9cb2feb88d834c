//! Kafka with TLS, passwords, client certificates and ACLs: what works, and what each failure says.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use forebay_test_services::SecuredKafka;
use serde_json::Value;
use support::Job;
use support::source_api::{Answer, TestApi};

/// A job on a listener of the server, with these properties.
fn job(servers: &str, properties: &[(&str, String)]) -> Job {
    let job = Job::new(servers, "embedded");
    support::write_secret(&job.dir().join("password"), SecuredKafka::PASSWORD);
    support::write_secret(&job.dir().join("wrong"), "wrong-horse");
    let lines = properties.iter().map(|(name, value)| format!("{name:?} = {value}\n"));
    job.with(&format!("[kafka.properties]\n{}", lines.collect::<String>()))
}

/// The properties of a client that trusts this CA and has this password file.
fn sasl(mechanism: &str, ca: &str, user: &str, password: &str) -> Vec<(&'static str, String)> {
    vec![
        ("security.protocol", "\"SASL_SSL\"".into()),
        ("ssl.ca.location", format!("{:?}", SecuredKafka::shared().file(ca))),
        ("sasl.mechanism", format!("{mechanism:?}")),
        ("sasl.username", format!("{user:?}")),
        ("sasl.password", format!("{{ file = {password:?} }}")),
    ]
}

/// The properties of a client with this certificate.
fn tls(ca: &str, client: Option<&str>) -> Vec<(&'static str, String)> {
    let file = |name: &str| format!("{:?}", SecuredKafka::shared().file(name));
    let mut properties = vec![("security.protocol", "\"SSL\"".to_owned()), ("ssl.ca.location", file(ca))];
    if let Some(client) = client {
        properties.extend([("ssl.certificate.location", file(client)), ("ssl.key.location", file(client))]);
    }
    properties
}

/// What `doctor` says about Kafka, and whether it found it.
fn kafka_finding(job: &Job) -> (bool, String) {
    let end = job.forebay(&["doctor", "--timeout", "8s", "--json"]);
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    let findings = answer["findings"].as_array().unwrap();
    let kafka = findings.iter().find(|finding| finding["what"].as_str().unwrap().starts_with("Kafka")).unwrap();
    (kafka["ok"].as_bool().unwrap(), kafka["says"].as_str().unwrap().to_owned())
}

#[test]
fn records_pass_through_a_kafka_with_passwords_and_one_with_client_certificates() {
    let server = SecuredKafka::shared();
    let api = TestApi::start(|_| Answer::users(0, 20));
    for (servers, properties) in [
        (server.sasl(), sasl("SCRAM-SHA-512", "ca.pem", SecuredKafka::USER, "password")),
        (server.mutual_tls(), tls("ca.pem", Some("client.pem"))),
    ] {
        let summary = job(&servers, &properties).fetching(&api.url, None).run_until_idle();
        assert_eq!((&summary["produced"], &summary["written"]), (&20.into(), &20.into()), "{servers}");
    }
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let (ok, says) = kafka_finding(&job(&server.sasl(), &sasl(mechanism, "ca.pem", SecuredKafka::USER, "password")));
        assert!(ok, "{mechanism}: {says}");
    }
}

#[test]
fn each_failure_of_tls_or_of_a_login_names_its_cause_and_its_remedy() {
    let server = SecuredKafka::shared();
    let user = SecuredKafka::USER;
    let scram = |ca, user, password| sasl("SCRAM-SHA-512", ca, user, password);
    let client = "ssl.certificate.location and ssl.key.location";
    let cases = [
        ("a CA that did not sign", server.sasl(), scram("unknown-ca.pem", user, "password"), "set ssl.ca.location to the CA"),
        ("an expired broker", server.expired(), tls("ca.pem", None), "renew it if it has expired"),
        ("a wrong password", server.sasl(), scram("ca.pem", user, "wrong"), "check sasl.username and sasl.password"),
        ("an unknown user", server.sasl(), scram("ca.pem", "nobody", "password"), "check sasl.username and sasl.password"),
        ("no client certificate", server.mutual_tls(), tls("ca.pem", None), client),
        ("an expired client", server.mutual_tls(), tls("ca.pem", Some("expired-client.pem")), client),
        ("a client of another CA", server.mutual_tls(), tls("ca.pem", Some("unknown-client.pem")), client),
        ("TLS to a plain port", server.plain().to_owned(), tls("ca.pem", None), "as a port without TLS does"),
        ("no TLS to a port with TLS", server.expired(), vec![], "security.protocol is what the port expects"),
    ];
    std::thread::scope(|scope| {
        for (case, servers, properties, remedy) in &cases {
            scope.spawn(move || {
                let (ok, says) = kafka_finding(&job(servers, properties));
                assert!(!ok && says.contains(servers.as_str()) && says.contains(remedy), "{case}: {says}");
            });
        }
    });
}

#[test]
fn a_wrong_password_ends_the_process_and_an_unknown_ca_is_waited_for() {
    let server = SecuredKafka::shared();
    let user = SecuredKafka::USER;
    let end = job(&server.sasl(), &sasl("SCRAM-SHA-512", "ca.pem", user, "wrong")).forebay(&["run"]);
    let says = support::stderr(&end);
    assert!(end.status.code() == Some(70) && says.contains("check sasl.username and sasl.password"), "{says}");
    assert!(!says.contains("wrong-horse"), "{says}");

    let job = job(&server.sasl(), &sasl("SCRAM-SHA-512", "unknown-ca.pem", user, "password"));
    let waits = job.start(&[], &[]);
    waits.wait_until("an actor says what it waits for", |look| look["actors"].to_string().contains("set ssl.ca.location to the CA"));
    assert!(waits.stop().success());
}

#[test]
fn an_acl_that_is_revoked_while_records_flow_ends_the_process_with_the_topic_and_the_remedy() {
    let server = SecuredKafka::shared();
    let api = TestApi::start(Answer::versions);
    let job = job(&server.sasl(), &sasl("SCRAM-SHA-512", "ca.pem", SecuredKafka::USER, "password")).fetching(&api.url, Some("200ms"));
    std::thread::scope(|scope| {
        let process = scope.spawn(|| job.forebay(&["run"]));
        let until = std::time::Instant::now() + support::TIMEOUT;
        let written = || {
            let status: Option<Value> = serde_json::from_slice(&job.forebay(&["status", "--json"]).stdout).ok();
            status.is_some_and(|status| status["totals"]["written"].as_u64() > Some(0))
        };
        while !written() {
            assert!(std::time::Instant::now() < until, "no record is written");
        }
        server.deny(&job.topic);
        let end = process.join().unwrap();
        let says = support::stderr(&end);
        assert_eq!(end.status.code(), Some(70), "{says}");
        assert!(says.contains(&job.topic) && says.contains("ACLs"), "{says}");
    });
}
