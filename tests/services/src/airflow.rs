//! Apache Airflow from PyPI: scheduler, triggerer, DAG processor and API server as `airflow
//! standalone` starts them, with SQLite.
//!
//! The provider package is built and installed for each server, so Airflow finds it by its entry
//! point. No process of Airflow outlives the test process, although they start others: all are in
//! one process group, except those of tasks, which have the server's folder in their environment.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::{self, Folder, Launch, Process};
use crate::{Result, cache, must, ports};

/// The version of `docker-compose.yml`, with its dependencies, pinned as its constraints have them.
const VERSION: &str = "3.1.3";
const REQUIREMENTS: &str = include_str!("../airflow-3.1.3.txt");
/// The newest version at the time of writing.
const NEWEST: &str = "3.3.2";
const REQUIREMENTS_NEWEST: &str = include_str!("../airflow-3.3.2.txt");

/// How long one response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A running Airflow. Dropping it removes its folder.
pub struct Airflow {
    token: String,
    process: Process,
    reaper: Option<Child>,
}

impl Airflow {
    /// The version of [`Airflow::start`], as in `docker-compose.yml`.
    pub const VERSION: &str = VERSION;
    /// The newest version that the provider is tested with.
    pub const NEWEST: &str = NEWEST;

    /// Starts a server with copies of these DAG files and this environment. The DAGs are not
    /// paused.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start(dags: &[PathBuf], environment: &[(&str, &str)]) -> Self {
        must(Self::launch(dags, environment))
    }

    fn launch(dags: &[PathBuf], environment: &[(&str, &str)]) -> Result<Self> {
        let venv = installed(VERSION)?;
        let folder = Folder::new("airflow")?;
        let site = package(&venv, folder.path())?;
        let because = |cause: std::io::Error| format!("can't prepare {}: {cause}", folder.path().display());
        let (home, dags_folder) = (folder.data(), folder.path().join("dags"));
        fs::create_dir_all(&dags_folder).map_err(because)?;
        for dag in dags {
            fs::copy(dag, dags_folder.join(dag.file_name().unwrap_or_default())).map_err(because)?;
        }
        let port = ports::free();
        let url = format!("http://127.0.0.1:{port}");
        let mut settings: Vec<(String, String)> = [
            ("HOME", home.display().to_string()),
            ("AIRFLOW_HOME", home.display().to_string()),
            ("PYTHONPATH", site.display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
            ("AIRFLOW__CORE__DAGS_FOLDER", dags_folder.display().to_string()),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".into()),
            ("AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "False".into()),
            ("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True".into()),
            ("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", format!("{url}/execution/")),
            ("AIRFLOW__CORE__PARALLELISM", "4".into()),
            ("AIRFLOW__API__BASE_URL", url),
            ("AIRFLOW__API__HOST", "127.0.0.1".into()),
            ("AIRFLOW__API__PORT", port.to_string()),
            ("AIRFLOW__API__WORKERS", "1".into()),
            ("AIRFLOW__LOGGING__BASE_LOG_FOLDER", folder.path().join("tasks").display().to_string()),
            ("AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT", ports::free().to_string()),
            ("AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT", ports::free().to_string()),
            ("AIRFLOW__USAGE_DATA_COLLECTION__ENABLED", "False".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        settings.extend(environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        let path = std::env::var("PATH").unwrap_or_default();
        settings.push(("PATH".into(), format!("{}:{path}", venv.join("bin").display())));
        let program = venv.join("bin/airflow");
        let command = move || {
            let mut command = Command::new(&program);
            command.arg("standalone").envs(settings.iter().map(|(name, value)| (name, value)));
            Ok(command)
        };
        let mut reaper = reaper(&home)?;
        let ready = "Airflow is ready";
        let process = Process::start(folder, Launch { command: Box::new(command), ready, port })?;
        if let (Some(group), Some(input)) = (process.process_id(), &mut reaper.stdin) {
            writeln!(input, "{group}").map_err(|cause| format!("can't write to the reaper: {cause}"))?;
        }
        let mut airflow = Self { token: String::new(), process, reaper: Some(reaper) };
        let (status, answer) = airflow.request("GET", "/auth/token", "");
        let token = answer.split('"').skip_while(|word| *word != "access_token").nth(2).map(str::to_owned);
        airflow.token = token.ok_or_else(|| format!("Airflow gives no token: {status} {answer}"))?;
        Ok(airflow)
    }

    /// Returns `http://127.0.0.1:port`, the address of its UI and its API.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.process.port())
    }

    /// Sends a request to its API as an administrator, and returns the status and the body.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        must(request(self.process.port(), method, path, &self.token, body))
    }

    /// Runs a script that opens its UI with Chromium, which must be installed, and returns its
    /// output.
    ///
    /// # Panics
    /// If the script fails.
    #[track_caller]
    pub fn run_in_browser(&self, script: &Path, arguments: &[&str]) -> String {
        let run = || {
            let mut python = Command::new(cache::venv("playwright-1.65.2", "playwright==1.65.2\n")?.join("bin/python"));
            python.arg(script).arg(self.url()).args(arguments);
            process::output(&mut python, 300)
        };
        must(run())
    }

    /// Runs the provider's own tests on this version of Airflow, and returns the output of pytest.
    ///
    /// # Panics
    /// If a test fails, or the version is not one of [`Airflow::VERSION`] and [`Airflow::NEWEST`].
    #[track_caller]
    pub fn pytest(version: &str) -> String {
        let run = || {
            let venv = installed(version)?;
            let folder = Folder::new("pytest")?;
            let mut python = Command::new(venv.join("bin/python"));
            python
                .args(["-m", "pytest", "-W", "ignore", "--show-capture=no", "--tb=short", "--rootdir"])
                .arg(source())
                .arg("--config-file")
                .arg(source().join("pyproject.toml"))
                .arg(source().join("tests"))
                .env("PYTHONPATH", package(&venv, folder.path())?)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("TMPDIR", folder.data())
                .env("NO_COLOR", "1");
            process::output(&mut python, 300)
        };
        must(run())
    }
}

impl Drop for Airflow {
    fn drop(&mut self) {
        self.process.kill(); // then what it started
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
    }
}

/// Returns the folder of the provider and its DAGs.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../airflow")
}

/// Returns a virtual environment with this version of Airflow and the requirements of the
/// provider's tests.
fn installed(version: &str) -> Result<PathBuf> {
    let requirements = match version {
        VERSION => REQUIREMENTS,
        NEWEST => REQUIREMENTS_NEWEST,
        _ => return Err(format!("Airflow {version} is neither {VERSION} nor {NEWEST}")),
    };
    cache::venv(&format!("airflow-{version}"), requirements)
}

/// Installs the provider into a folder outside the environment, because the environment is shared.
fn package(venv: &Path, folder: &Path) -> Result<PathBuf> {
    let site = folder.join("site");
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--target"])
        .arg(&site)
        .arg(source());
    process::output(&mut pip, 120).map(|_| site)
}

/// Starts a shell that kills every process of a folder once this process closes its stdin, however
/// that happens.
fn reaper(home: &Path) -> Result<Child> {
    // The first line of its stdin is the process group, if Airflow got that far. Some processes of
    // the group overwrite their environment to show a title. The others are searched twice, because
    // a process that starts another at that moment may be missed.
    const SCRIPT: &str = "read -r group; cat >/dev/null; [ -z \"$group\" ] || kill -9 \"-$group\"; \
        for round in 1 2; do for process in /proc/[0-9]*; do \
        if tr '\\0' '\\n' <\"$process/environ\" 2>/dev/null | grep -qxF \"AIRFLOW_HOME=$1\"; then kill -9 \"${process#/proc/}\"; fi; done; done";
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(home).env_remove("AIRFLOW_HOME");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|cause| format!("can't start sh: {cause}"))
}

/// Sends one HTTP/1.0 request, so that the response's body extends to the end of the stream.
fn request(port: u16, method: &str, path: &str, token: &str, body: &str) -> Result<(u16, String)> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = exchange().map_err(|cause| format!("{method} {path}: {cause}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: not an HTTP response: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| format!("{method} {path}: no status in {head:?}"))?, body.to_owned()))
}
