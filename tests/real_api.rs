//! The control API against its OpenAPI file, with thousands of valid and invalid requests of
//! schemathesis. Needs Python and PyPI; the pipeline is embedded.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::path::Path;

use support::source_api::{Answer, TestApi};
use support::{Job, bad_user, user};

#[test]
fn real_requests_get_answers_that_match_the_openapi_file() {
    // With dead letters, so that there is something to list and to redrive.
    let api = TestApi::start(|n| match n {
        0..20 => Answer::ok(format!("{{\"results\":[{},{}]}}", user(n, 1), bad_user(n + 1_000, 1))),
        _ => Answer::unavailable(),
    });
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with_fetcher("params = [\"results\"]");
    let running = job.start(&[], &[("FOREBAY_LOG", "warn")]);
    running.snapshot();
    for n in 0..5 {
        let end = job.forebay(&["trigger", "--wait", "--key", &format!("before-{n}")]);
        assert!(end.status.success(), "{end:?}");
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut command = forebay_test_services::schemathesis::schemathesis();
    command.arg("--config-file").arg(tests.join("schemathesis.toml"));
    command.args(["run", &format!("{}/openapi.json", running.url())]);
    // A fixed seed, so that a failure can be repeated.
    command.args(["--seed", "1", "--checks", "all", "--exclude-checks", "ignored_auth", "--max-examples", "40", "--request-timeout", "70"]);
    command.args(["--continue-on-failure", "--generation-database", "none", "--no-color"]);
    command.current_dir(job.dir());
    let end = command.output().unwrap();
    let report = format!("{}{}", String::from_utf8_lossy(&end.stdout), String::from_utf8_lossy(&end.stderr));
    assert!(end.status.success(), "{report}\n{}", running.log());
    // The pipeline still works.
    assert!(job.forebay(&["resume", "--reason", "after the requests"]).status.success());
    running.wait_until("every actor is up", |s| {
        s["actors"].as_array().unwrap().iter().all(|actor| actor["state"] == "up" || actor["state"] == "waiting")
    });
    assert!(running.stop().success());
}
