//! The control API: invalid input, runs, pausing, plans, tokens. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::control_api::{ControlApi, Response};
use support::source_api::{Answer, TestApi};
use support::{Job, Running, bad_user, stderr, user, user_id};

const RUNS: &str = "/v1/pipelines/users/runs";

fn running(job: &Job) -> (Running, ControlApi) {
    let running = job.start(&[], &[]);
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let http = ControlApi::new(running.url());
    (running, http)
}

/// Waits for the end of a run, and returns it.
fn ended(http: &ControlApi, run: &Value) -> Value {
    loop {
        let now = http.get(&format!("/v1/runs/{}?wait=30s", run["id"].as_str().unwrap())).body;
        if now["terminal"] == true {
            return now;
        }
    }
}

#[test]
fn invalid_input_gets_a_status_a_problem_type_and_a_remedy() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let (running, http) = running(&job);
    let unknown = "0192f0c1-7a00-7000-8000-000000000001";

    // Keys and bodies of runs.
    let long = format!("{RUNS}/{}", "k".repeat(513));
    http.put(&long, "").problem(400, "path");
    http.put(&format!("{RUNS}/k"), "{\"attempt\": 0}").problem(422, "run.key");
    http.put(&format!("{RUNS}/k"), "{\"attempt\": 1,").problem(400, "body");
    http.put(&format!("{RUNS}/k"), "{\"attemt\": 1}").problem(400, "body");
    http.put(&format!("{RUNS}/k"), "{\"lease_seconds\": 9}").problem(422, "run.spec");
    let many: Value = (0..17).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    http.put(&format!("{RUNS}/k"), &json!({ "labels": many }).to_string()).problem(422, "run.spec");
    assert!(http.put(&format!("{RUNS}/k"), "{\"params\": {\"seed\": \"1\"}}").problem(422, "run.params").contains("[fetcher] params"));
    http.put(&format!("{RUNS}/k"), &" ".repeat(70_000)).problem(413, "body.too_large");
    http.put("/v1/pipelines/orders/runs/k", "").problem(404, "pipeline.unknown");
    assert_eq!(http.get("/v1/runs").body["runs"], json!([]), "none of them created a run");

    // The same key with another body.
    let made = http.put(&format!("{RUNS}/a%2Fb%20c"), "{\"labels\": {\"dag_id\": \"d\"}}");
    assert_eq!((made.status, &made.body["key"]), (201, &json!("a/b c")));
    assert_eq!(made.header("location"), format!("/v1/runs/{}", made.body["id"].as_str().unwrap()));
    let again = http.put(&format!("{RUNS}/a%2Fb%20c"), "{\"labels\": {\"dag_id\": \"d\"}}");
    assert_eq!((again.status, &again.body["id"]), (200, &made.body["id"]));
    let other = http.put(&format!("{RUNS}/a%2Fb%20c"), "{\"labels\": {\"dag_id\": \"e\"}}");
    other.problem(422, "run.payload_mismatch");
    assert!(other.body["detail"].as_str().unwrap().contains(made.body["id"].as_str().unwrap()));

    // Runs, queries, paths and methods.
    http.get(&format!("/v1/runs/{unknown}")).problem(404, "run.unknown");
    http.post(&format!("/v1/runs/{unknown}/cancel"), "").problem(404, "run.unknown");
    http.get("/v1/runs/7").problem(400, "path");
    http.get("/v1/runs?limit=0").problem(400, "query");
    http.get("/v1/runs?limit=1&limit=2").problem(400, "query");
    http.get("/v1/runs?stat=failed").problem(400, "query");
    http.get("/v1/runs?state=painted").problem(400, "query");
    http.get(&format!("/v1/runs/{unknown}?wait=soon")).problem(400, "query");
    http.get("/v1/records?from=3").problem(422, "records.place");
    http.get("/v1/records?partition=99").problem(422, "records.place");
    for query in ["level=debug", "level=WARN", "after=-1", "after=9007199254740992", "limit=1001", "wait=soon", "from=1"] {
        http.get(&format!("/v1/logs?{query}")).problem(400, "query");
    }
    let before = "{\"action\": \"replay\", \"from\": {\"time\": \"1969-01-01T00:00:00Z\"}}";
    assert_eq!(http.post("/v1/pipelines/users/plans", before).status, 201, "a time before every record");
    http.get("/v1/nothing").problem(404, "path.unknown");
    let wrong = http.ask("DELETE", "/v1/runs", &[], "");
    wrong.problem(405, "method");
    assert_eq!(wrong.header("allow"), "GET");

    // Actors, batches, plans.
    http.post("/v1/actors/root/nobody/restart", "{\"reason\": \"x\"}").problem(404, "actor.unknown");
    http.post("/v1/actors/root/observers/api/restart", "{\"reason\": \"x\"}").problem(409, "actor.state");
    http.post("/v1/actors/root/egress/writer/restart", "{\"reason\": \"\"}").problem(422, "reason");
    http.get("/v1/batches/99999999").problem(404, "batch.unknown");
    http.post("/v1/pipelines/users/plans", "{\"action\": \"paint\"}").problem(400, "body");
    http.post("/v1/pipelines/users/plans", "{\"action\": \"replay\", \"from\": {\"offsets\": {\"99\": 0}}}").problem(422, "plan.spec");
    http.post(&format!("/v1/plans/{unknown}/apply"), "{\"hash\": \"h\", \"reason\": \"x\"}").problem(404, "plan.unknown");

    // Foreign hosts and origins.
    assert!(http.ask("GET", "/v1/snapshot", &[("host", "evil.example")], "").problem(403, "host").contains("[api] hosts"));
    http.ask("PUT", &format!("{RUNS}/k"), &[("origin", "https://evil.example")], "").problem(403, "origin");
    let first = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    http.ask("OPTIONS", &format!("{RUNS}/k"), &first, "").problem(403, "origin");
    assert!(running.stop().success());
}

/// A job with five records, written and committed.
fn written(job: &Job, args: &[&str], env: &[(&str, &str)]) -> (Running, ControlApi) {
    let running = job.start(args, env);
    running.wait_until("everything is written and committed", |s| committed(s) == 5);
    let http = ControlApi::new(running.url());
    (running, http)
}

fn committed(snapshot: &Value) -> i64 {
    snapshot["partitions"].as_array().unwrap().iter().map(|p| p["committed"].as_i64().unwrap().max(0)).sum()
}

/// The path and the body of the request that applies a plan.
fn to_apply(plan: &Response) -> (String, String) {
    let body = json!({ "hash": plan.body["hash"], "reason": "the SQL cut addresses" }).to_string();
    (format!("/v1/plans/{}/apply", plan.body["id"].as_str().unwrap()), body)
}

#[test]
fn a_replay_of_a_running_pipeline_starts_where_its_plan_says() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h"));
    let (running, http) = written(&job, &[], &[]);
    let plan = http.post("/v1/pipelines/users/plans", "{\"action\": \"replay\", \"from\": \"begin\"}");
    assert_eq!((plan.status, &plan.body["records"]), (201, &json!(5)), "{plan:?}");
    let (path, body) = to_apply(&plan);
    http.post(&path, "{\"hash\": \"other\", \"reason\": \"x\"}").problem(409, "plan.stale");
    let applied = http.post(&path, &body);
    assert_eq!((applied.status, &applied.body["records"]), (200, &json!(5)), "{applied:?}");
    running.wait_until("everything is written again and committed", |s| s["totals"]["consumed"] == 10 && committed(s) == 5);

    // With the command, which detects the running pipeline.
    let dry = job.forebay(&["replay", "--from", "begin"]);
    assert!(stderr(&dry).contains("dry run: nothing was changed"), "{}", stderr(&dry));
    let done = job.forebay(&["replay", "--from", "begin", "--reason", "once more", "--yes"]);
    assert!(done.status.success() && stderr(&done).contains("5 offsets are read again"), "{}", stderr(&done));
    let end = running.wait_until("everything is written again and committed", |s| s["totals"]["consumed"] == 15 && committed(s) == 5);
    assert_eq!(end["totals"]["fetched"], 5);

    let none = http.post("/v1/pipelines/users/plans", "{\"action\": \"replay\", \"from\": {\"time\": \"2099-01-01T00:00:00Z\"}}");
    let (path, body) = to_apply(&none);
    assert_eq!(http.post(&path, &body).body["records"], 0);
    assert!(running.stop().success());
    let resets: Vec<_> = job.events("OffsetsReset").into_iter().map(|event| event["data"]["reason"].clone()).collect();
    assert_eq!(resets, ["the SQL cut addresses", "once more"]);
}

#[test]
fn a_replay_interrupted_before_its_commit_has_no_effect() {
    let api = TestApi::start(|_| Answer::users(0, 5));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h"));
    let (running, _) = written(&job, &[], &[("FAILPOINTS", "consumer::before_set_back=return(kill)")]);
    assert_eq!(job.forebay(&["replay", "--from", "begin", "--reason", "x", "--yes"]).status.code(), Some(3));
    running.end_by_kill("when the journal had it");
    assert_eq!(job.events("OffsetsReset").len(), 1);
    let (running, _) = written(&job, &["--roles", "egress,api"], &[]);
    assert_eq!(running.snapshot()["totals"]["consumed"], 0);
    assert!(running.stop().success());
}

#[test]
fn params_of_a_run_reach_the_source_even_after_a_kill() {
    let (answered, is_answered) = std::sync::mpsc::channel();
    let api = TestApi::start(move |n| {
        if n == 0 {
            // The process is killed when the page arrives; by then it has answered the request.
            is_answered.recv().unwrap();
        }
        Answer::users(0, 5)
    });
    let job = Job::new("embedded", "embedded").fetching(&format!("{}?results=100&nat=ch", api.url), None);
    let job = job.with_fetcher("params = [\"results\"]");
    let first = job.start(&[], &[("FAILPOINTS", "fetcher::after_fetch=return(kill)")]);
    first.snapshot();
    let http = ControlApi::new(first.url());
    let run = http.put(&format!("{RUNS}/k"), "{\"params\": {\"results\": \"5\"}}").body;
    answered.send(()).unwrap();
    first.end_by_kill("when the page came");
    let second = job.start(&[], &[]);
    second.snapshot();
    let run = ended(&ControlApi::new(second.url()), &run);
    assert_eq!((&run["state"], &run["params"]), (&json!("succeeded"), &json!({ "results": "5" })));
    assert_eq!(api.asked(), ["/?nat=ch&results=5", "/?nat=ch&results=5"]);
    assert!(second.stop().success());
}

#[test]
fn an_expired_lease_cancels_a_run_unless_a_client_waits_for_it() {
    let api = TestApi::start(|_| Answer::unavailable());
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let (running, http) = running(&job);
    let left = http.put(&format!("{RUNS}/left"), "{\"lease_seconds\": 10}").body;
    let kept = http.put(&format!("{RUNS}/kept"), "{\"lease_seconds\": 10}").body;
    let wait = format!("/v1/runs/{}?wait=14s", kept["id"].as_str().unwrap());
    let waited = http.get(&wait).body;
    assert_eq!(waited["terminal"], false, "{waited}");
    let left = http.get(&format!("/v1/runs/{}", left["id"].as_str().unwrap())).body;
    assert_eq!((&left["state"], &left["cancelled"]["by"]), (&json!("cancelled"), &json!("lease")), "{left}");
    assert!(running.stop().success());
}

/// Number of rows of a user in the table.
fn job_rows(job: &Job, id: &str) -> usize {
    job.query(&format!("SELECT id FROM users_stream WHERE id = '{id}'")).len()
}

/// The dead letters, from the API.
fn letters(http: &ControlApi) -> Vec<Value> {
    http.get("/v1/dlq").body["letters"].as_array().cloned().unwrap_or_default()
}

#[test]
fn dead_letters_are_redriven_once_and_only_by_a_current_plan() {
    let page = format!("{{\"results\":[{},{},{}]}}", user(1, 1), bad_user(2, 1), bad_user(3, 1));
    let api = TestApi::start(move |_| Answer::ok(page.clone()));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None);
    let (running, http) = running(&job);
    let run = |key: &str| ended(&http, &http.put(&format!("{RUNS}/{key}"), "").body);
    assert_eq!(run("one")["state"], "succeeded");
    let found = letters(&http);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!((&found[0]["stage"], found[0]["record"]["value"]["dob"]["date"].as_str()), (&json!("decode"), Some(support::BAD_DATE)));
    assert!(found.iter().all(|letter| letter["origin"].is_array() && letter["reason"].as_str().unwrap().contains("dob")), "{found:#?}");

    let plan = || http.post("/v1/pipelines/users/plans", "{\"action\": \"redrive\"}").body;
    let apply = |plan: &Value| {
        let body = json!({ "hash": plan["hash"], "reason": "again" }).to_string();
        http.post(&format!("/v1/plans/{}/apply", plan["id"].as_str().unwrap()), &body)
    };
    let before = plan();
    assert_eq!(before["records"], 2, "{before}");
    run("two");
    apply(&before).problem(409, "plan.stale");
    let now = plan();
    let applied = apply(&now);
    assert_eq!((applied.status, &applied.body["records"]), (200, &json!(4)), "{applied:?}");
    // They are still bad, and become new dead letters.
    running.wait_until("they are rejected again", |_| letters(&http).len() == 8);
    let again = plan();
    assert_eq!(again["ranges"]["0"], json!({ "from": 4, "to": 8 }), "those that were redriven are left out: {again}");
    let text = String::from_utf8(job.forebay(&["journal", "show", "--type", "LettersRedriven"]).stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let end = job.forebay(&["dlq", "redrive"]);
    assert!(end.status.success() && String::from_utf8_lossy(&end.stderr).contains("dry run"), "{end:?}");
    assert!(running.stop().success());
}

#[test]
fn a_redriven_record_equals_the_original_to_its_last_header() {
    let job = Job::new("embedded", "embedded").with_partitions(1);
    let (running, _) = running(&job);
    support::assert_redriven_unchanged(&job, &running, &running.broker());
    assert!(running.stop().success());
}

#[test]
fn pause_survives_a_restart_and_a_drained_pipeline_still_writes() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let (first, http) = running(&job);
    first.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 50);
    let state =
        |http: &ControlApi, state: &str| http.put("/v1/pipelines/users/state", &json!({ "state": state, "reason": "upgrade" }).to_string());
    http.put("/v1/pipelines/users/state", "{\"state\": \"paused\"}").problem(400, "body");
    http.put("/v1/pipelines/users/state", "{\"state\": \"paused\", \"reason\": \"\"}").problem(422, "reason");
    assert_eq!(state(&http, "paused").body["desired"]["state"], "paused");
    let paused = |s: &Value| s["partitions"].as_array().unwrap().iter().all(|p| p["paused"] == true && p["assigned"] == true);
    first.wait_until("all partitions are kept, and paused", paused);
    let still = |running: &Running| {
        // What was in flight is done by then.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let (before, asked) = (running.snapshot(), api.requests());
        std::thread::sleep(std::time::Duration::from_secs(1));
        let after = running.snapshot();
        assert_eq!((&before["totals"], asked), (&after["totals"], api.requests()), "nothing is fetched or read");
    };
    still(&first);
    let refused = http.put(&format!("{RUNS}/k"), "");
    assert!(refused.problem(409, "pipeline.paused").contains("forebay resume"), "{refused:?}");
    assert!(first.stop().success());

    let end = job.forebay(&["run", "--until-idle"]);
    assert_eq!(end.status.code(), Some(1), "a paused pipeline does not become idle: {end:?}");
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(stderr.contains("paused by admin: upgrade") && stderr.contains("forebay resume"), "{stderr}");

    let (second, http) = running(&job);
    second.wait_until("it is still paused", paused);
    assert_eq!(second.snapshot()["desired"]["reason"], "upgrade");
    still(&second);
    let bootstrap = second.snapshot()["kafka"].as_str().unwrap().split(['(', ')']).nth(1).unwrap().to_owned();
    support::produce(&bootstrap, &job.topic, [("k".to_owned(), user(77, 1).into_bytes())].into_iter());
    still(&second);
    let drained = job.forebay(&["drain", "--reason", "write what there is"]);
    assert!(drained.status.success(), "{drained:?}");
    let lag = |s: &Value| {
        let of = |p: &Value| p["end"].as_i64().unwrap() - p["written"].as_i64().unwrap();
        s["partitions"].as_array().unwrap().iter().map(of).sum::<i64>()
    };
    second.wait_until("everything in the topic is written", |s| s["totals"]["written"].as_u64().unwrap() > 0 && lag(s) == 0);
    assert_eq!(job_rows(&job, &user_id(77)), 1);
    assert_eq!(second.snapshot()["totals"]["pages"], 0, "and nothing is fetched");
    assert!(job.forebay(&["resume", "--reason", "done"]).status.success());
    second.wait_until("records flow again", |s| s["totals"]["written"].as_u64().unwrap() > 50);
    assert_eq!(http.put(&format!("{RUNS}/k"), "").status, 201);
    assert!(second.stop().success());
}

#[test]
fn a_requested_restart_includes_dependent_actors_and_loses_nothing() {
    let api = TestApi::start(|n| Answer::users(n * 10, n * 10 + 10));
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("50ms"));
    let (running, _) = running(&job);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64().unwrap() > 50);
    let end = job.forebay(&["actors", "restart", "root/egress/writer", "--reason", "its connection hangs"]);
    assert!(end.status.success(), "{end:?}");
    let incarnation = |s: &Value, path: &str| Running::actor(s, path)["incarnation"].as_u64().unwrap();
    running.wait_until("the writer, the transformer and the consumer are restarted", |s| {
        ["root/egress/writer", "root/egress/transformer", "root/egress/consumer"].iter().all(|path| incarnation(s, path) == 2)
    });
    let written = running.snapshot()["totals"]["written"].as_u64().unwrap();
    running.wait_until("records flow again", |s| s["totals"]["written"].as_u64().unwrap() > written + 50);
    let text = String::from_utf8(job.forebay(&["journal", "show", "--type", "ActorRestartRequested"]).stdout).unwrap();
    assert!(text.contains("root/egress/writer") && text.contains("its connection hangs"), "{text}");
    assert!(running.stop().success());
}

#[test]
fn a_restart_of_an_actor_that_is_being_restarted_is_accepted_and_changes_nothing() {
    const RESTART: &[&str] = &["actors", "restart", "root/egress/writer", "--reason", "its connection hangs"];
    // Long enough for both requests.
    let job = Job::new("embedded", "embedded").with("[supervisor]\nbackoff_min = \"10s\"");
    let (running, http) = running(&job);
    running.wait_until("it reads", |s| s["partitions"].as_array().unwrap().iter().any(|p| p["assigned"] == true));
    assert!(job.forebay(RESTART).status.success());
    let is_restarting = |s: &Value, path: &str| Running::actor(s, path)["state"] == "restarting";
    running.wait_until("both are being restarted", |s| {
        ["root/egress/writer", "root/egress/consumer"].iter().all(|path| is_restarting(s, path))
    });
    let again = job.forebay(RESTART);
    let text = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success() && text == "root/egress/writer is being restarted already; incarnation 1 was the last\n", "{text}");
    let answer = http.post("/v1/actors/root/egress/consumer/restart", "{\"reason\": \"it depends on the writer\"}");
    assert_eq!((answer.status, &answer.body["state"]), (202, &"restarting".into()), "{:?}", answer.body);
    let end = running.wait_until("it is restarted", |s| Running::actor(s, "root/egress/consumer")["state"] == "up");
    for actor in ["root/egress/writer", "root/egress/consumer"] {
        assert_eq!(Running::actor(&end, actor)["incarnation"], 2, "{end:#}");
    }
    let requests = String::from_utf8(job.forebay(&["journal", "show", "--type", "ActorRestartRequested"]).stdout).unwrap();
    assert_eq!(requests.lines().filter(|line| line.contains("root/egress/")).count(), 1, "{requests}");
    assert!(running.stop().success());
}

#[test]
fn every_client_needs_a_token_and_is_limited_to_its_role() {
    let job = Job::new("embedded", "embedded")
        .with("tokens = { viewer = { env = \"VIEWER\" }, operator = { env = \"OPERATOR\" } }\nmask = [\"/name\"]")
        .with("origins = [\"https://ops.example.org\"]");
    let tokens = [("VIEWER", "viewer-0123456789"), ("OPERATOR", "operator-0123456789"), ("FOREBAY_TOKEN", "viewer-0123456789")];
    let running = job.start(&[], &tokens);
    let http = ControlApi::new(running.url());
    let until = std::time::Instant::now() + support::TIMEOUT;
    while job.forebay_with(&["status"], &tokens).status.code() != Some(0) {
        assert!(std::time::Instant::now() < until, "{}", running.log());
    }
    let missing = http.get("/v1/snapshot");
    assert!(missing.problem(401, "token.missing").contains("FOREBAY_TOKEN"));
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"forebay\", Basic realm=\"forebay\"");
    http.get("/v1/nothing").problem(401, "token.missing");
    http.get("/metrics").problem(401, "token.missing");
    http.get("/v1/logs").problem(401, "token.missing");
    assert_eq!(http.get("/healthz").status, 200);
    let with = |token: &str, method: &str, path: &str, body: &str| {
        http.ask(method, path, &[("authorization", &format!("Bearer {token}"))], body.to_owned())
    };
    with("guessed-0123456789", "GET", "/v1/snapshot", "").problem(401, "token.wrong");
    assert_eq!(with("viewer-0123456789", "GET", "/v1/whoami", "").body, json!({ "role": "viewer", "by": "token" }));
    // An origin of the file: its browser sends a preflight request without a token, and may read
    // the error.
    let page = ("origin", "https://ops.example.org");
    let may = http.ask("OPTIONS", "/v1/pipelines/users/state", &[page, ("access-control-request-method", "PUT")], "");
    assert_eq!((may.status, may.header("access-control-allow-origin")), (204, page.1));
    assert!(
        may.header("access-control-allow-methods").contains("PUT") && may.header("access-control-allow-headers").contains("authorization")
    );
    let refused = http.ask("GET", "/v1/snapshot", &[page], "");
    refused.problem(401, "token.missing");
    assert_eq!(refused.header("access-control-allow-origin"), page.1);
    http.ask("OPTIONS", "/v1/snapshot", &[page], "").problem(401, "token.missing");
    let log = with("viewer-0123456789", "GET", "/v1/logs?limit=1000", "");
    assert!(log.status == 200 && !log.body["lines"].as_array().unwrap().is_empty(), "{log:?}");
    assert!(!log.body.to_string().contains("0123456789"), "no token is logged");

    let pause = "{\"state\": \"paused\", \"reason\": \"x\"}";
    let refused = with("viewer-0123456789", "PUT", "/v1/pipelines/users/state", pause);
    refused.problem(403, "role");
    assert!(refused.body["detail"].as_str().unwrap().contains("needs the role operator"));
    assert_eq!(with("operator-0123456789", "PUT", "/v1/pipelines/users/state", pause).body["desired"]["by"], "operator");
    with("operator-0123456789", "POST", "/v1/pipelines/users/plans", "{\"action\": \"redrive\"}").problem(403, "role");
    let end = job.forebay_with(&["pause", "--reason", "x"], &tokens);
    assert_eq!(end.status.code(), Some(1), "{end:?}");
    let without = job.forebay(&["status"]);
    let stderr = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && stderr.contains("FOREBAY_TOKEN"), "{stderr}");
    assert!(!running.log().contains("0123456789"), "no token is printed");
    assert!(running.stop().success());
}

#[test]
fn a_non_loopback_address_without_tokens_does_not_start() {
    let end = Job::new("embedded", "embedded").listening("0.0.0.0:0").forebay(&["run"]);
    assert_eq!(end.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&end.stderr);
    assert!(stderr.contains("no token") && stderr.contains("listen = \"0.0.0.0:0\"") && stderr.contains("tokens = {"), "{stderr}");
}

#[test]
fn a_unix_socket_needs_no_token_and_a_stale_one_is_replaced() {
    let job = Job::new("embedded", "embedded").listening("unix:forebay.sock");
    let first = job.start(&[], &[]);
    first.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let mode = std::fs::metadata(job.dir().join("forebay.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(ControlApi::new(first.url()).get("/v1/whoami").body, json!({ "role": "admin", "by": "socket" }));
    assert!(job.forebay(&["topics"]).status.success());
    first.kill();
    let second = job.start(&[], &[]);
    second.snapshot();
    assert!(second.stop().success());
}

#[test]
fn records_are_shown_with_masked_fields_hidden() {
    let api = TestApi::start(|_| Answer::users(0, 20));
    let job = Job::new("embedded", "embedded").fetching(&api.url, None).with("mask = [\"/name\", \"/login/uuid\"]");
    let (running, http) = running(&job);
    ended(&http, &http.put(&format!("{RUNS}/k"), "").body);
    let all = http.get("/v1/records").body;
    let records = all["records"].as_array().unwrap();
    assert_eq!(records.len(), 20);
    assert!(records.iter().all(|r| r["value"]["name"] == "***" && r["value"]["login"]["uuid"] == "***" && r["key"] == "***"));
    assert!(records[0]["value"]["email"].as_str().unwrap().starts_with("user") && records[0]["headers"]["forebay-run"].is_string());
    assert_eq!(http.get("/v1/records?last=3").body["records"].as_array().unwrap().len(), 3);
    let partition = &records[0]["partition"];
    let one = http.get(&format!("/v1/records?partition={partition}&from={}&limit=1", records[0]["offset"])).body;
    assert_eq!(one["records"], json!([records[0]]));
    let tapped = String::from_utf8(job.forebay(&["tap", "--last", "5", "--json"]).stdout).unwrap();
    assert_eq!(tapped.lines().count(), 5);
    let batch = http.get("/v1/batches?limit=1").body["batches"][0].clone();
    let trace = http.get(&format!("/v1/batches/{}", batch["id"])).body;
    assert!(trace["sql"].as_str().unwrap().contains("SELECT") && trace["plan"].as_str().unwrap().contains("Scan: "), "{trace}");
    assert!(running.stop().success());
}

#[test]
fn log_lines_are_kept_whatever_stderr_gets_and_can_be_polled() {
    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[("FOREBAY_LOG", "off")]);
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let http = ControlApi::new(running.url());
    let seqs = |logs: &Value| logs["lines"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    let all = http.get("/v1/logs?after=0&limit=1000").body;
    let upto = all["upto"].as_u64().unwrap();
    assert_eq!((seqs(&all), &all["lost"]), ((1..=upto).collect(), &json!(0)), "{all}");
    let ready = all["lines"].as_array().unwrap().iter().find(|line| line["message"] == "topic is ready").unwrap();
    assert_eq!((&ready["level"], &ready["pipeline"], &ready["topic"]), (&json!("INFO"), &json!("users"), &json!(job.topic)));
    assert_eq!(seqs(&http.get("/v1/logs?limit=2").body).len(), 2);
    let grave = http.get("/v1/logs?level=error&after=0").body;
    assert_eq!((&grave["lines"], grave["upto"].as_u64() >= Some(upto)), (&json!([]), true), "{grave}");
    let other = http.get("/v1/logs?after=9007199254740991&wait=60s").body;
    assert!(seqs(&other).is_empty() && other["upto"].as_u64() < Some(1_000) && other["since"] == all["since"], "{other}");

    let url = running.url().to_owned();
    let newest = http.get("/v1/logs").body["upto"].as_u64().unwrap();
    let waiting = std::thread::spawn(move || ControlApi::new(&url).get(&format!("/v1/logs?after={newest}&wait=60s")).body);
    let paused = http.put("/v1/pipelines/users/state", "{\"state\": \"paused\", \"reason\": \"x\"}");
    assert_eq!(paused.status, 200);
    let come = waiting.join().unwrap();
    assert_eq!(seqs(&come).first(), Some(&(newest + 1)), "{come}");

    let shown = job.forebay(&["logs", "--json", "--limit", "1000"]);
    let lines: Vec<Value> = String::from_utf8(shown.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[..all["lines"].as_array().unwrap().len()], all["lines"].as_array().unwrap()[..]);
    assert_eq!(running.log(), "", "stderr gets nothing");
    assert!(running.stop().success());
}

#[test]
fn masked_values_appear_in_no_answer_event_or_log_line() {
    const SECRET: &str = "hunter2";
    let person = |n: u32, first: &str, last: &str, date: &str| {
        let text = user(n, 1).replace(&format!("First{n}"), first).replace("Last1", last);
        text.replace("1992-03-08T15:13:16.688Z", date).replace("\"password\":\"p\"", &format!("\"password\":\"{SECRET}\""))
    };
    let (good, date) = (user_id(1), "1992-03-08T15:13:16.688Z");
    let page = [
        person(1, "7", &good, date),
        person(2, "7", &good, &format!("{SECRET} decode")),
        person(3, &format!("{SECRET} transform"), &good, date),
        person(4, "7", &format!("{SECRET} write"), date),
    ];
    let api = TestApi::start(move |n| match n {
        0 => Answer::ok(format!("{{\"results\":[{}]}}", page.join(","))),
        _ => Answer::ok(format!("{{\"results\":[{{\"name\":\"{SECRET}\"x}}]}}")),
    });
    let job = Job::new("embedded", "embedded")
        .fetching(&api.url, None)
        .with("mask = [\"/name\", \"/login\", \"/dob/date\"]")
        .with_sql("login['uuid']         AS id", "name['last'] AS id, CAST(name['first'] AS BIGINT) AS number");
    let running = job.start(&[], &[("FOREBAY_LOG", "forebay=trace,forebay_actors=trace")]);
    let http = ControlApi::new(running.url());
    running.wait_until("the topic exists", |s| !s["partitions"].as_array().unwrap().is_empty());
    let run = |key: &str| ended(&http, &http.put(&format!("{RUNS}/{key}"), "").body);
    assert_eq!(run("one")["state"], "succeeded");
    let failed = run("two");
    assert!(failed["error"]["message"].as_str().unwrap().contains("near ***"), "{failed}");

    let reasons: Vec<String> =
        letters(&http).iter().map(|letter| format!("{}: {}", letter["stage"], letter["reason"]).replace('"', "")).collect();
    for reason in
        ["decode: `/dob/date` must be a date-time such as", "transform: column `number`: ***", "write: column id: *** is not a valid uuid"]
    {
        assert!(reasons.iter().any(|text| text.starts_with(reason)), "{reason} in {reasons:#?}");
    }
    let batches = http.get("/v1/batches").body["batches"].as_array().unwrap().clone();
    let mut shown: Vec<String> = batches.iter().map(|batch| http.get(&format!("/v1/batches/{}", batch["id"])).body.to_string()).collect();
    assert!(shown.iter().any(|batch| batch.contains("*** is not a valid uuid")), "{shown:#?}");
    for path in ["/v1/dlq", "/v1/records", "/v1/snapshot", "/v1/runs", "/v1/batches", "/v1/actors", "/v1/logs?limit=1000", "/metrics"] {
        shown.push(format!("{path}: {:?}", http.get(path)));
    }
    let commands: [&[&str]; 7] = [
        &["dlq"],
        &["dlq", "--json"],
        &["dlq", "redrive"],
        &["tap", "--last", "9", "--json"],
        &["runs"],
        &["status"],
        &["journal", "show", "--json"],
    ];
    for command in commands {
        shown.push(format!("{command:?}: {:?}", job.forebay(command)));
    }
    let bootstrap = running.broker();
    let full = support::read_all(&bootstrap, &format!("{}.dead", job.topic), 1);
    assert!(running.stop().success());
    shown.push(std::fs::read_to_string(job.dir().join("forebay.log")).unwrap());
    for entry in std::fs::read_dir(job.dir().join(".forebay/journal")).unwrap() {
        shown.push(String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned());
    }
    for shown in shown {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert_eq!(
        full.iter().filter(|(_, _, headers)| headers["forebay-reason"].contains(SECRET)).count(),
        4,
        "Kafka has the full reason: {full:?}"
    );
}
