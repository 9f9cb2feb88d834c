//! Times as text with a zone, as text without one, and as numbers.

use serde_json::json;

use super::schemas::decoded;
use super::*;

const RANGE: &str = "in the years 1 to 9999";

#[test]
fn a_number_since_1970_is_a_time_by_its_digits() {
    let of = |kind: &str, format: &str| json!({"type": kind, "format": format});
    for (kind, format, value, time) in [
        ("integer", "epoch-seconds", "1700000000", "2023-11-14T22:13:20Z"),
        ("integer", "epoch-millis", "1700000000123", "2023-11-14T22:13:20.123Z"),
        ("integer", "epoch-micros", "1700000000123456", "2023-11-14T22:13:20.123456Z"),
        ("integer", "epoch-nanos", "1700000000123456789", "2023-11-14T22:13:20.123456Z"),
        ("integer", "epoch-nanos", "-1", "1969-12-31T23:59:59.999999Z"),
        ("integer", "epoch-seconds", "1.7e9", "2023-11-14T22:13:20Z"),
        ("integer", "epoch-seconds", "0.0", "1970-01-01T00:00:00Z"),
        ("number", "epoch-seconds", "1700000000.1234569", "2023-11-14T22:13:20.123456Z"),
        ("number", "epoch-seconds", "-0.0000001", "1969-12-31T23:59:59.999999Z"),
        ("number", "epoch-millis", "1700000000123.999", "2023-11-14T22:13:20.123999Z"),
        ("integer", "epoch-seconds", "-62135596800", "0001-01-01T00:00:00Z"),
        ("integer", "epoch-millis", "253402300799999", "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(decoded(&of(kind, format), value), Ok(json!(time)), "{value} of {format}");
    }
    for (kind, format, value) in [
        ("integer", "epoch-seconds", "1700000000.5"),
        ("integer", "epoch-seconds", "1e-400"),
        ("integer", "epoch-seconds", "-62135596801"),
        ("integer", "epoch-millis", "253402300800000"),
        ("integer", "epoch-seconds", "1700000000000"),
        ("integer", "epoch-nanos", "99999999999999999999999"),
        ("number", "epoch-seconds", "1e40"),
        ("integer", "epoch-millis", r#""1700000000123""#),
        ("integer", "epoch-millis", "true"),
    ] {
        let why = decoded(&of(kind, format), value).expect_err(value);
        assert!(why.starts_with("`/a` must be a time in ") && why.contains(RANGE) && why.ends_with(&format!("but is {value}")), "{why}");
    }
}

#[test]
fn a_number_in_a_field_of_text_times_names_the_format_for_it() {
    for format in ["date-time", "date-time-local"] {
        let schema = json!({"type": "string", "format": format});
        for (value, epoch) in [
            ("1700000000", "epoch-seconds"),
            ("1700000000123", "epoch-millis"),
            ("1700000000123456", "epoch-micros"),
            ("1700000000123456789", "epoch-nanos"),
        ] {
            let why = decoded(&schema, value).unwrap_err();
            let remedy = format!("but is {value}; for numbers, write \"type\": \"integer\", \"format\": \"{epoch}\" in the schema");
            assert!(why.ends_with(&remedy), "{why}");
        }
    }
}

#[test]
fn a_time_without_a_zone_is_in_utc_or_in_the_zone_of_the_schema() {
    let utc = json!({"type": "string", "format": "date-time-local"});
    assert_eq!(decoded(&utc, r#""2026-07-01 10:00:00.5""#), Ok(json!("2026-07-01T10:00:00.500Z")));
    let why = decoded(&utc, r#""2026-07-01T10:00:00Z""#).unwrap_err();
    assert!(why.starts_with("`/a` must be a date-time without a zone, such as"), "{why}");
    let berlin = json!({"type": ["string", "null"], "format": "date-time-local", "x-timezone": "Europe/Berlin"});
    assert_eq!(decoded(&berlin, r#""2026-07-01T10:00:00""#), Ok(json!("2026-07-01T08:00:00Z")));
    assert_eq!(decoded(&berlin, r#""2026-01-01T10:00:00""#), Ok(json!("2026-01-01T09:00:00Z")));
    assert_eq!(decoded(&berlin, "null"), Ok(Value::Null));
    let why = decoded(&berlin, r#""0001-01-01T00:00:00""#).unwrap_err();
    assert!(why.contains(RANGE), "{why}");
}

#[test]
fn the_hour_of_a_clock_change_is_a_reject_or_what_the_schema_says() {
    let of =
        |zone: &str, change: &str| json!({"type": "string", "format": "date-time-local", "x-timezone": zone, "x-clock-change": change});
    // The clocks of Berlin show 02:30 twice on the one day, and never on the other. Those of Apia
    // skip a whole day.
    for (zone, value, earlier, later, what) in [
        ("Europe/Berlin", r#""2026-10-25T02:30:00""#, "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "shown twice"),
        ("Europe/Berlin", r#""2026-03-29T02:30:00""#, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "skipped"),
        ("Pacific/Apia", r#""2011-12-30T12:00:00""#, "2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z", "skipped"),
    ] {
        assert_eq!(decoded(&of(zone, "earlier"), value), Ok(json!(earlier)), "{value}");
        assert_eq!(decoded(&of(zone, "later"), value), Ok(json!(later)), "{value}");
        let why = decoded(&of(zone, "reject"), value).unwrap_err();
        assert!(why.starts_with(&format!("`/a` must be a time that the clocks of {zone} show once")) && why.contains(what), "{why}");
    }
}
