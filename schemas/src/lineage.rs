//! A run as OpenLineage events (<https://openlineage.io/docs/spec/object-model>): where its records
//! come from and where they went.
//!
//! Guarantees:
//! * Pure.
//! * An event and its facets fit OpenLineage's JSON Schema 2-0-2; tests check that.
//! * No secrets: datasets are named by URLs without user, password and query.
//!
//! Does not guarantee the number of rows that a run wrote to the table: the SQL may filter records,
//! and batches mix the records of several runs. Only the topic has a count.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::run::RunError;

/// The version of the OpenLineage core.
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// The label filled by Airflow's macro `OpenLineageProviderPlugin.lineage_parent_id`:
/// `NAMESPACE/JOB/RUN`.
const PARENT: &str = "openlineage_parent_id";
/// The same in three labels.
const PARENT_PARTS: [&str; 3] = ["openlineage_parent_job_namespace", "openlineage_parent_job_name", "openlineage_parent_run_id"];

/// A source or target of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its system, such as `kafka://127.0.0.1:9092`.
    pub namespace: String,
    /// Its name in that system.
    pub name: String,
    /// Its fields and their types, if known.
    pub fields: Vec<(String, String)>,
}

/// The part that all runs of a pipeline share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The namespace of the job.
    pub namespace: String,
    /// The pipeline's name.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// The SQL, if the pipeline writes.
    pub sql: Option<String>,
    /// The source API, if the pipeline fetches.
    pub source: Option<Dataset>,
    /// The topic.
    pub topic: Dataset,
    /// The table, if the pipeline writes.
    pub table: Option<Dataset>,
}

/// A state change of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It was requested.
    Start,
    /// It succeeded.
    Complete {
        /// The number of its records in the topic.
        produced: Option<u64>,
    },
    /// It failed.
    Fail(RunError),
    /// It was cancelled.
    Abort,
}

impl Transition {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Complete { .. } => "COMPLETE",
            Self::Fail(_) => "FAIL",
            Self::Abort => "ABORT",
        }
    }
}

impl Job {
    /// The event of a run's state change. `labels` are those of the run's request.
    pub fn event(&self, at: DateTime<Utc>, run: Uuid, labels: &BTreeMap<String, String>, transition: &Transition) -> Value {
        let mut run_facets = Map::new();
        let engine = json!({ "version": self.version, "name": "Forebay" });
        run_facets.insert("processing_engine".into(), self.facet("1-1-1/ProcessingEngineRunFacet", engine));
        if let Some(parent) = parent(labels) {
            run_facets.insert("parent".into(), self.facet("1-2-0/ParentRunFacet", parent));
        }
        let tags: Vec<Value> = labels.iter().map(|(key, value)| json!({ "key": key, "value": value, "source": "FOREBAY" })).collect();
        if !tags.is_empty() {
            run_facets.insert("tags".into(), self.facet("1-0-0/TagsRunFacet", json!({ "tags": tags })));
        }
        if let Transition::Fail(error) = transition {
            let message = json!({ "message": format!("{}: {}", error.stage, error.message), "programmingLanguage": "RUST" });
            run_facets.insert("errorMessage".into(), self.facet("1-0-1/ErrorMessageRunFacet", message));
        }
        let mut topic = self.dataset(&self.topic);
        if let Transition::Complete { produced: Some(produced) } = transition {
            let statistics = self.facet("1-0-2/OutputStatisticsOutputDatasetFacet", json!({ "rowCount": produced }));
            topic["outputFacets"] = json!({ "outputStatistics": statistics });
        }
        let outputs: Vec<Value> = std::iter::once(topic).chain(self.table.iter().map(|table| self.dataset(table))).collect();
        json!({
            "eventTime": at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "eventType": transition.as_str(),
            "producer": self.producer(),
            "schemaURL": SCHEMA,
            "run": { "runId": run, "facets": run_facets },
            "job": { "namespace": self.namespace, "name": self.name, "facets": self.job_facets() },
            "inputs": self.source.iter().map(|source| self.dataset(source)).collect::<Vec<_>>(),
            "outputs": outputs,
        })
    }

    fn producer(&self) -> String {
        format!("urn:forebay:{}", self.version)
    }

    fn job_facets(&self) -> Value {
        let kind = json!({
            "processingType": "BATCH",
            "integration": "FOREBAY",
            "jobType": "RUN",
            "emissionPattern": { "eventTrigger": "EVENT_BASED", "eventContentMode": "COMPLETE_SNAPSHOT" },
        });
        let mut facets = json!({ "jobType": self.facet("2-0-4/JobTypeJobFacet", kind) });
        if let Some(sql) = &self.sql {
            facets["sql"] = self.facet("1-1-0/SQLJobFacet", json!({ "query": sql.trim(), "dialect": "datafusion" }));
        }
        facets
    }

    fn dataset(&self, dataset: &Dataset) -> Value {
        let mut value = json!({ "namespace": dataset.namespace, "name": dataset.name });
        if !dataset.fields.is_empty() {
            let field = |(at, (name, kind)): (usize, &(String, String))| json!({ "name": name, "type": kind, "ordinal_position": at + 1 });
            let fields: Vec<Value> = dataset.fields.iter().enumerate().map(field).collect();
            value["facets"] = json!({ "schema": self.facet("1-2-0/SchemaDatasetFacet", json!({ "fields": fields })) });
        }
        value
    }

    fn facet(&self, schema: &str, mut value: Value) -> Value {
        let name = schema.rsplit_once('/').map_or(schema, |(_, name)| name);
        value["_producer"] = self.producer().into();
        value["_schemaURL"] = format!("https://openlineage.io/spec/facets/{schema}.json#/$defs/{name}").into();
        value
    }
}

/// The parent run, if the labels name one.
fn parent(labels: &BTreeMap<String, String>) -> Option<Value> {
    let (namespace, name, run) = match labels.get(PARENT) {
        Some(text) => {
            let (job, run) = text.rsplit_once('/')?;
            let (namespace, name) = job.rsplit_once('/')?;
            (namespace, name, run)
        }
        None => {
            let [namespace, name, run] = PARENT_PARTS.map(|label| labels.get(label).map(String::as_str));
            (namespace?, name?, run?)
        }
    };
    let run = run.parse::<Uuid>().ok()?;
    Some(json!({ "run": { "runId": run }, "job": { "namespace": namespace, "name": name } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        include_str!("../fixtures/openlineage/OpenLineage.json"),
        include_str!("../fixtures/openlineage/ParentRunFacet.json"),
        include_str!("../fixtures/openlineage/ErrorMessageRunFacet.json"),
        include_str!("../fixtures/openlineage/SQLJobFacet.json"),
        include_str!("../fixtures/openlineage/SchemaDatasetFacet.json"),
        include_str!("../fixtures/openlineage/OutputStatisticsOutputDatasetFacet.json"),
        include_str!("../fixtures/openlineage/JobTypeJobFacet.json"),
        include_str!("../fixtures/openlineage/ProcessingEngineRunFacet.json"),
        include_str!("../fixtures/openlineage/TagsRunFacet.json"),
    ];

    /// Checks `value` against the OpenLineage schema of this URL.
    fn fits(value: &Value, schema: &str) -> Result<(), String> {
        let schemas = FILES.map(|file| serde_json::from_str::<Value>(file).unwrap());
        let id = |schema: &Value| schema["$id"].as_str().unwrap().to_owned();
        assert!(schemas.iter().any(|have| schema.starts_with(&id(have))), "{schema} is not checked in");
        let mut registry = jsonschema::Registry::new();
        for schema in &schemas {
            registry = registry.add(id(schema), schema).unwrap();
        }
        let registry = registry.prepare().unwrap();
        let root = json!({ "$ref": schema });
        let validator = jsonschema::options().with_registry(&registry).should_validate_formats(true).build(&root).unwrap();
        validator.validate(value).map_err(|error| format!("{error} at {}", error.instance_path()))
    }

    /// Checks an event against the core schema, and each of its facets against its own.
    fn check(event: &Value) {
        fits(event, event["schemaURL"].as_str().unwrap()).unwrap_or_else(|error| panic!("{error}: {event:#}"));
        let mut facets = 0;
        let datasets = ["inputs", "outputs"].iter().flat_map(|key| event[*key].as_array().unwrap());
        let holders = [&event["run"]["facets"], &event["job"]["facets"]].into_iter();
        for holder in holders.chain(datasets.flat_map(|dataset| [&dataset["facets"], &dataset["outputFacets"]])) {
            for facet in holder.as_object().into_iter().flat_map(Map::values) {
                fits(facet, facet["_schemaURL"].as_str().unwrap()).unwrap_or_else(|error| panic!("{error}: {facet:#}"));
                facets += 1;
            }
        }
        assert!(facets >= 4, "{event:#}");
    }

    fn job() -> Job {
        let dataset = |namespace: &str, name: &str| Dataset { namespace: namespace.into(), name: name.into(), fields: Vec::new() };
        Job {
            namespace: "forebay".into(),
            name: "users".into(),
            version: "0.1.0".into(),
            sql: Some("\nSELECT id FROM users_stream\n".into()),
            source: Some(dataset("https://randomuser.me", "/api/")),
            topic: dataset("kafka://127.0.0.1:9092", "users_stream"),
            table: Some(Dataset {
                fields: vec![("id".into(), "uuid".into())],
                ..dataset("cassandra://127.0.0.1:9042", "forebay.users_stream")
            }),
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    const RUN: &str = "0192f0c1-7a00-7000-8000-000000000001";

    #[test]
    fn every_transition_fits_the_openlineage_schema() {
        let error = RunError { stage: "fetch".into(), message: "answered 404".into(), retryable: false };
        let parent = labels(&[("openlineage_parent_id", &format!("default/dag.task/{RUN}")), ("dag_id", "dag")]);
        let transitions = [Transition::Start, Transition::Complete { produced: Some(7) }, Transition::Fail(error), Transition::Abort];
        for (transition, word) in transitions.iter().zip(["START", "COMPLETE", "FAIL", "ABORT"]) {
            let event = job().event(DateTime::UNIX_EPOCH, RUN.parse().unwrap(), &parent, transition);
            check(&event);
            assert_eq!((&event["eventType"], &event["run"]["runId"]), (&word.into(), &RUN.into()));
            assert_eq!(event["eventTime"], "1970-01-01T00:00:00.000000Z");
        }
        let bare = Job { sql: None, source: None, table: None, ..job() };
        let event = bare.event(DateTime::UNIX_EPOCH, RUN.parse().unwrap(), &labels(&[]), &Transition::Start);
        fits(&event, SCHEMA).unwrap();
        assert_eq!((&event["inputs"], event["outputs"].as_array().unwrap().len()), (&json!([]), 1));
    }

    #[test]
    fn an_invalid_event_does_not_fit_the_schema() {
        let event = job().event(DateTime::UNIX_EPOCH, RUN.parse().unwrap(), &labels(&[]), &Transition::Start);
        for (key, bent) in [("eventType", json!("BEGUN")), ("eventTime", json!("today")), ("run", json!({})), ("outputs", json!([{}]))] {
            let mut event = event.clone();
            event[key] = bent;
            assert!(fits(&event, SCHEMA).is_err(), "{key}");
        }
        let mut sql = event["job"]["facets"]["sql"].clone();
        sql["query"] = json!(3);
        assert!(fits(&sql, sql["_schemaURL"].as_str().unwrap()).is_err());
    }

    #[test]
    fn an_event_has_the_datasets_with_their_facets() {
        let event = job().event(DateTime::UNIX_EPOCH, RUN.parse().unwrap(), &labels(&[]), &Transition::Complete { produced: Some(7) });
        let names = |key: &str| -> Vec<String> {
            let datasets = event[key].as_array().unwrap().iter();
            datasets.map(|dataset| format!("{} {}", dataset["namespace"].as_str().unwrap(), dataset["name"].as_str().unwrap())).collect()
        };
        assert_eq!(names("inputs"), ["https://randomuser.me /api/"]);
        assert_eq!(names("outputs"), ["kafka://127.0.0.1:9092 users_stream", "cassandra://127.0.0.1:9042 forebay.users_stream"]);
        assert_eq!(event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 7);
        assert_eq!(event["outputs"][1]["facets"]["schema"]["fields"][0], json!({ "name": "id", "type": "uuid", "ordinal_position": 1 }));
        assert_eq!(event["job"]["facets"]["sql"]["query"], "SELECT id FROM users_stream");
    }

    #[test]
    fn the_parent_is_read_from_labels_in_either_form() {
        let airflow = json!({ "run": { "runId": RUN }, "job": { "namespace": "http://airflow/x", "name": "dag.task" } });
        assert_eq!(parent(&labels(&[("openlineage_parent_id", &format!("http://airflow/x/dag.task/{RUN}"))])), Some(airflow.clone()));
        let three = [("openlineage_parent_run_id", RUN), ("openlineage_parent_job_name", "dag.task")];
        assert_eq!(parent(&labels(&three)), None, "the namespace is missing");
        let three = [three[0], three[1], ("openlineage_parent_job_namespace", "http://airflow/x")];
        assert_eq!(parent(&labels(&three)), Some(airflow));
        for nonsense in ["", "a", "a/b", "a/b/c"] {
            assert_eq!(parent(&labels(&[("openlineage_parent_id", nonsense)])), None, "{nonsense}");
        }
    }
}
