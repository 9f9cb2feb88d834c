//! Apache Kafka: one node that is broker and controller.
//!
//! Topics are created explicitly only (`auto.create.topics.enable` is off), so that a program that
//! forgets to create one fails.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::{self, Folder, Launch, Process};
use crate::{Proxy, Result, Size, cache, java, must, ports};

const VERSION: &str = "4.1.1";
const JARS: &[&str] = &["org.apache.kafka:kafka_2.13:4.1.1", "org.apache.kafka:kafka-tools:4.1.1", "org.slf4j:slf4j-simple:1.7.36"];
/// Any 16 bytes in base64. All clusters share it, because no two of them meet.
const CLUSTER_ID: &str = "Zm9yZWJheS10ZXN0cy0wMQ";

/// A running Kafka. Dropping it removes its data.
pub struct Kafka {
    process: Process,
    bootstrap: String,
}

impl Kafka {
    /// The version, as in `docker-compose.yml`.
    pub const VERSION: &str = VERSION;

    /// Returns the server that all tests of this process share. It starts at the first call, and
    /// can't be stopped.
    ///
    /// # Panics
    /// At every call, if it can't be started, with what to install.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Kafka>> = OnceLock::new();
        SHARED.get_or_init(|| Self::launch(Size::Test, None, None)).as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a small server, owned by the caller.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_sized(Size::Test, None)
    }

    /// Starts a server, owned by the caller, on the given port or a free one.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start_sized(size: Size, port: Option<u16>) -> Self {
        must(Self::launch(size, port, None))
    }

    /// Starts a small server, owned by the caller, whose clients reach it through the proxy only.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[must_use]
    #[track_caller]
    pub fn start_behind_proxy() -> (Self, Proxy) {
        let port = ports::free();
        let proxy = Proxy::to(port);
        (must(Self::launch(Size::Test, Some(port), Some(proxy.port()))), proxy)
    }

    /// `advertised` is the port at which clients connect, if it is another one.
    fn launch(size: Size, port: Option<u16>, advertised: Option<u16>) -> Result<Self> {
        let folder = Folder::new("kafka")?;
        copy_all(&installed()?.join("formatted"), &folder.data())?;
        let port = port.unwrap_or_else(ports::free);
        let advertised = advertised.unwrap_or(port);
        let properties = properties(port, advertised, ports::free(), &folder.data(), &[]);
        Self::launch_in(folder, size, (port, advertised), &properties)
    }

    /// Starts a small server with further listeners, in a folder that has what they need.
    pub(crate) fn launch_secured(folder: Folder, security: &Security) -> Result<Self> {
        let port = ports::free();
        let properties = properties(port, port, ports::free(), &folder.data(), &security.listeners) + &security.properties;
        let file = folder.write("server.properties", &properties)?;
        let mut format = format(&installed()?, &file)?;
        for user in &security.users {
            format.args(["--add-scram", user]);
        }
        process::output(&mut format, 120)?;
        Self::launch_in(folder, Size::Test, (port, port), &properties)
    }

    fn launch_in(folder: Folder, size: Size, (port, advertised): (u16, u16), properties: &str) -> Result<Self> {
        let installed = installed()?;
        let properties = folder.write("server.properties", properties)?;
        let command = move || {
            let mut command = java::java(&installed.join("lib"))?;
            command.args(java::machine(size, (256, 512), (512, 1024))).arg("kafka.Kafka").arg(&properties);
            Ok(command)
        };
        let process = Process::start(folder, Launch { command: Box::new(command), ready: "Kafka Server started", port })?;
        Ok(Self { process, bootstrap: format!("127.0.0.1:{advertised}") })
    }

    /// `127.0.0.1:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

/// Listeners beside the plain one.
pub(crate) struct Security {
    /// The name, the protocol and the port of each.
    pub(crate) listeners: Vec<(&'static str, &'static str, u16)>,
    /// Their properties, one a line.
    pub(crate) properties: String,
    /// Users with SCRAM, as `kafka-storage --add-scram` takes them.
    pub(crate) users: Vec<String>,
}

/// Returns the folder with `lib/` and `formatted/`, an empty data folder that each server copies
/// (formatting one takes two seconds).
pub(crate) fn installed() -> Result<PathBuf> {
    cache::jars(&format!("kafka-{VERSION}"), JARS, |folder| {
        let data = folder.join("formatted");
        let file = folder.join("format.properties");
        fs::write(&file, properties(1, 1, 2, &data, &[])).map_err(|cause| format!("can't write {}: {cause}", file.display()))?;
        process::output(&mut format(folder, &file)?, 120).map(|_| ())
    })
}

/// Returns the command that formats the data folder of a server with these properties.
fn format(installed: &Path, properties: &Path) -> Result<Command> {
    let mut format = java::java(&installed.join("lib"))?;
    format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]).arg(properties);
    Ok(format)
}

/// The session is short because a killed broker can register only after its old session has
/// expired.
fn properties(port: u16, advertised: u16, controller: u16, data: &Path, further: &[(&str, &str, u16)]) -> String {
    let addresses: String = further.iter().map(|(name, _, port)| format!(",{name}://127.0.0.1:{port}")).collect();
    let protocols: String = further.iter().map(|(name, protocol, _)| format!(",{name}:{protocol}")).collect();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{addresses}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}{addresses}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}\n\
         log.dirs={data}\n\
         auto.create.topics.enable=false\n\
         broker.heartbeat.interval.ms=500\n\
         broker.session.timeout.ms=3000\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         log.cleaner.dedupe.buffer.size=8388608\n\
         offsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        data = data.display()
    )
}

/// Copies the files of a flat folder.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let copy = || {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|cause: std::io::Error| format!("can't copy {} to {}: {cause}", from.display(), to.display()))
}

/// Kill, stop, pause and restart, as for any server.
impl Deref for Kafka {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
