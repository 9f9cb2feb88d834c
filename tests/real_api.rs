//! The control API against its own OpenAPI file, by schemathesis: requests that fit and requests that don't, thousands of them. Needs Python and
//! PyPI; the pipeline itself is embedded.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::path::Path;

use support::source_api::{Answer, TestApi};
use support::{Job, bad_user, user};

#[test]
fn real_requests_get_answers_that_match_the_openapi_file() {
    // Dead letters too, so that there is something to show, and to redrive.
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
    // The same requests each time, so that what is found once is found again.
    command.args(["--seed", "1", "--checks", "all", "--exclude-checks", "ignored_auth", "--max-examples", "40", "--request-timeout", "70"]);
    command.args(["--continue-on-failure", "--generation-database", "none", "--no-color"]);
    command.current_dir(job.dir());
    let end = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&end.stdout), String::from_utf8_lossy(&end.stderr));
    assert!(end.status.success(), "{said}\n{}", running.log());
    // And the pipeline goes on.
    assert!(job.forebay(&["resume", "--reason", "after all of that"]).status.success());
    running.wait_until("every actor is at work", |s| {
        s["actors"].as_array().unwrap().iter().all(|actor| actor["state"] == "up" || actor["state"] == "waiting")
    });
    assert!(running.stop().success());
}
