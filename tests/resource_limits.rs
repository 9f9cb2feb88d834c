//! Memory and time are bounded with hostile records. Embedded; needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::resources::process_bytes;
use support::{Job, Running, produce, user_id};

/// Maximum resident memory: 150 MB, plus the default budget of the consumer.
const MAX_BYTES: u64 = 150_000_000 + (32 << 20);

/// A control group whose processes the kernel kills when they hold more than [`MAX_BYTES`]: their
/// memory, and pages of mapped files that can't be reclaimed.
struct ControlGroup(PathBuf);

impl ControlGroup {
    /// None where this process may not create one, as in most containers.
    fn new() -> Option<Self> {
        let name = format!("forebay-test-{}", std::process::id());
        // Version 2 has one hierarchy, version 1 one per controller.
        for (root, limit, swap) in [
            ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        ] {
            let folder = Path::new(root).join(&name);
            if std::fs::create_dir(&folder).is_ok() {
                let group = Self(folder);
                if group.0.join(limit).exists() && std::fs::write(group.0.join(limit), MAX_BYTES.to_string()).is_ok() {
                    // Absent where the kernel does not account for swap.
                    let no_swap = if limit == "memory.max" { 0 } else { MAX_BYTES };
                    let _ = std::fs::write(group.0.join(swap), no_swap.to_string());
                    return Some(group);
                }
            }
        }
        None
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Starts the job, in the control group if there is one.
fn start(job: &Job, group: Option<&ControlGroup>) -> Running {
    let Some(ControlGroup(folder)) = group else { return job.start(&[], &[]) };
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#, "sh"]).arg(folder);
    command.args([env!("CARGO_BIN_EXE_forebay"), "run", "-c"]).arg(job.write()).env("NO_COLOR", "1");
    Running::of(command, job.dir.path(), job.url())
}

/// Samples the anonymous memory of a process: what it allocated, without pages of the program file.
struct Sampler {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Sampler {
    fn of(pid: u32) -> Self {
        let (peak, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (seen, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(process_bytes(pid, "RssAnon"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { peak, stop }
    }

    fn peak(&self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.peak.load(Ordering::Relaxed)
    }
}

/// A job whose SQL makes a lot out of little, in every known way.
fn hostile_job(bootstrap: &str) -> Job {
    let optional: Vec<String> = (0..64).map(|n| format!(r#""field{n}":{{"type":"integer"}}"#)).collect();
    let schema = format!(
        r#"{{"type":"object","required":["id"],"properties":{{
            "id":{{"type":"string"}}, "n":{{"type":"integer"}}, "text":{{"type":"string"}}, "more":{{"type":"string"}},
            "texts":{{"type":"array","items":{{"type":"string"}}}},
            "objects":{{"type":"array","items":{{"type":"object","properties":{{{}}}}}}},
            "deep":{{"type":"array","items":{{"type":"array","items":{{"type":"array","items":{{"type":"array","items":{{"type":"boolean"}}}}}}}}}}
        }}}}"#,
        optional.join(",")
    );
    let columns: Vec<String> = (0..10).map(|n| format!("upper(text) AS upper{n}, text AS text{n}")).collect();
    let sql = format!(
        "SELECT id, repeat('ab', n) AS repeated, lpad(more, n) AS padded, array_repeat(more, n) AS many, replace(text, 'x', more) AS replaced,
                levenshtein(text, more) AS distance, item, {}
         FROM (SELECT id, n, text, more, unnest(texts) AS item FROM users_stream) AS t",
        columns.join(", ")
    );
    Job::new(bootstrap, "embedded").of_records(&schema, &sql)
}

/// Record `n`: each of the ten hostile kinds in turn.
fn hostile(n: u32) -> Value {
    let id = user_id(n);
    let few = json!(["a"]);
    match n % 10 {
        // Empty objects with 64 absent fields each: 170 times larger as columns.
        0 => json!({"id": id, "texts": few, "objects": vec![json!({}); 300_000]}),
        // Fewer of them: a record passes, and a batch would not.
        1 => json!({"id": id, "texts": few, "objects": vec![json!({}); 10_000]}),
        2 => json!({"id": id, "texts": few, "n": 800_000_000, "more": "a"}),
        3 => json!({"id": id, "texts": few, "n": 200_000, "more": "a"}),
        // The same text in ten columns, and computed ten times.
        4 => json!({"id": id, "texts": few, "text": "y".repeat(900_000)}),
        5 => json!({"id": id, "texts": few, "text": "y".repeat(390_000)}),
        6 => json!({"id": id, "texts": few, "text": "x".repeat(450_000), "more": "y".repeat(450_000)}),
        7 => json!({"id": id, "texts": vec!["a"; 16], "text": "y".repeat(900_000)}),
        8 => json!({"id": id, "texts": few, "deep": vec![vec![vec![vec![true]; 2]; 30]; 1_000]}),
        _ => json!({"id": id, "texts": few, "n": 10, "text": "good", "more": "good"}),
    }
}

/// Whether a hostile record is merely large.
fn is_written(n: &u32) -> bool {
    [1, 3, 5, 8, 9].contains(&(n % 10))
}

#[test]
fn resident_memory_is_bounded_with_hostile_records() {
    // The broker is in another process, so that its memory is not counted.
    let elsewhere = Job::new("embedded", "embedded");
    let broker = elsewhere.start(&["--roles", "api"], &[]);
    let job = hostile_job(&broker.broker());
    let group = ControlGroup::new();
    let running = start(&job, group.as_ref());
    running.wait_until("it is up", |s| s["partitions"].as_array().is_some_and(|partitions| partitions.len() == 4));
    let (idle, sampler) = (process_bytes(running.id(), "VmHWM"), Sampler::of(running.id()));
    let records = 300;
    produce(&broker.broker(), &job.topic, (0..records).map(|n| (user_id(n), hostile(n).to_string().into_bytes())));
    // A process that the kernel killed does not answer, and this fails.
    let end = running.wait_until("each record is written or a dead letter", |s| {
        s["partitions"].as_array().unwrap().iter().map(|p| p["committed"].as_u64().unwrap_or(0)).sum::<u64>() >= u64::from(records)
    });
    let (resident, anonymous) = (process_bytes(running.id(), "VmHWM"), sampler.peak());
    let [idle, resident, anonymous, limit] = [idle, resident, anonymous, MAX_BYTES].map(|bytes| bytes / 1_000_000);
    let how = if group.is_some() { "enforced by a control group" } else { "no control group can be created here" };
    eprintln!("resident {idle} MB idle, {resident} MB at most; anonymous {anonymous} MB at most; limit {limit} MB, {how}");
    assert!(anonymous > 0 && anonymous < limit, "{anonymous} MB of anonymous memory: {end:#}");
    assert_eq!(end["actors"].as_array().unwrap().iter().map(|actor| actor["incarnation"].as_u64().unwrap()).max(), Some(1), "{end:#}");
    assert!(running.stop().success());
    // The good records are written, and so are those that are merely large.
    let ids: Vec<Value> = job.query("SELECT DISTINCT id FROM own ORDER BY id").into_iter().map(|mut row| row["id"].take()).collect();
    assert!((0..records).filter(is_written).all(|n| ids.contains(&json!(user_id(n)))), "{ids:?}");
    assert_eq!(end["totals"]["rejected"], u64::from(records) - ids.len() as u64);
}

/// Starts the job in an address space of so many bytes, beyond which every allocation fails.
fn start_within(job: &Job, bytes: u64) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -v "$1" && shift && exec "$@""#, "sh", &(bytes >> 10).to_string()]);
    command.args([env!("CARGO_BIN_EXE_forebay"), "run", "-c"]).arg(job.write()).env("NO_COLOR", "1");
    Running::of(command, job.dir.path(), job.url())
}

/// How a process reports that it can't allocate memory, or not start a thread for want of it. The
/// last one is the Kafka client's.
const OUT_OF_MEMORY: [&str; 5] =
    ["memory allocation of", "annot allocate memory", "out of memory", "Resource temporarily unavailable", "forebay: rd.h:"];

#[test]
fn a_process_that_can_allocate_no_more_says_so_and_the_next_one_loses_nothing() {
    const RECORDS: u32 = 300;
    let elsewhere = Job::new("embedded", "embedded");
    let broker = elsewhere.start(&["--roles", "api"], &[]);
    let job = hostile_job(&broker.broker());
    let is_up = |s: &Value| s["partitions"].as_array().is_some_and(|partitions| partitions.len() == 4);
    let running = job.start(&[], &[]);
    running.wait_until("it is up", is_up);
    let idle = process_bytes(running.id(), "VmPeak");
    assert!(running.stop().success());
    // Enough to start, and less than hostile records need.
    let running = start_within(&job, idle + (24 << 20));
    running.wait_until("it is up", is_up);
    produce(&broker.broker(), &job.topic, (0..RECORDS).map(|n| (user_id(n), hostile(n).to_string().into_bytes())));
    let (status, log) = running.wait();
    assert!(!status.success() && OUT_OF_MEMORY.iter().any(|said| log.contains(said)), "{status}: {log}");
    let journal = job.forebay(&["journal", "verify"]);
    assert!(journal.status.success(), "{journal:?}");

    let running = job.start(&[], &[]);
    let committed = |s: &Value| s["partitions"].as_array().unwrap().iter().map(|p| p["committed"].as_u64().unwrap_or(0)).sum::<u64>();
    let end = running.wait_until("each record is written or a dead letter", |s| committed(s) >= u64::from(RECORDS));
    assert_eq!(end["totals"]["restarts"], 0, "{end:#}");
    assert!(running.stop().success());
    let ids: Vec<Value> = job.query("SELECT DISTINCT id FROM own ORDER BY id").into_iter().map(|mut row| row["id"].take()).collect();
    assert_eq!(ids, (0..RECORDS).filter(is_written).map(|n| json!(user_id(n))).collect::<Vec<_>>());
}

#[test]
#[cfg(feature = "failpoints")]
fn sigterm_ends_the_process_despite_an_endless_computation() {
    let job = Job::new("embedded", "embedded");
    let running = job.start(&[], &[("FAILPOINTS", "transformer::before_transform=sleep(86400000)")]);
    produce(&running.broker(), &job.topic, support::users(1));
    running.wait_until("the record is in the transformer", |s| s["edges"][0]["used_bytes"].as_u64() > Some(0));
    // `stop` fails after a time-out that is far longer than any shutdown time-out of a supervisor.
    assert!(running.stop().success());
    // The next process writes the record.
    job.run_until_idle();
    assert_eq!(job.query("SELECT count(*) AS n FROM users_stream")[0]["n"], 1);
}
