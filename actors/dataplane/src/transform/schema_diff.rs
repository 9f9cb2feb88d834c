//! What differs between the schema of a pipeline and the records of its source.
//!
//! Guarantees:
//! * A difference that makes records dead letters is a problem, with the number of records or
//!   objects that it is in. One that does not is a note.
//!
//! Does not guarantee that a record without a problem becomes a row: limits, lists of values and
//! the range of times are not compared, and the SQL and the table decide, too.

use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::record_schema::{Field, Item, JsonTypes, Kind, RESERVED_FIELDS, RecordSchema};

use super::schema_inference::{SchemaInference, Values};

/// A difference between a schema and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDifference {
    /// The JSON pointer to the field in a record. Items of an array are `*`.
    pub field: String,
    /// Whether it makes records dead letters.
    pub problem: bool,
    /// What differs.
    pub what: String,
}

/// Compares a schema with records: first the fields of the schema, then those that it does not
/// have.
pub fn schema_diff(schema: &RecordSchema, records: &SchemaInference) -> Vec<SchemaDifference> {
    let mut differences = Differences(Vec::new());
    let not_objects = records.not_objects();
    if not_objects > 0 {
        differences.add(&JsonPointer::default(), true, format!("{not_objects} records are no objects"));
    }
    differences.object(&JsonPointer::default(), &schema.fields, &records.root);
    differences.0
}

struct Differences(Vec<SchemaDifference>);

impl Differences {
    fn add(&mut self, field: &JsonPointer, problem: bool, what: String) {
        self.0.push(SchemaDifference { field: field.to_string(), problem, what });
    }

    fn object(&mut self, here: &JsonPointer, fields: &[Field], objects: &Values) {
        let all = objects.objects;
        if all == 0 {
            return;
        }
        for field in fields {
            let at = here.child(&field.name);
            let values = objects.fields.get(&field.name);
            let absent = all - values.map_or(0, Values::seen);
            match (absent, field.optional) {
                (0, _) => {}
                (absent, false) => self.add(&at, true, format!("is required, and absent in {absent} of {all}")),
                (absent, true) if absent == all => self.add(&at, false, format!("is in none of {all}")),
                _ => {}
            }
            if let Some(values) = values {
                self.values(&at, &field.kind, field.null, values);
            }
        }
        for (name, values) in objects.fields.iter() {
            let reserved = here.is_root() && RESERVED_FIELDS.contains(&name.as_str());
            if !reserved && !fields.iter().any(|field| field.name == *name) {
                let kinds = values.counts().into_iter().chain([(values.nulls, "null")]).filter(|(count, _)| *count > 0);
                let kinds: Vec<_> = kinds.map(|(count, kind)| format!("{kind} in {count}")).collect();
                self.add(&here.child(name), false, format!("is not in the schema: {}", kinds.join(", ")));
            }
        }
    }

    fn values(&mut self, here: &JsonPointer, kind: &Kind, null: bool, values: &Values) {
        if values.nulls > 0 && !null {
            self.add(here, true, format!("must not be null, and is in {}", values.nulls));
        }
        let fitting = match kind {
            Kind::Bool => values.booleans,
            Kind::Int64 => values.integers + values.whole_floats,
            Kind::Float64 => values.integers + values.floats + values.large_integers,
            Kind::Text => values.texts,
            Kind::TextOf(types) | Kind::Json(types) => values.of(*types),
            Kind::Uuid => values.uuids,
            Kind::Timestamp => values.timestamps,
            Kind::LocalTimestamp { .. } => values.local_timestamps,
            Kind::Epoch { fraction, .. } => values.of(if *fraction { JsonTypes::NUMBER } else { JsonTypes::INTEGER }),
            Kind::Date => values.dates,
            Kind::Object(_) => values.objects,
            Kind::Array(_) => values.arrays,
        };
        let wrong = values.seen() - values.nulls - fitting;
        if wrong > 0 {
            self.add(here, true, format!("must be {}, and is not in {wrong}", kind.expected()));
        }
        match kind {
            Kind::Object(fields) => self.object(here, fields, values),
            Kind::Array(item) => {
                let Item { kind, null, .. } = &**item;
                values.items.iter().for_each(|items| self.values(&here.child("*"), kind, *null, items));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_schemas::pipeline::FileText;
    use serde_json::{Value, json};

    use super::*;

    fn diff(properties: &Value, records: &[Value]) -> Vec<(String, bool, String)> {
        let schema = json!({ "type": "object", "required": ["id"], "properties": properties });
        let schema = RecordSchema::parse(&FileText { path: "s.json".into(), text: schema.to_string() }).unwrap();
        let mut inference = SchemaInference::default();
        records.iter().for_each(|record| inference.add(record));
        schema_diff(&schema, &inference).into_iter().map(|found| (found.field, found.problem, found.what)).collect()
    }

    fn found(field: &str, problem: bool, what: &str) -> Vec<(String, bool, String)> {
        vec![(field.to_owned(), problem, what.to_owned())]
    }

    #[test]
    fn records_that_fit_have_no_difference() {
        let properties = json!({
            "id": { "type": "integer" },
            "size": { "type": "number" },
            "code": { "type": ["integer", "string"] },
            "tags": { "type": "array", "items": { "type": "string" } },
            "made": { "type": ["string", "null"], "format": "date-time" },
        });
        let records = [
            json!({ "id": 1, "size": 1, "code": "K1A", "tags": [], "made": null }),
            json!({ "id": 1.0, "size": 2.5, "code": 7, "tags": ["a"], "made": "2026-11-30T10:00:00Z" }),
        ];
        assert_eq!(diff(&properties, &records), []);
    }

    #[test]
    fn each_way_not_to_fit_is_a_problem_with_its_count() {
        let id = json!({ "id": { "type": "integer" } });
        for (properties, records, what) in [
            (id.clone(), vec![json!({ "id": 1 }), json!({})], found("/id", true, "is required, and absent in 1 of 2")),
            (id.clone(), vec![json!({ "id": null })], found("/id", true, "must not be null, and is in 1")),
            (
                id.clone(),
                vec![json!({ "id": 1.5 }), json!({ "id": "1" })],
                found("/id", true, "must be an integer of 64 bits, and is not in 2"),
            ),
            (id.clone(), vec![json!(7), json!({ "id": 7 })], found("", true, "1 records are no objects")),
            (
                json!({ "id": { "type": "integer" }, "made": { "type": "string", "format": "date" } }),
                vec![json!({ "id": 1, "made": "yesterday" })],
                found("/made", true, "must be a date such as \"1992-03-08\", and is not in 1"),
            ),
            (
                json!({ "id": { "type": "integer" }, "lines": { "type": "array", "items": {
                    "type": "object", "required": ["sku"], "properties": { "sku": { "type": "string" } } } } }),
                vec![json!({ "id": 1, "lines": [{ "sku": "a" }, {}] })],
                found("/lines/*/sku", true, "is required, and absent in 1 of 2"),
            ),
        ] {
            assert_eq!(diff(&properties, &records), what);
        }
    }

    #[test]
    fn new_fields_and_those_that_no_record_has_are_notes() {
        let properties = json!({ "id": { "type": "integer" }, "old": { "type": "string" } });
        let records = [json!({ "id": 1, "new": "a" }), json!({ "id": 2, "new": null, "_offset": 1 })];
        let notes = [found("/old", false, "is in none of 2"), found("/new", false, "is not in the schema: text in 1, null in 1")];
        assert_eq!(diff(&properties, &records), notes.concat());
    }
}
