//! The limits for the memory and time of a record.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::transform::{column_bytes, limits, sql_quota};

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"}, "n":{"type":"integer"}, "s":{"type":"string"}, "t":{"type":"string"}, "time":{"type":"string","format":"date-time"},
    "texts":{"type":"array","items":{"type":["string","null"]}}, "more":{"type":"array","items":{"type":["string","null"]}},
    "numbers":{"type":"array","items":{"type":["integer","null"]}}
}}"#;

/// The reason for which the SQL rejects a record, between two good ones.
fn rejected(expr: &str, hostile: &Value) -> String {
    let transform = transform(SCHEMA, &format!("SELECT id, {expr} AS x FROM topic"));
    let good = |id: u32| json!({"id": id, "n": 1, "s": "a", "t": "b", "time": "2026-01-01T00:00:00Z", "texts": ["a"], "more": ["b"], "numbers": [1]});
    let out = transform.run(&texts(&[&good(0).to_string(), &hostile.to_string(), &good(2).to_string()]));
    assert_eq!(out.origin, [0, 2], "{expr}: {:?}", reasons(&out.rejects));
    let [(record, reason)] = <[_; 1]>::try_from(reasons(&out.rejects)).expect("one is rejected");
    assert_eq!(record, 1);
    reason
}

#[test]
fn a_record_beyond_the_limits_of_the_sql_is_a_reject_that_names_the_limit() {
    let long = "x".repeat(400_000);
    let many: Vec<String> = (0..200_000).map(|n| n.to_string()).collect();
    let record = |more: Value| {
        let mut record = json!({"id": 1});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    assert_eq!(
        rejected("repeat(s, n)", &record(json!({"s": "ab", "n": 800_000_000}))),
        "transform: column `x`: `repeat` produces up to 1600000000 bytes; the limit is 8388608 bytes per record"
    );
    assert_eq!(
        rejected("levenshtein(s, t)", &record(json!({"s": long, "t": long}))),
        "transform: column `x`: `levenshtein` takes up to 160000000000 steps; the limit is 1000000000 steps per record"
    );
    for (expr, hostile, name) in [
        ("lpad(s, n)", json!({"s": "a", "n": 2_000_000_000}), "`lpad`"),
        ("rpad(s, n, t)", json!({"s": "a", "t": "b", "n": 2_000_000_000}), "`rpad`"),
        ("replace(s, 'x', t)", json!({"s": long, "t": long}), "`replace`"),
        ("regexp_replace(s, 'x', t, 'g')", json!({"s": long, "t": long}), "`regexp_replace`"),
        (
            "concat(s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s)",
            json!({"s": long}),
            "`concat`",
        ),
        ("concat_ws(t, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s)", json!({"s": long, "t": long}), "`concat_ws`"),
        ("array_to_string(texts, s)", json!({"texts": many, "s": "0123456789".repeat(10)}), "`array_to_string`"),
        ("range(n)", json!({"n": 1_000_000_000_000_i64}), "`range`"),
        ("generate_series(0, n, 2)", json!({"n": 1_000_000_000_000_i64}), "`generate_series`"),
        ("range(TIMESTAMP '2025-12-31T23:59:00Z', time, INTERVAL '1' SECOND)", json!({"time": "2200-01-01T00:00:00Z"}), "`range`"),
        ("array_repeat(s, n)", json!({"s": "a", "n": 2_000_000_000}), "`array_repeat`"),
        ("array_resize(numbers, n, 1)", json!({"numbers": [1], "n": 2_000_000_000}), "`array_resize`"),
        ("array_replace_all(texts, '7', s)", json!({"texts": many, "s": long}), "`array_replace_all`"),
        ("array_has_any(texts, more)", json!({"texts": many, "more": many}), "`array_has_any`"),
        ("to_char(time, s)", json!({"time": "1970-01-01T00:00:00Z", "s": "%c".repeat(600_000)}), "`to_char`"),
        ("regexp_count(s, t)", json!({"s": long, "t": "(a?){100}{100}"}), "`regexp_count`"),
        ("s ~ t", json!({"s": long, "t": "(a?){100}{100}"}), "a pattern"),
        ("s LIKE t", json!({"s": long, "t": "%a".repeat(10_000)}), "a pattern"),
        ("repeat('0123456789', n) || 'x'", json!({"n": 1_000_000}), "`repeat`"),
        ("upper(repeat(s, n))", json!({"s": "a", "n": 5_000_000}), "`upper`"),
        ("CAST(numbers AS VARCHAR)", json!({"numbers": vec![1; 300_000]}), "a cast"),
    ] {
        let reason = rejected(expr, &record(hostile));
        assert!(reason.starts_with(&format!("transform: column `x`: {name} ")), "{expr}: {reason}");
        assert!(reason.ends_with("per record"), "{expr}: {reason}");
    }
}

#[test]
fn intermediate_values_count_too() {
    let twice = |from: &str| format!("SELECT id, x || x AS x FROM ({from}) AS t");
    let sql = (0..9).fold("SELECT id, s AS x FROM topic".to_owned(), |sql, _| twice(&sql));
    let transform = transform(SCHEMA, &format!("SELECT id, length(x) AS x FROM ({sql}) AS t WHERE id >= 0"));
    let out = transform.run(&texts(&[r#"{"id":0,"s":""}"#, &json!({"id": 1, "s": "x".repeat(100_000)}).to_string()]));
    assert_eq!(out.origin, [0]);
    let reasons = reasons(&out.rejects);
    assert!(reasons[0].1.starts_with("transform: column `x`: `||` produces up to "), "{reasons:?}");
}

#[test]
fn rows_that_repeat_a_long_text_are_charged_before_they_are_made() {
    let transform = transform(SCHEMA, "SELECT id, s, unnest(texts) AS text FROM topic");
    let record = |id: u32, len: usize, items: usize| json!({"id": id, "s": "x".repeat(len), "texts": vec!["a"; items]}).to_string();
    let out = transform.run(&texts(&[&record(0, 10, 2), &record(1, 4_000_000, 16), &record(2, 500_000, 15)]));
    assert_eq!(out.rows.num_rows(), 2 + 15);
    assert_eq!(reasons(&out.rejects).len(), 1);
    assert!(reasons(&out.rejects)[0].1.starts_with("transform: the SQL: `unnest` produces up to 64000"), "{:?}", out.rejects);
}

#[test]
fn a_record_with_too_large_columns_is_a_reject_that_names_the_field() {
    let optional: Vec<String> = (0..64).map(|n| format!(r#""field{n}":{{"type":"integer"}}"#)).collect();
    let schema = format!(
        r#"{{"type":"object","required":["id"],"properties":{{"id":{{"type":"integer"}},
            "items":{{"type":"array","items":{{"type":"object","properties":{{{}}}}}}}}}}}"#,
        optional.join(",")
    );
    let transform = transform(&schema, "SELECT id FROM topic");
    let record = |id: u32, items: usize| format!(r#"{{"id":{id},"items":[{}]}}"#, vec!["{}"; items].join(","));
    let out = transform.parts(&texts(&[&record(0, 10), &record(1, 320_000), &record(2, 1_000)]));
    assert_eq!(out.iter().flat_map(|part| part.origin.clone()).collect::<Vec<_>>(), [0, 2]);
    let expected = "decode: `/items/13654` exceeds the limit for a record's columns: 8388608 bytes, for 960017 bytes of JSON";
    let found: Vec<_> = out.iter().flat_map(|part| reasons(&part.rejects)).collect();
    let digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    assert_eq!(digits(&found[0].1), digits(expected), "{found:?}");
}

#[test]
fn a_record_whose_rows_copy_too_many_bytes_is_a_reject() {
    let transform = transform(SCHEMA, "SELECT id, s AS a, s AS b, s AS c FROM topic");
    let record = |id: u32, len: usize| json!({"id": id, "s": "x".repeat(len)}).to_string();
    let out = transform.parts(&texts(&[&record(0, 2_500_000), &record(1, 3_000_000), &record(2, 10)]));
    assert_eq!(out.iter().flat_map(|part| part.origin.clone()).collect::<Vec<_>>(), [0, 2]);
    let found: Vec<_> = out.iter().flat_map(|part| reasons(&part.rejects)).collect();
    let expected = "transform: the SQL: its rows take 9000024 bytes; the limit is 8388608 bytes per record";
    assert_eq!(found, [(1, expected.to_owned())]);
}

#[test]
fn a_large_record_of_plain_values_fits() {
    let transform = transform(SCHEMA, "SELECT id, length(s) AS length, array_length(numbers) AS many FROM topic");
    let numbers = vec!["1"; 3_000_000].join(",");
    let out = transform.parts(&texts(&[&format!(r#"{{"id":1,"s":"{}","numbers":[{numbers}]}}"#, "x".repeat(20_000_000))]));
    let [part] = out.as_slice() else { panic!("{} parts", out.len()) };
    assert_eq!(rows(part), [(0, json!({"id": 1, "length": 20_000_000, "many": 3_000_000}))], "{:?}", part.rejects);
}

#[test]
fn a_large_batch_is_split_into_bounded_parts_that_hold_each_record_once() {
    let transform = transform(SCHEMA, "SELECT id, upper(s) AS s FROM topic WHERE n >= 0");
    let record = |n: i64| match n % 100 {
        7 => "no JSON".to_owned(),
        9 => json!({"id": n, "n": -1, "s": "left out"}).to_string(),
        _ => json!({"id": n, "n": n, "s": "x".repeat(10_000)}).to_string(),
    };
    let all: Vec<String> = (0..6_000).map(record).collect();
    let parts = transform.parts(&texts(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(parts.len() >= 5, "{}", parts.len());
    let mut seen = Vec::new();
    for part in &parts {
        assert!(column_bytes::of_batch(&part.rows) <= limits::MAX_PART_BYTES);
        seen.extend(part.origin.iter().copied());
        assert!(part.rejects.iter().all(|reject| reject.record % 100 == 7));
    }
    assert_eq!(parts.iter().map(|part| part.rejects.len()).sum::<usize>(), 60);
    assert_eq!(seen, (0..6_000).filter(|n| ![7, 9].contains(&(n % 100))).collect::<Vec<u32>>());
}

#[test]
fn results_that_do_not_fit_together_become_separate_parts() {
    let transform = transform(SCHEMA, "SELECT id, repeat(s, n) AS x FROM topic");
    let all: Vec<String> = (0..40).map(|id| json!({"id": id, "s": "x", "n": 3_000_000}).to_string()).collect();
    let parts = transform.parts(&texts(&all.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(parts.iter().all(|part| part.rejects.is_empty() && column_bytes::of_batch(&part.rows) <= limits::MAX_PART_BYTES));
    assert_eq!(parts.iter().flat_map(|part| part.origin.clone()).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    assert!(parts.len() >= 15);
}

#[test]
fn every_run_of_the_sql_reports_progress() {
    let transform = transform(SCHEMA, "SELECT id, levenshtein(s, t) AS x FROM topic");
    let text = "x".repeat(10_000);
    let all: Vec<String> = (0..20).map(|id| json!({"id": id, "s": text, "t": text}).to_string()).collect();
    let raw = texts(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let mut parts = Parts::default();
    let attempts = std::cell::Cell::new(0);
    assert_eq!(parts.next(&transform, &raw, &|| attempts.set(attempts.get() + 1)).rows.num_rows(), 20);
    assert!(attempts.get() >= 3, "2,000,000,000 steps need at least three runs: {}", attempts.get());
}

/// Expressions whose values vary in size: every function that can produce more than its arguments,
/// and some that do not.
const EXPRESSIONS: &[&str] = &[
    "repeat(s, n)",
    "lpad(s, n)",
    "lpad(s, n, t)",
    "rpad(s, n, t)",
    "replace(s, t, 'something long')",
    "replace(s, '', t)",
    "regexp_replace(s, '[a-m]', t, 'g')",
    "regexp_replace(s, '([a-m])(.)', '${1}${2}${1}\\2', 'g')",
    "regexp_match(s, '((a)(.*))')",
    "string_to_array(s, '')",
    "string_to_array(s, NULL)",
    "string_to_array(s, 'a')",
    "array_to_string(texts, t)",
    "array_to_string(numbers, s, t)",
    "concat(s, t, s)",
    "concat_ws(t, s, s, s)",
    "s || t || s",
    "upper(s)",
    "translate(s, 'abc', 'äöü')",
    "encode(CAST(s AS BYTEA), 'hex')",
    "range(n)",
    "generate_series(-n, n)",
    "range(10, n, -3)",
    "array_repeat(s, n)",
    "array_repeat(texts, n)",
    "array_resize(texts, n, t)",
    "array_resize(numbers, n)",
    "array_replace_all(texts, 'a', t)",
    "array_concat(texts, more)",
    "array_append(texts, s)",
    "make_array(s, t, s)",
    "array_union(texts, more)",
    "array_sort(texts)",
    "arrays_zip(texts, numbers)",
    "overlay(s PLACING t FROM 2)",
    "to_char(time, '%c %+')",
    "CAST(numbers AS VARCHAR)",
    "CASE WHEN n > 5 THEN s ELSE repeat('x', 10) END",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_charge_is_never_less_than_what_is_produced(
        s in "[a-zäß😀]{0,40}", t in "[a-c]{0,5}", n in 0_i64..50,
        lists in proptest::collection::vec(proptest::collection::vec("[a-c]{0,6}", 0..6), 2),
        numbers in proptest::collection::vec(any::<i64>(), 0..6),
    ) {
        let record = json!({"id": 1, "n": n, "s": s, "t": t, "time": "2026-01-01T00:00:00Z", "texts": lists[0], "more": lists[1], "numbers": numbers}).to_string();
        for expr in EXPRESSIONS {
            let transform = transform(SCHEMA, &format!("SELECT {expr} AS x FROM topic"));
            let made = transform.run(&texts(&[&record]));
            prop_assert!(made.rejects.is_empty(), "{}: {:?}", expr, made.rejects);
            let charged = limits::MAX_SQL_BYTES - sql_quota::remaining_bytes();
            // The offsets of a list and of a text come on top of the values.
            let values = column_bytes::of_batch(&made.rows).saturating_sub(16);
            prop_assert!(values <= charged, "{}: produces {} and charges {} for {}", expr, values, charged, record);
        }
    }

    #[test]
    fn neighbours_do_not_change_whether_a_record_is_rejected(sizes in proptest::collection::vec(0_i64..15_000_000, 1..12)) {
        let transform = transform(SCHEMA, "SELECT id, length(repeat(s, n)) AS x FROM topic");
        let all: Vec<String> = sizes.iter().map(|n| json!({"id": 1, "s": "x", "n": n}).to_string()).collect();
        let together = transform.parts(&texts(&all.iter().map(String::as_str).collect::<Vec<_>>()));
        let rejected: Vec<u32> = together.iter().flat_map(|part| &part.rejects).map(|reject| reject.record).collect();
        let alone = (0_u32..).zip(&all).filter(|(_, text)| !transform.run(&texts(&[text])).rejects.is_empty());
        prop_assert_eq!(rejected, alone.map(|(at, _)| at).collect::<Vec<_>>());
    }
}
