//! Real Airflow triggers a real Forebay with real Kafka and Cassandra, through the package in `airflow/`: what the issue calls retried, cleared,
//! killed, dead and down is done to real processes, and then looked at in Airflow, in Forebay and in the table.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

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
use support::{Job, PATIENCE, Running};

const DAG: &str = "real_time_pipeline";
/// Users on a page.
const PAGE: u32 = 50;

/// What the API of users does.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Answers the next page.
    Well,
    /// Holds its answer back.
    Hangs,
    /// Answers this status.
    Refuses(&'static str),
}

/// All that takes part.
struct World {
    airflow: Airflow,
    job: Job,
    forebay: Option<Running>,
    mode: Arc<Mutex<Mode>>,
    source: Arc<TestApi>,
}

#[test]
fn package_tests_pass_on_the_airflow_of_the_compose_file() {
    let said = Airflow::pytest(Airflow::VERSION);
    assert!(said.contains(" passed") && !said.contains("skipped"), "{said}");
}

#[test]
fn package_tests_pass_on_the_newest_airflow() {
    let said = Airflow::pytest(Airflow::NEWEST);
    assert!(said.contains(" passed") && !said.contains("skipped"), "{said}");
}

/// One Airflow takes half a minute to start, so all is done to one, in this order.
#[test]
fn a_task_is_one_run_whatever_happens_to_it() {
    let mut world = World::new();
    for (name, scenario) in [
        ("both APIs down at first", both_apis_down_at_first as fn(&mut World)),
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
        scenario(&mut world);
        world.mode(Mode::Well);
        std::thread::sleep(Duration::from_millis(200)); // an answer that was held back for one who is gone goes out now
        eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    world.nothing_is_twice_and_nothing_is_left_open();
}

#[test]
#[ignore = "needs Chromium: make docs-airflow"]
fn the_grid_shows_success_and_the_link_opens_the_run() {
    let world = World::new();
    for run in ["first", "second", "third"] {
        world.trigger(DAG, run);
        world.ends(DAG, run, "success");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let picture = root.join("docs/images/airflow-grid.png");
    let said = world.airflow.run_in_browser(&root.join("scripts/airflow-picture.py"), &[DAG, "third", picture.to_str().unwrap()]);
    assert!(said.contains("its link opens run"), "{said}");
    assert!(picture.metadata().unwrap().len() < 200_000);
}

/// Asked for while neither Forebay nor the API of users is there, the run waits for both, and its rows are checked.
fn both_apis_down_at_first(world: &mut World) {
    world.mode(Mode::Refuses("503 Service Unavailable"));
    world.forebay = None;
    world.trigger(DAG, "first");
    world.until("the task asks in vain", |w| w.task(DAG, "first", "fetch")["state"] == "running");
    std::thread::sleep(Duration::from_secs(2));
    world.start_forebay();
    world.until("the API of users is asked in vain", |w| w.source.requests() > 1);
    assert_eq!(world.task(DAG, "first", "fetch")["try_number"], 1);
    world.mode(Mode::Well);
    world.ends(DAG, "first", "success");
    assert_eq!(world.tries(DAG, "first"), [1, 1, 1], "nothing was retried");

    let run = world.xcom(DAG, "first", "fetch", "return_value");
    assert_eq!((&run["state"], &run["attempt"], &run["reattached"]), (&"succeeded".into(), &1.into(), &false.into()));
    assert_eq!(run["run_id"], world.xcom(DAG, "first", "fetch", "run_id"));
    assert_eq!(run["key"], "real_time_pipeline/first/fetch");
    let report = world.xcom(DAG, "first", "report", "return_value");
    assert_eq!((&report["rows_in_table"], &report["looked_up"], &report["rejected"]), (&PAGE.into(), &20.into(), &json!([])));
    assert_eq!(world.rows(), u64::from(PAGE), "cqlsh says so too");
    let [known] = &world.runs_of("first")[..] else { panic!("not one run") };
    assert_eq!(known["labels"], json!({ "dag_id": DAG, "run_id": "first", "task_id": "fetch" }));

    let links = world.get(&format!("/api/v2/dags/{DAG}/dagRuns/first/taskInstances/fetch/links"));
    assert_eq!(links["extra_links"]["Forebay run"], run["run_url"]);
    assert_eq!(http_get(run["run_url"].as_str().unwrap())["id"], run["run_id"], "the link opens");
    let events = world.get("/api/v2/assets/events?limit=100");
    let events = events["asset_events"].as_array().unwrap();
    let of = |uri: &str| events.iter().filter(|event| event["uri"].as_str().unwrap().starts_with(uri)).collect::<Vec<_>>();
    assert_eq!(of("cassandra://")[0]["extra"], run, "the table has an event with what the run came to");
    assert_eq!(of("forebay_users_runs")[0]["extra"]["payload"]["run_id"], run["run_id"], "and who watches Forebay's runs was told");
    world.until("the DAG that is scheduled by ended runs has run", |w| {
        let runs = w.get("/api/v2/dags/example_forebay_events/dagRuns");
        runs["dag_runs"].as_array().unwrap().iter().any(|run| run["state"] == "success")
    });
}

fn two_dag_runs_at_once(world: &mut World) {
    world.trigger(DAG, "left");
    world.trigger(DAG, "right");
    world.ends(DAG, "left", "success");
    world.ends(DAG, "right", "success");
    let ids = ["left", "right"].map(|run| world.xcom(DAG, run, "fetch", "run_id"));
    assert_ne!(ids[0], ids[1]);
    assert_eq!(world.rows(), 3 * u64::from(PAGE));
}

fn a_cleared_task_is_a_new_run(world: &mut World) {
    let before = world.xcom(DAG, "left", "fetch", "run_id");
    world.clear("left");
    world.ends(DAG, "left", "success");
    let run = world.xcom(DAG, "left", "fetch", "return_value");
    assert_ne!(run["run_id"], before);
    assert_eq!((&run["attempt"], &run["key"]), (&2.into(), &"real_time_pipeline/left/fetch".into()));
    assert_eq!(world.rows(), 4 * u64::from(PAGE));
}

fn a_failed_run_fails_the_task_with_its_reason(world: &mut World) {
    world.mode(Mode::Refuses("404 Not Found"));
    world.trigger(DAG, "bad");
    world.ends(DAG, "bad", "failed");
    assert_eq!(world.task(DAG, "bad", "fetch")["state"], "failed");
    assert_eq!(world.task(DAG, "bad", "fetch")["try_number"], 1, "a try again makes no sense");
    let log = world.log(DAG, "bad", "fetch", 1);
    assert!(log.contains("failed at fetch") && log.contains("404 Not Found"), "{log}");
    assert_eq!(world.task(DAG, "bad", "report")["state"], "upstream_failed", "nothing is green");
}

fn a_killed_tasks_run_is_cancelled(world: &mut World) {
    world.hang(DAG, "killed", "deferred");
    world.set_failed(DAG, "killed");
    let [run] = &world.runs_of("killed")[..] else { panic!("not one run") };
    let id = run["id"].clone();
    world.until("the run is cancelled", |w| w.run(&id)["state"] == "cancelled");
    assert_eq!(world.task(DAG, "killed", "fetch")["state"], "failed");
}

/// Nobody in Airflow may see this kill: the worker has let go, and the triggerer has not begun. Then the lease, 10 s here, ends the run.
fn a_task_killed_between_its_worker_and_its_trigger(world: &mut World) {
    world.mode(Mode::Hangs);
    world.trigger("leased", "unseen");
    world.until("the task is deferred", |w| w.task("leased", "unseen", "fetch")["state"] == "deferred");
    world.set_failed("leased", "unseen");
    // Asked for by its identifier, the run would live on: the list renews no lease.
    world.until("the run is cancelled", |w| w.runs_of("unseen").iter().all(|run| run["state"] == "cancelled"));
    assert_eq!(world.runs_of("unseen").len(), 1);
}

fn a_task_cleared_in_mid_run_leaves_no_second_run(world: &mut World) {
    world.hang(DAG, "midway", "deferred");
    world.clear("midway");
    world.until("the next try waits", |w| {
        let task = w.task(DAG, "midway", "fetch");
        task["try_number"] == 2 && task["state"] == "deferred"
    });
    world.mode(Mode::Well);
    world.ends(DAG, "midway", "success");
    let runs = world.runs_of("midway");
    let succeeded = runs.iter().filter(|run| run["state"] == "succeeded").count();
    assert!(succeeded == 1 && runs.iter().all(|run| run["terminal"] == true), "{runs:#?}");
}

/// The trigger waits for the Forebay that comes back, and the run goes on: no try, no run and no row more.
fn forebay_killed_in_mid_run(world: &mut World) {
    world.hang(DAG, "crashed", "deferred");
    world.forebay.take().unwrap().kill();
    std::thread::sleep(Duration::from_secs(3));
    world.mode(Mode::Well);
    world.start_forebay();
    world.ends(DAG, "crashed", "success");
    assert_eq!(world.tries(DAG, "crashed"), [1, 1, 1]);
    assert_eq!(world.runs_of("crashed").len(), 1);
}

/// The task fails as soon as Forebay is away, and its retries ask until it is back and join the run, which has outlived it.
fn forebay_killed_and_the_task_retried(world: &mut World) {
    world.hang("impatient", "again", "deferred");
    world.forebay.take().unwrap().kill();
    world.until("a try has failed", |w| w.task("impatient", "again", "fetch")["try_number"].as_u64() >= Some(2));
    world.start_forebay();
    world.until("a later try waits for the run", |w| w.task("impatient", "again", "fetch")["state"] == "deferred");
    world.mode(Mode::Well);
    world.ends("impatient", "again", "success");
    let [run] = &world.runs_of("again")[..] else { panic!("not one run") };
    let told = world.xcom("impatient", "again", "fetch", "return_value");
    assert_eq!((&told["run_id"], &told["attempt"], &told["reattached"]), (&run["id"], &1.into(), &true.into()));
}

/// The task's process is killed while it waits: the retry joins the run.
fn the_worker_killed_in_mid_run(world: &mut World) {
    world.hang("in_worker", "orphaned", "running");
    let pid = world.task("in_worker", "orphaned", "fetch")["pid"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    world.until("the next try has joined the run", |w| w.log("in_worker", "orphaned", "fetch", 2).contains("started by try 1"));
    world.mode(Mode::Well);
    world.ends("in_worker", "orphaned", "success");
    let told = world.xcom("in_worker", "orphaned", "fetch", "return_value");
    assert_eq!((&told["attempt"], &told["reattached"]), (&1.into(), &true.into()));
    assert_eq!(world.runs_of("orphaned").len(), 1);
}

fn a_task_in_its_worker_killed_by_a_user(world: &mut World) {
    world.hang("in_worker", "stopped", "running");
    world.set_failed("in_worker", "stopped");
    let [run] = &world.runs_of("stopped")[..] else { panic!("not one run") };
    let id = run["id"].clone();
    world.until("the run is cancelled", |w| w.run(&id)["state"] == "cancelled");
}

fn the_stock_http_provider(world: &mut World) {
    world.trigger("example_forebay_http", "stock");
    world.ends("example_forebay_http", "stock", "success");
    let runs = world.runs_of("stock");
    assert_eq!((runs.len(), &runs[0]["state"]), (1, &"succeeded".into()));
}

impl World {
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
        let mut world = Self { airflow, job, forebay: None, mode, source: Arc::new(source) };
        world.start_forebay(); // who watches its events begins with those from now on
        world.until("all DAGs are known", |w| w.get("/api/v2/dags")["total_entries"] == 6);
        assert_eq!(world.get("/api/v2/importErrors")["import_errors"], json!([]));
        let watched = |w: &Self| w.forebay.as_ref().unwrap().snapshot()["seq"].as_u64() > Some(0);
        world.until("Forebay is at work", watched);
        world
    }

    fn start_forebay(&mut self) {
        let running = self.job.start(&[], &[]);
        running.snapshot();
        self.forebay = Some(running);
    }

    fn mode(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// Waits until something is so.
    fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            if Instant::now() > until {
                let forebay = self.forebay.as_ref().map(Running::log).unwrap_or_default();
                panic!("waited in vain until {what}\nruns: {:#?}\n{forebay}", self.runs());
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

    /// Triggers a DAG whose run is then held up by the API of users, with its task in a state.
    fn hang(&self, dag: &str, run: &str, state: &str) {
        self.mode(Mode::Hangs);
        let requests = self.source.requests();
        self.trigger(dag, run);
        self.until("the API of users is asked", |w| w.source.requests() > requests);
        self.until("the task waits", |w| w.task(dag, run, "fetch")["state"] == state);
        if state == "deferred" {
            self.until("its trigger waits", |w| w.log(dag, run, "fetch", 1).contains(") starting"));
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

    /// Waits for the end of a DAG run, which is as wanted.
    fn ends(&self, dag: &str, run: &str, wanted: &str) {
        let state = |w: &Self| w.get(&format!("/api/v2/dags/{dag}/dagRuns/{run}"))["state"].as_str().unwrap().to_owned();
        self.until("the DAG run has ended", |w| ["success", "failed"].contains(&state(w).as_str()));
        let logs = || ["fetch", "check_rows", "report"].map(|task| format!("{task}:\n{}\n", self.log(dag, run, task, 1))).concat();
        assert_eq!(state(self), wanted, "{dag} {run}\n{}", logs());
    }

    fn task(&self, dag: &str, run: &str, task: &str) -> Value {
        self.get(&format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"))
    }

    /// How often each task of the DAG was tried, in the order of its tasks.
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

    /// The runs that Forebay knows.
    fn runs(&self) -> Vec<Value> {
        if self.forebay.is_none() {
            return vec![];
        }
        http_get(&format!("{}/v1/runs", self.job.url()))["runs"].as_array().unwrap().clone()
    }

    /// Those of a DAG run.
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

    /// Every run has ended, and the table has a row for each key of the topic.
    fn nothing_is_twice_and_nothing_is_left_open(&self) {
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
