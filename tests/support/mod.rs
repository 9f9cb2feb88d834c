//! What the whole-system tests share: a pipeline file in a folder of its own, the built program as a process, an API to fetch from,
//! and records that fit the users example.

#![allow(dead_code, reason = "each test target uses its own part")]

pub(crate) mod api;
pub(crate) mod http;
pub(crate) mod oracle;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything in a test may take before the test says what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A name that no other test of this run has, for topics and keyspaces.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The users example, with ends of the test's own.
pub(crate) struct Job {
    dir: TempDir,
    pub(crate) topic: String,
    pub(crate) keyspace: String,
    pub(crate) group: String,
    kafka: String,
    cassandra: String,
    fetch: Option<(String, Option<String>)>,
    more: String,
    batch: String,
    budget: String,
    /// More lines of `[fetcher]`.
    fetcher: String,
    /// Where the API listens, when not on a port of the job's own.
    listen: Option<String>,
    /// What the SQL of the example has, and what it is to have instead.
    sql: Option<(String, String)>,
    /// A schema and SQL of its own in place of the example's, for a table of the name `own`.
    own: Option<(String, String)>,
    /// What the topic is made with.
    partitions: u32,
}

impl Job {
    /// From a topic into a table.
    pub(crate) fn new(kafka: &str, cassandra: &str) -> Self {
        let topic = unique("users");
        Self {
            dir: tempfile::tempdir().unwrap(),
            keyspace: topic.clone(),
            group: topic.clone(),
            topic,
            kafka: format!("{kafka:?}"),
            cassandra: if cassandra == "embedded" { "\"embedded\"".into() } else { format!("[{cassandra:?}]") },
            fetch: None,
            more: String::new(),
            batch: String::new(),
            budget: String::new(),
            fetcher: String::new(),
            listen: None,
            sql: None,
            own: None,
            partitions: 4,
        }
    }

    /// With a topic of so many partitions, where it is made.
    pub(crate) fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// The same topic, group and table for another process.
    pub(crate) fn twin(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            topic: self.topic.clone(),
            keyspace: self.keyspace.clone(),
            group: self.group.clone(),
            kafka: self.kafka.clone(),
            cassandra: self.cassandra.clone(),
            fetch: self.fetch.clone(),
            more: self.more.clone(),
            batch: self.batch.clone(),
            budget: self.budget.clone(),
            fetcher: self.fetcher.clone(),
            listen: self.listen.clone(),
            sql: self.sql.clone(),
            own: self.own.clone(),
            partitions: self.partitions,
        }
    }

    /// Fetched from an API, too.
    pub(crate) fn fetching(mut self, url: &str, every: Option<&str>) -> Self {
        self.fetch = Some((url.to_owned(), every.map(str::to_owned)));
        self
    }

    /// The same job, as if it had no API.
    pub(crate) fn without_fetching(mut self) -> Self {
        self.fetch = None;
        self
    }

    /// With more lines at the end of the pipeline file.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    /// With more lines in `[fetcher]`.
    pub(crate) fn with_fetcher(mut self, lines: &str) -> Self {
        self.fetcher = lines.to_owned();
        self
    }

    /// With its API elsewhere.
    pub(crate) fn listening(mut self, listen: &str) -> Self {
        self.listen = Some(listen.to_owned());
        self
    }

    /// With something else in place of a part of the SQL.
    pub(crate) fn with_sql(mut self, from: &str, to: &str) -> Self {
        self.sql = Some((from.to_owned(), to.to_owned()));
        self
    }

    /// With records of its own, read by SQL `FROM users_stream` into a table `own` of the primary key `id`.
    pub(crate) fn of_records(mut self, schema: &str, sql: &str) -> Self {
        self.own = Some((schema.to_owned(), sql.to_owned()));
        self
    }

    /// With its own limits of a batch and a budget, as they stand in `[consumer]`.
    pub(crate) fn batches(mut self, batch: &str, budget: &str) -> Self {
        self.batch = format!("batch = {batch}");
        self.budget = format!("budget = {budget:?}");
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the pipeline file and gives its path.
    pub(crate) fn write(&self) -> PathBuf {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/users");
        let mut sql = sql_of(&std::fs::read_to_string(example.join("forebay.toml")).unwrap());
        let mut table = "table = \"users_stream\"\nprimary_key = [\"id\"]\ncolumns = { id = \"uuid\" }";
        if let Some((_, own)) = &self.own {
            (sql, table) = (own.clone(), "table = \"own\"\nprimary_key = [\"id\"]");
        }
        if let Some((from, to)) = &self.sql {
            assert!(sql.contains(from), "{sql}");
            sql = sql.replace(from, to);
        }
        let fetch = self.fetch.as_ref().map_or_else(String::new, |(url, every)| {
            let every = every.as_ref().map_or_else(String::new, |every| format!("every = {every:?}"));
            let fetcher = &self.fetcher;
            format!("[fetcher]\nurl = {url:?}\nrecords = \"/results\"\n{every}\n{fetcher}\n[producer]\nkey = \"/login/uuid\"\n")
        });
        let text = format!(
            "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = {kafka}\ntopic = {topic:?}\npartitions = {partitions}\n\
             [cassandra]\ncontact_points = {cassandra}\nkeyspace = {keyspace:?}\ncreate = true\n{fetch}\
             [consumer]\ngroup = {group:?}\n{batch}\n{budget}\n\
             [transformer]\nschema = \"users.schema.json\"\nsql = \"\"\"{sql}\"\"\"\n\
             [writer]\n{table}\n\
             [api]\nlisten = {listen:?}\n{more}",
            kafka = self.kafka,
            topic = self.topic,
            partitions = self.partitions,
            cassandra = self.cassandra,
            keyspace = self.keyspace,
            group = self.group,
            batch = self.batch,
            budget = self.budget,
            sql = sql.replace("users_stream", &self.topic),
            listen = self.listen.clone().unwrap_or_else(|| format!("127.0.0.1:{}", self.port())),
            more = self.more,
        );
        let path = self.dir.path().join("forebay.toml");
        std::fs::write(&path, text).unwrap();
        let schema = match &self.own {
            Some((schema, _)) => schema.clone(),
            None => std::fs::read_to_string(example.join("users.schema.json")).unwrap(),
        };
        std::fs::write(self.dir.path().join("users.schema.json"), schema).unwrap();
        path
    }

    /// A port of the job's own: taken once when the job first needs it.
    fn port(&self) -> u16 {
        let file = self.dir.path().join("api.port");
        if let Ok(port) = std::fs::read_to_string(&file) {
            return port.parse().unwrap();
        }
        let port = free_port();
        std::fs::write(file, port.to_string()).unwrap();
        port
    }

    pub(crate) fn url(&self) -> String {
        match self.listen.as_ref().and_then(|listen| listen.strip_prefix("unix:")) {
            Some(path) => format!("unix:{}", self.dir.path().join(path).display()),
            None => format!("http://127.0.0.1:{}", self.port()),
        }
    }

    /// The program on this job, ended in time or the test fails.
    pub(crate) fn forebay(&self, args: &[&str]) -> Output {
        self.forebay_with(args, &[])
    }

    /// The same with environment variables.
    pub(crate) fn forebay_with(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let path = self.write();
        let mut command = forebay();
        command.args(args).arg("-c").arg(path).envs(env.iter().copied()).current_dir(self.dir.path());
        output(command)
    }

    /// `run --until-idle`: the summary it prints.
    pub(crate) fn run_until_idle(&self) -> Value {
        self.run_until_idle_with(&[])
    }

    /// The same with environment variables, such as `FAILPOINTS`.
    pub(crate) fn run_until_idle_with(&self, env: &[(&str, &str)]) -> Value {
        let end = self.forebay_with(&["run", "--until-idle", "--json"], env);
        assert!(end.status.success(), "{}\n{}", end.status, String::from_utf8_lossy(&end.stderr));
        serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&end.stdout)))
    }

    /// The program running on this job until it is told to stop.
    pub(crate) fn start(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let path = self.write();
        let mut command = forebay();
        command.arg("run").args(args).arg("-c").arg(path).envs(env.iter().copied());
        Running::of(command, self.dir.path(), self.url())
    }

    /// The events of a type, as `forebay journal show --json` has them.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let end = self.forebay(&["journal", "show", "--json", "--type", kind]);
        assert!(end.status.success(), "{}", said(&end));
        String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The rows that `forebay query` gives.
    pub(crate) fn query(&self, statement: &str) -> Vec<Value> {
        let end = self.forebay(&["query", "--json", statement]);
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
        String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a command said on stderr.
pub(crate) fn said(end: &Output) -> String {
    String::from_utf8_lossy(&end.stderr).into_owned()
}

/// `forebay plan --json`: its exit code and what it says.
pub(crate) fn plan(job: &Job, args: &[&str]) -> (i32, Value) {
    let end = job.forebay(&[&["plan", "--json"], args].concat());
    (end.status.code().unwrap(), serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", said(&end))))
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `forebay demo` in a folder of its own, at an address that it keeps when it is started again.
pub(crate) struct Demo {
    dir: TempDir,
    address: String,
}

impl Demo {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), address: format!("127.0.0.1:{}", free_port()) }
    }

    /// Its arguments, with more.
    pub(crate) fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [["demo", "--listen", &self.address].as_slice(), more].concat()
    }

    /// Starts it without a view.
    pub(crate) fn start(&self, more: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = forebay();
        command.args(self.args(more)).arg("--json").envs(env.iter().copied());
        Running::of(command, self.dir.path(), self.url())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its pipeline file, once it has been started.
    pub(crate) fn pipeline(&self) -> PathBuf {
        self.dir.path().join(".forebay/demo/forebay.toml")
    }
}

/// The SQL of the example.
fn sql_of(text: &str) -> String {
    let file: toml::Value = toml::from_str(text).unwrap();
    file["transformer"]["sql"].as_str().unwrap().to_owned()
}

/// The built program.
pub(crate) fn forebay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.env_remove("FAILPOINTS").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end, in time.
pub(crate) fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            return true;
        }
        false
    });
    let end = child.wait_with_output().unwrap();
    let _ = done.send(());
    let hung = watch.join().unwrap();
    assert!(!hung, "{command:?} did not end in {PATIENCE:?}:\n{}", String::from_utf8_lossy(&end.stderr));
    end
}

/// A running program; killed when the test lets go of it.
pub(crate) struct Running {
    child: Child,
    url: String,
    log: PathBuf,
    stdout: PathBuf,
}

impl Running {
    /// Starts a command in a folder, whose API will be at that address.
    fn of(mut command: Command, dir: &Path, url: String) -> Self {
        let (log, stdout) = (dir.join("forebay.log"), dir.join("forebay.out"));
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.current_dir(dir).stdout(File::create(&stdout).unwrap()).stderr(stderr).spawn().unwrap();
        Self { child, url, log, stdout }
    }

    /// `forebay status --json`, once the API answers.
    pub(crate) fn snapshot(&self) -> Value {
        let until = Instant::now() + PATIENCE;
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

    /// Waits until a look at the pipeline is as wanted, and gives that look.
    pub(crate) fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot();
            if wanted(&snapshot) {
                return snapshot;
            }
            assert!(Instant::now() < until, "waited in vain until {what}: {snapshot:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn stop(self) -> ExitStatus {
        self.stop_by("-TERM")
    }

    /// A signal that asks for a stop, and the exit status.
    pub(crate) fn stop_by(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// SIGTERM to a process that was started with `--json`: the summary it prints.
    pub(crate) fn stop_with_summary(mut self) -> Value {
        self.signal("-TERM");
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
        let said = std::fs::read_to_string(&self.stdout).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("no summary: {said}"))
    }

    /// Where its embedded broker listens.
    pub(crate) fn broker(&self) -> String {
        let at = self.snapshot()["kafka"].as_str().unwrap().to_owned();
        at.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("embedded (host:port)").0.to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.signal("-KILL");
        self.end_by_kill("from outside");
    }

    /// Waits until SIGKILL has ended it.
    pub(crate) fn end_by_kill(mut self, at: &str) {
        let status = self.ended();
        assert_eq!(status.signal(), Some(9), "killed {at}, it ends with {status}: {}", self.log());
    }

    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "did not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        format!("{}{}", read(&self.log), read(&self.stdout))
    }

    /// The actor with a path, in a look.
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

/// The identifier of user `n`.
pub(crate) fn user_id(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

/// What stands where the date of a bad record should.
pub(crate) const NO_DATE: &str = "some day";

/// User `n` with a date that is none, so that the record is a dead letter.
pub(crate) fn bad_user(n: u32, version: u32) -> String {
    user(n, version).replace("1992-03-08T15:13:16.688Z", NO_DATE)
}

/// User `n` as the API would send it, in some version.
pub(crate) fn user(n: u32, version: u32) -> String {
    serde_json::json!({
        "gender": if n.is_multiple_of(2) { "female" } else { "male" },
        "name": { "title": "Mx", "first": format!("First{n}"), "last": format!("Last{version}") },
        "location": {
            "street": { "number": n, "name": "Main Street" }, "city": "Zürich", "state": "ZH", "country": "Switzerland", "postcode": 8000 + n % 100,
            "coordinates": { "latitude": "47.3", "longitude": "8.5" }, "timezone": { "offset": "+1:00", "description": "Bern" },
        },
        "email": format!("user{n}@example.org"),
        "login": {
            "uuid": user_id(n), "username": format!("user{n}"), "password": "p", "salt": "s", "md5": "m", "sha1": "s", "sha256": "s",
        },
        "dob": { "date": "1992-03-08T15:13:16.688Z", "age": 30 },
        "registered": { "date": "2007-07-09T05:51:59.390Z", "age": 14 },
        "phone": "1", "cell": "2", "id": { "name": "AHV", "value": null },
        "picture": { "large": "l", "medium": "m", "thumbnail": "t" }, "nat": "CH",
    })
    .to_string()
}

/// Puts records into a topic as any other client would, and waits until all are acknowledged.
pub(crate) fn produce(bootstrap: &str, topic: &str, records: impl Iterator<Item = (String, Vec<u8>)>) {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        // The topic says how large a record may be.
        .set("message.max.bytes", "67108864")
        .create()
        .unwrap();
    for (key, value) in records {
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((_, back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// A record as a producer of others may send it.
pub(crate) struct Sent {
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    pub(crate) partition: i32,
    /// Its time, milliseconds since the epoch.
    pub(crate) at: i64,
}

/// Produces records with what their producer sets, in their order within each partition.
pub(crate) fn send(bootstrap: &str, topic: &str, records: &[Sent]) {
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).set("acks", "all").create().unwrap();
    for Sent { key, value, partition, at } in records {
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload(value.as_str()).partition(*partition).timestamp(*at);
        record.key = key.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// Users `0..n` in a version, keyed.
pub(crate) fn version(n: u32, version: u32) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..n).map(move |n| (user_id(n), user(n, version).into_bytes()))
}

/// How many rows of a job's table have each last name, which says the version.
pub(crate) fn versions(job: &Job) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for row in job.query("SELECT last_name FROM users_stream") {
        *versions.entry(row["last_name"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    versions
}

/// Users `0..n`, keyed by their identifier.
pub(crate) fn users(n: u32) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..n).map(|n| (user_id(n), user(n, 1).into_bytes()))
}

/// What Kafka itself says of a group on a topic: the committed offset a partition.
pub(crate) fn committed(bootstrap: &str, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    (0..partitions).for_each(|partition| {
        list.add_partition(topic, partition);
    });
    let offsets = consumer.committed_offsets(list, Duration::from_secs(20)).unwrap();
    offsets.elements().iter().filter_map(|e| e.offset().to_raw().filter(|at| *at >= 0).map(|at| (e.partition(), at))).collect()
}

/// Sets the offsets of a group that has no members, as Kafka's own tools do.
pub(crate) fn commit(bootstrap: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for &(partition, offset) in offsets {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// The ends of a topic's partitions.
pub(crate) fn ends(bootstrap: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let end = |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(20)).unwrap().1;
    (0..partitions).map(|partition| (partition, end(partition))).collect()
}

/// A record's key, value and headers.
pub(crate) type Read = (Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>);

/// Every record of a topic, its headers as text by their names.
pub(crate) fn read_all(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Read> {
    let text = |(name, value): (String, Option<Vec<u8>>)| (name, String::from_utf8_lossy(&value.unwrap_or_default()).into_owned());
    let read = |record: Whole| (record.key, record.value, record.headers.into_iter().map(text).collect());
    read_whole(bootstrap, topic, partitions).into_iter().map(read).collect()
}

/// Asks Kafka to change something.
pub(crate) fn admin<T>(bootstrap: &str, change: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T) -> T {
    let client: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(change(&client, &AdminOptions::new()))
}

/// A record to its last byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Every record of a topic, to its last byte.
pub(crate) fn read_whole(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Whole> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::{Headers as _, Message as _};
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", unique("reader")).create().unwrap();
    let ends = ends(bootstrap, topic, partitions);
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in ends.keys() {
        list.add_partition_offset(topic, *partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let total = usize::try_from(ends.values().sum::<i64>()).unwrap();
    let mut all = Vec::new();
    let until = Instant::now() + PATIENCE;
    while all.len() < total {
        assert!(Instant::now() < until, "read {} of {total} records of {topic}", all.len());
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        all.push(Whole { key: message.key().map(<[u8]>::to_vec), value: message.payload().map(<[u8]>::to_vec), headers });
    }
    all
}

/// Puts one record into a topic, to its last byte.
pub(crate) fn produce_whole(bootstrap: &str, topic: &str, record: &Whole) {
    use rdkafka::message::{Header, OwnedHeaders};
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).set("acks", "all").create().unwrap();
    let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| all.insert(Header { key, value: value.as_deref() });
    let mut it: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(record.headers.iter().fold(OwnedHeaders::new(), add));
    (it.key, it.payload) = (record.key.as_deref(), record.value.as_deref());
    producer.send(it).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// A bad record with headers of every sort becomes a letter, is redriven by the command line, and is in the topic again with the key, the value and the
/// headers that it had. The topic of `job` has one partition, and `running` is at work on it.
pub(crate) fn redriven_as_it_was(job: &Job, running: &Running, bootstrap: &str) {
    let header = |name: &str, value: &[u8]| (name.to_owned(), Some(value.to_vec()));
    let record = Whole {
        key: Some(b"\xffkey".to_vec()),
        value: Some(bad_user(1, 1).into_bytes()),
        headers: vec![
            header("trace", b"\xff\x00"),
            header("forebay-run", b"another"),
            header("trace", b"again"),
            header("forebay-reason", b"of long ago"),
            header("empty", b""),
        ],
    };
    produce_whole(bootstrap, &job.topic, &record);
    running.wait_until("it is a dead letter", |s| s["totals"]["rejected"] == 1);
    let dead = format!("{}.dead", job.topic);
    let letter = read_whole(bootstrap, &dead, 1).remove(0);
    assert_eq!((&letter.key, &letter.value), (&record.key, &record.value));
    let (own, more) = letter.headers.split_at(record.headers.len());
    assert_eq!(own, record.headers);
    let names: Vec<&str> = more.iter().map(|(name, _)| name.as_str()).collect();
    let of_the_letter = ["reason", "masked-reason", "stage", "topic", "partition", "offset", "timestamp", "sql"];
    assert_eq!(names, of_the_letter.map(|name| format!("forebay-{name}")));

    let end = job.forebay(&["dlq", "redrive", "--reason", "again", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected again", |s| s["totals"]["rejected"] == 2);
    let again = read_whole(bootstrap, &job.topic, 1).remove(1);
    let mut wanted = record.clone();
    wanted.headers.push(header("forebay-redriven", b"0:0"));
    assert_eq!(again, wanted);

    let end = job.forebay(&["dlq", "redrive", "--reason", "once more", "--yes"]);
    assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
    running.wait_until("it is rejected once more", |s| s["totals"]["rejected"] == 3);
    *wanted.headers.last_mut().unwrap() = header("forebay-redriven", b"0:1");
    assert_eq!(read_whole(bootstrap, &job.topic, 1).remove(2), wanted, "only of the last letter it says that it was one");
}
