//! A table as people have it, with a column of every type and names that need quotes, filled by
//! the whole pipeline.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use forebay_test_services::{Cassandra, Kafka};
use serde_json::json;
use support::{Job, plan, produce};

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"string"},"userId":{"type":"string"},"order":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}},
    "attrs":{"type":"object","properties":{"k":{"type":"string"},"l":{"type":"string"}}},"big":{"type":["integer","string"]},
    "ip":{"type":"string"},"at":{"type":"string"},"dur":{"type":"string"},"vec":{"type":"array","items":{"type":"number"}},
    "addr":{"type":"object","properties":{"street":{"type":"string"},"no":{"type":"integer"}}}}}"#;

const SQL: &str = r#"SELECT id, "userId", "order", tags, tags AS frozen_tags, attrs, tags AS names, addr, addr AS pair, ip, at, big, dur, vec FROM users_stream"#;

const COLUMNS: &str = r#"[writer.columns]
tags = "set<text>"
frozen_tags = "frozen<set<text>>"
attrs = "map<text, text>"
addr = "frozen<\"Addr\">"
pair = "frozen<tuple<text, int>>"
ip = "inet"
at = "time"
big = "varint"
dur = "duration"
vec = "vector<float, 3>""#;

fn job() -> Job {
    Job::new(Kafka::shared().bootstrap(), &Cassandra::shared().contact_point()).of_records(SCHEMA, SQL).with(COLUMNS)
}

#[test]
fn a_table_made_by_hand_with_every_type_is_filled_and_read_back() {
    let job = job();
    let ks = &job.keyspace;
    Cassandra::shared().create_keyspace(ks);
    Cassandra::shared().cqlsh(&format!(
        "CREATE TYPE {ks}.\"Addr\" (no int, zip text, street text);
         CREATE TABLE {ks}.own (id text PRIMARY KEY, \"userId\" text, \"order\" bigint, tags set<text>, frozen_tags frozen<set<text>>,
            attrs map<text, text>, names frozen<list<text>>, addr frozen<\"Addr\">, pair frozen<tuple<text, int>>, ip inet, at time,
            big varint, dur duration, vec vector<float, 3>, other list<int>);"
    ));
    let (code, before) = plan(&job, &[]);
    assert_eq!((code, &before["problems"], &before["table"]["untouched"]), (0, &json!([]), &json!(["other"])), "{before:#}");

    let record = |id: &str, ip: &str| {
        let value = json!({
            "id": id, "userId": "u1", "order": 7, "tags": ["b", "a", "b"], "attrs": { "k": "v" }, "ip": ip, "at": "12:34:56", "dur": "1mo2d",
            "big": "123456789012345678901234567890", "vec": [1, 2.5, -3], "addr": { "street": "Main", "no": 5 },
        });
        (id.to_owned(), value.to_string().into_bytes())
    };
    let records = [record("r1", "10.0.0.1"), record("bad", "10.0.0.300"), ("null".to_owned(), br#"{"id":"null"}"#.to_vec())];
    Kafka::shared().create_topic(&job.topic, 1);
    produce(Kafka::shared().bootstrap(), &job.topic, records.into_iter());
    let summary = job.run_until_idle();
    assert_eq!((&summary["written"], &summary["rejected"]), (&json!(2), &json!(1)), "{summary}");

    let columns = "\"userId\", \"order\", tags, frozen_tags, attrs, names, addr, pair, ip, at, big, dur, vec, other";
    let rows = job.query(&format!("SELECT {columns} FROM own WHERE id = 'r1'"));
    let expected = json!({
        "userId": "u1", "order": 7, "tags": ["a", "b"], "frozen_tags": ["a", "b"], "attrs": { "k": "v" }, "names": ["b", "a", "b"],
        "addr": { "no": 5, "zip": null, "street": "Main" }, "pair": ["Main", 5], "ip": "10.0.0.1", "at": "12:34:56",
        "big": "123456789012345678901234567890", "dur": "1mo2d", "vec": [1.0, 2.5, -3.0], "other": null,
    });
    assert_eq!(rows, [expected]);
    assert!(
        job.query(&format!("SELECT {columns} FROM own WHERE id = 'null'"))[0].as_object().unwrap().values().all(|value| value.is_null())
    );
    assert_eq!(job.query("SELECT id FROM own WHERE id = 'bad'"), [] as [serde_json::Value; 0]);
}

#[test]
fn a_table_that_is_created_needs_its_user_defined_type_first() {
    let job = job();
    Cassandra::shared().create_keyspace(&job.keyspace);
    let (_, before) = plan(&job, &[]);
    let problem = before["problems"][0].as_str().unwrap();
    let create = format!("CREATE TYPE {}.\"Addr\" (street text, no bigint)", job.keyspace);
    assert!(problem.contains(&create), "{before:#}");
    Cassandra::shared().cqlsh(&create);
    let (_, after) = plan(&job, &[]);
    assert_eq!(after["problems"], json!([]), "{after:#}");
    assert!(after["table"]["cql"][0].as_str().unwrap().contains("\"userId\" text"), "{after:#}");
}
