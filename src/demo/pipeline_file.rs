//! The pipeline file of `forebay demo`: the example with the demo's own API, data directory and
//! address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use forebay_actors::data_dir::{DataDirLock, LockError};
use forebay_schemas::pipeline::{ApiSection, Pipeline};

use crate::error::CliError;
use crate::example::{PIPELINE, SCHEMA, SCHEMA_NAME};
use crate::process::start_error;

/// How the file starts. A directory whose pipeline file starts with it belongs to the demo.
const MARK: &str = "# Written by `forebay demo`,";
/// The data directory, within the demo's directory.
const DATA_DIR: &str = "data";
/// The pipeline file, within the demo's directory.
const PIPELINE_FILE: &str = "forebay.toml";

/// Clears the demo's directory and writes its pipeline file and schema.
///
/// The data directory is locked before anything is removed, so the data of a demo that still runs
/// is left alone.
///
/// # Errors
/// * `dir` holds files that are not the demo's.
/// * Another demo runs in `dir`.
/// * `dir` is not writable, or `listen` is taken.
pub(crate) fn write(dir: &Path, api_url: &str, rate: u32, listen: Option<SocketAddr>) -> Result<(Pipeline, DataDirLock), CliError> {
    const OTHER_DIR: &str = "name another directory with --dir DIR";
    let unwritable =
        |path: &Path, error: &std::io::Error| CliError::environment(format!("can't write {}: {error}", path.display()), OTHER_DIR);
    let path = dir.join(PIPELINE_FILE);
    let listen = listen_address(listen)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text.starts_with(MARK) => {}
        Ok(_) => {
            return Err(CliError::usage(format!("{} holds a pipeline file that is not the demo's", dir.display()), OTHER_DIR));
        }
        Err(_) if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) => {
            return Err(CliError::usage(format!("{} is not empty", dir.display()), OTHER_DIR));
        }
        Err(_) => {}
    }
    let data_dir = dir.join(DATA_DIR);
    let lock = DataDirLock::take(&data_dir).map_err(|error| match error {
        LockError::Locked(_) => {
            CliError::environment(format!("another demo runs in {}", dir.display()), "stop it, or name another directory with --dir DIR")
        }
        error => start_error(&error.into()),
    })?;
    // The pipeline file is overwritten, not removed: without it the directory is no longer the
    // demo's.
    clear(dir, &[DATA_DIR, PIPELINE_FILE])
        .and_then(|()| clear(&data_dir, &[DataDirLock::FILE]))
        .map_err(|error| unwritable(dir, &error))?;
    let (every, results) = schedule(rate);
    let text = format!("{MARK} which replaces it at each start.\n{PIPELINE}");
    let text = replace_value(&text, "url", &format!("url = \"{api_url}/api/?results={results}\""))?;
    let text = replace_value(&text, "every", &format!("every = \"{}ms\"", every.as_millis()))?;
    let text = replace_value(&text, "data_dir", &format!("data_dir = \"{DATA_DIR}\""))?;
    let text = match listen {
        Some(address) => replace_value(&text, "listen", &format!("listen = \"{address}\""))?,
        None => text,
    };
    for (path, text) in [(&path, text.as_str()), (&dir.join(SCHEMA_NAME), SCHEMA)] {
        std::fs::write(path, text).map_err(|error| unwritable(path, &error))?;
    }
    Ok((forebay_schemas::pipeline::load(&path)?, lock))
}

/// Removes everything in a directory except the entries in `keep`.
fn clear(dir: &Path, keep: &[&str]) -> std::io::Result<()> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        if keep.iter().any(|name| entry.file_name() == *name) {
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

/// Replaces the line of the example that sets `key`.
fn replace_value(text: &str, key: &str, line: &str) -> Result<String, CliError> {
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
        Err(CliError::failed(format!("the example does not set `{key}`"), "this is a bug in Forebay"))
    }
}

/// The fetch interval and the records per fetch for a rate: ten fetches a second where that gives
/// whole records, else one.
fn schedule(rate: u32) -> (Duration, u32) {
    match rate {
        0..10 => (Duration::from_secs(1), rate),
        10..50_000 => (Duration::from_millis(100), rate.div_ceil(10)),
        _ => (Duration::from_millis(50), rate.div_ceil(20)),
    }
}

/// The address for the pipeline's API, unless it is the example's.
///
/// A requested port 0 is replaced by a free port. Without a request, a free port is used when the
/// example's is taken, so that a demo can run beside a pipeline.
fn listen_address(requested: Option<SocketAddr>) -> Result<Option<SocketAddr>, CliError> {
    let bound = |address: SocketAddr| TcpListener::bind(address).and_then(|listener| listener.local_addr());
    match requested {
        Some(address) => bound(address).map(Some).map_err(|error| {
            let help = "name another port with --listen, or 0 for a free one";
            CliError::environment(format!("the pipeline's API can't listen on {address}: {error}"), help)
        }),
        None if TcpListener::bind(ApiSection::default().listen).is_ok() => Ok(None),
        None => Ok(bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const API: &str = "http://127.0.0.1:1";

    #[test]
    fn the_api_listens_at_the_requested_address_and_port_0_is_a_free_port() {
        let dir = tempfile::tempdir().unwrap();
        let listens = |address: &str| {
            let address = Some(address.parse().unwrap());
            write(&dir.path().join("demo"), API, 500, address).map(|(pipeline, _)| pipeline.api.listen)
        };
        let free = listens("127.0.0.1:0").unwrap();
        assert!(free.starts_with("127.0.0.1:") && !free.ends_with(":0"), "{free}");
        let taken = TcpListener::bind(&free).unwrap();
        assert!(listens(&free).is_err());
        drop(taken);
        assert_eq!(listens(&free).unwrap(), free);
    }

    #[test]
    fn the_pipeline_file_is_the_example_with_the_demo_s_api_and_data_directory() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("demo");
        let (pipeline, lock) = write(&dir, API, 500, None).unwrap();
        assert_eq!(pipeline.fetcher.as_ref().unwrap().url.reveal().as_str(), "http://127.0.0.1:1/api/?results=50");
        assert!(pipeline.kafka.is_embedded() && pipeline.cassandra.as_ref().unwrap().is_embedded());
        assert!(pipeline.data_dir().starts_with(parent.path()));
        let table = pipeline.data_dir().join("store.db");
        std::fs::write(&table, "rows").unwrap();
        let second = write(&dir, "http://127.0.0.1:2", 500, None).expect_err("the first demo still runs");
        assert!(format!("{second:?}").contains("another demo runs in"), "{second:?}");
        assert_eq!(std::fs::read_to_string(&table).unwrap(), "rows", "the data of a running demo is left alone");
        assert_eq!(
            forebay_schemas::pipeline::load(&dir.join("forebay.toml")).unwrap().fetcher.unwrap().url.reveal().as_str(),
            "http://127.0.0.1:1/api/?results=50"
        );
        drop(lock);
        write(&dir, "http://127.0.0.1:2", 500, None).expect("the directory of a stopped demo is reused");
        assert!(!table.exists());
    }

    #[test]
    fn a_directory_with_other_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("precious"), "1").unwrap();
        assert!(write(dir.path(), API, 500, None).is_err());
        assert!(dir.path().join("precious").exists());
    }

    #[test]
    fn the_schedule_gives_the_rate() {
        for rate in [1, 9, 10, 500, 5_000, 100_000] {
            let (every, results) = schedule(rate);
            let given = f64::from(results) / every.as_secs_f64();
            assert!((given - f64::from(rate)).abs() / f64::from(rate) < 0.01, "{rate}: {given}");
        }
    }
}
