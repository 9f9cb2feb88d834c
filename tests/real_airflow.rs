//! Airflow triggers Forebay with Kafka and Cassandra, through the package in `airflow/`.
//!
//! Tasks are retried and cleared, processes are killed and stopped; then Airflow, Forebay and the
//! table are checked.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_test_services::{Airflow, Cassandra, Kafka};
use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Job, Running, TIMEOUT};

const DAG: &str = "real_time_pipeline";
/// Users on a page.
const PAGE: u32 = 50;

/// The behaviour of the source API.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Answers the next page.
    Well,
    /// Does not answer.
    Hangs,
    /// Answers with this status.
    Refuses(&'static str),
}

/// All processes of the test.
struct Stack {
    airflow: Airflow,
    job: Job,
    forebay: Option<Running>,
    mode: Arc<Mutex<Mode>>,
    source: Arc<TestApi>,
}

#[test]
fn package_tests_pass_on_the_airflow_of_the_compose_file() {
    let report = Airflow::pytest(Airflow::VERSION);
    assert!(report.contains(" passed") && !report.contains("skipped"), "{report}");
}

#[test]
fn package_tests_pass_on_the_newest_airflow() {
    let report = Airflow::pytest(Airflow::NEWEST);
    assert!(report.contains(" passed") && !report.contains("skipped"), "{report}");
}

/// Airflow takes half a minute to start, so all cases share one, in this order.
#[test]
fn a_task_is_one_run_whatever_happens_to_it() {
    let mut stack = Stack::new();
    for (name, scenario) in [
        ("both APIs down at first", both_apis_down_at_first as fn(&mut Stack)),
        ("two DAG runs at once", two_dag_runs_at_once),
        ("a cleared task is a new run", a_cleared_task_is_a_new_run),
        ("a run that fails for good fails the task with its reason", a_failed_run_fails_the_task_with_its_reason),
        ("a killed task's run is cancelled", a_killed_tasks_run_is_cancelled),
        ("a task killed between its worker and its trigger", a_task_killed_between_its_worker_and_its_trigger),
        ("a task cleared in mid-run joins or follows its run", a_task_cleared_in_mid_run_leaves_no_second_run),
        ("Forebay killed in mid-run, ridden out", forebay_killed_in_mid_run),
        ("Forebay killed in mid-run, and the task retried", forebay_killed_and_the_task_retried),
        ("the worker killed in mid-run", the_worker_killed_in_mid_run),
        ("a task in its worker killed by a user", a_task_in_its_worker_killed_by_a_user),
        ("the stock HTTP provider", the_stock_http_provider),
    ] {
        let started = Instant::now();
        scenario(&mut stack);
        stack.mode(Mode::Well);
        std::thread::sleep(Duration::from_millis(200)); // an answer that was held back for one who is gone goes out now
        eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    stack.assert_consistent();
}

#[test]
#[ignore = "needs Chromium: make docs-airflow"]
fn the_grid_shows_success_and_the_link_opens_the_run() {
    let stack = Stack::new();
    for run in ["first", "second", "third"] {
        stack.trigger(DAG, run);
        stack.wait_for_dag_run(DAG, run, "success");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture = root.join("docs/images/airflow-grid.png");
    let report = stack.airflow.run_in_browser(&root.join("scripts/airflow-picture.py"), &[DAG, "third", picture.to_str().unwrap()]);
    assert!(report.contains("its link opens run"), "{report}");
    assert!(picture.metadata().unwrap().len() < 200_000);
}

/// A run that is requested while Forebay and the source API are down waits for both.
fn both_apis_down_at_first(stack: &mut Stack) {
    stack.mode(Mode::Refuses("503 Service Unavailable"));
    stack.forebay = None;
    stack.trigger(DAG, "first");
    stack.wait_until("the task retries", |w| w.task(DAG, "first", "fetch")["state"] == "running");
    std::thread::sleep(Duration::from_secs(2));
    stack.start_forebay();
    stack.wait_until("the source API gets retries", |w| w.source.requests() > 1);
    assert_eq!(stack.task(DAG, "first", "fetch")["try_number"], 1);
    stack.mode(Mode::Well);
    stack.wait_for_dag_run(DAG, "first", "success");
    assert_eq!(stack.tries(DAG, "first"), [1, 1, 1], "nothing was retried");

    let run = stack.xcom(DAG, "first", "fetch", "return_value");
    assert_eq!((&run["state"], &run["attempt"], &run["reattached"]), (&"succeeded".into(), &1.into(), &false.into()));
    assert_eq!(run["run_id"], stack.xcom(DAG, "first", "fetch", "run_id"));
    assert_eq!(run["key"], "real_time_pipeline/first/fetch");
    let report = stack.xcom(DAG, "first", "report", "return_value");
    assert_eq!((&report["rows_in_table"], &report["looked_up"], &report["rejected"]), (&PAGE.into(), &20.into(), &json!([])));
    assert_eq!(stack.rows(), u64::from(PAGE), "cqlsh says so too");
    let [known] = &stack.runs_of("first")[..] else { panic!("not one run") };
    assert_eq!(known["labels"], json!({ "dag_id": DAG, "run_id": "first", "task_id": "fetch" }));

    let links = stack.get(&format!("/api/v2/dags/{DAG}/dagRuns/first/taskInstances/fetch/links"));
    assert_eq!(links["extra_links"]["Forebay run"], run["run_url"]);
    assert_eq!(http_get(run["run_url"].as_str().unwrap())["id"], run["run_id"], "the link opens");
    let events = stack.get("/api/v2/assets/events?limit=100");
    let events = events["asset_events"].as_array().unwrap();
    let of = |uri: &str| events.iter().filter(|event| event["uri"].as_str().unwrap().starts_with(uri)).collect::<Vec<_>>();
    assert_eq!(of("cassandra://")[0]["extra"], run, "the table has an event with what the run came to");
    assert_eq!(of("forebay_users_runs")[0]["extra"]["payload"]["run_id"], run["run_id"], "and the asset of Forebay's runs, too");
    stack.wait_until("the DAG that is scheduled by ended runs has run", |w| {
        let runs = w.get("/api/v2/dags/example_forebay_events/dagRuns");
        runs["dag_runs"].as_array().unwrap().iter().any(|run| run["state"] == "success")
    });
}

fn two_dag_runs_at_once(stack: &mut Stack) {
    stack.trigger(DAG, "left");
    stack.trigger(DAG, "right");
    stack.wait_for_dag_run(DAG, "left", "success");
    stack.wait_for_dag_run(DAG, "right", "success");
    let ids = ["left", "right"].map(|run| stack.xcom(DAG, run, "fetch", "run_id"));
    assert_ne!(ids[0], ids[1]);
    assert_eq!(stack.rows(), 3 * u64::from(PAGE));
}

fn a_cleared_task_is_a_new_run(stack: &mut Stack) {
    let before = stack.xcom(DAG, "left", "fetch", "run_id");
    stack.clear("left");
    stack.wait_for_dag_run(DAG, "left", "success");
    let run = stack.xcom(DAG, "left", "fetch", "return_value");
    assert_ne!(run["run_id"], before);
    assert_eq!((&run["attempt"], &run["key"]), (&2.into(), &"real_time_pipeline/left/fetch".into()));
    assert_eq!(stack.rows(), 4 * u64::from(PAGE));
}

fn a_failed_run_fails_the_task_with_its_reason(stack: &mut Stack) {
    stack.mode(Mode::Refuses("404 Not Found"));
    stack.trigger(DAG, "bad");
    stack.wait_for_dag_run(DAG, "bad", "failed");
    assert_eq!(stack.task(DAG, "bad", "fetch")["state"], "failed");
    assert_eq!(stack.task(DAG, "bad", "fetch")["try_number"], 1, "it is not retried");
    let log = stack.log(DAG, "bad", "fetch", 1);
    assert!(log.contains("failed at fetch") && log.contains("404 Not Found"), "{log}");
    assert_eq!(stack.task(DAG, "bad", "report")["state"], "upstream_failed", "no downstream task succeeds");
}

fn a_killed_tasks_run_is_cancelled(stack: &mut Stack) {
    stack.trigger_hanging(DAG, "killed", "deferred");
    stack.set_failed(DAG, "killed");
    let [run] = &stack.runs_of("killed")[..] else { panic!("not one run") };
    let id = run["id"].clone();
    stack.wait_until("the run is cancelled", |w| w.run(&id)["state"] == "cancelled");
    assert_eq!(stack.task(DAG, "killed", "fetch")["state"], "failed");
}

/// Airflow may miss this kill: the worker has deferred, and the triggerer has not started. Then the
/// lease, 10 s here, ends the run.
fn a_task_killed_between_its_worker_and_its_trigger(stack: &mut Stack) {
    stack.mode(Mode::Hangs);
    stack.trigger("leased", "unseen");
    stack.wait_until("the task is deferred", |w| w.task("leased", "unseen", "fetch")["state"] == "deferred");
    stack.set_failed("leased", "unseen");
    // A request for the run itself would renew its lease; the list does not.
    stack.wait_until("the run is cancelled", |w| w.runs_of("unseen").iter().all(|run| run["state"] == "cancelled"));
    assert_eq!(stack.runs_of("unseen").len(), 1);
}

fn a_task_cleared_in_mid_run_leaves_no_second_run(stack: &mut Stack) {
    stack.trigger_hanging(DAG, "midway", "deferred");
    stack.clear("midway");
    stack.wait_until("the next try waits", |w| {
        let task = w.task(DAG, "midway", "fetch");
        task["try_number"] == 2 && task["state"] == "deferred"
    });
    stack.mode(Mode::Well);
    stack.wait_for_dag_run(DAG, "midway", "success");
    let runs = stack.runs_of("midway");
    let succeeded = runs.iter().filter(|run| run["state"] == "succeeded").count();
    assert!(succeeded == 1 && runs.iter().all(|run| run["terminal"] == true), "{runs:#?}");
}

/// The trigger waits for Forebay to return, and the run continues: no further try, run or row.
fn forebay_killed_in_mid_run(stack: &mut Stack) {
    stack.trigger_hanging(DAG, "crashed", "deferred");
    stack.forebay.take().unwrap().kill();
    std::thread::sleep(Duration::from_secs(3));
    stack.mode(Mode::Well);
    stack.start_forebay();
    stack.wait_for_dag_run(DAG, "crashed", "success");
    assert_eq!(stack.tries(DAG, "crashed"), [1, 1, 1]);
    assert_eq!(stack.runs_of("crashed").len(), 1);
}

/// The task fails while Forebay is down; its retries join the run, which has survived.
fn forebay_killed_and_the_task_retried(stack: &mut Stack) {
    stack.trigger_hanging("impatient", "again", "deferred");
    stack.forebay.take().unwrap().kill();
    stack.wait_until("a try has failed", |w| w.task("impatient", "again", "fetch")["try_number"].as_u64() >= Some(2));
    stack.start_forebay();
    stack.wait_until("a later try waits for the run", |w| w.task("impatient", "again", "fetch")["state"] == "deferred");
    stack.mode(Mode::Well);
    stack.wait_for_dag_run("impatient", "again", "success");
    let [run] = &stack.runs_of("again")[..] else { panic!("not one run") };
    let result = stack.xcom("impatient", "again", "fetch", "return_value");
    assert_eq!((&result["run_id"], &result["attempt"], &result["reattached"]), (&run["id"], &1.into(), &true.into()));
}

/// The task's process is killed while it waits; its retry joins the run.
fn the_worker_killed_in_mid_run(stack: &mut Stack) {
    stack.trigger_hanging("in_worker", "orphaned", "running");
    let pid = stack.task("in_worker", "orphaned", "fetch")["pid"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    stack.wait_until("the next try has joined the run", |w| w.log("in_worker", "orphaned", "fetch", 2).contains("started by try 1"));
    stack.mode(Mode::Well);
    stack.wait_for_dag_run("in_worker", "orphaned", "success");
    let result = stack.xcom("in_worker", "orphaned", "fetch", "return_value");
    assert_eq!((&result["attempt"], &result["reattached"]), (&1.into(), &true.into()));
    assert_eq!(stack.runs_of("orphaned").len(), 1);
}

fn a_task_in_its_worker_killed_by_a_user(stack: &mut Stack) {
    stack.trigger_hanging("in_worker", "stopped", "running");
    stack.set_failed("in_worker", "stopped");
    let [run] = &stack.runs_of("stopped")[..] else { panic!("not one run") };
    let id = run["id"].clone();
    stack.wait_until("the run is cancelled", |w| w.run(&id)["state"] == "cancelled");
}

fn the_stock_http_provider(stack: &mut Stack) {
    stack.trigger("example_forebay_http", "stock");
    stack.wait_for_dag_run("example_forebay_http", "stock", "success");
    let runs = stack.runs_of("stock");
    assert_eq!((runs.len(), &runs[0]["state"]), (1, &"succeeded".into()));
}

impl Stack {
    fn new() -> Self {
        let mode = Arc::new(Mutex::new(Mode::Well));
        let source = TestApi::start({
            let mode = Arc::clone(&mode);
            move |n| {
                loop {
                    let mode = *mode.lock();
                    match mode {
                        Mode::Well => return Answer::users(n * PAGE, (n + 1) * PAGE),
                        Mode::Refuses(status) => return Answer::of(status, "no"),
                        Mode::Hangs => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            }
        });
        let contact = Cassandra::shared().contact_point();
        let job = Job::new(Kafka::shared().bootstrap(), &contact).fetching(&source.url, None);
        let (host, port) = contact.split_once(':').unwrap();
        let url = job.url();
        let forebay_port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
        let connection = |kind: &str, host: &str, port: u16| json!({ "conn_type": kind, "host": host, "port": port }).to_string();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dag = |path: &str| -> PathBuf { root.join("airflow").join(path) };
        let examples = "src/airflow_provider_forebay/example_dags";
        let airflow = Airflow::start(
            &[
                dag("dags/real_time_pipeline.py"),
                dag("tests/dags/mishaps.py"),
                dag(&format!("{examples}/example_forebay_http.py")),
                dag(&format!("{examples}/example_forebay_events.py")),
            ],
            &[
                ("AIRFLOW_CONN_FOREBAY_DEFAULT", &connection("forebay", "127.0.0.1", forebay_port)),
                ("AIRFLOW_CONN_FOREBAY_HTTP", &connection("http", "http://127.0.0.1", forebay_port)),
                ("AIRFLOW_CONN_CASSANDRA_DEFAULT", &connection("generic", host, port.parse().unwrap())),
                ("FOREBAY_TABLE", &format!("cassandra://{contact}/{}/users_stream", job.keyspace)),
            ],
        );
        let mut stack = Self { airflow, job, forebay: None, mode, source: Arc::new(source) };
        stack.start_forebay(); // who watches its events begins with those from now on
        stack.wait_until("all DAGs are known", |w| w.get("/api/v2/dags")["total_entries"] == 6);
        assert_eq!(stack.get("/api/v2/importErrors")["import_errors"], json!([]));
        let watched = |w: &Self| w.forebay.as_ref().unwrap().snapshot()["seq"].as_u64() > Some(0);
        stack.wait_until("Forebay is up", watched);
        stack
    }

    fn start_forebay(&mut self) {
        let running = self.job.start(&[], &[]);
        running.snapshot();
        self.forebay = Some(running);
    }

    fn mode(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Waits until a condition holds.
    fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !condition(self) {
            if Instant::now() > until {
                let forebay = self.forebay.as_ref().map(Running::log).unwrap_or_default();
                panic!("timed out waiting until {what}\nruns: {:#?}\n{forebay}", self.runs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.airflow.request("GET", path, "");
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) {
        let (status, answer) = self.airflow.request(method, path, &body.to_string());
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    }

    fn trigger(&self, dag: &str, run: &str) {
        self.ask("POST", &format!("/api/v2/dags/{dag}/dagRuns"), &json!({ "dag_run_id": run, "logical_date": null, "conf": {} }));
    }

    /// Triggers a DAG whose run hangs in the source API, and waits for a state of its task.
    fn trigger_hanging(&self, dag: &str, run: &str, state: &str) {
        self.mode(Mode::Hangs);
        let requests = self.source.requests();
        self.trigger(dag, run);
        self.wait_until("the source API gets a request", |w| w.source.requests() > requests);
        self.wait_until("the task waits", |w| w.task(dag, run, "fetch")["state"] == state);
        if state == "deferred" {
            self.wait_until("its trigger waits", |w| w.log(dag, run, "fetch", 1).contains(") starting"));
        }
    }

    fn set_failed(&self, dag: &str, run: &str) {
        self.ask("PATCH", &format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/fetch"), &json!({ "new_state": "failed" }));
    }

    fn clear(&self, run: &str) {
        let body = json!({ "dry_run": false, "only_failed": false, "dag_run_id": run, "task_ids": ["fetch"],
            "include_downstream": true, "reset_dag_runs": true });
        self.ask("POST", &format!("/api/v2/dags/{DAG}/clearTaskInstances"), &body);
    }

    /// Waits for the end of a DAG run, and asserts its state.
    fn wait_for_dag_run(&self, dag: &str, run: &str, wanted: &str) {
        let state = |w: &Self| w.get(&format!("/api/v2/dags/{dag}/dagRuns/{run}"))["state"].as_str().unwrap().to_owned();
        self.wait_until("the DAG run has ended", |w| ["success", "failed"].contains(&state(w).as_str()));
        let logs = || ["fetch", "check_rows", "report"].map(|task| format!("{task}:\n{}\n", self.log(dag, run, task, 1))).concat();
        assert_eq!(state(self), wanted, "{dag} {run}\n{}", logs());
    }

    fn task(&self, dag: &str, run: &str, task: &str) -> Value {
        self.get(&format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"))
    }

    /// Number of tries of each task, in order.
    fn tries(&self, dag: &str, run: &str) -> Vec<u64> {
        ["fetch", "check_rows", "report"].iter().map(|task| self.task(dag, run, task)["try_number"].as_u64().unwrap()).collect()
    }

    fn xcom(&self, dag: &str, run: &str, task: &str, key: &str) -> Value {
        self.get(&format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"))["value"].clone()
    }

    fn log(&self, dag: &str, run: &str, task: &str, attempt: u32) -> String {
        self.airflow
            .request("GET", &format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}?full_content=true"), "")
            .1
    }

    /// The runs of Forebay.
    fn runs(&self) -> Vec<Value> {
        if self.forebay.is_none() {
            return vec![];
        }
        http_get(&format!("{}/v1/runs", self.job.url()))["runs"].as_array().unwrap().clone()
    }

    /// The runs of a DAG run.
    fn runs_of(&self, dag_run: &str) -> Vec<Value> {
        let part = format!("/{dag_run}/");
        self.runs().into_iter().filter(|run| run["key"].as_str().unwrap().contains(&part)).collect()
    }

    fn run(&self, id: &Value) -> Value {
        http_get(&format!("{}/v1/runs/{}", self.job.url(), id.as_str().unwrap()))
    }

    fn rows(&self) -> u64 {
        Cassandra::shared().count(&format!("{}.users_stream", self.job.keyspace))
    }

    /// Asserts that every run has ended, and that the table has one row per key of the topic.
    fn assert_consistent(&self) {
        let runs = self.runs();
        assert!(runs.iter().all(|run| run["terminal"] == true), "{runs:#?}");
        let records = support::read_all(Kafka::shared().bootstrap(), &self.job.topic, 4);
        let keys: BTreeSet<_> = records.iter().map(|(key, ..)| key.clone()).collect();
        assert_eq!(records.len(), keys.len(), "each page was produced once");
        let produced: u64 = runs.iter().map(|run| run["counts"]["produced"].as_u64().unwrap()).sum();
        assert_eq!((records.len() as u64, self.rows()), (produced, produced));
    }
}

/// An answer of Forebay.
fn http_get(url: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async { reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap() });
    serde_json::from_str(&text).unwrap()
}
