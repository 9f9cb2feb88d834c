//! The control API over TLS, and its clients. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Output;

use forebay_test_services::certificates::{Authority, Certificate};
use serde_json::Value;
use support::control_api::ControlApi;
use support::source_api::{Answer, TestApi};
use support::{Job, SecuredApi, forebay, output, stderr, write_secret};

/// Runs a command in a directory without a pipeline file.
fn elsewhere(args: &[&str], env: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = forebay();
    command.args(args).envs(env.iter().copied()).current_dir(dir.path());
    output(command)
}

/// Asserts that a command can't reach the API, with a message and a remedy.
#[track_caller]
fn assert_unreachable(end: &Output, message: &str, remedy: &str) {
    let text = stderr(end);
    assert_eq!(end.status.code(), Some(3), "{text}");
    assert!(text.contains(message) && text.contains(remedy), "{message:?} and {remedy:?} are not in:\n{text}");
}

fn json(end: &Output) -> Value {
    assert!(end.status.success(), "{}", stderr(end));
    serde_json::from_slice(&end.stdout).unwrap()
}

#[test]
fn commands_reach_an_api_with_tls_by_the_pipeline_file_and_by_a_ca() {
    let source = TestApi::start(|_| Answer::users(0, 5));
    let api = SecuredApi::new(Job::new("embedded", "embedded").fetching(&source.url, None));
    let running = api.start();
    let (url, ca) = (api.url(), api.dir().join("ca.pem").display().to_string());
    let by_ca = ["--url", &url, "--ca", &ca];

    let run = json(&elsewhere(&[&["trigger", "--wait", "--json"][..], &by_ca].concat(), &[]));
    assert_eq!((&run["state"], &run["counts"]["fetched"]), (&"succeeded".into(), &5.into()), "{run}");
    assert_eq!(json(&elsewhere(&[&["status", "--json"][..], &by_ca].concat(), &[]))["totals"]["written"], 5);
    assert_eq!(json(&elsewhere(&["monitor", "--json"], &[("FOREBAY_URL", &url), ("FOREBAY_CA", &ca)]))["totals"]["written"], 5);
    assert_eq!(json(&api.job.forebay(&["status", "--json"]))["totals"]["written"], 5, "by the pipeline file");
    assert_eq!(json(&api.job.forebay(&["monitor", "--json", "--ca", &ca]))["totals"]["written"], 5, "by both");
    let frame = elsewhere(&[&["monitor", "--once"][..], &by_ca].concat(), &[]);
    assert!(String::from_utf8_lossy(&frame.stdout).contains("users"), "{}", stderr(&frame));
    assert!(running.stop().success());
}

#[test]
fn a_certificate_that_is_not_trusted_is_an_error_with_its_remedy() {
    let api = SecuredApi::new(Job::new("embedded", "embedded"));
    let running = api.start();
    let (url, ca) = (api.url(), api.dir().join("ca.pem").display().to_string());
    let other = api.dir().join("other-ca.pem").display().to_string();
    std::fs::write(&other, Authority::new("another CA").pem()).unwrap();
    let status = |url: &str, ca: &str| elsewhere(&["status", "--url", url, "--ca", ca], &[]);

    assert_unreachable(&elsewhere(&["status", "--url", &url], &[]), "unknown CA", "--ca FILE or FOREBAY_CA");
    assert_unreachable(&status(&url, &other), "unknown CA", "--ca FILE or FOREBAY_CA");
    assert_unreachable(
        &elsewhere(&["monitor", "--exit-code", "--url", &url, "--ca", &other], &[]),
        "unknown CA",
        "--ca FILE or FOREBAY_CA",
    );
    assert_unreachable(&status(&url.replace("127.0.0.1", "localhost"), &ca), "has another name", "a name that it has in --url");

    api.present(&api.authority.issue_expired("api", &["127.0.0.1"]));
    assert_unreachable(&status(&url, &ca), "is not valid now", "replace the files of [api] tls");
    let check = api.job.forebay(&["check"]);
    let text = stderr(&check);
    assert_eq!(check.status.code(), Some(2), "{text}");
    assert!(text.contains("api.pem is not valid now") && text.contains("renew it"), "{text}");
    assert!(api.job.forebay(&["status"]).status.success(), "it is the one that the pipeline file names");

    for (file, message) in [("gone.pem", "No such file"), ("api.key", "no certificate in PEM")] {
        let end = status(&url, &api.dir().join(file).display().to_string());
        assert_eq!(end.status.code(), Some(2));
        assert!(stderr(&end).contains(message) && stderr(&end).contains("BEGIN CERTIFICATE"), "{}", stderr(&end));
    }
    assert!(running.stop().success());
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_an_unusable_one_is_not() {
    let api = SecuredApi::new(Job::new("embedded", "embedded"));
    let running = api.start();
    let (renewer, ca) = (Authority::new("a new CA"), api.dir().join("new-ca.pem").display().to_string());
    std::fs::write(&ca, renewer.pem()).unwrap();
    let (url, old) = (api.url(), api.dir().join("ca.pem").display().to_string());
    let status = |ca: &str| elsewhere(&["status", "--url", &url, "--ca", ca], &[]);

    api.present(&renewer.issue("api", &["127.0.0.1"]));
    assert!(status(&ca).status.success(), "{}", stderr(&status(&ca)));
    assert_unreachable(&status(&old), "unknown CA", "--ca FILE");
    assert!(api.job.forebay(&["status"]).status.success(), "{}", running.log());

    // The key does not belong to it.
    write_secret(&api.dir().join("api.pem"), &renewer.issue("api", &["127.0.0.1"]).certificate);
    assert!(status(&ca).status.success(), "the last pair is presented");
    assert!(running.log().contains("the key does not belong to the certificate"), "{}", running.log());
    assert_unreachable(&api.job.forebay(&["status"]), "not the one that the pipeline file names", "forebay check");
    assert!(running.stop().success());
}

#[test]
fn plain_http_and_tls_at_the_port_of_the_other_are_errors_with_the_remedy() {
    let api = SecuredApi::new(Job::new("embedded", "embedded"));
    let running = api.start();
    let plain = api.url().replace("https:", "http:");
    let answer = ControlApi::new(&plain).put("/v1/pipelines/users/state", "{\"state\": \"paused\", \"reason\": \"x\"}");
    assert!(answer.problem(400, "tls.required").contains("https://"), "{answer:?}");
    let end = elsewhere(&["status", "--url", &plain], &[]);
    assert_eq!(end.status.code(), Some(1));
    assert!(stderr(&end).contains("speaks HTTPS only") && stderr(&end).contains("write https://"), "{}", stderr(&end));
    assert!(running.stop().success());

    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[]);
    running.snapshot();
    let end = elsewhere(&["status", "--url", &running.url().replace("http:", "https:")], &[]);
    assert_unreachable(&end, "no TLS at this port", "write http://");
    assert!(running.stop().success());
}

#[test]
fn a_certificate_that_is_its_own_ca_is_trusted_by_its_file_unless_it_may_issue_others() {
    let api = SecuredApi::new(Job::new("embedded", "embedded"));
    let running = api.start();
    let (url, ca) = (api.url(), api.dir().join("api.pem").display().to_string());
    let status = || elsewhere(&["status", "--json", "--url", &url, "--ca", &ca], &[]);

    api.present(&Certificate::self_signed("forebay", &["127.0.0.1"], false));
    assert_eq!(json(&status())["pipeline"], "users");
    api.present(&Certificate::self_signed("forebay", &["127.0.0.1"], true));
    let end = elsewhere(&["status", "--url", &url, "--ca", &ca], &[]);
    assert_unreachable(&end, "the API's certificate is that of a CA", "CA:FALSE");
    assert!(api.job.forebay(&["status"]).status.success(), "it is the one that the pipeline file names");
    assert!(running.stop().success());
}
