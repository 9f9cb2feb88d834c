//! What becomes of each record, whatever its neighbours: rows, nothing, or a reject.

use std::sync::LazyLock;

use arrow_json::ReaderBuilder;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Schema, TimestampMillisecondType};
use forebay_schemas::pipeline::{DriftPolicy, FileText};
use forebay_schemas::record_schema::RecordSchema;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::arena_headers;
use crate::transform::{arrow_schema, decode};

/// A schema with every type.
const SCHEMA: &str = r#"{"type":"object","required":["id","amount"],"properties":{
    "id":{"type":"integer"},
    "amount":{"type":"string"},
    "share":{"type":["number","null"]},
    "flag":{"type":"boolean"},
    "at":{"type":["string","null"],"format":"date-time"},
    "day":{"type":"string","format":"date"},
    "key":{"type":"string","format":"uuid"},
    "code":{"type":["integer","string"]},
    "tags":{"type":"array","items":{"type":["string","null"]}},
    "who":{"type":["object","null"],"required":["name"],"properties":{"name":{"type":"string"},"age":{"type":"integer"}}},
    "lines":{"type":"array","items":{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}}}
}}"#;

fn decoded(value: &str) -> Result<Value, String> {
    static TRANSFORM: LazyLock<Transform> = LazyLock::new(|| transform(SCHEMA, "SELECT * FROM topic"));
    let out = TRANSFORM.run(&texts(&[value]));
    match out.rejects.first() {
        None => Ok(rows(&out).remove(0).1),
        Some(reject) => Err(reject.reason.full().to_owned()),
    }
}

#[test]
fn a_record_is_decoded_to_the_types_of_its_schema() {
    let record = json!({
        "id": -9_223_372_036_854_775_808_i64, "amount": "1é\"\n", "share": 0.5, "flag": true, "at": "2020-02-29T01:02:03.000004+01:00",
        "day": "2020-02-29", "key": "7A0EED16-9430-4d68-901f-c0d4c1c3bf00", "code": 7, "tags": ["a", null], "who": {"name": "x", "age": 3},
        "lines": [{"n": 1}, {"n": 2}], "more": [{}],
    });
    let row = json!({
        "id": -9_223_372_036_854_775_808_i64, "amount": "1é\"\n", "share": 0.5, "flag": true, "at": "2020-02-29T00:02:03.000004Z",
        "day": "2020-02-29", "key": "7A0EED16-9430-4d68-901f-c0d4c1c3bf00", "code": "7", "tags": ["a", null], "who": {"name": "x", "age": 3},
        "lines": [{"n": 1}, {"n": 2}],
    });
    assert_eq!(decoded(&record.to_string()), Ok(row));
}

#[test]
fn an_absent_field_is_null() {
    assert_eq!(decoded(r#"{"amount":"","id":1.0}"#), Ok(json!({"id": 1, "amount": ""})));
    assert_eq!(decoded(r#"{"amount":"","id":1e3,"who":null,"share":null,"at":null}"#), Ok(json!({"id": 1000, "amount": ""})));
}

#[test]
fn a_reject_names_the_field_what_was_expected_and_what_was_found() {
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(100));
    let cases = [
        (r#"{"id":"7","amount":""}"#, r#"`/id` must be an integer of 64 bits, but is "7""#),
        (r#"{"id":1.5,"amount":""}"#, "`/id` must be an integer of 64 bits, but is 1.5"),
        (r#"{"id":9223372036854775808,"amount":""}"#, "`/id` must be an integer of 64 bits, but is 9223372036854775808"),
        (r#"{"id":null,"amount":""}"#, "`/id` must be an integer of 64 bits, but is null"),
        (r#"{"id":1}"#, "`/amount` is missing"),
        (r#"{"id":1,"amount":5}"#, "`/amount` must be text, but is 5"),
        (r#"{"id":1,"amount":"","share":1e999}"#, "`/share` must be a number in the range of a 64-bit float, but is 1e999"),
        (r#"{"id":1,"amount":"","flag":"true"}"#, r#"`/flag` must be true or false, but is "true""#),
        (r#"{"id":1,"amount":"","at":"yesterday"}"#, r#"`/at` must be a date-time such as "1992-03-08T15:13:16.688Z", but is "yesterday""#),
        (r#"{"id":1,"amount":"","day":"2021-02-29"}"#, r#"`/day` must be a date such as "1992-03-08", but is "2021-02-29""#),
        (r#"{"id":1,"amount":"","key":"7"}"#, r#"`/key` must be a UUID such as "7a0eed16-9430-4d68-901f-c0d4c1c3bf00", but is "7""#),
        (r#"{"id":1,"amount":"","code":1.5}"#, "`/code` must be text or an integer, but is 1.5"),
        (r#"{"id":1,"amount":"","tags":["a",["b"]]}"#, r#"`/tags/1` must be text, but is ["b"]"#),
        (r#"{"id":1,"amount":"","who":{}}"#, "`/who/name` is missing"),
        (r#"{"id":1,"amount":"","lines":[{"n":1},{"n":"2"}]}"#, r#"`/lines/1/n` must be an integer of 64 bits, but is "2""#),
        (r#"{"id":1,"amount":"","id":2}"#, "`/id` occurs twice in its object"),
        (r#"{"id":1,"amount":"","\u0069d":2}"#, "`/id` occurs twice in its object"),
        (&long, &format!("`/id` must be an integer of 64 bits, but is \"{}…", "x".repeat(59))),
        ("[1]", "the record must be an object, but is [1]"),
        ("null", "the record must be an object, but is null"),
        ("7", "the record must be an object, but is 7"),
        ("", "the record has an empty value"),
        ("{\"id\":1,\"amount\":\"\"}{}", "not JSON: at byte 20 expected the end of the record, found '{'"),
        ("{\"id\":1", "not JSON: at byte 7 expected `,` or `}`, but the record ends"),
        ("not json", "not JSON: at byte 1 expected `null`, found 'o'"),
    ];
    for (record, reason) in cases {
        assert_eq!(decoded(record), Err(reason.to_owned()), "{record}");
    }
    let deep = format!(r#"{{"id":1,"amount":"","more":{}"#, "[".repeat(100_000));
    assert_eq!(decoded(&deep), Err("the record nests deeper than 128".into()));
}

#[test]
fn a_masked_reason_names_the_field_and_quotes_nothing_of_the_record() {
    let transform =
        transform(SCHEMA, "SELECT CAST(amount AS BIGINT) AS amount, 100 / id AS part FROM topic WHERE CAST(amount AS DOUBLE) > id");
    let out = transform.run(&texts(&[
        r#"{"id":1,"amount":7777}"#,
        r#"{"id":1,"amount":"7777","who":{"name":{"first":"7777"}}}"#,
        r#"{"id":1,"amount":"7777","tags":["7777",7777]}"#,
        r#"{"id":1,"amount":"x7777"}"#,
        r#"{"id":0,"amount":"7777.7777"}"#,
        r#"{"id":0,"amount":"7777"}"#,
        r#"{"id":1,"amount":"777"7"}"#,
    ]));
    let masked: Vec<_> = out.rejects.iter().map(|reject| reject.reason.masked()).collect();
    assert_eq!(
        masked,
        [
            "`/amount` must be text, but is ***",
            "`/who/name` must be text, but is ***",
            "`/tags/1` must be text, but is ***",
            "WHERE: ***",
            "column `amount`: ***",
            "column `part`: ***",
            "not JSON: at byte 22 expected `,` or `}`, found ***",
        ]
    );
    assert!(out.rejects.iter().filter(|reject| reject.reason.full().contains("777")).count() > 3, "{:?}", out.rejects);
}

#[test]
fn bytes_that_are_not_utf_8_and_tombstones_are_rejects() {
    let transform = transform(SCHEMA, "SELECT * FROM topic");
    let mut raw = batch([&b"{\"id\":1,\"amount\":\"\xff\"}"[..], b"{\"id\":1,\"amount\":\"\"}", b"x"]);
    raw.records[2].value = None;
    let out = transform.run(&raw);
    let expected = [
        (0, "decode: the record is not UTF-8, at byte 18".to_owned()),
        (2, "decode: the record has no value (a tombstone); the SQL can't delete rows".to_owned()),
    ];
    assert_eq!(reasons(&out.rejects), expected);
    assert_eq!(rows(&out), [(1, json!({"id": 1, "amount": ""}))]);
}

#[test]
fn halves_of_a_record_are_not_joined() {
    let transform = transform(SCHEMA, "SELECT id FROM topic");
    let out = transform.run(&texts(&[r#"{"id":1"#, r#","amount":""}"#, r#"{"id":2,"amount":""}"#, "{\"id\":3,\"amount\":\"", "\"}"]));
    assert_eq!(rows(&out), [(2, json!({"id": 2}))]);
    assert_eq!(out.rejects.iter().map(|reject| reject.record).collect::<Vec<_>>(), [0, 1, 3, 4]);
}

#[test]
fn a_field_of_an_absent_object_is_null_and_not_a_default() {
    let transform = transform(SCHEMA, "SELECT id, who['name'] AS name, who['name'] IS NULL AS none FROM topic");
    let out = transform.run(&texts(&[r#"{"id":1,"amount":"","who":null}"#, r#"{"id":2,"amount":"","who":{"name":"x"}}"#]));
    assert_eq!(rows(&out), [(0, json!({"id": 1, "none": true})), (1, json!({"id": 2, "name": "x", "none": false}))]);
    assert!(transform.output_schema().field_with_name("name").unwrap().is_nullable());
    assert!(!transform.output_schema().field_with_name("id").unwrap().is_nullable());
}

#[test]
fn where_filters_records_and_the_rest_keep_their_origin() {
    let transform = transform(SCHEMA, "SELECT id FROM topic WHERE id > 1 AND amount <> 'no'");
    let out = transform.run(&texts(&[
        r#"{"id":1,"amount":""}"#,
        r#"{"id":2,"amount":""}"#,
        r#"{"id":3,"amount":"no"}"#,
        r#"{"id":4,"amount":""}"#,
    ]));
    assert_eq!(rows(&out), [(1, json!({"id": 2})), (3, json!({"id": 4}))]);
    assert_eq!(out.write_ts, [1_000_016, 1_000_048]);
    assert!(out.rejects.is_empty());
}

#[test]
fn system_columns_are_those_of_the_record() {
    let transform = transform(SCHEMA, "SELECT id, _partition AS p, _offset AS o, _timestamp AS t, _key AS k FROM topic");
    let mut raw = texts(&[r#"{"id":1,"amount":""}"#, "bad", r#"{"id":2,"amount":""}"#]);
    raw.records[2].partition = 3;
    raw.records[2].key = Some(0..5);
    let out = transform.run(&raw);
    assert_eq!(rows(&out)[1], (2, json!({"id": 2, "p": 3, "o": 2, "t": "1970-01-01T00:00:01.002Z", "k": "7b22696422"})));
    assert!(out.rows["k"].as_binary::<i32>().is_null(0));
    assert_eq!(out.rows["t"].as_primitive::<TimestampMillisecondType>().value(0), 1_000);
}

#[test]
fn headers_are_read_by_name_as_text_and_the_last_of_a_name_counts() {
    let mut raw = texts(&[r#"{"id":1,"amount":""}"#, "bad", r#"{"id":2,"amount":""}"#, r#"{"id":3,"amount":""}"#]);
    let mut with = |record: usize, of: &[(&str, Option<&[u8]>)]| {
        let start = u32::try_from(raw.arena.len()).unwrap();
        of.iter().for_each(|(name, value)| arena_headers::append(name, *value, &mut raw.arena));
        raw.records[record].headers = start..u32::try_from(raw.arena.len()).unwrap();
    };
    with(0, &[("run", Some(b"old")), ("other", Some(b"x")), ("run", Some("neu\u{fc}".as_bytes()))]);
    with(1, &[("run", Some(b"of a bad record"))]);
    with(3, &[("run", Some(&[0xff, 0xfe])), ("trace", None)]);
    let transform = transform(SCHEMA, "SELECT id, _headers['run'] AS run, _headers['forebay-run'] IS NULL AS gone FROM topic WHERE id < 9");
    assert!(transform.output_schema().field_with_name("run").unwrap().is_nullable());
    let rows = rows(&transform.run(&raw));
    let expected =
        [(0, json!({"id": 1, "run": "neu\u{fc}", "gone": true})), (2, json!({"id": 2, "gone": true})), (3, json!({"id": 3, "gone": true}))];
    assert_eq!(rows, expected);
}

#[test]
fn a_star_selects_the_fields_of_the_record() {
    let names = |sql: &str| transform(SCHEMA, sql).output_schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ");
    let own = "id amount share flag at day key code tags who lines";
    assert_eq!(names("SELECT * FROM topic"), own);
    assert_eq!(names("SELECT t.* FROM topic AS t"), own);
    assert_eq!(names("SELECT * FROM (SELECT * FROM topic WHERE id > 1) AS t"), own);
    assert_eq!(names("SELECT *, _offset AS o FROM topic"), format!("{own} o"));
    assert_eq!(names("SELECT * EXCLUDE (id, who) FROM topic"), "amount share flag at day key code tags lines");
    assert_eq!(names("WITH t AS (SELECT id AS a, _offset AS o FROM topic) SELECT * FROM t"), "a o");
}

#[test]
fn a_failing_cast_rejects_only_its_record() {
    let transform = transform(SCHEMA, "SELECT id, CAST(amount AS BIGINT) AS amount FROM topic");
    let records: Vec<String> =
        (0..1_000).map(|n| format!(r#"{{"id":{n},"amount":"{}"}}"#, if n % 333 == 5 { "five" } else { "5" })).collect();
    let out = transform.run(&texts(&records.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(out.rows.num_rows(), 997);
    let expected = "transform: column `amount`: cannot cast string 'five' to value of Int64 type".to_owned();
    assert_eq!(reasons(&out.rejects), [5, 338, 671].map(|n| (n, expected.clone())));
    let rest: Vec<u32> = (0..1_000).filter(|n| n % 333 != 5).collect();
    assert_eq!(out.origin, rest);
}

#[test]
fn a_neighbour_does_not_fail_a_guarded_division() {
    let transform = transform(SCHEMA, "SELECT id FROM topic WHERE id <> 0 AND 100 / id > 1");
    let out = transform.run(&texts(&[r#"{"id":0,"amount":""}"#, r#"{"id":7,"amount":""}"#]));
    assert_eq!(rows(&out), [(1, json!({"id": 7}))]);
    assert_eq!(reasons(&out.rejects), []);
}

#[test]
fn unnested_rows_have_the_write_timestamp_of_their_record() {
    let transform = transform(SCHEMA, "SELECT id, unnest(tags) AS tag FROM topic");
    let out = transform.run(&texts(&[
        r#"{"id":1,"amount":"","tags":["a","b",null]}"#,
        r#"{"id":2,"amount":"","tags":[]}"#,
        r#"{"id":3,"amount":""}"#,
        r#"{"id":4,"amount":"","tags":["c"]}"#,
    ]));
    let expected = [(0, json!({"id":1,"tag":"a"})), (0, json!({"id":1,"tag":"b"})), (0, json!({"id":1})), (3, json!({"id":4,"tag":"c"}))];
    assert_eq!(rows(&out), expected);
    assert_eq!(out.write_ts, [1_000_000, 1_000_000, 1_000_000, 1_000_048]);
}

#[test]
fn objects_in_an_array_can_be_unnested_and_their_fields_read() {
    let transform =
        transform(SCHEMA, "SELECT id, line['n'] AS n FROM (SELECT id, unnest(lines) AS line FROM topic) AS t WHERE line['n'] > 1");
    let out = transform.run(&texts(&[r#"{"id":1,"amount":"","lines":[{"n":1},{"n":2},{"n":3}]}"#]));
    assert_eq!(rows(&out), [(0, json!({"id":1,"n":2})), (0, json!({"id":1,"n":3}))]);
}

#[test]
fn a_record_can_become_ten_thousand_rows_and_no_more() {
    let transform = transform(SCHEMA, "SELECT id, unnest(tags) AS tag FROM topic");
    let of = |n: usize| format!(r#"{{"id":1,"amount":"","tags":[{}]}}"#, vec!["\"x\""; n].join(","));
    let out = transform.run(&texts(&[&of(17), &of(100), &of(10_000), &of(10_001), &of(0), &of(1)]));
    let count = |record: u32| out.origin.iter().filter(|origin| **origin == record).count();
    assert_eq!([0, 1, 2, 3, 4, 5].map(count), [17, 100, 10_000, 0, 0, 1]);
    let reason = "transform: produces more than 10000 rows, the limit per record; unnest a shorter array, or split the record";
    assert_eq!(reasons(&out.rejects), [(3, reason.to_owned())]);
}

#[test]
fn the_rows_of_a_record_are_counted_over_all_its_unnests_before_they_are_made() {
    let sql = "SELECT id, unnest(tags) AS tag, n FROM (SELECT id, tags, unnest(lines)['n'] AS n FROM topic) AS t";
    let transform = transform(SCHEMA, sql);
    let of = |tags: usize, lines: usize| {
        json!({"id": 1, "amount": "", "tags": vec!["x"; tags], "lines": vec![json!({"n": 1}); lines]}).to_string()
    };
    let out = transform.run(&texts(&[&of(100, 100), &of(101, 100), &of(9_000, 9_000), &of(2, 3)]));
    let count = |record: u32| out.origin.iter().filter(|origin| **origin == record).count();
    assert_eq!([0, 1, 2, 3].map(count), [10_000, 0, 0, 6]);
    assert_eq!(out.rejects.iter().map(|reject| reject.record).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_batch_without_rows_still_has_the_columns() {
    let transform = transform(SCHEMA, "SELECT id, unnest(tags) AS tag FROM topic WHERE id > 5");
    for out in
        [transform.run(&texts(&[])), transform.run(&texts(&["bad"])), transform.run(&texts(&[r#"{"id":1,"amount":"","tags":["a"]}"#]))]
    {
        assert_eq!(out.rows.schema(), transform.output_schema());
        assert_eq!(out.rows.num_rows(), 0);
    }
}

/// Records of every kind: bad ones, and good ones that the SQL below filters out, unnests, or fails
/// on.
fn any_record() -> impl Strategy<Value = String> {
    let amount = prop_oneof![4 => "[0-9]{1,3}", 1 => Just("x".to_owned()), 1 => Just("99999999999999999999".to_owned())];
    let good = (-3..4_i64, amount, 0..19_usize, any::<bool>()).prop_map(|(id, amount, tags, who)| {
        let who = if who { json!({"name": "é\u{1}\"", "age": id}) } else { Value::Null };
        json!({"id": id, "amount": amount, "tags": vec!["t"; tags], "who": who, "more": {"a": [1, {}]}}).to_string()
    });
    let cut = (good.clone(), 0..40_usize).prop_map(|(record, at)| record.chars().take(at).collect());
    let odd = prop::sample::select(vec![
        "",
        "null",
        "[]",
        "{}{}",
        "{\"id\":\"1\",\"amount\":\"\"}",
        "{\"id\":1,\"id\":1,\"amount\":\"\"}",
        " {",
        "}",
    ]);
    prop_oneof![6 => good, 1 => cut, 1 => odd.prop_map(str::to_owned)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The main guarantee: what becomes of a record does not depend on its neighbours, and no
    /// record is lost.
    #[test]
    fn a_record_has_the_same_fate_in_a_batch_as_alone(records in prop::collection::vec(any_record(), 0..40)) {
        static TRANSFORM: LazyLock<Transform> = LazyLock::new(|| transform(
            SCHEMA,
            "SELECT id, CAST(amount AS BIGINT) AS n, 100 / id AS part, who['name'] AS name, unnest(tags) AS tag FROM topic \
             WHERE id <> 0 AND 6 / id > -4",
        ));
        let together = TRANSFORM.run(&batch(records.iter().map(String::as_bytes)));
        let (mut all_rows, mut all_reasons) = (Vec::new(), Vec::new());
        for (index, record) in (0_u32..).zip(&records) {
            let alone = TRANSFORM.run(&texts(&[record]));
            prop_assert!(alone.rejects.is_empty() || alone.origin.is_empty());
            all_rows.extend(rows(&alone).into_iter().map(|(_, row)| (index, row)));
            all_reasons.extend(reasons(&alone.rejects).into_iter().map(|(_, reason)| (index, reason)));
        }
        prop_assert_eq!(rows(&together), all_rows);
        prop_assert_eq!(reasons(&together.rejects), all_reasons);
        for (pair, of) in together.write_ts.windows(2).zip(together.origin.windows(2)) {
            let follows = if of[0] == of[1] { pair[0] == pair[1] } else { pair[0] < pair[1] };
            prop_assert!(follows, "{pair:?} of {of:?}");
        }
    }

    /// An independent decoder gives the same columns for records that fit.
    #[test]
    fn the_columns_equal_those_of_arrow_json(records in prop::collection::vec(any_fitting(), 1..20)) {
        let record = RecordSchema::parse(&FileText { path: "s".into(), text: SCHEMA.into() }).unwrap();
        let fields = arrow_schema::record_fields(&record);
        let raw = batch(records.iter().map(String::as_bytes));
        let ours = decode::decode(&decode::shape(&record, &fields, DriftPolicy::Warn), &raw, 0);
        prop_assert_eq!(reasons(&ours.rejects), vec![]);
        let arrow = std::sync::Arc::new(Schema::new(fields));
        let ours = RecordBatch::try_new(arrow.clone(), ours.columns).unwrap();
        let mut decoder = ReaderBuilder::new(arrow).with_coerce_primitive(true).build_decoder().unwrap();
        decoder.decode(records.join("\n").as_bytes()).unwrap();
        prop_assert_eq!(ours, decoder.flush().unwrap().unwrap());
    }
}

fn any_fitting() -> impl Strategy<Value = String> {
    let text = "\\PC{0,12}";
    let times =
        (-62_135_596_800_000_000..253_402_300_799_999_999_i64).prop_map(|micros| chrono::DateTime::from_timestamp_micros(micros).unwrap());
    let scalars = (any::<i64>(), text, prop::option::of(-1e300..1e300), prop::option::of(any::<bool>()), prop::option::of(times));
    let who = prop::option::of((text, any::<i32>()));
    let nested = (prop::option::of(prop::collection::vec(prop::option::of(text), 0..4)), who, prop::collection::vec(any::<i64>(), 0..3));
    (scalars, nested, any::<bool>()).prop_map(|((id, amount, share, flag, at), (tags, who, lines), reversed)| {
        let mut members = vec![("id", json!(id)), ("amount", json!(amount)), ("share", json!(share))];
        members.extend(flag.map(|flag| ("flag", json!(flag))));
        members.push(("at", json!(at.map(|at| at.to_rfc3339()))));
        members.extend(at.map(|at| ("day", json!(at.format("%Y-%m-%d").to_string()))));
        members.push(("code", if id % 2 == 0 { json!(id) } else { json!(amount) }));
        members.extend(tags.map(|tags| ("tags", json!(tags))));
        members.push(("who", json!(who.map(|(name, age)| json!({"name": name, "age": age})))));
        members.push(("lines", lines.iter().map(|n| json!({"n": n})).collect()));
        if reversed {
            members.reverse();
        }
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
        format!("{{ {} }}", members.join(" , "))
    })
}
