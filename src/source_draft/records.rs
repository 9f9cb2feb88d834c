//! Where a response has its records, and which field is their key.

use forebay_schemas::json_pointer::JsonPointer;
use serde_json::{Map, Value};

/// How deep the records are looked for.
const MAX_DEPTH: usize = 4;
/// Names under which APIs return their records, of which the first ones are preferred.
const NAMES: &[&str] = &["data", "results", "items", "records", "values", "rows", "entries", "elements", "value", "hits"];
/// Names of fields that identify a record, of which the first ones are preferred.
const KEY_NAMES: &[&str] = &["id", "uuid", "guid", "key", "_id", "code", "slug", "symbol", "time", "timestamp", "date", "name"];

/// The records of a response.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundRecords {
    /// The JSON pointer to them.
    pub(super) pointer: JsonPointer,
    /// What is at the pointer.
    pub(super) shape: Shape,
    /// The records.
    pub(super) records: Vec<Value>,
    /// Other arrays of objects, with their lengths.
    pub(super) others: Vec<(JsonPointer, usize)>,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An array of objects.
    Array,
    /// An object of arrays of the same length, one for each field.
    Columns,
    /// One object, which is the record.
    Object,
}

/// Finds the records: the longest array of objects, and of several that long the one nearest to the
/// top, or with the best known name. Without one, an object of columns; without that, the response
/// itself. `None` when that is no object.
pub(super) fn find(body: &Value) -> Option<FoundRecords> {
    let mut arrays = Vec::new();
    let mut columns = Vec::new();
    search(body, &JsonPointer::default(), &mut arrays, &mut columns);
    let rank = |pointer: &JsonPointer| {
        let name = pointer.tokens().last().map(String::as_str).unwrap_or_default();
        (pointer.tokens().len(), NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len()))
    };
    arrays.sort_by_key(|(pointer, items)| (std::cmp::Reverse(items.len()), rank(pointer)));
    if let Some((pointer, items)) = arrays.first() {
        let others = arrays.iter().skip(1).map(|(pointer, items)| (pointer.clone(), items.len())).collect();
        return Some(FoundRecords { pointer: pointer.clone(), shape: Shape::Array, records: items.to_vec(), others });
    }
    if let Some((pointer, object)) = columns.into_iter().max_by_key(|(_, object)| object.len()) {
        return Some(FoundRecords { pointer, shape: Shape::Columns, records: rows(object), others: Vec::new() });
    }
    body.is_object().then(|| FoundRecords {
        pointer: JsonPointer::default(),
        shape: Shape::Object,
        records: vec![body.clone()],
        others: Vec::new(),
    })
}

fn search<'a>(
    value: &'a Value,
    here: &JsonPointer,
    arrays: &mut Vec<(JsonPointer, &'a [Value])>,
    columns: &mut Vec<(JsonPointer, &'a Map<String, Value>)>,
) {
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_object) => arrays.push((here.clone(), items)),
        Value::Object(fields) => {
            if is_columns(fields) {
                columns.push((here.clone(), fields));
            }
            if here.tokens().len() < MAX_DEPTH {
                fields.iter().for_each(|(name, value)| search(value, &here.child(name), arrays, columns));
            }
        }
        _ => {}
    }
}

/// Whether an object has at least two fields, and each is an array of as many numbers, texts,
/// booleans or nulls.
fn is_columns(fields: &Map<String, Value>) -> bool {
    let scalars = |value: &Value| !value.is_object() && !value.is_array();
    let lengths: Option<Vec<usize>> =
        fields.values().map(|value| value.as_array().filter(|items| items.iter().all(scalars)).map(Vec::len)).collect();
    lengths.is_some_and(|lengths| lengths.len() >= 2 && lengths[0] > 0 && lengths.iter().all(|length| *length == lengths[0]))
}

/// The records of an object of columns.
fn rows(columns: &Map<String, Value>) -> Vec<Value> {
    let length = columns.values().next().and_then(Value::as_array).map_or(0, Vec::len);
    let row = |at: usize| columns.iter().map(|(name, items)| (name.clone(), items[at].clone())).collect();
    (0..length).map(|at| Value::Object(row(at))).collect()
}

/// The fields that can be the key: in every record a text or an integer, and different in each. The
/// most likely one is first.
pub(super) fn keys(records: &[Value]) -> Vec<JsonPointer> {
    let mut fields = Vec::new();
    if let Some(Value::Object(first)) = records.first() {
        leaves(first, &JsonPointer::default(), &mut fields);
    }
    fields.retain(|field| {
        let values: Option<Vec<String>> =
            records.iter().map(|record| record.pointer(&field.to_string()).filter(|value| is_key(value)).map(Value::to_string)).collect();
        values.is_some_and(|mut values| {
            let all = values.len();
            values.sort_unstable();
            values.dedup();
            values.len() == all
        })
    });
    fields.sort_by_key(|field| (name_rank(field), field.tokens().len()));
    fields
}

/// Whether the name of a field says that it identifies the record.
pub(super) fn is_named_as_key(field: &JsonPointer) -> bool {
    name_rank(field) < KEY_NAMES.len() + 1
}

fn name_rank(field: &JsonPointer) -> usize {
    let name = field.tokens().last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
    let suffix = name.ends_with("id") || name.ends_with("key") || name.ends_with("number");
    KEY_NAMES.iter().position(|known| *known == name).unwrap_or(KEY_NAMES.len() + usize::from(!suffix))
}

fn leaves(object: &Map<String, Value>, here: &JsonPointer, fields: &mut Vec<JsonPointer>) {
    for (name, value) in object {
        let field = here.child(name);
        match value {
            Value::Object(inner) if field.tokens().len() < MAX_DEPTH => leaves(inner, &field, fields),
            value if is_key(value) => fields.push(field),
            _ => {}
        }
    }
}

fn is_key(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_str().is_some_and(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(body: &Value) -> (String, Shape, usize) {
        let found = find(body).unwrap();
        (found.pointer.to_string(), found.shape, found.records.len())
    }

    #[test]
    fn the_longest_array_of_objects_has_the_records() {
        let order = || json!({ "id": 1, "lines": [{ "sku": 1 }, { "sku": 2 }, { "sku": 3 }] });
        for (body, expected) in [
            (json!([order(), order()]), ("", 2)),
            (json!({ "meta": { "page": 1 }, "data": { "orders": [order()] } }), ("/data/orders", 1)),
            (json!({ "errors": [], "warnings": [{ "a": 1 }], "items": [order(), order()] }), ("/items", 2)),
            (json!({ "links": [{ "rel": "next" }], "data": [{ "id": 1 }] }), ("/data", 1)),
        ] {
            assert_eq!(found(&body), (expected.0.to_owned(), Shape::Array, expected.1), "{body}");
        }
    }

    #[test]
    fn an_object_of_equally_long_arrays_is_columns() {
        let body = json!({ "latitude": 47.4, "hourly_units": { "time": "iso8601", "rain": "mm" }, "hourly": { "time": ["a", "b"], "rain": [0.1, null] } });
        assert_eq!(found(&body), ("/hourly".to_owned(), Shape::Columns, 2));
        assert_eq!(find(&body).unwrap().records[1], json!({ "time": "b", "rain": null }));
        let ragged = json!({ "hourly": { "time": ["a", "b"], "rain": [0.1] } });
        assert_eq!(found(&ragged), (String::new(), Shape::Object, 1));
    }

    #[test]
    fn a_response_without_arrays_is_one_record() {
        assert_eq!(found(&json!({ "id": 7, "tags": ["a"] })), (String::new(), Shape::Object, 1));
        assert_eq!(find(&json!(["a", "b"])), None);
    }

    #[test]
    fn the_key_is_a_unique_field_of_every_record_and_its_name_decides_between_several() {
        let keys = |records: &[Value]| keys(records).iter().map(ToString::to_string).collect::<Vec<_>>();
        let records = [
            json!({ "email": "a", "login": { "uuid": "u1" }, "n": 1, "size": 1.5 }),
            json!({ "email": "b", "login": { "uuid": "u2" }, "n": 1, "size": 2.5 }),
        ];
        assert_eq!(keys(&records), ["/login/uuid", "/email"]);
        let records = [json!({ "total": 5, "orderId": "a" }), json!({ "total": 6, "orderId": "b" })];
        assert_eq!(keys(&records), ["/orderId", "/total"]);
        assert!(is_named_as_key(&JsonPointer::default().child("orderId")) && !is_named_as_key(&JsonPointer::default().child("total")));
        assert_eq!(keys(&[json!({ "id": 1 }), json!({ "id": 1 })]), [] as [&str; 0], "not unique");
        assert_eq!(keys(&[json!({ "id": 1 }), json!({})]), [] as [&str; 0], "not in every record");
    }
}
