//! `forebay demo`: the whole way on this machine, with no server and no network: a local API that answers as randomuser.me does, the
//! embedded broker, the embedded table, and a live view.

pub(crate) mod api;
mod people;

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_actors::pipeline::{DataDirLock, Role, Running, StartError};
use forebay_schemas::api::DesiredState;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::Snapshot;

use crate::Global;
use crate::api_client::address_of;
use crate::end::End;
use crate::run::{StopSignals, escalated, on_actor_thread, say_summary, start, stop, unstartable};
use crate::talk::{self, LogFormat, Talk};

/// Flags of `demo`.
#[derive(clap::Args)]
#[command(after_help = "\
The demo writes into .forebay/demo of this folder and begins afresh each time. While it runs, look at it from another terminal:
  forebay status
  forebay trigger --wait
  forebay query -c .forebay/demo/forebay.toml 'SELECT first_name, address FROM users_stream LIMIT 5'
  kcat -b 127.0.0.1:9092 -t users_stream -o -5 -e          (the address is in `forebay status`)

Examples:
  forebay demo
  forebay demo --duration 20s --json             twenty seconds, then a summary on stdout
  forebay demo --rate 5000
  forebay demo --bad-every 100                   one person of a hundred is broken: see `forebay dlq`, and 8 in the view
  forebay demo --listen 127.0.0.1:7071           and from elsewhere: forebay monitor --url http://127.0.0.1:7071")]
pub(crate) struct Args {
    /// Stop after so long, such as 20s; default: at q or ctrl-c
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Records a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Let every Nth person of the API be broken in one way or another; those become dead letters
    #[arg(long, value_name = "N")]
    bad_every: Option<NonZeroU64>,
    /// Where the pipeline's API listens, port 0 being a free one; default: 127.0.0.1:7070, or a free port where that is taken
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where the demo keeps its pipeline file, broker and table
    #[arg(long, value_name = "FOLDER", default_value = ".forebay/demo")]
    dir: PathBuf,
}

/// How long the live view gets a line of progress where there is no terminal.
const PROGRESS: Duration = Duration::from_secs(2);
/// The longest that the end waits for what is in flight.
const DRAIN_MOST: Duration = Duration::from_secs(60);
/// How often the end looks whether all is written.
const DRAIN_CHECK: Duration = Duration::from_millis(20);
/// First line of the demo's pipeline file; by it a folder is known to be the demo's own.
const MARK: &str = "# Written by `forebay demo`, which writes it anew at each start.";

/// Runs the command.
pub(crate) fn demo(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    if global.config.is_some() {
        return Err(End::usage("the demo brings its own pipeline file", "for yours there is `forebay run -c FILE`"));
    }
    let live = std::io::stdout().is_terminal() && !talk.json();
    // In the live view log lines would tear the picture; what happened is in the view.
    talk::start_logging(global.log_format, if live { "off" } else { "warn" });
    if !live && global.log_format == LogFormat::Text {
        talk.say(&format!("demo: {} records/s from a local API, through the embedded broker, into {}", args.rate, args.dir.display()));
    }
    let summary = on_actor_thread(async {
        let stop_signals = StopSignals::catch()?;
        let people = api::start(api::ApiOptions { bad_every: args.bad_every, ..api::ApiOptions::default() })
            .await
            .map_err(|cause| End::environment(format!("the demo's API can't listen on 127.0.0.1: {cause}"), ""))?;
        let (pipeline, lock) = write_pipeline(args, &people.url)?;
        let running = start(pipeline.clone(), Role::ALL.to_vec(), false, Some(lock)).await?;
        if !live && global.log_format == LogFormat::Text {
            talk.say(&format!("its API is at {}", address_of(&pipeline)));
        }
        let over = async {
            match args.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        let enough = async {
            tokio::select! { () = over => {}, () = stop_signals.received() => {} }
        };
        tokio::select! {
            end = watch(talk, &running, &pipeline, live, enough) => end?,
            exit = running.exited() => return Err(escalated(&exit)),
        }
        drain(talk, &running).await;
        stop(&running).await
    })?;
    say_summary(talk, &summary);
    Ok(())
}

async fn watch(talk: &Talk, running: &Running, pipeline: &Pipeline, live: bool, enough: impl Future<Output = ()>) -> Result<(), End> {
    if live {
        return crate::monitor::in_process(running, pipeline, enough).await;
    }
    let viewer = running.viewer();
    let mut enough = std::pin::pin!(enough);
    loop {
        tokio::select! {
            () = &mut enough => return Ok(()),
            () = tokio::time::sleep(PROGRESS) => talk.say(&progress(&viewer.snapshot())),
        }
    }
}

fn progress(snapshot: &Snapshot) -> String {
    let totals = snapshot.totals;
    let lag: u64 = snapshot.partitions.iter().map(forebay_schemas::snapshot::PartitionView::lag).sum();
    let mut line = format!(
        "{:>6.1} s  fetched {}  produced {}  written {}  rejected {}  lag {lag}  p50 {:.1} ms  p99 {:.1} ms",
        (snapshot.at - snapshot.started_at).as_seconds_f64(),
        totals.fetched,
        totals.produced,
        totals.written,
        totals.rejected,
        snapshot.latency_ms.p50,
        snapshot.latency_ms.p99
    );
    for actor in &snapshot.actors {
        if let Some(note) = &actor.note {
            line.push_str(&format!("\n          {}: {note}", actor.path));
        }
    }
    line
}

/// Holds the schedule and waits until all that was fetched is written or a dead letter, so that the counts meet.
async fn drain(talk: &Talk, running: &Running) {
    running.hold();
    let settled = async {
        loop {
            // Before the first look, too: the hold is a message, which comes after those that are there.
            tokio::time::sleep(DRAIN_CHECK).await;
            let snapshot = running.viewer().snapshot();
            if snapshot.desired.state == DesiredState::Paused {
                return talk.say("the pipeline is paused; what is not written is in the topic");
            }
            if snapshot.edges.iter().any(|edge| edge.used_bytes > 0) {
                continue;
            }
            running.settled(DRAIN_CHECK).await;
            // A page that is handed over anew is in no budget meanwhile.
            let totals = running.viewer().snapshot().totals;
            if totals.fetched <= totals.written + totals.rejected {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN_MOST, settled).await.is_err() {
        talk.say("the demo could not write all that it had fetched in a minute; what is left is in the topic");
    }
}

/// The demo's data directory, in its folder.
const DATA_DIR: &str = "data";
/// The demo's pipeline file, in its folder.
const PIPELINE_FILE: &str = "forebay.toml";

/// Writes the example's pipeline file with the demo's ends, in a folder begun afresh. The data directory stays locked from before anything
/// of an earlier demo is removed: that of a demo that still runs is left alone.
fn write_pipeline(args: &Args, url: &str) -> Result<(Pipeline, DataDirLock), End> {
    let dir = &args.dir;
    let unwritable = |path: &Path, cause: &std::io::Error| {
        End::environment(format!("can't write {}: {cause}", path.display()), "name another folder with --dir FOLDER")
    };
    let path = dir.join(PIPELINE_FILE);
    let listen = listen(args.listen)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(MARK) => {}
        Ok(_) => {
            return Err(End::usage(
                format!("{} holds a pipeline file that is not the demo's", dir.display()),
                "name another folder with --dir FOLDER",
            ));
        }
        Err(_) if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) => {
            return Err(End::usage(format!("{} is not empty", dir.display()), "name another folder with --dir FOLDER"));
        }
        Err(_) => {}
    }
    let data_dir = dir.join(DATA_DIR);
    let lock = DataDirLock::take(&data_dir).map_err(|error| match error {
        StartError::Locked(_) => End::environment(
            format!("another demo runs in {}, and its data is left alone", dir.display()),
            "stop it, or name another folder with --dir FOLDER",
        ),
        error => unstartable(&error),
    })?;
    // The pipeline file is overwritten: a folder without it would not be known as the demo's.
    clear(dir, &[DATA_DIR, PIPELINE_FILE])
        .and_then(|()| clear(&data_dir, &[DataDirLock::FILE]))
        .map_err(|cause| unwritable(dir, &cause))?;
    let (every, results) = pace(args.rate);
    let fetcher = format!("url = \"{url}/api/?results={results}\"");
    let text = format!("{MARK}\n{}", crate::init::PIPELINE);
    let text = replace_value(&text, "url", &fetcher)?;
    let text = replace_value(&text, "every", &format!("every = \"{}ms\"", every.as_millis()))?;
    let text = replace_value(&text, "data_dir", &format!("data_dir = \"{DATA_DIR}\""))?;
    let text = match listen {
        Some(address) => replace_value(&text, "listen", &format!("listen = \"{address}\""))?,
        None => text,
    };
    for (path, text) in [(&path, text.as_str()), (&dir.join(crate::init::SCHEMA_NAME), crate::init::SCHEMA)] {
        std::fs::write(path, text).map_err(|cause| unwritable(path, &cause))?;
    }
    Ok((forebay_schemas::pipeline::load(&path)?, lock))
}

/// Removes all that is in a folder but some entries.
fn clear(dir: &Path, kept: &[&str]) -> std::io::Result<()> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        if kept.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Puts a line in place of the one of the example that sets `key`.
fn replace_value(text: &str, key: &str, line: &str) -> Result<String, End> {
    let mut found = false;
    let lines: Vec<&str> = text
        .lines()
        .map(|old| {
            let sets = old.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            found |= sets;
            if sets { line } else { old }
        })
        .collect();
    if found {
        Ok(lines.join("\n") + "\n")
    } else {
        Err(End::failed(format!("the example has no `{key}`"), "this is a defect of this build"))
    }
}

/// How often to fetch how many, for a rate: ten times a second where that gives whole records, else once a second.
fn pace(rate: u32) -> (Duration, u32) {
    match rate {
        0..10 => (Duration::from_secs(1), rate),
        10..50_000 => (Duration::from_millis(100), rate.div_ceil(10)),
        _ => (Duration::from_millis(50), rate.div_ceil(20)),
    }
}

/// Where the API listens, when not at the example's address: as it was asked for, port 0 being a free one; or at a free port where the example's is
/// taken, so that a demo beside a running pipeline works.
fn listen(asked: Option<SocketAddr>) -> Result<Option<SocketAddr>, End> {
    let bound = |address: SocketAddr| TcpListener::bind(address).and_then(|listener| listener.local_addr());
    match asked {
        Some(address) => bound(address).map(Some).map_err(|cause| {
            let help = "name another port with --listen, or 0 for a free one";
            End::environment(format!("the pipeline's API can't listen on {address}: {cause}"), help)
        }),
        None if TcpListener::bind(forebay_schemas::pipeline::ApiTable::default().listen).is_ok() => Ok(None),
        None => Ok(bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: PathBuf) -> Args {
        Args { duration: None, rate: 500, bad_every: None, listen: None, dir }
    }

    #[test]
    fn the_api_listens_where_it_is_told_to_and_at_a_free_port_for_port_0() {
        let dir = tempfile::tempdir().unwrap();
        let listens = |address: &str| {
            let args = Args { listen: Some(address.parse().unwrap()), ..args(dir.path().join("demo")) };
            write_pipeline(&args, "http://127.0.0.1:1").map(|(pipeline, _)| pipeline.api.listen)
        };
        let free = listens("127.0.0.1:0").unwrap();
        assert!(free.starts_with("127.0.0.1:") && !free.ends_with(":0"), "{free}");
        let taken = TcpListener::bind(&free).unwrap();
        assert!(listens(&free).is_err());
        drop(taken);
        assert_eq!(listens(&free).unwrap(), free);
    }

    #[test]
    fn the_demo_s_pipeline_file_is_the_example_with_its_own_ends() {
        let dir = tempfile::tempdir().unwrap();
        let args = args(dir.path().join("demo"));
        let (pipeline, lock) = write_pipeline(&args, "http://127.0.0.1:1").unwrap();
        assert_eq!(pipeline.fetcher.as_ref().unwrap().url, "http://127.0.0.1:1/api/?results=50");
        assert!(pipeline.kafka.is_embedded() && pipeline.cassandra.as_ref().unwrap().is_embedded());
        assert!(pipeline.data_dir().starts_with(dir.path()));
        let table = pipeline.data_dir().join("store.db");
        std::fs::write(&table, "rows").unwrap();
        let second = write_pipeline(&args, "http://127.0.0.1:2").expect_err("the first one runs");
        assert!(format!("{second:?}").contains("another demo runs in"), "{second:?}");
        assert_eq!(std::fs::read_to_string(&table).unwrap(), "rows", "what a demo that runs has written is left alone");
        assert_eq!(
            forebay_schemas::pipeline::load(&args.dir.join("forebay.toml")).unwrap().fetcher.unwrap().url,
            "http://127.0.0.1:1/api/?results=50"
        );
        drop(lock);
        write_pipeline(&args, "http://127.0.0.1:2").expect("a folder of a demo that ended is begun afresh");
        assert!(!table.exists());
    }

    #[test]
    fn a_folder_that_is_not_the_demo_s_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("precious"), "1").unwrap();
        let args = args(dir.path().into());
        assert!(write_pipeline(&args, "http://127.0.0.1:1").is_err());
        assert!(dir.path().join("precious").exists());
    }

    #[test]
    fn the_pace_gives_the_rate() {
        for rate in [1, 9, 10, 500, 5_000, 100_000] {
            let (every, results) = pace(rate);
            let given = f64::from(results) / every.as_secs_f64();
            assert!((given - f64::from(rate)).abs() / f64::from(rate) < 0.01, "{rate}: {given}");
        }
    }
}
