//! The built program as a process.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::TIMEOUT;

/// The built program.
pub(crate) fn forebay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    // A backtrace of a panic reads the symbols of the program, which then count as its memory.
    command.env_remove("FAILPOINTS").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end; kills it and fails after [`TIMEOUT`].
pub(crate) fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(TIMEOUT).is_err() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            return true;
        }
        false
    });
    let end = child.wait_with_output().unwrap();
    let _ = done.send(());
    let hung = watch.join().unwrap();
    assert!(!hung, "{command:?} did not end in {TIMEOUT:?}:\n{}", String::from_utf8_lossy(&end.stderr));
    end
}

/// A running program; dropping it kills it.
pub(crate) struct Running {
    child: Child,
    url: String,
    log: PathBuf,
    stdout: PathBuf,
}

impl Running {
    /// Starts a command in a directory, with its API at `url`.
    pub(crate) fn of(mut command: Command, dir: &Path, url: String) -> Self {
        let (log, stdout) = (dir.join("forebay.log"), dir.join("forebay.out"));
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.current_dir(dir).stdout(File::create(&stdout).unwrap()).stderr(stderr).spawn().unwrap();
        Self { child, url, log, stdout }
    }

    /// The snapshot of `forebay status --json`, once the API answers.
    pub(crate) fn snapshot(&self) -> Value {
        let until = Instant::now() + TIMEOUT;
        loop {
            let mut command = forebay();
            command.args(["status", "--json", "--url", &self.url]);
            let end = output(command);
            if end.status.success() {
                return serde_json::from_slice(&end.stdout).unwrap();
            }
            assert!(Instant::now() < until, "no answer from the API: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a snapshot that matches, and returns it.
    pub(crate) fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + TIMEOUT;
        loop {
            let snapshot = self.snapshot();
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < until, "timed out waiting until {what}: {snapshot:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) fn stop(self) -> ExitStatus {
        self.stop_by("-TERM")
    }

    /// Sends a signal and returns the exit status.
    pub(crate) fn stop_by(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Sends SIGTERM to a process started with `--json`, and returns its summary.
    pub(crate) fn stop_with_summary(mut self) -> Value {
        self.signal("-TERM");
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
        let summary = std::fs::read_to_string(&self.stdout).unwrap();
        serde_json::from_str(&summary).unwrap_or_else(|_| panic!("no summary: {summary}"))
    }

    /// The address of the embedded broker.
    pub(crate) fn broker(&self) -> String {
        let at = self.snapshot()["kafka"].as_str().unwrap().to_owned();
        at.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("embedded (host:port)").0.to_owned()
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(self) {
        self.signal("-KILL");
        self.end_by_kill("from outside");
    }

    /// Waits until the process has ended by SIGKILL.
    pub(crate) fn end_by_kill(mut self, at: &str) {
        let status = self.ended();
        assert_eq!(status.signal(), Some(9), "killed {at}, it ended with {status}: {}", self.log());
    }

    /// The exit status, if it has ended.
    pub(crate) fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself, and returns its exit status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        (self.ended(), self.log())
    }

    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.try_ended() {
                return status;
            }
            assert!(Instant::now() < until, "did not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        format!("{}{}", read(&self.log), read(&self.stdout))
    }

    /// The actor with a path, in a snapshot.
    pub(crate) fn actor(snapshot: &Value, path: &str) -> Value {
        let actors = snapshot["actors"].as_array().unwrap();
        actors.iter().find(|actor| actor["path"] == path).unwrap_or_else(|| panic!("no {path} in {actors:#?}")).clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The stderr of a command.
pub(crate) fn stderr(end: &Output) -> String {
    String::from_utf8_lossy(&end.stderr).into_owned()
}

/// `forebay demo` in a directory of its own, at the same address after a restart.
pub(crate) struct Demo {
    dir: TempDir,
    address: String,
}

impl Demo {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), address: format!("127.0.0.1:{}", free_port()) }
    }

    /// The arguments of the demo, plus more.
    pub(crate) fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [["demo", "--listen", &self.address].as_slice(), more].concat()
    }

    /// Starts the demo without a view.
    pub(crate) fn start(&self, more: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = forebay();
        command.args(self.args(more)).arg("--json").envs(env.iter().copied());
        Running::of(command, self.dir.path(), self.url())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The pipeline file, once the demo has been started.
    pub(crate) fn pipeline(&self) -> PathBuf {
        self.dir.path().join(".forebay/demo/forebay.toml")
    }
}

/// A free port.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
