//! A server's process. It is killed when its [`Process`] is dropped, when the thread that holds it panics, and when the whole test
//! process ends in any way, `kill -9` and Ctrl-C included. Its data is removed then; its log stays if someone may want it.

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

use crate::{Result, cache, must};

/// Logs in the cache are kept for so long.
const KEEP_LOGS: Duration = Duration::from_secs(7 * 24 * 3600);
/// A start that takes longer has failed. A machine that compiles at the same time is slow.
const START: Duration = Duration::from_secs(240);
/// A stop that takes longer has failed.
const STOP: Duration = Duration::from_secs(60);

/// How a server is started and known to be ready.
pub(crate) struct Launch {
    /// The command; started anew at each restart.
    pub(crate) command: Box<dyn Fn() -> Result<Command> + Send + Sync>,
    /// A part of the log line that says the server is ready.
    pub(crate) ready: &'static str,
    /// The port it then answers on, on 127.0.0.1.
    pub(crate) port: u16,
}

/// A server that was started, and what can be done to it.
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
        process.start_anew()?;
        Ok(process)
    }

    pub(crate) fn port(&self) -> u16 {
        self.launch.port
    }

    /// The process id; `None` while it is stopped. For measuring.
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The server's log since its last start.
    pub fn log(&self) -> PathBuf {
        self.folder.path.join(format!("{}.log", self.incarnation))
    }

    fn start_anew(&mut self) -> Result<()> {
        self.kill();
        self.incarnation += 1;
        let log = self.log();
        let wrong = |cause: io::Error| format!("can't write {}: {cause}", log.display());
        let file = File::create(&log).map_err(wrong)?;
        let copy = file.try_clone().map_err(wrong)?;
        let plain = (self.launch.command)()?;
        let mut command = dying_with_parent(&plain);
        command.process_group(0).stdin(Stdio::null()).stdout(file).stderr(copy);
        self.child = Some(spawn(command).map_err(|cause| format!("can't start {:?}: {cause}", plain.get_program()))?);
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let log = self.log();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.launch.port));
        let deadline = Instant::now() + START;
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains(self.launch.ready) && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let why = match ended {
                Some(status) => format!("ended while it started: {status}"),
                None if Instant::now() > deadline => format!("is not ready after {} s", START.as_secs()),
                None => {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            self.kill();
            self.folder.keep = true;
            return Err(format!("{} {why}; its log {} says:\n{}", self.folder.service, log.display(), errors(&text)));
        }
    }

    /// SIGKILL. Nothing happens to a server that does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // an error means that it ended by itself
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the orderly end.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        must(self.end_in_order());
    }

    /// SIGSTOP: connections stay open and nothing answers.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn pause(&mut self) {
        must(self.signal("STOP"));
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn resume(&mut self) {
        must(self.signal("CONT"));
    }

    /// Starts it again on the same port with the same data, after `kill` or `stop`, or kills it first.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn restart(&mut self) {
        must(self.start_anew());
    }

    fn end_in_order(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let deadline = Instant::now() + STOP;
        while let Some(child) = &mut self.child {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                self.child = None;
            } else if Instant::now() > deadline {
                self.kill();
                return Err(format!("{} did not stop within {} s", self.folder.service, STOP.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal by its name.
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
    /// Its end, by whatever death of this process, tells the janitor to remove the data.
    _janitor: ChildStdin,
}

impl Folder {
    pub(crate) fn new(service: &'static str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = cache::root()?.join("runs");
        sweep(&runs);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let path = runs.join(format!("{service}-{stamp}-{}-{number}", std::process::id()));
        let data = path.join("data");
        fs::create_dir_all(&data).map_err(|cause| format!("can't make {}: {cause}", data.display()))?;
        let mut janitor = Command::new("sh")
            .args(["-c", "cat >/dev/null; sleep 1; rm -rf \"$1\"", "sh"])
            .arg(&data)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|cause| format!("can't start sh: {cause}"))?;
        let _janitor = janitor.stdin.take().expect("its input is a pipe");
        Ok(Self { service, path, keep: false, _janitor })
    }

    /// Where the server's data goes.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes a file of configuration, and says where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|cause| format!("can't write {}: {cause}", path.display()))?;
        Ok(path)
    }

    /// The folder itself.
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
        let _ = fs::remove_dir_all(unwanted); // the janitor tries again
    }
}

/// Removes the folders of servers in which nothing was written for as long as logs are kept.
fn sweep(runs: &Path) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for run in entries(runs) {
        let modified = |path: PathBuf| path.metadata().ok()?.modified().ok();
        let last = entries(&run).chain([run.clone()]).filter_map(modified).max();
        if last.is_some_and(|last| last.elapsed().is_ok_and(|age| age > KEEP_LOGS)) {
            let _ = fs::remove_dir_all(run);
        }
    }
}

/// The command, to be killed by the kernel when the *thread* that starts it ends.
fn dying_with_parent(command: &Command) -> Command {
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

/// Starts a command from a thread that lives as long as this process, since a test's own thread ends with its test.
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
    child.recv().expect("the spawner answers every order")
}

/// What a command printed on its standard output, when it ended well within so many seconds.
pub(crate) fn output(command: &mut Command, seconds: u32) -> Result<String> {
    output_given(command, seconds, b"")
}

/// The same, for a command that reads these bytes from its standard input.
pub(crate) fn output_given(command: &mut Command, seconds: u32, input: &[u8]) -> Result<String> {
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
        scope.spawn(move || stdin.write_all(input)); // a command that reads no input just closes it
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

/// The first lines of a log that tell of an error, since what follows is often only the end that it causes; else the last lines.
fn errors(log: &str) -> String {
    let telling = |line: &&str| ["ERROR", "FATAL", "Exception", "Error: "].iter().any(|word| line.contains(word));
    let lines: Vec<_> = log.lines().filter(telling).take(20).collect();
    if lines.is_empty() { tail(log) } else { tail(&lines.join("\n")) }
}

/// The last 40 lines.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].iter().flat_map(|line| ["  ", line, "\n"]).collect()
}
