//! A JSON Schema that fits given records, in the part of JSON Schema that Forebay enforces.
//!
//! Guarantees:
//! * Each record that was added fits the schema, unless it is not an object.
//! * A format is inferred only if the decoder reads every value with it.
//! * A field of several types, or whose keys are data, is read as text, and reported with its
//!   reason.
//! * What the schema can't say is left out, and reported with its reason.
//!
//! Does not guarantee that the next record fits.

use std::collections::HashMap;

use forebay_schemas::json_pointer::JsonPointer;
use forebay_schemas::record_schema::{JsonTypes, MAX_DEPTH, RESERVED_FIELDS};
use serde_json::{Map, Value, json};

use super::json_scalar::JsonNumber;
use super::{rfc3339, text_values};

/// The maximum number of different fields of one object. Further ones are counted only.
const MAX_FIELDS: usize = 1_000;
/// With more different fields than this, and each in few objects, the names are taken for data.
const MAX_FIXED_FIELDS: usize = 64;

/// Infers a schema from records, one after the other.
#[derive(Debug, Default)]
pub struct SchemaInference {
    pub(super) root: Values,
}

/// A schema that was inferred.
#[derive(Debug, Clone, PartialEq)]
pub struct InferredSchema {
    /// The schema: an object.
    pub schema: Value,
    /// The fields that it leaves out, in the order of the records.
    pub left_out: Vec<FieldNote>,
    /// The fields that it reads as text, in the order of the records.
    pub as_text: Vec<FieldNote>,
}

/// A field that the schema leaves out, or reads as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldNote {
    /// The JSON pointer to the field in a record. Items of an array are `*`.
    pub field: String,
    /// Why.
    pub reason: String,
}

/// What is to be said of a schema.
#[derive(Debug, Default)]
struct Notes {
    left_out: Vec<FieldNote>,
    as_text: Vec<FieldNote>,
}

/// What was seen of one field, of the items of an array, or of the record itself.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) nulls: u64,
    pub(super) booleans: u64,
    /// Numbers that fit in 64 bits.
    pub(super) integers: u64,
    /// Other numbers.
    pub(super) floats: u64,
    /// Those of them that the decoder reads as integers, such as `1.0` and `1e3`.
    pub(super) whole_floats: u64,
    /// Integers from 2^63 to 2^64 - 1.
    pub(super) large_integers: u64,
    pub(super) texts: u64,
    pub(super) uuids: u64,
    pub(super) timestamps: u64,
    pub(super) local_timestamps: u64,
    pub(super) dates: u64,
    pub(super) objects: u64,
    pub(super) arrays: u64,
    pub(super) fields: Fields,
    pub(super) items: Option<Box<Values>>,
}

/// The fields of objects, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Fields {
    names: HashMap<String, usize>,
    all: Vec<(String, Values)>,
    /// The fields beyond [`MAX_FIELDS`].
    further: u64,
}

impl SchemaInference {
    /// Adds a record.
    pub fn add(&mut self, record: &Value) {
        self.root.add(record, 0);
    }

    /// How many records were added.
    pub fn records(&self) -> u64 {
        self.root.seen()
    }

    /// How many of them are no objects. They are dead letters with every schema.
    pub fn not_objects(&self) -> u64 {
        self.root.seen() - self.root.objects
    }

    /// Returns the schema of the records; `None` when it would have no field.
    pub fn schema(&self) -> Option<InferredSchema> {
        let mut notes = Notes::default();
        let schema = self.root.object(&JsonPointer::default(), &mut notes).ok()?;
        let Notes { left_out, as_text } = notes;
        Some(InferredSchema { schema: Value::Object(schema), left_out, as_text })
    }
}

impl Values {
    fn add(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.nulls += 1,
            Value::Bool(_) => self.booleans += 1,
            Value::Number(number) if number.is_i64() => self.integers += 1,
            Value::Number(number) if number.is_u64() => self.large_integers += 1,
            Value::Number(number) => {
                let text = number.to_string();
                self.floats += 1;
                self.whole_floats += u64::from(JsonNumber { raw: &text, plain: false }.integer().is_some());
            }
            Value::String(text) => {
                let text = text.as_bytes();
                self.texts += 1;
                self.uuids += u64::from(text_values::is_uuid(text));
                self.timestamps += u64::from(rfc3339::date_time(text).is_some());
                self.local_timestamps += u64::from(rfc3339::local_date_time(text).is_some());
                self.dates += u64::from(rfc3339::date(text).is_some());
            }
            Value::Array(items) => {
                self.arrays += 1;
                if depth < MAX_DEPTH {
                    let all = self.items.get_or_insert_default();
                    items.iter().for_each(|item| all.add(item, depth + 1));
                }
            }
            Value::Object(fields) => {
                self.objects += 1;
                if depth < MAX_DEPTH {
                    fields.iter().for_each(|(name, value)| self.fields.add(name, value, depth + 1));
                }
            }
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.nulls + self.counts().iter().map(|(count, _)| count).sum::<u64>()
    }

    /// How many values are of one of these types.
    pub(super) fn of(&self, types: JsonTypes) -> u64 {
        let counts = [
            (JsonTypes::BOOLEAN, self.booleans),
            (JsonTypes::INTEGER, self.integers + self.large_integers + self.whole_floats),
            (JsonTypes::NUMBER, self.integers + self.large_integers + self.floats),
            (JsonTypes::TEXT, self.texts),
            (JsonTypes::OBJECT, self.objects),
            (JsonTypes::ARRAY, self.arrays),
        ];
        counts.into_iter().filter(|(of, _)| types.has(*of)).map(|(_, count)| count).sum()
    }

    /// How often each kind of value was seen, without null.
    pub(super) fn counts(&self) -> [(u64, &'static str); 7] {
        [
            (self.booleans, "true or false"),
            (self.integers, "an integer"),
            (self.floats, "a number with a fraction"),
            (self.large_integers, "an integer above 2^63 - 1"),
            (self.texts, "text"),
            (self.objects, "an object"),
            (self.arrays, "an array"),
        ]
    }

    /// The schema of these values, or why there is none.
    fn schema(&self, here: &JsonPointer, notes: &mut Notes) -> Result<Map<String, Value>, String> {
        let kinds: Vec<_> = self.counts().into_iter().filter(|(count, _)| *count > 0).collect();
        let numbers = self.integers + self.floats + self.large_integers;
        let all: u64 = kinds.iter().map(|(count, _)| count).sum();
        let mut schema = match all {
            0 => return Err("it is null in every record; its type is unknown".to_owned()),
            _ if self.objects == all && self.data_names().is_some() => {
                self.as_text(here, format!("as the text of its JSON, because {}", self.data_names().unwrap_or_default()), notes)
            }
            _ if self.objects == all => self.object(here, notes)?,
            _ if self.arrays == all => self.array(here, notes)?,
            _ if self.booleans == all => of_type(json!("boolean")),
            _ if self.integers == all => of_type(json!("integer")),
            _ if self.large_integers > 0 && self.large_integers + self.integers == all => {
                self.as_text(here, "because it has integers above 2^63 - 1, of which a number would keep 15 digits".to_owned(), notes)
            }
            _ if numbers == all => of_type(json!("number")),
            _ if self.texts == all => self.text(),
            _ if self.texts + self.integers == all => of_type(json!(["integer", "string"])),
            _ => {
                let kinds: Vec<_> = kinds.iter().map(|(count, kind)| format!("{kind} in {count}")).collect();
                let how = if self.objects + self.arrays > 0 { "as the text of its JSON, " } else { "" };
                self.as_text(here, format!("{how}because it has several types: {}", kinds.join(", ")), notes)
            }
        };
        if self.nulls > 0 {
            let mut types = match schema.get("type") {
                Some(Value::Array(types)) => types.clone(),
                one => one.cloned().into_iter().collect(),
            };
            types.push(json!("null"));
            schema.insert("type".to_owned(), Value::Array(types));
        }
        Ok(schema)
    }

    fn text(&self) -> Map<String, Value> {
        let formats = [(self.uuids, "uuid"), (self.timestamps, "date-time"), (self.dates, "date")];
        let mut schema = of_type(json!("string"));
        if let Some((_, format)) = formats.into_iter().find(|(count, _)| *count == self.texts) {
            schema.insert("format".to_owned(), json!(format));
        }
        schema
    }

    /// Why the names of the fields are data, if they are.
    fn data_names(&self) -> Option<String> {
        let Fields { all, further, .. } = &self.fields;
        let present: u64 = all.iter().map(|(_, values)| values.seen()).sum();
        let names = all.len() as u64 + further;
        let are_data = *further > 0 || all.len() > MAX_FIXED_FIELDS && present.saturating_mul(2) < names.saturating_mul(self.objects);
        are_data.then(|| format!("the names of its fields look like data: {names} different ones in {} objects", self.objects))
    }

    /// The schema that reads these values as text. An integer that a number does not hold exactly
    /// is one for text.
    fn as_text(&self, here: &JsonPointer, reason: String, notes: &mut Notes) -> Map<String, Value> {
        notes.as_text.push(FieldNote { field: here.to_string(), reason });
        let types = [
            (self.booleans, "boolean"),
            (if self.floats == 0 { self.integers + self.large_integers } else { 0 }, "integer"),
            (self.floats, "number"),
            (self.texts + if self.large_integers > 0 && self.floats == 0 { self.large_integers } else { 0 }, "string"),
            (self.objects, "object"),
            (self.arrays, "array"),
        ];
        let mut types: Vec<_> = types.into_iter().filter(|(count, _)| *count > 0).map(|(_, name)| json!(name)).collect();
        match types.len() {
            1 => of_type(types.remove(0)),
            _ => of_type(Value::Array(types)),
        }
    }

    fn array(&self, here: &JsonPointer, notes: &mut Notes) -> Result<Map<String, Value>, String> {
        let items = self.items.as_ref().filter(|items| items.seen() > 0);
        let items = items.ok_or_else(|| "its arrays are empty; the type of their items is unknown".to_owned())?;
        let items = items.schema(&here.child("*"), notes).map_err(|reason| format!("of its items: {reason}"))?;
        let mut schema = of_type(json!("array"));
        schema.insert("items".to_owned(), Value::Object(items));
        Ok(schema)
    }

    fn object(&self, here: &JsonPointer, notes: &mut Notes) -> Result<Map<String, Value>, String> {
        if let Some(reason) = self.data_names() {
            return Err(reason);
        }
        let (mut properties, mut required, before) = (Map::new(), Vec::new(), notes.left_out.len());
        for (name, values) in self.fields.iter() {
            let field = here.child(name);
            let reserved = here.is_root() && RESERVED_FIELDS.contains(&name.as_str());
            let schema = match reserved {
                true => Err("Forebay adds a column of that name to every record".to_owned()),
                false => values.schema(&field, notes),
            };
            match schema {
                Ok(schema) => {
                    if values.seen() == self.objects {
                        required.push(json!(name));
                    }
                    properties.insert(name.clone(), Value::Object(schema));
                }
                Err(reason) => notes.left_out.push(FieldNote { field: field.to_string(), reason }),
            }
        }
        if properties.is_empty() {
            let inner = notes.left_out.drain(before..).next();
            return Err(match inner {
                None => "it has no field".to_owned(),
                // That of the innermost field.
                Some(FieldNote { reason, .. }) if reason.starts_with("of /") => reason,
                Some(FieldNote { field, reason }) => format!("of {field}: {reason}"),
            });
        }
        let mut schema = of_type(json!("object"));
        if !required.is_empty() {
            schema.insert("required".to_owned(), Value::Array(required));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        Ok(schema)
    }
}

impl Fields {
    /// The values of a field.
    pub(super) fn get(&self, name: &str) -> Option<&Values> {
        self.names.get(name).map(|&at| &self.all[at].1)
    }

    /// The fields, in the order in which they were first seen.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, Values)> {
        self.all.iter()
    }

    fn add(&mut self, name: &str, value: &Value, depth: usize) {
        let at = match self.names.get(name) {
            Some(&at) => at,
            None if self.all.len() == MAX_FIELDS => {
                self.further += 1;
                return;
            }
            None => {
                self.names.insert(name.to_owned(), self.all.len());
                self.all.push((name.to_owned(), Values::default()));
                self.all.len() - 1
            }
        };
        self.all[at].1.add(value, depth);
    }
}

fn of_type(types: Value) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), types)])
}

#[cfg(test)]
mod tests {
    use forebay_schemas::pipeline::FileText;
    use forebay_schemas::record_schema::RecordSchema;

    use super::*;

    fn infer(records: &[Value]) -> InferredSchema {
        let mut inference = SchemaInference::default();
        records.iter().for_each(|record| inference.add(record));
        let inferred = inference.schema().unwrap();
        let file = FileText { path: "inferred.json".into(), text: inferred.schema.to_string() };
        RecordSchema::parse(&file).expect("an inferred schema is supported");
        inferred
    }

    /// The schema of a field with these values, and why it is left out or text.
    fn field(values: &[Value]) -> (Value, Option<String>) {
        let records: Vec<_> = values.iter().map(|value| json!({ "id": 1, "a": value })).collect();
        let InferredSchema { schema, mut left_out, mut as_text } = infer(&records);
        (schema["properties"]["a"].clone(), left_out.pop().or(as_text.pop()).map(|note| note.reason))
    }

    #[test]
    fn a_field_has_the_type_and_the_format_of_all_its_values() {
        let uuid = "7a0eed16-9430-4d68-901f-c0d4c1c3bf00";
        for (values, schema) in [
            (vec![json!(true)], json!({ "type": "boolean" })),
            (vec![json!(1), json!(-7)], json!({ "type": "integer" })),
            (vec![json!(1), json!(1.5)], json!({ "type": "number" })),
            (vec![json!("a"), json!("")], json!({ "type": "string" })),
            (vec![json!(63104), json!("K1A 0B1")], json!({ "type": ["integer", "string"] })),
            (vec![json!(uuid)], json!({ "type": "string", "format": "uuid" })),
            (vec![json!(uuid), json!("none")], json!({ "type": "string" })),
            (vec![json!("1992-03-08T15:13:16.688Z")], json!({ "type": "string", "format": "date-time" })),
            (vec![json!("1992-03-08"), json!(null)], json!({ "type": ["string", "null"], "format": "date" })),
            (vec![json!("1992-03-08"), json!("1992-03-08T15:13:16Z")], json!({ "type": "string" })),
            (vec![json!("2026-11-28 10:00:00")], json!({ "type": "string" })),
            (vec![json!([1, null]), json!([])], json!({ "type": "array", "items": { "type": ["integer", "null"] } })),
        ] {
            assert_eq!(field(&values), (schema, None), "{values:?}");
        }
    }

    #[test]
    fn what_a_schema_can_t_say_is_left_out_with_its_reason() {
        for (values, reason) in [
            (vec![json!(null)], "it is null in every record; its type is unknown"),
            (vec![json!([])], "its arrays are empty; the type of their items is unknown"),
            (vec![json!({})], "it has no field"),
            (vec![json!({ "b": { "c": null } })], "of /a/b/c: it is null in every record; its type is unknown"),
        ] {
            assert_eq!(field(&values), (Value::Null, Some(reason.to_owned())), "{values:?}");
        }
        let InferredSchema { schema, left_out, .. } = infer(&[json!({ "id": 1, "_offset": 7 })]);
        assert_eq!(schema["properties"], json!({ "id": { "type": "integer" } }));
        assert_eq!(left_out[0].field, "/_offset");
    }

    #[test]
    fn a_field_of_several_types_is_text_or_json_that_its_values_fit() {
        for (values, types, reason) in [
            (
                vec![json!(1.5), json!("a"), json!("b"), json!(null)],
                json!(["number", "string", "null"]),
                "because it has several types: a number with a fraction in 1, text in 2",
            ),
            (
                vec![json!(1), json!(true)],
                json!(["boolean", "integer"]),
                "because it has several types: true or false in 1, an integer in 1",
            ),
            (
                vec![json!({ "b": 1 }), json!("a")],
                json!(["string", "object"]),
                "as the text of its JSON, because it has several types: text in 1, an object in 1",
            ),
            (
                vec![json!(u64::MAX), json!(1)],
                json!(["integer", "string"]),
                "because it has integers above 2^63 - 1, of which a number would keep 15 digits",
            ),
        ] {
            assert_eq!(field(&values), (json!({ "type": types }), Some(reason.to_owned())), "{values:?}");
        }
        let items = field(&[json!([1, true])]).0;
        assert_eq!(items, json!({ "type": "array", "items": { "type": ["boolean", "integer"] } }));
    }

    #[test]
    fn a_field_is_required_if_each_object_has_it() {
        let inferred = infer(&[json!({ "id": 1, "a": { "b": 1, "c": 2 } }), json!({ "id": 2, "a": { "b": 3 } }), json!({ "id": 3 })]);
        let inner =
            json!({ "type": "object", "required": ["b"], "properties": { "b": { "type": "integer" }, "c": { "type": "integer" } } });
        let all = json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "integer" }, "a": inner } });
        assert_eq!(inferred, InferredSchema { schema: all, left_out: Vec::new(), as_text: Vec::new() });
    }

    #[test]
    fn an_object_whose_field_names_are_data_is_json() {
        let record = |n: usize| json!({ "id": n, "by_user": { format!("user-{n}"): 1 } });
        let records: Vec<_> = (0..100).map(record).collect();
        let InferredSchema { schema, as_text, .. } = infer(&records);
        assert_eq!((&schema["properties"]["by_user"], as_text[0].field.as_str()), (&json!({ "type": "object" }), "/by_user"));
        let names = "as the text of its JSON, because the names of its fields look like data";
        assert_eq!(as_text[0].reason, format!("{names}: 100 different ones in 100 objects"));
        let records: Vec<_> = (0..MAX_FIELDS + 5).map(record).collect();
        assert_eq!(infer(&records).as_text[0].reason, format!("{names}: 1005 different ones in 1005 objects"));
        let wide = Value::Object((0..200).map(|n| (format!("column_{n}"), json!(n))).collect());
        assert_eq!(infer(&[wide.clone(), wide]).left_out, [], "many fields, in every record");
    }

    #[test]
    fn records_that_are_not_objects_are_counted() {
        let mut inference = SchemaInference::default();
        [json!(1), json!({ "id": 1 }), json!(null)].iter().for_each(|record| inference.add(record));
        assert_eq!((inference.records(), inference.not_objects()), (3, 2));
        assert!(inference.schema().is_some());
        let mut inference = SchemaInference::default();
        inference.add(&json!([1]));
        assert_eq!(inference.schema(), None);
    }

    #[test]
    fn nesting_beyond_the_limit_is_left_out() {
        let mut value = json!({ "leaf": 1 });
        (0..MAX_DEPTH + 5).for_each(|_| value = json!({ "inner": value }));
        let mut inference = SchemaInference::default();
        inference.add(&json!({ "id": 1, "deep": value }));
        let InferredSchema { schema, left_out, .. } = inference.schema().unwrap();
        assert_eq!(schema["required"], json!(["id"]));
        assert_eq!(left_out.len(), 1, "{left_out:?}");
        assert!(left_out[0].field == "/deep" && left_out[0].reason.ends_with("/inner: it has no field"), "{left_out:?}");
    }
}
