//! The columns of a table for records, and the SELECT that makes them.

use std::collections::HashSet;

use forebay_dataplane::store::is_reserved_word;
use forebay_schemas::json_pointer::JsonPointer;
use serde_json::Value;

/// The longest name of a column, in bytes. Cassandra's limit.
const MAX_NAME_BYTES: usize = 48;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// The field that it has.
    pub(super) field: JsonPointer,
    /// Its name.
    pub(super) name: String,
    /// Whether each value is a UUID.
    pub(super) is_uuid: bool,
}

impl Column {
    /// What the SELECT says for it.
    pub(super) fn sql(&self) -> String {
        let mut tokens = self.field.tokens().iter();
        let first = tokens.next().map(String::as_str).unwrap_or_default();
        let rest: String = tokens.map(|name| format!("['{}']", name.replace('\'', "''"))).collect();
        format!("{}{rest} AS {}", quoted(first), self.name)
    }
}

/// A field as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns for the fields of a schema, and the fields that get none: arrays of objects.
pub(super) fn of(schema: &Value) -> (Vec<Column>, Vec<JsonPointer>) {
    let (mut columns, mut arrays, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    add(schema, &JsonPointer::default(), &mut columns, &mut arrays, &mut names);
    (columns, arrays)
}

fn add(schema: &Value, here: &JsonPointer, columns: &mut Vec<Column>, arrays: &mut Vec<JsonPointer>, names: &mut HashSet<String>) {
    let Some(fields) = schema["properties"].as_object() else { return };
    for (name, schema) in fields {
        let field = here.child(name);
        if schema["properties"].is_object() {
            add(schema, &field, columns, arrays, names);
        } else if has_objects(schema) {
            arrays.push(field);
        } else {
            let name = unique(&column_name(field.tokens()), names);
            columns.push(Column { field, name, is_uuid: schema["format"] == "uuid" });
        }
    }
}

/// Whether it is an array whose items, or their items, are objects or arrays.
fn has_objects(schema: &Value) -> bool {
    schema["items"]["properties"].is_object() || schema["items"]["items"].is_object()
}

/// The path in lower case, with `_` between its words: `billingAddress`, `street` becomes
/// `billing_address_street`.
fn column_name(path: &[String]) -> String {
    let mut name = String::new();
    for part in path {
        let mut previous = '_';
        for character in part.chars() {
            let starts_word = character.is_ascii_uppercase() && previous.is_ascii_lowercase();
            if starts_word || !character.is_ascii_alphanumeric() && !name.ends_with('_') {
                name.push('_');
            }
            if character.is_ascii_alphanumeric() {
                name.push(character.to_ascii_lowercase());
            }
            previous = character;
        }
        if !name.ends_with('_') {
            name.push('_');
        }
    }
    let mut name = name.trim_matches('_').to_owned();
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.insert_str(0, "c_");
    }
    name.truncate(MAX_NAME_BYTES);
    if is_reserved_word(&name) {
        name.push('_');
    }
    name
}

fn unique(name: &str, names: &mut HashSet<String>) -> String {
    let free = |number: usize| match number {
        1 => name.to_owned(),
        number => format!("{}_{number}", &name[..name.len().min(MAX_NAME_BYTES - 5)]),
    };
    let name = (1..10_000).map(free).find(|name| !names.contains(name)).unwrap_or_else(|| name.to_owned());
    names.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_fields_become_columns_named_after_their_path() {
        let text = json!({ "type": "string" });
        let schema = json!({ "properties": {
            "id": { "type": "string", "format": "uuid" },
            "billingAddress": { "properties": { "street": text, "zip-code": text } },
            "Total": { "type": "number" },
            "total": { "type": "number" },
            "order": { "type": "integer" },
            "2fa": { "type": "boolean" },
            "tags": { "type": "array", "items": text },
            "lines": { "type": "array", "items": { "properties": { "sku": text } } },
        } });
        let (columns, arrays) = of(&schema);
        let sql: Vec<_> = columns.iter().map(Column::sql).collect();
        let expected = [
            "\"id\" AS id",
            "\"billingAddress\"['street'] AS billing_address_street",
            "\"billingAddress\"['zip-code'] AS billing_address_zip_code",
            "\"Total\" AS total",
            "\"total\" AS total_2",
            "\"order\" AS order_",
            "\"2fa\" AS c_2fa",
            "\"tags\" AS tags",
        ];
        assert_eq!(sql, expected);
        assert_eq!(columns.iter().filter(|column| column.is_uuid).count(), 1);
        assert_eq!(arrays, [JsonPointer::default().child("lines")]);
    }

    #[test]
    fn a_name_without_letters_or_of_any_length_is_a_valid_column() {
        for (path, name) in [("ß", "c_"), ("__", "c_"), ("HTTPStatus", "httpstatus"), ("A", "a"), ("it's", "it_s")] {
            assert_eq!(column_name(&[path.to_owned()]), name);
        }
        let (mut names, long) = (HashSet::new(), "x".repeat(100));
        let made: Vec<_> = (0..3).map(|_| unique(&column_name(std::slice::from_ref(&long)), &mut names)).collect();
        assert!(made.iter().all(|name| name.len() <= MAX_NAME_BYTES) && made[0] != made[1] && made[1] != made[2], "{made:?}");
    }
}
