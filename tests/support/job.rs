//! A pipeline under test: its pipeline file in a directory of its own, and the commands on it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Running, forebay, free_port, output, stderr};
use super::unique;

/// The users example with the test's own servers, topic and table.
pub(crate) struct Job {
    pub(crate) dir: TempDir,
    pub(crate) topic: String,
    pub(crate) keyspace: String,
    pub(crate) group: String,
    kafka: String,
    cassandra: String,
    /// Additional lines of `[cassandra]`.
    cassandra_lines: String,
    fetch: Option<(String, Option<String>)>,
    more: String,
    batch: String,
    budget: String,
    /// Additional lines of `[fetcher]`.
    fetcher: String,
    /// The API's listen address; by default a port of the job's own.
    listen: Option<String>,
    /// A part of the example's SQL, and its replacement.
    sql: Option<(String, String)>,
    /// A schema and SQL instead of the example's, for a table named `own`.
    own: Option<(String, String)>,
    /// Number of partitions of a new topic.
    partitions: u32,
}

impl Job {
    /// A job from a topic to a table.
    pub(crate) fn new(kafka: &str, cassandra: &str) -> Self {
        let topic = unique("users");
        Self {
            dir: tempfile::tempdir().unwrap(),
            keyspace: topic.clone(),
            group: topic.clone(),
            topic,
            kafka: format!("{kafka:?}"),
            cassandra: if cassandra == "embedded" { "\"embedded\"".into() } else { format!("[{cassandra:?}]") },
            cassandra_lines: String::new(),
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

    /// Sets the number of partitions of a new topic.
    pub(crate) fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// A job with the same topic, group and table, for another process.
    pub(crate) fn twin(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            topic: self.topic.clone(),
            keyspace: self.keyspace.clone(),
            group: self.group.clone(),
            kafka: self.kafka.clone(),
            cassandra: self.cassandra.clone(),
            cassandra_lines: self.cassandra_lines.clone(),
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

    /// Adds a source API.
    pub(crate) fn fetching(mut self, url: &str, every: Option<&str>) -> Self {
        self.fetch = Some((url.to_owned(), every.map(str::to_owned)));
        self
    }

    /// Removes the source API.
    pub(crate) fn without_fetching(mut self) -> Self {
        self.fetch = None;
        self
    }

    /// Adds lines at the end of the pipeline file.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    /// Sets additional lines of `[fetcher]`.
    pub(crate) fn with_fetcher(mut self, lines: &str) -> Self {
        self.fetcher = lines.to_owned();
        self
    }

    /// Sets additional lines of `[cassandra]`.
    pub(crate) fn with_cassandra(mut self, lines: &str) -> Self {
        self.cassandra_lines = lines.to_owned();
        self
    }

    /// Sets the API's listen address.
    pub(crate) fn listening(mut self, listen: &str) -> Self {
        self.listen = Some(listen.to_owned());
        self
    }

    /// Replaces a part of the SQL.
    pub(crate) fn with_sql(mut self, from: &str, to: &str) -> Self {
        self.sql = Some((from.to_owned(), to.to_owned()));
        self
    }

    /// Sets a schema and SQL (`FROM users_stream`) for a table `own` with the primary key `id`.
    pub(crate) fn of_records(mut self, schema: &str, sql: &str) -> Self {
        self.own = Some((schema.to_owned(), sql.to_owned()));
        self
    }

    /// Sets `batch` and `budget` of `[consumer]`.
    pub(crate) fn batches(mut self, batch: &str, budget: &str) -> Self {
        self.batch = format!("batch = {batch}");
        self.budget = format!("budget = {budget:?}");
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the pipeline file and returns its path.
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
             [cassandra]\ncontact_points = {cassandra}\nkeyspace = {keyspace:?}\ncreate = true\n{cassandra_lines}\n{fetch}\
             [consumer]\ngroup = {group:?}\n{batch}\n{budget}\n\
             [transformer]\nschema = \"users.schema.json\"\nsql = \"\"\"{sql}\"\"\"\n\
             [writer]\n{table}\n\
             [api]\nlisten = {listen:?}\n{more}",
            kafka = self.kafka,
            topic = self.topic,
            partitions = self.partitions,
            cassandra = self.cassandra,
            cassandra_lines = self.cassandra_lines,
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

    /// The job's own port, chosen at the first call.
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

    /// Runs a command on this job to its end.
    pub(crate) fn forebay(&self, args: &[&str]) -> Output {
        self.forebay_with(args, &[])
    }

    /// Runs a command with environment variables.
    pub(crate) fn forebay_with(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let path = self.write();
        let mut command = forebay();
        command.args(args).arg("-c").arg(path).envs(env.iter().copied()).current_dir(self.dir.path());
        output(command)
    }

    /// Runs `run --until-idle` and returns its summary.
    pub(crate) fn run_until_idle(&self) -> Value {
        self.run_until_idle_with(&[])
    }

    /// Runs `run --until-idle` with environment variables, such as `FAILPOINTS`.
    pub(crate) fn run_until_idle_with(&self, env: &[(&str, &str)]) -> Value {
        let end = self.forebay_with(&["run", "--until-idle", "--json"], env);
        assert!(end.status.success(), "{}\n{}", end.status, String::from_utf8_lossy(&end.stderr));
        serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&end.stdout)))
    }

    /// Starts the pipeline.
    pub(crate) fn start(&self, args: &[&str], env: &[(&str, &str)]) -> Running {
        let path = self.write();
        let mut command = forebay();
        command.arg("run").args(args).arg("-c").arg(path).envs(env.iter().copied());
        Running::of(command, self.dir.path(), self.url())
    }

    /// The events of a type, from `forebay journal show --json`.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let end = self.forebay(&["journal", "show", "--json", "--type", kind]);
        assert!(end.status.success(), "{}", stderr(&end));
        String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The rows of `forebay query`.
    pub(crate) fn query(&self, statement: &str) -> Vec<Value> {
        let end = self.forebay(&["query", "--json", statement]);
        assert!(end.status.success(), "{}", String::from_utf8_lossy(&end.stderr));
        String::from_utf8_lossy(&end.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs `forebay plan --json`; returns the exit code and the plan.
pub(crate) fn plan(job: &Job, args: &[&str]) -> (i32, Value) {
    let end = job.forebay(&[&["plan", "--json"], args].concat());
    (end.status.code().unwrap(), serde_json::from_slice(&end.stdout).unwrap_or_else(|_| panic!("{}", stderr(&end))))
}

/// The SQL of the example.
fn sql_of(text: &str) -> String {
    let file: toml::Value = toml::from_str(text).unwrap();
    file["transformer"]["sql"].as_str().unwrap().to_owned()
}
