//! Records from columns: an object of equally long arrays. Pure.
//!
//! Guarantees:
//! * Record `n` has the `n`th value of every column, byte for byte, under the column's name.
//! * Columns of different lengths are an error that names them.

use bytes::Bytes;
use forebay_schemas::json_pointer::JsonPointer;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::page_error::PageError;
use crate::text::json_lookup::{JsonLookup as _, kind};

/// The most columns.
const MAX_COLUMNS: usize = 10_000;

/// The records of the columns that `pointer` leads to, at most `max_records` of at most
/// `max_bytes` together. Without columns there are none.
///
/// # Errors
/// When there is no object of equally long arrays, or the records are too many or too large.
pub(super) fn records(body: &[u8], pointer: &JsonPointer, max_records: usize, max_bytes: usize) -> Result<Vec<Bytes>, PageError> {
    let wrong = |cause: String| PageError::Columns { pointer: pointer.to_string(), cause };
    let Some(object) = pointer.find_first(body) else {
        let cause = || pointer.explain(body);
        return if pointer.meets_null(body) { Ok(Vec::new()) } else { Err(wrong(cause())) };
    };
    let json = object.get().as_bytes();
    match kind(json) {
        "null" => return Ok(Vec::new()),
        "an object" => {}
        kind => return Err(wrong(format!("it leads to {kind}, not to an object of arrays"))),
    }
    let mut columns: Vec<(&RawValue, Vec<&RawValue>)> = Vec::new();
    for (name, values) in members(json, MAX_COLUMNS) {
        let values = serde_json::from_str(values.get())
            .map_err(|_| wrong(format!("its {} is {}, not an array", name.get(), kind(values.get().as_bytes()))))?;
        columns.push((name, values));
    }
    if columns.len() > MAX_COLUMNS {
        return Err(wrong(format!("it has more than {MAX_COLUMNS} columns")));
    }
    let length = columns.first().map_or(0, |(_, values)| values.len());
    if let Some((name, values)) = columns.iter().find(|(_, values)| values.len() != length) {
        let (first, other) = (columns[0].0.get(), name.get());
        return Err(wrong(format!("its columns have different lengths: {first} has {length} values, {other} has {}", values.len())));
    }
    if length > max_records {
        return Err(PageError::TooMany { max: max_records });
    }
    let mut json = Vec::new();
    let mut ends = Vec::with_capacity(length);
    for at in 0..length {
        let mut before = b'{';
        for (name, values) in &columns {
            json.push(before);
            json.extend_from_slice(name.get().as_bytes());
            json.push(b':');
            json.extend_from_slice(values[at].get().as_bytes());
            before = b',';
        }
        json.push(b'}');
        if json.len() > max_bytes {
            return Err(wrong(format!(
                "as records they have more than {max_bytes} bytes; ask the API for fewer, or raise fetcher.max_page_bytes"
            )));
        }
        ends.push(json.len());
    }
    let json = Bytes::from(json.into_boxed_slice());
    let mut start = 0;
    Ok(ends.into_iter().map(|end| json.slice(std::mem::replace(&mut start, end)..end)).collect())
}

/// The first members of an object, with their names as they are written: `max` and one more.
pub(super) fn members(json: &[u8], max: usize) -> Vec<(&RawValue, &RawValue)> {
    struct Members(usize);
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut members = Vec::new();
            while members.len() <= self.0 {
                let Some(member) = map.next_entry()? else { return Ok(members) };
                members.push(member);
            }
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(members)
        }
    }
    serde_json::Deserializer::from_slice(json).deserialize_map(Members(max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::json_lookup::parse_pointer;

    fn read(pointer: &str, body: &str) -> Result<Vec<String>, String> {
        let found = records(body.as_bytes(), &parse_pointer(pointer), 100, 200).map_err(|error| error.to_string())?;
        Ok(found.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect())
    }

    #[test]
    fn the_values_at_one_index_of_all_columns_are_a_record() {
        let body = r#"{"hourly": {"time": ["00:00", "01:00"], "t\u00b0": [1.50, null], "x": [{"a": 1}, []]}, "units": {}}"#;
        let first = r#"{"time":"00:00","t\u00b0":1.50,"x":{"a": 1}}"#;
        assert_eq!(read("/hourly", body).unwrap(), [first, r#"{"time":"01:00","t\u00b0":null,"x":[]}"#]);
        for body in [r#"{"hourly": {}}"#, r#"{"hourly": null}"#, r#"{"hourly": {"time": []}}"#] {
            assert_eq!(read("/hourly", body).unwrap(), [""; 0], "{body}");
        }
    }

    #[test]
    fn what_is_no_table_of_columns_is_an_error_that_names_them() {
        for (body, cause) in [
            (r#"{"a": {"x": [1, 2], "y": [1]}}"#, r#"its columns have different lengths: "x" has 2 values, "y" has 1"#),
            (r#"{"a": {"x": [1], "unit": "m"}}"#, r#"its "unit" is a string, not an array"#),
            (r#"{"a": [1]}"#, "it leads to an array, not to an object of arrays"),
            (r#"{"b": {}}"#, "the answer has no `a`; it has `b`"),
        ] {
            assert_eq!(read("/a", body).unwrap_err(), format!("fetcher.records.columns = \"/a\" has no records: {cause}"), "{body}");
        }
        let long = format!(r#"{{"a": {{"{}": [1, 2, 3]}}}}"#, "x".repeat(80));
        assert!(read("/a", &long).unwrap_err().contains("more than 200 bytes"));
        assert!(read("/a", &format!(r#"{{"a": {{"x": [{}1]}}}}"#, "1,".repeat(100))).unwrap_err().contains("more than 100 records"));
    }
}
