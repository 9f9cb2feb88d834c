//! JSON to rows: microseconds per record of a [`Transform`], for `examples/users` and for flat
//! records of 430 bytes.
//!
//! It prints the best of many rounds, because the machine is shared, and asserts nothing.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use forebay_dataplane::transform::{Parts, Transform};
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::offset::Offset;
use forebay_schemas::pipeline::{load, parse};

const RECORDS: usize = 10_000;
const RECORDS_PER_MEASUREMENT: usize = 300_000;
const MIN_ROUNDS: usize = 30;

/// A record of randomuser.me.
const PERSON: &str = r#"{"gender":"female","name":{"title":"Ms","first":"Anna","last":"Meyer"},"location":{"street":{"number":8929,"name":"Valwood Pkwy"},"city":"Billings","state":"Michigan","country":"United States","postcode":63104,"coordinates":{"latitude":"-69.8246","longitude":"134.8719"},"timezone":{"offset":"+9:30","description":"Adelaide, Darwin"}},"email":"anna.meyer@example.com","login":{"uuid":"7a0eed16-9430-4d68-901f-c0d4c1c3bf00","username":"yellowpeacock117","password":"addison","salt":"sld1yGtd","md5":"ab54ac4c0be9480ae8fa5e9e2a5196a3","sha1":"edcf2ce613cbdea349133c52dc2f3b83168dc51b","sha256":"48df5229235ada28389b91e60a935e4f9b73eb4bdb855ef9258a1751f10bdc5d"},"dob":{"date":"1992-03-08T15:13:16.688Z","age":30},"registered":{"date":"2007-07-09T05:51:59.390Z","age":14},"phone":"(272) 790-0888","cell":"(489) 330-2385","id":{"name":"SSN","value":"405-88-3636"},"picture":{"large":"https://randomuser.me/api/portraits/women/75.jpg","medium":"https://randomuser.me/api/portraits/med/women/75.jpg","thumbnail":"https://randomuser.me/api/portraits/thumb/women/75.jpg"},"nat":"US"}"#;

/// The same person as a flat record; `@` is replaced by a number.
const FLAT: &str = r#"{"id":"@-9430-4d68-901f-c0d4c1c3bf00","first_name":"Anna","last_name":"Meyer","gender":"female","address":"8929 Valwood Pkwy, Billings, Michigan, United States","post_code":"63104","email":"anna.meyer@example.com","username":"yellowpeacock117","dob":"1992-03-08T15:13:16.688Z","registered_date":"2007-07-09T05:51:59.390Z","phone":"(272) 790-0888","picture":"https://randomuser.me/api/portraits/med/women/75.jpg"}"#;

const FLAT_PIPELINE: &str = r#"
[pipeline]
name = "flat"
[kafka]
bootstrap = "embedded"
topic = "flat"
[cassandra]
contact_points = "embedded"
keyspace = "forebay"
[consumer]
group = "flat"
[transformer]
schema = "flat.schema.json"
sql = "SELECT id, first_name, last_name, gender, address, post_code, email, username, dob, registered_date, phone, picture FROM flat"
[writer]
table = "flat"
primary_key = ["id"]
"#;

fn main() {
    let people: Vec<String> = (0..RECORDS).map(|n| PERSON.replace("7a0eed16", &format!("{n:08x}"))).collect();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/users/forebay.toml");
    let users = Transform::new(&load(&example).expect("the example is valid")).expect("the SQL of the example is valid");
    measure("users", &users, &people);

    let records: Vec<String> = (0..RECORDS).map(|n| FLAT.replacen('@', &format!("{n:08x}"), 1)).collect();
    let flat = flat_transform();
    measure("flat", &flat, &records);
    for size in [1, 10, 100] {
        measure("flat", &flat, &records[..size]);
    }
}

fn flat_transform() -> Transform {
    let text = |name: &str| format!(r#""{name}":{{"type":"string"}}"#);
    let time = |name: &str| format!(r#""{name}":{{"type":"string","format":"date-time"}}"#);
    let texts = ["id", "first_name", "last_name", "gender", "address", "post_code", "email", "username", "phone", "picture"];
    let properties: Vec<String> = texts.into_iter().map(text).chain(["dob", "registered_date"].map(time)).collect();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let schema = format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(","));
    std::fs::write(directory.path().join("flat.schema.json"), schema).expect("a temporary file");
    let pipeline = parse(&directory.path().join("forebay.toml"), FLAT_PIPELINE.to_owned()).expect("the pipeline is valid");
    Transform::new(&pipeline).expect("the SQL is valid")
}

fn measure(what: &str, transform: &Transform, records: &[String]) {
    let rounds = (RECORDS_PER_MEASUREMENT / records.len()).clamp(MIN_ROUNDS, 3_000);
    let raw = batch(records);
    let round = || {
        let mut parts = Parts::default();
        let (started, mut rows) = (Instant::now(), 0);
        while !parts.is_done() {
            let out = black_box(parts.next(transform, &raw, &|| {}));
            rows += out.rows.num_rows();
        }
        assert_eq!(rows, records.len());
        started.elapsed()
    };
    let best = (0..rounds).map(|_| round()).min().unwrap_or_default().as_secs_f64() * 1e6;
    let count = records.len() as f64;
    let bytes = records.iter().map(String::len).sum::<usize>() / records.len();
    #[allow(clippy::print_stdout, reason = "a benchmark prints")]
    {
        println!(
            "{what}: batch of {count} x {bytes} bytes: {best:.0} µs, {:.3} µs per record, {:.0} records/s",
            best / count,
            count / best * 1e6
        );
    }
}

fn batch(values: &[String]) -> RawBatch {
    let mut raw = RawBatch::default();
    for (offset, value) in (0_i64..).zip(values) {
        raw.push(&NewRecord {
            offset: Offset(offset),
            timestamp_ms: offset,
            write_ts: offset * 16,
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        });
    }
    raw
}
