//! A server's process.
//!
//! It is killed when its [`Process`] is dropped, when the thread that holds it panics, and when the
//! test process ends in any way, including `kill -9` and Ctrl-C. Its data is then removed. Its log
//! is kept after a failure.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::cache_root::cache_root;
use crate::{Result, must};

/// How long logs are kept in the cache.
const LOG_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a start may take; a machine that also compiles is slow.
const START_TIMEOUT: Duration = Duration::from_secs(240);
/// How long a stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How a server is started, and how it reports that it is ready.
pub(crate) struct Launch {
    /// Builds the command, at each start.
    pub(crate) command: Box<dyn Fn() -> Result<Command> + Send + Sync>,
    /// A part of the log line that reports the server as ready.
    pub(crate) ready: &'static str,
    /// The port of 127.0.0.1 at which it then answers.
    pub(crate) port: u16,
}

/// A server that was started.
pub struct Process {
    launch: Launch,
    folder: Folder,
    incarnation: u32,
    child: Option<Child>,
}

impl Process {
    /// Starts a server in its folder and waits until it answers.
    pub(crate) fn start(folder: Folder, launch: Launch) -> Result<Self> {
        let mut process = Self { launch, folder, incarnation: 0, child: None };
        process.launch()?;
        Ok(process)
    }

    pub(crate) fn port(&self) -> u16 {
        self.launch.port
    }

    /// Returns the process id, for measurements; `None` while it is stopped.
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the server's log since its last start.
    pub fn log(&self) -> PathBuf {
        self.folder.path.join(format!("{}.log", self.incarnation))
    }

    fn launch(&mut self) -> Result<()> {
        self.kill();
        self.incarnation += 1;
        let log = self.log();
        let wrong = |cause: io::Error| format!("can't write {}: {cause}", log.display());
        let file = File::create(&log).map_err(wrong)?;
        let copy = file.try_clone().map_err(wrong)?;
        let plain = (self.launch.command)()?;
        let mut command = killed_with_parent(&plain);
        command.process_group(0).stdin(Stdio::null()).stdout(file).stderr(copy);
        self.child = Some(spawn(command).map_err(|cause| format!("can't start {:?}: {cause}", plain.get_program()))?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let log = self.log();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.launch.port));
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains(self.launch.ready) && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let why = match ended {
                Some(status) => format!("exited during its start: {status}"),
                None if Instant::now() > deadline => format!("is not ready after {} s", START_TIMEOUT.as_secs()),
                None => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            self.kill();
            self.folder.keep = true;
            return Err(format!("{} {why}; its log {}:\n{}", self.folder.service, log.display(), errors(&text)));
        }
    }

    /// Sends SIGKILL, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // an error means that it has already ended
            let _ = child.wait();
        }
    }

    /// Sends SIGTERM, and waits until it has ended.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        must(self.terminate());
    }

    /// Sends SIGSTOP: connections stay open, and nothing answers.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn pause(&mut self) {
        must(self.signal("STOP"));
    }

    /// Sends SIGCONT.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn resume(&mut self) {
        must(self.signal("CONT"));
    }

    /// Starts it again on the same port with the same data; kills it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        must(self.launch());
    }

    fn terminate(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while let Some(child) = &mut self.child {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                self.child = None;
            } else if Instant::now() > deadline {
                self.kill();
                return Err(format!("{} did not stop within {} s", self.folder.service, STOP_TIMEOUT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal, by name.
    fn signal(&self, name: &str) -> Result<()> {
        let id = self.process_id().ok_or_else(|| format!("{} does not run", self.folder.service))?;
        output(Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id.to_string()]), 10).map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill(); // before the folder is dropped
    }
}

/// A folder for one server's configuration, data and logs.
pub(crate) struct Folder {
    service: &'static str,
    path: PathBuf,
    keep: bool,
    /// Its end, however this process dies, makes the cleaner remove the data.
    _cleaner: ChildStdin,
}

impl Folder {
    pub(crate) fn new(service: &'static str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = cache_root()?.join("runs");
        sweep(&runs);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let path = runs.join(format!("{service}-{stamp}-{}-{number}", std::process::id()));
        let data = path.join("data");
        fs::create_dir_all(&data).map_err(|cause| format!("can't create {}: {cause}", data.display()))?;
        let mut cleaner = Command::new("sh")
            .args(["-c", "cat >/dev/null; sleep 1; rm -rf \"$1\"", "sh"])
            .arg(&data)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| format!("can't start sh: {cause}"))?;
        let _cleaner = cleaner.stdin.take().expect("its input is a pipe");
        Ok(Self { service, path, keep: false, _cleaner })
    }

    /// Returns the folder for the server's data.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a configuration file, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|cause| format!("can't write {}: {cause}", path.display()))?;
        Ok(path)
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let unwanted = if self.keep || std::thread::panicking() {
            let _ = writeln!(io::stderr(), "the logs of {} are in {}", self.service, self.path.display());
            self.data()
        } else {
            self.path.clone()
        };
        let _ = fs::remove_dir_all(unwanted); // the cleaner retries
    }
}

/// Removes folders of servers that were last written before the log retention.
fn sweep(runs: &Path) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for run in entries(runs) {
        let modified = |path: PathBuf| path.metadata().ok()?.modified().ok();
        let last = entries(&run).chain([run.clone()]).filter_map(modified).max();
        if last.is_some_and(|last| last.elapsed().is_ok_and(|age| age > LOG_RETENTION)) {
            let _ = fs::remove_dir_all(run);
        }
    }
}

/// Wraps a command so that the kernel kills it when the *thread* that starts it ends.
fn killed_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// Starts a command from a thread that lives as long as this process, because a test's own thread
/// ends with its test.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = sync_channel(1);
    SPAWNER.send((command, reply)).expect("the spawner never ends");
    child.recv().expect("the spawner replies to every order")
}

/// Returns the stdout of a command that succeeds within this many seconds.
pub(crate) fn output(command: &mut Command, seconds: u32) -> Result<String> {
    output_with_input(command, seconds, b"")
}

/// Returns the same for a command with this stdin.
pub(crate) fn output_with_input(command: &mut Command, seconds: u32, input: &[u8]) -> Result<String> {
    let shown = format!("{command:?}");
    let mut limited = Command::new("timeout");
    limited.arg(format!("--kill-after={seconds}")).arg(seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            limited.env(name, value);
        }
    }
    let mut child = limited
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| format!("can't run {shown}: {cause}"))?;
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input)); // a command that reads no stdin just closes it
        child.wait_with_output()
    })
    .map_err(|cause| format!("can't run {shown}: {cause}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let why = match output.status.code() {
        Some(124) => format!("took longer than {seconds} s"),
        Some(127) => "is not installed".to_owned(),
        _ => format!("failed ({})", output.status),
    };
    Err(format!("{shown} {why}:\n{}{}", tail(&stdout), tail(&String::from_utf8_lossy(&output.stderr))))
}

/// Returns the first lines of a log that contain an error, because later lines are often only its
/// consequence; without any, the last lines.
fn errors(log: &str) -> String {
    let is_error = |line: &&str| ["ERROR", "FATAL", "Exception", "Error: "].iter().any(|word| line.contains(word));
    let lines: Vec<_> = log.lines().filter(is_error).take(20).collect();
    if lines.is_empty() { tail(log) } else { tail(&lines.join("\n")) }
}

/// Returns the last 40 lines.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].iter().flat_map(|line| ["  ", line, "\n"]).collect()
}
