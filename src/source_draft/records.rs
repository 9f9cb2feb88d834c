//! Where a response has its records, and which field is their key.

use std::collections::HashSet;

use forebay_schemas::json_pointer::{JsonPointer, escape};
use serde_json::{Map, Value};

use super::columns::snake_case;

/// How deep the records are looked for.
const MAX_DEPTH: usize = 4;
/// Names under which APIs return their records, of which the first ones are preferred.
const NAMES: &[&str] = &["data", "results", "items", "records", "values", "rows", "entries", "elements", "value", "hits"];
/// Names of arrays that accompany the records.
const SIDE_NAMES: &[&str] = &["included", "includes", "errors", "warnings", "links", "messages", "facets", "filters", "aggregations"];
/// The last word of a name that identifies a record, of which the first ones are preferred.
const KEY_WORDS: &[&str] =
    &["id", "uuid", "guid", "key", "no", "number", "num", "nr", "code", "ref", "reference", "slug", "sku", "symbol", "position", "index"];
/// Names that identify a record where it has no better one.
const WEAK_KEYS: &[&str] = &["time", "timestamp", "ts", "datetime", "date", "day", "name", "title", "url"];
/// The fewest objects under data-like names that are records.
const MIN_MEMBERS: usize = 3;
/// The most fields of which two are combined to a key.
const MAX_COMBINED: usize = 30;

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

/// Finds the records: the array of objects with the last word of the URL's path as its name, or
/// else the longest one, and of several that long the one nearest to the top, or with the best
/// known name. Without one, an object of columns; without that, an object whose members are alike;
/// without that, the response itself. `None` when that is no object.
pub(super) fn find(body: &Value, word: Option<&str>) -> Option<FoundRecords> {
    let mut found = Candidates::default();
    search(body, &JsonPointer::default(), &mut found);
    let Candidates { mut arrays, columns, alike } = found;
    let rank = |pointer: &JsonPointer| {
        let name = pointer.tokens().last().map(String::as_str).unwrap_or_default();
        (pointer.tokens().len(), NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len()))
    };
    let of_name = |pointer: &JsonPointer| {
        let name = pointer.tokens().last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        (SIDE_NAMES.contains(&name.as_str()), word.is_none_or(|word| !word.eq_ignore_ascii_case(&name)))
    };
    arrays.sort_by_key(|(pointer, items)| (of_name(pointer), std::cmp::Reverse(items.len()), rank(pointer)));
    if let Some((pointer, items)) = arrays.first() {
        let others = arrays.iter().skip(1).map(|(pointer, items)| (pointer.clone(), items.len())).collect();
        return Some(FoundRecords { pointer: pointer.clone(), shape: Shape::Array, records: items.to_vec(), others });
    }
    if let Some((pointer, object)) = columns.into_iter().max_by_key(|(_, object)| object.len()) {
        return Some(FoundRecords { pointer, shape: Shape::Columns, records: rows(object), others: Vec::new() });
    }
    let members = |object: &Map<String, Value>| object.values().cloned().collect::<Vec<_>>();
    let with_key = alike.into_iter().filter(|(_, object)| keys(&members(object), word).first().is_some_and(is_named_as_key));
    if let Some((pointer, object)) = with_key.max_by_key(|(_, object)| object.len()) {
        return Some(FoundRecords { pointer: pointer.child("*"), shape: Shape::Array, records: members(object), others: Vec::new() });
    }
    body.is_object().then(|| FoundRecords {
        pointer: JsonPointer::default(),
        shape: Shape::Object,
        records: vec![body.clone()],
        others: Vec::new(),
    })
}

/// The records at a pointer that the user names, which may have wildcards. `None` when nothing is
/// there.
pub(super) fn find_at(body: &Value, pointer: &JsonPointer) -> Option<FoundRecords> {
    if !pointer.tokens().iter().any(|token| token == "*") {
        let mut found = find(body.pointer(&pointer.to_string())?, None)?;
        found.pointer = found.pointer.tokens().iter().fold(pointer.clone(), |all, token| all.child(token));
        return Some(found);
    }
    let mut values = vec![body];
    for token in pointer.tokens() {
        values = match token.as_str() {
            "*" => values.into_iter().flat_map(children).collect(),
            name => values.into_iter().filter_map(|value| value.pointer(&format!("/{}", escape(name)))).collect(),
        };
    }
    let each = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let records: Vec<Value> = values.into_iter().flat_map(each).filter(Value::is_object).collect();
    (!records.is_empty()).then(|| FoundRecords { pointer: pointer.clone(), shape: Shape::Array, records, others: Vec::new() })
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// The first empty array where records may be: at the top, or with a usual name.
pub(super) fn empty_array(body: &Value, word: Option<&str>) -> Option<JsonPointer> {
    fn at(value: &Value, here: &JsonPointer, is_usual: &dyn Fn(&str) -> bool) -> Option<JsonPointer> {
        match value {
            Value::Array(items) => {
                let is_records = here.tokens().last().is_none_or(|name| is_usual(&name.to_ascii_lowercase()));
                (items.is_empty() && is_records).then(|| here.clone())
            }
            Value::Object(fields) if here.tokens().len() < MAX_DEPTH => {
                fields.iter().find_map(|(name, value)| at(value, &here.child(name), is_usual))
            }
            _ => None,
        }
    }
    at(body, &JsonPointer::default(), &|name| NAMES.contains(&name) || word.is_some_and(|word| word.eq_ignore_ascii_case(name)))
}

/// What may be the records of a response.
#[derive(Default)]
struct Candidates<'a> {
    arrays: Vec<(JsonPointer, &'a [Value])>,
    columns: Vec<(JsonPointer, &'a Map<String, Value>)>,
    /// Objects whose members are objects of the same fields.
    alike: Vec<(JsonPointer, &'a Map<String, Value>)>,
}

fn search<'a>(value: &'a Value, here: &JsonPointer, found: &mut Candidates<'a>) {
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_object) => found.arrays.push((here.clone(), items)),
        Value::Object(fields) => {
            if is_columns(fields) {
                found.columns.push((here.clone(), fields));
            }
            if are_alike(fields) {
                found.alike.push((here.clone(), fields));
            }
            if here.tokens().len() < MAX_DEPTH {
                fields.iter().for_each(|(name, value)| search(value, &here.child(name), found));
            }
        }
        _ => {}
    }
}

/// Whether an object has at least [`MIN_MEMBERS`] members, and all are objects of the same fields.
fn are_alike(members: &Map<String, Value>) -> bool {
    let mut objects = members.values().map(Value::as_object);
    let Some(Some(first)) = objects.next() else { return false };
    members.len() >= MIN_MEMBERS
        && !first.is_empty()
        && objects
            .all(|object| object.is_some_and(|object| object.len() == first.len() && object.keys().all(|name| first.contains_key(name))))
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
/// most likely one is first; `word` says what the records are, such as `orders`.
pub(super) fn keys(records: &[Value], word: Option<&str>) -> Vec<JsonPointer> {
    let mut fields = candidates(records);
    fields.retain(|field| differ(records, &[field]));
    fields.sort_by_key(|field| name_rank(field, word));
    fields
}

/// Two fields that are different in each record only together, such as a sensor and a time. The
/// second one is a time, if one of them is.
pub(super) fn combined_key(records: &[Value]) -> Option<[JsonPointer; 2]> {
    let mut fields = candidates(records);
    fields.sort_by_key(|field| name_rank(field, None));
    fields.truncate(MAX_COMBINED);
    let pairs = fields.iter().enumerate().flat_map(|(at, first)| fields[at + 1..].iter().map(move |second| [first, second]));
    let [first, second] = pairs.into_iter().find(|pair| differ(records, pair.as_slice()))?;
    let is_time =
        |field: &JsonPointer| matches!(words(field).last().map(String::as_str), Some("time" | "timestamp" | "ts" | "date" | "day" | "at"));
    Some(if is_time(first) && !is_time(second) { [second.clone(), first.clone()] } else { [first.clone(), second.clone()] })
}

/// The fields that are in every record a text or an integer.
fn candidates(records: &[Value]) -> Vec<JsonPointer> {
    let mut fields = Vec::new();
    if let Some(Value::Object(first)) = records.first() {
        leaves(first, &JsonPointer::default(), &mut fields);
    }
    fields.retain(|field| records.iter().all(|record| record.pointer(&field.to_string()).is_some_and(is_key)));
    fields
}

/// Whether these fields together are different in each record.
pub(super) fn differ(records: &[Value], fields: &[&JsonPointer]) -> bool {
    let pointers: Vec<String> = fields.iter().map(ToString::to_string).collect();
    let mut seen = HashSet::new();
    records.iter().all(|record| {
        let values: Option<Vec<String>> =
            pointers.iter().map(|pointer| record.pointer(pointer).filter(|value| is_key(value)).map(Value::to_string)).collect();
        values.is_some_and(|values| seen.insert(values))
    })
}

/// Whether the name of a field says that it identifies the record.
pub(super) fn is_named_as_key(field: &JsonPointer) -> bool {
    name_rank(field, None).0 < NO_KEY
}

/// The class of a field whose name does not say that it identifies the record.
const NO_KEY: usize = 4;

/// How likely a field is the key, by its name: the class, the depth, and the rank in the class. A
/// field of the record itself comes before one of an object in it, and `order_no` of orders before
/// `customer_id`: those may identify something else.
pub(super) fn name_rank(field: &JsonPointer, word: Option<&str>) -> (usize, usize, usize) {
    let (words, depth) = (words(field), field.tokens().len());
    let (last, whole) = (words.last().map(String::as_str).unwrap_or_default(), words.concat());
    let is_own = match words.split_last() {
        Some((_, [])) => true,
        Some((_, owner)) => word.is_some_and(|word| word.to_ascii_lowercase().starts_with(&owner.concat())),
        None => false,
    };
    let strong = KEY_WORDS.iter().position(|word| *word == last).map(|at| at + if is_own { 0 } else { KEY_WORDS.len() });
    let weak = WEAK_KEYS.iter().position(|word| *word == whole);
    let nested = usize::from(depth > 1) * 2;
    match (strong, weak) {
        (Some(rank), _) => (nested, depth, rank),
        (None, Some(rank)) => (1 + nested, depth, rank),
        (None, None) => (NO_KEY, depth, 0),
    }
}

/// The words of the last name of a field, in lower case: those of `orderId`, `order_id` and
/// `Order ID` are `order` and `id`.
fn words(field: &JsonPointer) -> Vec<String> {
    let name = field.tokens().last().map(String::as_str).unwrap_or_default();
    snake_case(name).split('_').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn leaves(object: &Map<String, Value>, here: &JsonPointer, fields: &mut Vec<JsonPointer>) {
    for (name, value) in object {
        let field = here.child(name);
        match value {
            Value::Object(inner) if field.tokens().len() < MAX_DEPTH => leaves(inner, &field, fields),
            value if is_key(value) && !is_unit(&field, value) => fields.push(field),
            _ => {}
        }
    }
}

fn is_key(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_str().is_some_and(|text| !text.is_empty())
}

/// Whether a field named like a time has something else, such as the unit of one.
fn is_unit(field: &JsonPointer, value: &Value) -> bool {
    let is_time = matches!(words(field).last().map(String::as_str), Some("time" | "timestamp" | "ts" | "datetime" | "date" | "day"));
    is_time && value.as_str().is_some_and(|text| !text.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(body: &Value) -> (String, Shape, usize) {
        let found = find(body, None).unwrap();
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
        assert_eq!(find(&body, None).unwrap().records[1], json!({ "time": "b", "rain": null }));
        let ragged = json!({ "hourly": { "time": ["a", "b"], "rain": [0.1] } });
        assert_eq!(found(&ragged), (String::new(), Shape::Object, 1));
    }

    #[test]
    fn a_response_without_arrays_is_one_record() {
        assert_eq!(found(&json!({ "id": 7, "tags": ["a"] })), (String::new(), Shape::Object, 1));
        assert_eq!(find(&json!(["a", "b"]), None), None);
    }

    #[test]
    fn the_key_is_a_unique_field_of_every_record_and_its_name_decides_between_several() {
        let keys = |records: &[Value]| keys(records, Some("orders")).iter().map(ToString::to_string).collect::<Vec<_>>();
        let records = [
            json!({ "email": "a", "login": { "uuid": "u1" }, "n": 1, "size": 1.5 }),
            json!({ "email": "b", "login": { "uuid": "u2" }, "n": 1, "size": 2.5 }),
        ];
        assert_eq!(keys(&records), ["/login/uuid", "/email"]);
        let records = [json!({ "total": 5, "orderId": "a" }), json!({ "total": 6, "orderId": "b" })];
        assert_eq!(keys(&records), ["/orderId", "/total"]);
        assert!(is_named_as_key(&JsonPointer::default().child("orderId")) && !is_named_as_key(&JsonPointer::default().child("total")));
        let records = [json!({ "customerId": 5, "order_no": "a", "paid": "y" }), json!({ "customerId": 6, "order_no": "b", "paid": "n" })];
        assert_eq!(keys(&records), ["/order_no", "/customerId", "/paid"]);
        let records = [json!({ "customer": { "id": 5 }, "time": "1" }), json!({ "customer": { "id": 6 }, "time": "2" })];
        assert_eq!(keys(&records), ["/time", "/customer/id"], "the id of something else");
        assert_eq!(keys(&[json!({ "units": { "time": "iso8601" }, "now": { "time": "2026-11-30" } })]), ["/now/time"]);
        assert_eq!(keys(&[json!({ "id": 1 }), json!({ "id": 1 })]), [] as [&str; 0], "not unique");
        assert_eq!(keys(&[json!({ "id": 1 }), json!({})]), [] as [&str; 0], "not in every record");
    }

    #[test]
    fn two_fields_are_the_key_where_none_differs_by_itself() {
        let read = |time: &str, sensor: &str| json!({ "ts": time, "sensor": sensor, "value": 1.5 });
        let records = [read("2026-11-30T10:00", "a"), read("2026-11-30T10:00", "b"), read("2026-11-30T11:00", "a")];
        assert_eq!(keys(&records, None), []);
        assert_eq!(combined_key(&records).unwrap().map(|field| field.to_string()), ["/sensor", "/ts"]);
        assert_eq!(combined_key(&[json!({ "a": 1, "b": 1 }), json!({ "a": 1, "b": 1 })]), None);
    }

    #[test]
    fn what_accompanies_the_records_is_not_taken_for_them() {
        let body = json!({ "data": [{ "id": 1 }], "included": [{ "id": 7 }, { "id": 8 }] });
        assert_eq!(found(&body), ("/data".to_owned(), Shape::Array, 1));
        let body = json!({ "orders": [{ "id": 1 }], "customers": [{ "id": 7 }, { "id": 8 }] });
        assert_eq!(find(&body, Some("orders")).unwrap().pointer.to_string(), "/orders");
        assert_eq!(find(&body, Some("search")).unwrap().pointer.to_string(), "/customers");
    }

    #[test]
    fn members_that_are_alike_are_records_if_they_have_a_key() {
        let user = |id: u32| json!({ "id": id, "name": "A" });
        let body = json!({ "status": "ok", "users": { "u1": user(1), "u2": user(2), "u3": user(3) } });
        assert_eq!(found(&body), ("/users/*".to_owned(), Shape::Array, 3));
        let body = json!({ "rates": { "EUR": { "bid": 1.5 }, "USD": { "bid": 1.6 }, "CHF": { "bid": 1.7 } } });
        assert_eq!(found(&body).1, Shape::Object, "the names would be lost");
    }

    #[test]
    fn records_at_a_pointer_with_wildcards_are_all_of_them() {
        let body = json!({ "groups": [{ "orders": [{ "id": 1 }, { "id": 2 }] }, { "orders": [{ "id": 3 }] }, {}] });
        let found = find_at(&body, &JsonPointer::parse("/groups/*/orders").unwrap()).unwrap();
        assert_eq!((found.pointer.to_string(), found.records.len()), ("/groups/*/orders".to_owned(), 3));
        assert_eq!(find_at(&body, &JsonPointer::parse("/groups/*/lines").unwrap()), None);
    }

    #[test]
    fn an_empty_array_with_the_name_of_records_is_found() {
        for (body, at) in [
            (json!([]), Some("")),
            (json!({ "data": [], "next": null }), Some("/data")),
            (json!({ "result": { "orders": [] } }), Some("/result/orders")),
            (json!({ "id": 7, "tags": [] }), None),
        ] {
            assert_eq!(empty_array(&body, Some("orders")).map(|at| at.to_string()).as_deref(), at, "{body}");
        }
    }
}
