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
    /// Its type in the table, if that is not the one of its values.
    pub(super) cql: Option<&'static str>,
}

impl Column {
    /// What the SELECT says for it.
    pub(super) fn sql(&self) -> String {
        format!("{} AS {}", path(self.field.tokens()), self.name)
    }

    /// What the SELECT says for it, where it is a field of `row`.
    pub(super) fn sql_of(&self, row: &str) -> String {
        let tokens: Vec<String> = [row.to_owned()].into_iter().chain(self.field.tokens().iter().cloned()).collect();
        format!("{} AS {}", path(&tokens), self.name)
    }
}

/// The columns for the elements of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elements {
    /// The array.
    pub(super) field: JsonPointer,
    /// The name of an element in the SQL.
    pub(super) row: String,
    /// Its columns; their fields are in the element.
    pub(super) columns: Vec<Column>,
    /// The index of the column that differs in each element of a record.
    pub(super) key: usize,
}

impl Elements {
    /// What the SELECT says for the array.
    pub(super) fn unnest_sql(&self) -> String {
        format!("unnest({}) AS {}", path(self.field.tokens()), self.row)
    }
}

/// A path as SQL.
fn path(tokens: &[String]) -> String {
    let (first, rest) = tokens.split_first().map(|(first, rest)| (first.as_str(), rest)).unwrap_or_default();
    let rest: String = rest.iter().map(|name| format!("['{}']", name.replace('\'', "''"))).collect();
    format!("{}{rest}", quoted(first))
}

/// A field as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns for the fields of a schema, and the fields that get none: arrays of objects.
pub(super) fn of(schema: &Value, names: &mut HashSet<String>) -> (Vec<Column>, Vec<JsonPointer>) {
    of_part(schema, &JsonPointer::default(), names)
}

/// The columns for the fields of an object at `owner`, whose names begin with it.
pub(super) fn of_part(schema: &Value, owner: &JsonPointer, names: &mut HashSet<String>) -> (Vec<Column>, Vec<JsonPointer>) {
    let (mut columns, mut arrays) = (Vec::new(), Vec::new());
    add(schema, &JsonPointer::default(), owner, &mut columns, &mut arrays, names);
    (columns, arrays)
}

fn add(
    schema: &Value,
    here: &JsonPointer,
    owner: &JsonPointer,
    columns: &mut Vec<Column>,
    arrays: &mut Vec<JsonPointer>,
    names: &mut HashSet<String>,
) {
    let Some(fields) = schema["properties"].as_object() else { return };
    for (name, schema) in fields {
        let field = here.child(name);
        if schema["properties"].is_object() {
            add(schema, &field, owner, columns, arrays, names);
        } else if has_objects(schema) {
            arrays.push(field);
        } else {
            let name = unique(&column_name([owner.tokens(), field.tokens()].concat().as_slice()), names);
            columns.push(Column { field, name, cql: (schema["format"] == "uuid").then_some("uuid") });
        }
    }
}

/// Whether it is an array whose items, or their items, are objects or arrays.
fn has_objects(schema: &Value) -> bool {
    schema["items"]["properties"].is_object() || schema["items"]["items"].is_object()
}

/// The path in lower case, with `_` between its words: `billingAddress`, `street` becomes
/// `billing_address_street`. Other letters are spelt in those of ASCII.
fn column_name(path: &[String]) -> String {
    let parts: Vec<String> = path.iter().map(|part| snake_case(part)).filter(|part| !part.is_empty()).collect();
    let mut name = parts.join("_");
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.insert_str(0, "c_");
    }
    name.truncate(MAX_NAME_BYTES);
    if is_reserved_word(&name) {
        name.push('_');
    }
    name
}

/// A name in lower case, with `_` between its words: those of `orderId` and `Order-ID` are `order`
/// and `id`.
pub(super) fn snake_case(name: &str) -> String {
    let mut spelt = String::new();
    for character in name.chars() {
        match character.is_ascii() {
            true => spelt.push(character),
            false => spelt.push_str(deunicode::deunicode_char(character).unwrap_or(" ")),
        }
    }
    let mut snake = String::new();
    let mut previous = '_';
    for character in spelt.chars() {
        let starts_word = character.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit());
        if (starts_word || !character.is_ascii_alphanumeric()) && !snake.ends_with('_') {
            snake.push('_');
        }
        if character.is_ascii_alphanumeric() {
            snake.push(character.to_ascii_lowercase());
        }
        previous = character;
    }
    snake.trim_matches('_').to_owned()
}

pub(super) fn unique(name: &str, names: &mut HashSet<String>) -> String {
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
        let (columns, arrays) = of(&schema, &mut HashSet::new());
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
        assert_eq!(columns.iter().filter(|column| column.cql == Some("uuid")).count(), 1);
        assert_eq!(arrays, [JsonPointer::default().child("lines")]);
    }

    #[test]
    fn a_name_without_letters_or_of_any_length_is_a_valid_column() {
        for (path, name) in [
            ("größe", "grosse"),
            ("日本", "ri_ben"),
            ("\u{e000}", "c_"),
            ("__", "c_"),
            ("HTTPStatus", "httpstatus"),
            ("A", "a"),
            ("it's", "it_s"),
            ("temperature_2m", "temperature_2m"),
        ] {
            assert_eq!(column_name(&[path.to_owned()]), name);
        }
        let (mut names, long) = (HashSet::new(), "x".repeat(100));
        let made: Vec<_> = (0..3).map(|_| unique(&column_name(std::slice::from_ref(&long)), &mut names)).collect();
        assert!(made.iter().all(|name| name.len() <= MAX_NAME_BYTES) && made[0] != made[1] && made[1] != made[2], "{made:?}");
    }
}
