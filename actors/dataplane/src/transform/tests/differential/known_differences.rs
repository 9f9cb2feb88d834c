//! Known differences from DuckDB or PostgreSQL, and why they exist. The generator avoids them, or
//! rewrites the expression for DuckDB. Each is tested here.

use super::*;

/// The difference, the expression over the record below, the result here (`None` when the record is
/// a reject), and why.
const DIFFERENCES: &[(&str, &str, Option<&str>, &str)] = &[
    (
        "an integer beyond 2^53 as a double",
        "CAST(9007199254740993 + b AS DOUBLE)",
        None,
        "PostgreSQL silently returns another number, 9007199254740992",
    ),
    ("the text of an integer with a point", "CAST('1.5' || t AS BIGINT)", None, "DuckDB rounds it, PostgreSQL refuses it"),
    ("the text of an integer with blanks", "CAST(' 42 ' || t AS BIGINT)", Some("42"), "the blanks are ignored, as in both"),
    ("a double that is infinite", "x * 1e308 * 1e308", None, "DuckDB gives inf, which Cassandra would store; PostgreSQL refuses it"),
    (
        "a double as a decimal",
        "CAST(x * 1.0 AS DECIMAL(12,2))",
        Some("101e-2"),
        "DuckDB multiplies 1.005 in binary and gives 1.00; PostgreSQL gives 1.01",
    ),
    (
        "a number of the record as a decimal",
        "CAST(big AS DECIMAL(38,2))",
        Some("900719925474099301e-2"),
        "in the others a JSON number is always a double, or always a decimal",
    ),
    (
        "a number of the record as an integer",
        "CAST(half AS BIGINT)",
        Some("3"),
        "by its digits, so half rounds away from zero; a computed double rounds half to even",
    ),
    ("a computed double as an integer", "CAST(half + 0.0 AS BIGINT)", Some("2"), "half to even, as in both"),
    (
        "the division of integers",
        "-7 / (b + 2)",
        Some("-3"),
        "towards zero as in PostgreSQL; DuckDB's / makes a double, its // is the same",
    ),
    ("the remainder of integers", "-7 % (b + 2)", Some("-1"), "with the sign of the first, as in both"),
    ("the smallest integer divided by -1", "(-9223372036854775807 - 1 + b) / -1", None, "out of range, as in both"),
    ("the remainder of the smallest integer by -1", "(-9223372036854775807 - 1 + b) % -1", Some("0"), "as in both"),
    ("a shift that loses bits", "(b + 3) << 62", None, "PostgreSQL wraps; DuckDB refuses it"),
    ("a shift by more bits than there are", "(b + 1) >> 64", None, "PostgreSQL takes the number modulo 64, DuckDB gives 0"),
    ("a shift of a negative number", "(b - 1) << 2", Some("-4"), "as in PostgreSQL; DuckDB refuses it"),
    ("text and NULL put together", "'a' || CAST(NULL AS VARCHAR)", None, "NULL, as in both: here `None` is the NULL of the row"),
    ("concat with NULL", "concat('a', CAST(NULL AS VARCHAR), t)", Some("a"), "leaves NULL out, as in both"),
    ("minus zero", "-1.0 * CAST(b AS DOUBLE)", Some("0.0"), "there is one zero, so that equal values have equal text"),
    (
        "a division of decimals",
        "CAST(CAST(2 + b AS DECIMAL(9,2)) / CAST(3 AS DECIMAL(9,2)) AS DECIMAL(9,3))",
        Some("667e-3"),
        "keeps enough digits to round; DuckDB returns a double",
    ),
    (
        "a time that date_trunc can't hold",
        "date_trunc('hour', at)",
        None,
        "date_trunc computes in nanoseconds, so times before 1677 and after 2262 are rejects",
    ),
];

#[test]
fn differential_differences_are_as_listed() {
    const FIELDS: &str = r#"{"type":"object","required":["b","t","x","big","half","at"],"properties":{"b":{"type":"integer"},
        "t":{"type":"string"},"x":{"type":"number"},"big":{"type":"number"},"half":{"type":"number"},
        "at":{"type":"string","format":"date-time"}}}"#;
    const RECORD: &str = r#"{"b":0,"t":"","x":1.005,"big":9007199254740993.01,"half":2.5,"at":"9999-01-01T00:00:00Z"}"#;
    for (what, expression, expected, why) in DIFFERENCES {
        let transform = match try_transform(FIELDS, &format!("SELECT b AS id, {expression} AS v FROM topic")) {
            Ok(transform) => transform,
            Err(error) => panic!("{what}: {error}"),
        };
        let out = transform.run(&super::texts(&[RECORD]));
        let ours = if out.rejects.is_empty() { cell(out.rows.column(1), 0) } else { None };
        assert_eq!(ours.as_deref(), *expected, "{what}: {expression} ({why}); {:?}", reasons(&out.rejects));
    }
}
