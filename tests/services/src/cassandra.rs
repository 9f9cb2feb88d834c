//! Apache Cassandra: one node, without authentication unless it is configured.

use std::fs::Permissions;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::certificates::{Authority, Certificate};
use crate::process::{self, Folder, Launch, Process};
use crate::{Proxy, Result, Size, cache, java, must, ports};

const VERSION: &str = "5.0.6";
const JARS: &[&str] = &["org.apache.cassandra:cassandra-all:5.0.6"];
/// `cqlsh` and its dependencies, pinned.
const SHELL: &str = include_str!("../requirements.txt");

const EXPORTS: &[&str] = &[
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
];
const OPENS: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
];

/// How long a new server may take to create its superuser.
const SUPERUSER_TIMEOUT: Duration = Duration::from_secs(60);

/// When Cassandra syncs an acknowledged write to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitlogSync {
    /// Before it answers. For tests that kill the server and expect acknowledged writes to survive.
    Batch,
    /// Every 10 s, the default of Cassandra: a killed single node loses acknowledged writes.
    Periodic,
}

/// A running Cassandra. Dropping it removes its data.
pub struct Cassandra {
    process: Process,
    shell: PathBuf,
    home: PathBuf,
}

impl Cassandra {
    /// The version, as in `docker-compose.yml`.
    pub const VERSION: &str = VERSION;

    /// Returns the server that all tests of this process share. It starts at the first call, and
    /// can't be stopped.
    ///
    /// # Panics
    /// At every call, if it can't be started, with what to install.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Cassandra>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::launch(CommitlogSync::Periodic, Size::Test, None, &[], None));
        shared.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a small server, owned by the caller.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start(sync: CommitlogSync) -> Self {
        Self::start_sized(sync, Size::Test, None)
    }

    /// Starts a server, owned by the caller, on the given port or a free one.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start_sized(sync: CommitlogSync, size: Size, port: Option<u16>) -> Self {
        must(Self::launch(sync, size, port, &[], None))
    }

    /// Starts a small server, owned by the caller, with these settings in `cassandra.yaml`. With an
    /// `authenticator` its superuser is `cassandra` with the same password, and [`Self::cqlsh`]
    /// can't log in.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start_with(sync: CommitlogSync, lines: &[(&str, &str)]) -> Self {
        must(Self::launch(sync, Size::Test, None, lines, None))
    }

    /// Starts a small server, owned by the caller, that requires TLS, a client certificate of this
    /// authority, and a password. Its certificate has the address 127.0.0.1. [`Self::cqlsh`] is the
    /// superuser.
    ///
    /// # Panics
    /// If it can't be started, with what to install.
    #[track_caller]
    pub fn start_secure(authority: &Authority) -> Self {
        let lines = [("authenticator", "PasswordAuthenticator"), ("authorizer", "CassandraAuthorizer")];
        let server = must(Self::launch(CommitlogSync::Batch, Size::Test, None, &lines, Some(authority)));
        let deadline = Instant::now() + SUPERUSER_TIMEOUT;
        while let Err(error) = server.shell("SELECT now() FROM system.local") {
            assert!(Instant::now() < deadline, "{error}");
        }
        server
    }

    /// Replaces the certificate of [`Self::start_secure`], for the next start.
    ///
    /// # Panics
    /// If the file can't be written.
    #[track_caller]
    pub fn set_certificate(&self, certificate: &Certificate) {
        must(write_pair(&self.home, "node.pem", certificate));
    }

    fn launch(sync: CommitlogSync, size: Size, port: Option<u16>, lines: &[(&str, &str)], authority: Option<&Authority>) -> Result<Self> {
        let lib = cache::jars(&format!("cassandra-{VERSION}"), JARS, |_| Ok(()))?.join("lib");
        let shell = cache::venv("cqlsh-6.2.2", SHELL)?.join("bin/cqlsh");
        let folder = Folder::new("cassandra")?;
        let port = port.unwrap_or_else(ports::free);
        let mut yaml = with(&yaml(sync, size, port, ports::free(), &folder.data()), lines);
        if let Some(authority) = authority {
            yaml = with(&yaml, &[("client_encryption_options", &require_tls(&folder, authority)?)]);
        }
        let yaml = folder.write("cassandra.yaml", &yaml)?;
        let logback = folder.write("logback.xml", LOGBACK)?;
        let (home, data) = (folder.path().to_owned(), folder.data());
        let command = move || {
            let mut command = java::java(&lib)?;
            command.args(java::machine(size, (768, 1024), (2048, 4096)));
            for (option, packages) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
                command.args(packages.iter().map(|package| format!("{option}={package}=ALL-UNNAMED")));
            }
            command
                .arg("-Djdk.attach.allowAttachSelf=true")
                .arg(format!("-javaagent:{}", lib.join("jamm-0.4.0.jar").display()))
                .arg(format!("-Dcassandra.config=file://{}", yaml.display()))
                .arg(format!("-Dlogback.configurationFile={}", logback.display()))
                .arg(format!("-Dcassandra.storagedir={}", data.display()))
                .arg("-Dcassandra.superuser_setup_delay_ms=0")
                .args(["-Dcassandra-foreground=yes", "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=0"])
                .arg("org.apache.cassandra.service.CassandraDaemon");
            Ok(command)
        };
        let ready = "Starting listening for CQL clients";
        let process = Process::start(folder, Launch { command: Box::new(command), ready, port })?;
        Ok(Self { process, shell, home })
    }

    /// `127.0.0.1:port`.
    pub fn contact_point(&self) -> String {
        format!("127.0.0.1:{}", self.process.port())
    }

    /// Starts a proxy in front of it; clients that connect there use no other way.
    #[must_use]
    #[track_caller]
    pub fn proxy(&self) -> Proxy {
        Proxy::to(self.process.port())
    }

    /// Creates a keyspace with one replica.
    ///
    /// # Panics
    /// If Cassandra refuses.
    #[track_caller]
    pub fn create_keyspace(&self, name: &str) {
        self.cqlsh(&format!("CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"));
    }

    /// Returns what `cqlsh` prints for these statements, with a minute for each.
    ///
    /// # Panics
    /// If a statement fails.
    #[track_caller]
    pub fn cqlsh(&self, statements: &str) -> String {
        must(self.shell(statements))
    }

    fn shell(&self, statements: &str) -> Result<String> {
        let mut shell = Command::new(&self.shell);
        shell
            .env("HOME", &self.home) // where it reads cqlshrc and writes its history
            .env("PYTHONWARNINGS", "ignore")
            .args(["--no-color", "--connect-timeout=60", "--request-timeout=60", "--execute", statements, "127.0.0.1"])
            .arg(self.process.port().to_string());
        process::output(&mut shell, 300)
    }

    /// Counts the rows of a table (`keyspace.table`) with `cqlsh`.
    ///
    /// # Panics
    /// If the table does not exist.
    #[track_caller]
    pub fn count(&self, table: &str) -> u64 {
        let text = self.cqlsh(&format!("SELECT count(*) FROM {table}"));
        must(text.lines().find_map(|line| line.trim().parse().ok()).ok_or_else(|| format!("no count in what cqlsh printed:\n{text}")))
    }
}

fn yaml(sync: CommitlogSync, size: Size, port: u16, storage: u16, data: &Path) -> String {
    let sync = match sync {
        CommitlogSync::Batch => "commitlog_sync: batch",
        CommitlogSync::Periodic => "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms",
    };
    let tokens = if size == Size::Test { 1 } else { 16 };
    let data = data.display();
    format!(
        "cluster_name: forebay\n\
         num_tokens: {tokens}\n\
         partitioner: org.apache.cassandra.dht.Murmur3Partitioner\n\
         endpoint_snitch: SimpleSnitch\n\
         {sync}\n\
         data_file_directories: [{data}/data]\n\
         commitlog_directory: {data}/commitlog\n\
         hints_directory: {data}/hints\n\
         saved_caches_directory: {data}/saved_caches\n\
         cdc_raw_directory: {data}/cdc_raw\n\
         seed_provider:\n\
         - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
         \x20 parameters:\n\
         \x20 - seeds: \"127.0.0.1:{storage}\"\n\
         listen_address: 127.0.0.1\n\
         storage_port: {storage}\n\
         rpc_address: 127.0.0.1\n\
         native_transport_port: {port}\n\
         authenticator: AllowAllAuthenticator\n\
         authorizer: AllowAllAuthorizer\n\
         auto_snapshot: false\n\
         range_request_timeout: 60000ms\n"
    )
}

/// Writes the certificates of the server and of `cqlsh`, and the settings of `cqlsh`. Returns the
/// server's.
fn require_tls(folder: &Folder, authority: &Authority) -> Result<String> {
    let home = folder.path().display();
    folder.write("ca.pem", &authority.pem())?;
    write_pair(folder.path(), "node.pem", &authority.issue("node", &["127.0.0.1"]))?;
    write_pair(folder.path(), "cqlsh.pem", &authority.issue("cqlsh", &[]))?;
    let shell = format!(
        "[authentication]\nusername = cassandra\npassword = cassandra\n[connection]\nssl = true\n\
         [ssl]\ncertfile = {home}/ca.pem\nusercert = {home}/cqlsh.pem\nuserkey = {home}/cqlsh.pem\n"
    );
    let cqlshrc = folder.path().join(".cassandra");
    std::fs::create_dir_all(&cqlshrc).map_err(|cause| format!("can't create {}: {cause}", cqlshrc.display()))?;
    folder.write(".cassandra/cqlshrc", &shell)?;
    Ok(format!(
        "{{enabled: true, optional: false, require_client_auth: true, keystore: {home}/node.pem, truststore: {home}/ca.pem, \
         ssl_context_factory: {{class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}}}}"
    ))
}

/// Writes a private key and its certificate into one file, which only its owner can read.
fn write_pair(folder: &Path, name: &str, pair: &Certificate) -> Result<()> {
    let path = folder.join(name);
    let written = std::fs::write(&path, format!("{}{}", pair.key, pair.certificate));
    written
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o600)))
        .map_err(|cause| format!("can't write {}: {cause}", path.display()))
}

/// Replaces or adds these settings.
fn with(yaml: &str, lines: &[(&str, &str)]) -> String {
    let key = |line: &str| line.split_once(':').map_or_else(String::new, |(key, _)| key.to_owned());
    let kept = yaml.lines().filter(|line| lines.iter().all(|(name, _)| key(line) != *name)).map(str::to_owned);
    kept.chain(lines.iter().map(|(name, value)| format!("{name}: {value}"))).map(|line| line + "\n").collect()
}

const LOGBACK: &str = r#"<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %logger{20} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
"#;

/// Kill, stop, pause and restart, as for any server.
impl Deref for Cassandra {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Cassandra {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
