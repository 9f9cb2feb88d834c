//! Numbers: a value out of range is a reject, a loss of digits is reported, and branches that are
//! not taken are not evaluated.

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::json;

use super::*;

const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"string"},"q":{"type":"integer"},"n":{"type":"integer"},"s":{"type":"integer"},"m":{"type":"integer"},
    "x":{"type":"number"},"y":{"type":["number","null"]},"txt":{"type":"string"},"vip":{"type":"boolean"},
    "dt":{"type":"string","format":"date-time"},"ns":{"type":"array","items":{"type":"integer"}},
    "texts":{"type":"array","items":{"type":"string"}},
    "who":{"type":["object","null"],"properties":{"amount":{"type":"number"},"name":{"type":"string"}}},
    "lines":{"type":"array","items":{"type":"object","properties":{"price":{"type":"number"}}}}}}"#;

const RECORD: &str = r#"{"id":"a","q":0,"n":7,"s":20000,"m":-9223372036854775808,"x":12345.6789,"y":null,"txt":"12.345","vip":false,
    "dt":"1900-06-15T07:09:00.500Z","ns":[1,2],"texts":["1","2"],"who":{"amount":799.929496989092949698,"name":"n"},
    "lines":[{"price":0.1},{"price":100226670.370000000000000001}]}"#;

/// The value of an expression over a record as text, or the reason of the reject.
#[track_caller]
fn of(expression: &str, record: &str) -> Result<Option<String>, String> {
    let transform = match try_transform(SCHEMA, &format!("SELECT id, {expression} AS v FROM topic")) {
        Ok(transform) => transform,
        Err(error) => panic!("{expression}: {error}"),
    };
    let out = transform.run(&texts(&[record]));
    match out.rejects.first() {
        Some(reject) => Err(reject.reason.full().to_owned()),
        None => {
            let column = out.rows.column(1);
            let text = array_value_to_string(column, 0).unwrap();
            Ok((!column.is_null(0)).then_some(text))
        }
    }
}

#[track_caller]
fn gives(expression: &str, expected: &str) {
    assert_eq!(of(expression, RECORD).map(Option::unwrap_or_default), Ok(expected.to_owned()), "{expression}");
}

#[track_caller]
fn fails(expression: &str) {
    let got = of(expression, RECORD);
    assert!(got.is_err(), "{expression} gives {got:?}");
}

#[test]
fn an_integer_out_of_range_is_a_reject_in_every_operation_and_width() {
    for expression in [
        "n * 9223372036854775807",
        "n + 9223372036854775807",
        "m - n",
        "-m",
        "-m - 2",
        "m / (q - 1)",
        "n / q",
        "n % q",
        "n << 62",
        "n << 64",
        "n << q - 1",
        "n >> 64",
        "CAST(s AS SMALLINT) + CAST(s AS SMALLINT)",
        "CAST(s AS SMALLINT) * CAST(2 AS SMALLINT)",
        "-(CAST(s - 52768 AS SMALLINT))",
        "CAST(s AS TINYINT)",
        "CAST(m AS INT)",
        "CAST(s * 200000 AS INT) + CAST(1 AS INT)",
        "CAST(-1 + q AS BIGINT UNSIGNED)",
        "arrow_cast(s, 'UInt8')",
        "arrow_cast(n, 'UInt64') - arrow_cast(8, 'UInt64')",
        "CAST(x * 1e30 AS BIGINT)",
        "dt + INTERVAL '2000000000 days'",
        "CAST(dt AS DATE) + INTERVAL '2000000000 months'",
        "to_timestamp(x * 1e30)",
        "to_timestamp_seconds(n * 9223372036854775807)",
        "to_timestamp(9223372036854775807 + q)",
        "length(txt) * 9223372036854775807",
        "coalesce(m, 0) - coalesce(n, 0)",
        "CASE WHEN n > 0 THEN m - n ELSE 0 END",
    ] {
        fails(expression);
    }
    gives("m % (q - 1)", "0");
    gives("(n - 8) << 2", "-4");
    gives("(q + 1) << 62", "4611686018427387904");
    gives("n - 9223372036854775807", "-9223372036854775800");
}

#[test]
fn a_record_out_of_range_is_rejected_without_its_neighbours() {
    let transform = transform(SCHEMA, "SELECT id, q * n AS total, s * 1000000000 AS ns, n + 1 AS plus, -n - 2 AS neg FROM topic");
    let out = transform.run(&texts(&[
        r#"{"id":"ok","q":3,"n":2500000,"s":1700000000}"#,
        r#"{"id":"mul","q":10000000000,"n":10000000000,"s":1}"#,
        r#"{"id":"ns","q":1,"n":1,"s":1700000000000}"#,
        r#"{"id":"add","q":1,"n":9223372036854775807,"s":1}"#,
    ]));
    let ok = json!({"id": "ok", "total": 7_500_000, "ns": 1_700_000_000_000_000_000_i64, "plus": 2_500_001, "neg": -2_500_002});
    assert_eq!(rows(&out), [(0, ok)]);
    let reasons: Vec<_> = reasons(&out.rejects);
    assert_eq!(reasons.iter().map(|(record, _)| *record).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(reasons[0].1.contains("column `total`") && reasons[0].1.contains("10000000000"), "{reasons:?}");
}

#[test]
fn an_infinite_or_nan_float_is_a_reject() {
    for expression in [
        "x * 1e308 * 10",
        "x / CAST(q AS DOUBLE)",
        "CAST(q AS DOUBLE) / CAST(q AS DOUBLE)",
        "x % 0.0",
        "CAST('1e999' || substr(txt, 9) AS DOUBLE)",
        "CAST('NaN' || substr(txt, 9) AS DOUBLE)",
        "CAST(x * 1e300 AS REAL)",
        "CAST(9007199254740993 + q AS DOUBLE)",
        "array_sum(array_append(ns, 9007199254740993))",
    ] {
        fails(expression);
    }
    assert_eq!(of("TRY_CAST('1e999' || substr(txt, 9) AS DOUBLE)", RECORD), Ok(None));
    gives("-(x - x)", "0.0");
}

#[test]
fn a_json_number_becomes_a_decimal_by_its_digits() {
    let number = |digits: &str, expression: &str| of(expression, &format!(r#"{{"id":"a","x":{digits}}}"#)).map(Option::unwrap_or_default);
    let cases = [
        ("799.929496989092949698", "CAST(x AS DECIMAL(38,18))", "799.929496989092949698"),
        ("9007199254740993.01", "CAST(x AS DECIMAL(38,18))", "9007199254740993.010000000000000000"),
        ("18446744073709551615", "CAST(x AS DECIMAL(38,18))", "18446744073709551615.000000000000000000"),
        ("1e-7", "CAST(x AS DECIMAL(38,18))", "0.000000100000000000"),
        ("1234567.89", "CAST(x AS DECIMAL(38,18))", "1234567.890000000000000000"),
        ("1.005", "CAST(x AS DECIMAL(12,2))", "1.01"),
        ("0.29", "CAST(x AS DECIMAL(20,4))", "0.2900"),
        ("100226670.37", "CAST(CAST(x AS TEXT) AS DECIMAL(38,18))", "100226670.370000000000000000"),
        ("9007199254740993", "CAST(x AS BIGINT)", "9007199254740993"),
        ("9007199254740993", "CAST(coalesce(x, 0) AS DECIMAL(20,0))", "9007199254740993"),
        ("9007199254740993", "TRY_CAST(nvl(x, 0) AS DECIMAL(20,0))", "9007199254740993"),
        ("1e30", "TRY_CAST(coalesce(x, 7) AS DECIMAL(20,0))", ""),
        ("9007199254740993", "CAST(CASE WHEN x > 1 THEN x ELSE 0 END AS DECIMAL(20,0))", "9007199254740993"),
        ("9007199254740993", "arrow_cast(x, 'Decimal128(20, 0)')", "9007199254740993"),
        ("9007199254740993", "TRY_CAST(x AS DECIMAL(20,0))", "9007199254740993"),
        ("0.1", "CAST(x * 3 AS DECIMAL(38,18))", "0.300000000000000040"),
    ];
    for (digits, expression, expected) in cases {
        assert_eq!(number(digits, expression), Ok(expected.to_owned()), "{expression} of {digits}");
    }
    assert!(number("1e30", "CAST(x AS DECIMAL(38,18))").is_err());
    assert!(number("18446744073709551615", "CAST(x AS BIGINT)").is_err());
    assert_eq!(number("1e30", "TRY_CAST(x AS DECIMAL(38,18))"), Ok(String::new()));
}

#[test]
fn digits_survive_objects_arrays_and_a_select_in_from() {
    gives("CAST(who['amount'] AS DECIMAL(38,18))", "799.929496989092949698");
    gives("CAST(who.amount AS DECIMAL(38,18))", "799.929496989092949698");
    gives("CAST(lines[2]['price'] AS DECIMAL(38,18))", "100226670.370000000000000001");
    for sql in [
        "SELECT id, CAST(line['price'] AS DECIMAL(38,18)) AS v FROM (SELECT id, unnest(lines) AS line FROM topic) AS t",
        "SELECT id, CAST(p AS DECIMAL(38,18)) AS v FROM (SELECT id, line['price'] AS p FROM (SELECT id, unnest(lines) AS line FROM topic) AS t) AS u",
        "WITH t AS (SELECT id, unnest(lines) AS line FROM topic WHERE id <> '') SELECT t.id, CAST(t.line['price'] AS DECIMAL(38,18)) AS v FROM t",
    ] {
        let out = transform(SCHEMA, sql).run(&texts(&[RECORD]));
        let values: Vec<_> = (0..out.rows.num_rows()).map(|row| array_value_to_string(&out.rows["v"], row).unwrap()).collect();
        assert_eq!(values, ["0.100000000000000000", "100226670.370000000000000001"], "{sql}: {:?}", reasons(&out.rejects));
    }
    let sql = "SELECT id, CAST(a AS DECIMAL(38,18)) AS v, a + 1 AS w FROM (SELECT id, x AS a FROM topic WHERE x > 0) AS t";
    let out = transform(SCHEMA, sql).run(&texts(&[r#"{"id":"a","x":0.1234567890123456789}"#, r#"{"id":"b"}"#, r#"{"id":"c","x":"1"}"#]));
    assert_eq!(array_value_to_string(&out.rows["v"], 0).unwrap(), "0.123456789012345679");
    assert_eq!(rows(&out)[0].1["w"], json!(1.123_456_789_012_345_7));
    assert_eq!(out.origin, [0]);
    assert_eq!(out.rejects[0].record, 2);
}

#[test]
fn digits_columns_are_hidden() {
    let transform = transform(SCHEMA, "SELECT *, CAST(x AS DECIMAL(9,2)) AS v FROM topic");
    let names: Vec<_> = transform.output_schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "q", "n", "s", "m", "x", "y", "txt", "vip", "dt", "ns", "texts", "who", "lines", "v"]);
    let error = try_transform(SCHEMA, "SELECT id, \"x#digits\" AS d, CAST(x AS DECIMAL(9,2)) AS v FROM topic").map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("there is no column"), "{error}");
}

#[test]
fn a_number_selected_into_a_decimal_column_keeps_its_digits() {
    let directory = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(directory.path(), SCHEMA, "SELECT id, x, who['amount'] AS amount, x * 2 AS twice FROM topic");
    let columns = &mut pipeline.writer.as_mut().unwrap().columns;
    columns.insert("x".into(), "decimal".into());
    columns.insert("amount".into(), "decimal".into());
    let transform = Transform::new(&pipeline).unwrap();
    let out = transform.run(&texts(&[r#"{"id":"a","x":9007199254740993.01,"who":{"amount":1e-7}}"#]));
    assert_eq!(rows(&out)[0].1["x"], json!("9007199254740993.01"));
    assert_eq!(rows(&out)[0].1["amount"], json!("1e-7"));
    let columns = &mut pipeline.writer.as_mut().unwrap().columns;
    columns.insert("twice".into(), "decimal".into());
    let transform = Transform::new(&pipeline).unwrap();
    assert_eq!(transform.output_schema().field_with_name("twice").unwrap().data_type(), &DataType::Float64);
}

#[test]
fn text_and_decimals_become_decimals_by_rounding_half_away_from_zero() {
    let text = |text: &str, expression: &str| of(expression, &format!(r#"{{"id":"a","txt":"{text}"}}"#)).map(Option::unwrap_or_default);
    for (given, expression, expected) in [
        ("12.345", "CAST(txt AS DECIMAL(10,2))", "12.35"),
        ("-12.345", "CAST(txt AS DECIMAL(10,2))", "-12.35"),
        ("0.005", "CAST(txt AS DECIMAL(24,2))", "0.01"),
        ("1e3", "CAST(txt AS DECIMAL(24,2))", "1000.00"),
        ("12345678901234567890.123456789", "CAST(txt AS DECIMAL(38,9))", "12345678901234567890.123456789"),
        ("12.345", "CAST(CAST(txt AS DECIMAL(24,3)) AS DECIMAL(10,2))", "12.35"),
        ("-0.5", "CAST(CAST(txt AS DECIMAL(24,3)) AS BIGINT)", "-1"),
    ] {
        assert_eq!(text(given, expression), Ok(expected.to_owned()), "{expression} of {given}");
    }
    for (given, expression) in [
        ("12345.67", "CAST(CAST(txt AS DECIMAL(24,2)) AS DECIMAL(6,2))"),
        ("99999999999", "CAST(txt AS DECIMAL(10,2))"),
        ("99999999999999999999999999999999999999", "CAST(txt AS DECIMAL(38,0)) + CAST(txt AS DECIMAL(38,0))"),
        ("60000000000000000000000000000000000000", "CAST(txt AS DECIMAL(38,0)) + CAST(txt AS DECIMAL(38,0))"),
        ("99999999999999999999", "CAST(txt AS DECIMAL(38,0)) * CAST(txt AS DECIMAL(38,0))"),
        ("abc", "CAST(txt AS DECIMAL(10,2))"),
        ("NaN", "CAST(txt AS DECIMAL(10,2))"),
    ] {
        assert!(text(given, expression).is_err(), "{expression} of {given}: {:?}", text(given, expression));
    }
    fails("CAST(CAST(x AS DECIMAL(24,2)) AS DECIMAL(6,2))");
}

#[test]
fn doubles_become_integers_by_rounding() {
    gives("CAST(x + 0.0 AS BIGINT)", "12346");
    gives("CAST(x AS BIGINT)", "12346");
    gives("CAST(CAST(q AS DOUBLE) - 2.5 AS INT)", "-2");
    gives("CAST(CAST(q AS DOUBLE) - 0.4 AS INT)", "0");
}

/// For each of these, a rule of the optimizer dropped or kept records wrongly, or took another
/// branch.
#[test]
fn where_and_case_are_evaluated_as_written() {
    let records: Vec<_> = (0..10)
        .map(|i| {
            format!(r#"{{"id":"{i}","txt":"{}-03-01 00:00:00","dt":"{}-03-01T00:00:00Z","vip":{},"n":{i}}}"#, 1990 + i, 1990 + i, i == 3)
        })
        .collect();
    let records: Vec<_> = records.iter().map(String::as_str).collect();
    let kept = |filter: &str| {
        let out = transform(SCHEMA, &format!("SELECT id FROM topic WHERE {filter}")).run(&texts(&records));
        assert_eq!(reasons(&out.rejects), [], "{filter}");
        out.origin
    };
    let all: Vec<u32> = (0..10).collect();
    for filter in [
        "EXTRACT(YEAR FROM dt) < 9999",
        "EXTRACT(YEAR FROM CAST(txt AS TIMESTAMP)) < 9999",
        "EXTRACT(YEAR FROM CAST(txt AS TIMESTAMP)) < 9999 OR vip",
        "date_part('year', CAST(txt AS TIMESTAMP)) >= 1500",
        "date_part('year', CAST(txt AS TIMESTAMP)) <> 9999 OR vip",
        "EXTRACT(YEAR FROM to_timestamp(txt)) < 9999 OR vip",
        "CAST(n AS INT) < 9999999999",
    ] {
        assert_eq!(kept(filter), all, "{filter}");
    }
    assert_eq!(kept("EXTRACT(YEAR FROM CAST(txt AS TIMESTAMP) AT TIME ZONE 'America/Lima') < 1994 OR vip"), [0, 1, 2, 3]);
    assert_eq!(kept("CAST(txt AS TIMESTAMP) AT TIME ZONE 'Asia/Tokyo' < '1990-12-31T00:00:00Z'"), [0]);
    assert_eq!(kept("CAST(txt AS TIMESTAMP) AT TIME ZONE 'Asia/Tokyo' = '1990-02-28T15:00:00Z'"), [0]);
    assert_eq!(kept("CAST(txt AS TIMESTAMP) AT TIME ZONE '+09:00' < '1990-02-28T15:00:01Z'"), [0]);
    assert!(kept("CAST(n AS TEXT) = '03'").is_empty());
    assert_eq!(kept("CAST(n AS TEXT) = '3'"), [3]);
    let out = transform(
        SCHEMA,
        "SELECT id, CASE WHEN EXTRACT(YEAR FROM CAST(txt AS TIMESTAMP)) < 9999 THEN 'valid' ELSE 'open end' END AS v FROM topic",
    )
    .run(&texts(&records));
    assert!(rows(&out).iter().all(|(_, row)| row["v"] == "valid"));
}

#[test]
fn a_branch_that_is_not_taken_is_not_evaluated() {
    for expression in [
        "CASE WHEN q > 0 THEN n / q ELSE -1 END",
        "CASE WHEN q > 0 AND n > 0 THEN n / q ELSE -1 END",
        "CASE q WHEN 0 THEN -1 ELSE n / q END",
        "CASE WHEN q = 0 THEN -1 WHEN n / q > 1 THEN 5 ELSE n / q END",
        "coalesce(q - 1, n / q)",
        "nvl(q - 1, n / q)",
        "CASE WHEN q <> 0 AND n / q > 1 THEN 1 ELSE -1 END",
        "CASE WHEN q = 0 OR n / q > 1 THEN -1 ELSE 1 END",
    ] {
        gives(expression, "-1");
    }
    let sql = "SELECT id, CASE WHEN q > 0 THEN n / q END + 0 AS v1, CASE WHEN q > 0 AND n > 0 THEN n / q ELSE 0 END AS v2 FROM topic";
    let out = transform(SCHEMA, sql).run(&texts(&[RECORD, r#"{"id":"b","q":2,"n":7}"#]));
    assert_eq!(rows(&out), [(0, json!({"id": "a", "v2": 0})), (1, json!({"id": "b", "v1": 3, "v2": 3}))], "{:?}", out.rejects);
}

#[test]
fn a_field_of_an_object_that_a_branch_made_null_is_null() {
    assert_eq!(of("(CASE WHEN vip THEN who END)['name']", RECORD), Ok(None));
    assert_eq!(of("(CASE WHEN vip THEN who ELSE NULL END)['name'] IS NULL", RECORD), Ok(Some("true".into())));
    gives("(CASE WHEN NOT vip THEN who END)['name']", "n");
}

#[test]
fn an_item_that_can_not_be_cast_rejects_only_its_record() {
    let transform = transform(SCHEMA, "SELECT id, CAST(texts AS BIGINT[])[1] AS v FROM topic");
    let out = transform.run(&texts(&[
        r#"{"id":"a","texts":["1"]}"#,
        r#"{"id":"b","texts":["x"]}"#,
        r#"{"id":"c","texts":["3","4"]}"#,
        r#"{"id":"d","texts":[]}"#,
    ]));
    assert_eq!(out.origin, [0, 2, 3]);
    assert_eq!(rows(&out)[1].1["v"], json!(3));
    assert_eq!(out.rejects.len(), 1);
}

#[test]
fn a_time_before_1970_is_rounded_down() {
    gives("CAST(arrow_cast(dt, 'Timestamp(Millisecond, None)') AS TEXT)", "1900-06-15T07:09:00.500");
    gives("CAST(arrow_cast(dt, 'Timestamp(Second, None)') AS TEXT)", "1900-06-15T07:09:00");
    gives("CAST(date_trunc('minute', dt) AS TEXT)", "1900-06-15T07:09:00Z");
    gives("CAST(date_trunc('week', dt) AS TEXT)", "1900-06-11T00:00:00Z");
    gives("CAST(CAST(dt AS DATE) AS TEXT)", "1900-06-15");
}

/// Without the optimizer, DataFusion can't evaluate some of these.
#[test]
fn functions_that_stand_for_case_or_cast_are_evaluated() {
    gives("nvl(y, 1.5)", "1.5");
    gives("ifnull(y, 1.5)", "1.5");
    gives("nvl2(y, 1.5, 2.5)", "2.5");
    gives("coalesce(y, x)", "12345.6789");
    gives("arrow_cast(n, 'Int32')", "7");
    gives("arrow_try_cast(txt, 'Int32') IS NULL", "true");
    gives("nullif(n, 7) IS NULL", "true");
    gives("greatest(n, 3, s)", "20000");
    gives("cast_to_type(n, txt)", "7");
    gives("concat_ws('-', txt, NULL, 'b')", "12.345-b");
    gives("starts_with(txt, '12')", "true");
    gives("regexp_like(txt, '^[0-9]')", "true");
    gives("array_has(ns, 2)", "true");
}

fn losses(sql: &str) -> Vec<String> {
    let transform = transform(SCHEMA, sql);
    transform.precision_losses().iter().map(|loss| format!("{}: {loss}", loss.line().unwrap() - SQL_LINE)).collect()
}

#[test]
fn a_cast_that_can_lose_digits_is_reported_with_its_line() {
    for (sql, expected) in [
        ("SELECT id,\n CAST(x * 2 AS DECIMAL(38,18)) AS v FROM topic", "1: column `v`: a double becomes Decimal128(38, 18)"),
        ("SELECT id,\n\n CAST(x / 3 AS BIGINT) AS v FROM topic", "2: column `v`: a double becomes Int64"),
        ("SELECT id, CAST(x AS REAL) AS v FROM topic", "0: column `v`: a double becomes a float of 32 bits"),
        ("SELECT id, CAST(x AS TEXT) AS v FROM topic", "0: column `v`: a double becomes text"),
        ("SELECT id FROM topic\nWHERE CAST(x * 2 AS DECIMAL(9,2)) > 1", "1: WHERE: a double becomes Decimal128(9, 2)"),
        (
            "SELECT id, CAST(CAST(txt AS DECIMAL(38,9)) AS DECIMAL(38,2)) AS v FROM topic",
            "0: column `v`: Decimal128(38, 9) becomes Decimal128(38, 2)",
        ),
        ("SELECT id, CAST(CAST(txt AS DECIMAL(38,9)) AS DOUBLE) AS v FROM topic", "0: column `v`: Decimal128(38, 9) becomes a double"),
    ] {
        let found = losses(sql);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{sql}: {found:?}");
    }
}

#[test]
fn a_cast_that_loses_nothing_is_not_reported() {
    for sql in [
        "SELECT * FROM topic",
        "SELECT id, x, x * 2 AS twice, n + 1 AS m2, CAST(x AS DECIMAL(38,18)) AS v FROM topic WHERE x > 1",
        "SELECT id, CAST(n AS TEXT) AS t, CAST(n AS DECIMAL(20,0)) AS d, CAST(txt AS DECIMAL(9,2)) AS e, n * 1.5 AS f FROM topic",
        "SELECT id, CAST(who['amount'] AS DECIMAL(38,18)) AS v, CAST(coalesce(x, 0) AS BIGINT) AS w FROM topic",
        "SELECT id, CAST(s AS SMALLINT) + CAST(1 AS SMALLINT) AS v, dt + INTERVAL '1 day' AS e FROM topic",
    ] {
        assert_eq!(losses(sql), Vec::<String>::new(), "{sql}");
    }
}
