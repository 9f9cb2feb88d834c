//! Reads a schema: follows references, joins alternatives, and finds the type of each field.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::json_types::JsonTypes;
use super::keywords::{self, KeywordNote};
use super::{Bound, Field, Item, Kind, MAX_DEPTH, RESERVED_FIELDS, SchemaError, times};
use crate::json_pointer::JsonPointer;
use crate::pipeline::nearest;

/// The limit for the schemas of a file, each counted as often as references repeat it.
const MAX_SCHEMAS: usize = 10_000;
/// The limit for the errors of a file that are reported.
const MAX_ERRORS: usize = 50;

/// The keywords that say what a value is.
const TYPE_KEYWORDS: [&str; 5] = ["type", "properties", "items", "enum", "const"];

/// Something that is written in the file and that no record is checked for.
pub(super) struct Note {
    pub(super) what: String,
    pub(super) is_closed_object: bool,
    /// Its locations, each once.
    pub(super) pointers: Vec<JsonPointer>,
}

/// Reads the schema of a record. Returns its fields and the notes, or all errors.
pub(super) fn read_record(root: &Value) -> Result<(Vec<Field>, Vec<Note>), Vec<SchemaError>> {
    let top = JsonPointer::default();
    let mut reader = Reader { root, within: vec![top.clone()], count: 0, errors: Vec::new(), notes: Vec::new() };
    let fields = match reader.schema(root, &top, 0) {
        Some(Schema { kind: Kind::Object(fields), null: false, .. }) => fields,
        Some(_) => {
            reader.refuse::<()>(
                &top.child("type"),
                "a record must be an object with fields",
                "write \"type\": \"object\", and its fields under \"properties\"; `_value` in the SQL has the whole record",
            );
            Vec::new()
        }
        None => Vec::new(),
    };
    for field in fields.iter().filter(|field| RESERVED_FIELDS.contains(&field.name.as_str())) {
        reader.refuse::<()>(
            &top.child("properties").child(&field.name),
            format!("`{}` is the name of a column that Forebay adds to every record", field.name),
            "remove the field, or rename it in the source",
        );
    }
    if reader.errors.is_empty() { Ok((fields, reader.notes)) } else { Err(reader.errors) }
}

/// A schema that was read.
struct Schema {
    kind: Kind,
    null: bool,
    bounds: Vec<Bound>,
}

impl Schema {
    /// The schema of any value.
    fn any() -> Self {
        Self { kind: Kind::Json(JsonTypes::ALL), null: true, bounds: Vec::new() }
    }
}

struct Reader<'a> {
    root: &'a Value,
    /// The referenced schemas that are being read, the outermost first.
    within: Vec<JsonPointer>,
    /// How many schemas have been read.
    count: usize,
    errors: Vec<SchemaError>,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    /// Reads a schema at this location. Returns `None` after an error.
    fn schema(&mut self, value: &'a Value, at: &JsonPointer, depth: usize) -> Option<Schema> {
        let schema = match value {
            Value::Object(schema) => schema,
            Value::Bool(true) => return Some(Schema::any()),
            _ => {
                return self.refuse(
                    at,
                    format!("no record has a value of the schema {value}"),
                    "write { \"type\": … }, or remove the field",
                );
            }
        };
        if depth > MAX_DEPTH || self.within.len() > MAX_DEPTH {
            return self.refuse(at, format!("nested deeper than {MAX_DEPTH}"), "remove the innermost fields");
        }
        if self.count == MAX_SCHEMAS {
            let message = format!("has more than {MAX_SCHEMAS} fields, those of references included");
            return self.refuse(&JsonPointer::default(), message, "remove the fields that the SQL does not read");
        }
        self.count += 1;
        for KeywordNote { keyword, what, is_closed_object } in keywords::notes(schema) {
            self.note_that(&at.child(&keyword), what, is_closed_object);
        }
        let own = TYPE_KEYWORDS.iter().any(|keyword| schema.contains_key(*keyword));
        let parts = schema.get("allOf");
        let alternatives = ["anyOf", "oneOf"].into_iter().find(|keyword| schema.contains_key(*keyword) && !own && parts.is_none());
        if !schema.contains_key("$ref") {
            let is_read = |keyword: &str| match keyword {
                "allOf" => true,
                "anyOf" | "oneOf" => alternatives == Some(keyword),
                _ => own || parts.is_none() && alternatives.is_none(),
            };
            keywords::restrictions(schema).filter(|keyword| !is_read(keyword)).for_each(|keyword| self.not_enforced(at, keyword));
        }
        let mut read = match (schema.get("$ref"), parts, alternatives) {
            (Some(target), ..) => self.reference(target, schema, at, depth),
            (_, Some(parts), _) => self.all_of(parts, own.then_some(schema), at, depth),
            (_, _, Some(keyword)) => self.alternatives(keyword, &schema[keyword], at, depth),
            _ => self.typed(schema, at, depth),
        }?;
        read.null |= schema.get("nullable") == Some(&Value::Bool(true));
        Some(read)
    }

    /// Reads what a reference leads to.
    fn reference(&mut self, target: &'a Value, schema: &'a Map<String, Value>, at: &JsonPointer, depth: usize) -> Option<Schema> {
        let here = at.child("$ref");
        if let Some(keyword) = keywords::restrictions(schema).next() {
            let message = format!("`{keyword}` beside `$ref` is ignored by some versions of JSON Schema and not by others");
            return self.refuse(&at.child(keyword), message, "move it into the definition, or write both as a list in `allOf`");
        }
        let Some(pointer) = target.as_str().and_then(|text| JsonPointer::parse(text.strip_prefix('#')?)) else {
            return self.refuse(
                &here,
                format!("{target} is not in this file"),
                "copy the definition into this file under \"$defs\", and refer to it as \"#/$defs/NAME\"",
            );
        };
        let mut found = Some(self.root);
        let mut reached = JsonPointer::default();
        for token in pointer.tokens() {
            let Some(inner) = found.and_then(|value| child(value, token)) else {
                let names = found.and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str);
                let help = match nearest(token, names) {
                    Some(near) => format!("did you mean \"#{}\"?", reached.child(near)),
                    None => "add the definition, or correct the reference".to_owned(),
                };
                return self.refuse(&here, format!("{target} leads to nothing"), help);
            };
            (found, reached) = (Some(inner), reached.child(token));
        }
        let value = found?;
        if self.within.contains(&pointer) {
            return self.refuse(
                &here,
                format!("{target} contains itself, so it has no fixed fields"),
                "write { \"type\": \"object\" } in place of this reference: it is then read as the text of its JSON",
            );
        }
        self.within.push(pointer.clone());
        let read = self.schema(value, &pointer, depth);
        self.within.pop();
        read
    }

    /// Reads a schema that is all of several: `own`, if it says what the value is, and the parts.
    fn all_of(&mut self, parts: &'a Value, own: Option<&'a Map<String, Value>>, at: &JsonPointer, depth: usize) -> Option<Schema> {
        let here = at.child("allOf");
        let Some(list) = parts.as_array().filter(|list| !list.is_empty()) else {
            return self.refuse(&here, "is not a list of schemas", "list at least one schema, or remove it");
        };
        let own = own.map(|schema| self.typed(schema, at, depth));
        let mut read: Vec<Option<Schema>> = own.into_iter().collect();
        for (index, part) in list.iter().enumerate() {
            read.push(self.schema(part, &here.child(&index.to_string()), depth + 1));
        }
        let parts: Vec<Schema> = read.into_iter().collect::<Option<_>>()?;
        match parts.into_iter().map(Some).reduce(|all, part| both(all?, part?)).flatten() {
            Some(joined) => Some(joined),
            None => self.refuse(&here, "its schemas have different types", "write one schema in place of them"),
        }
    }

    /// Reads a schema that is one of several.
    fn alternatives(&mut self, keyword: &str, value: &'a Value, at: &JsonPointer, depth: usize) -> Option<Schema> {
        let here = at.child(keyword);
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let others: Vec<_> = list.iter().enumerate().filter(|(_, schema)| !is_null(schema)).collect();
        if others.is_empty() {
            return self.refuse(&here, "has no schema that is not null", "list at least one schema with a type");
        }
        let null = others.len() < list.len();
        let read: Vec<_> =
            others.into_iter().map(|(index, schema)| self.schema(schema, &here.child(&index.to_string()), depth + 1)).collect();
        let read: Vec<Schema> = read.into_iter().collect::<Option<_>>()?;
        let mut joined = self.either(&read, &here)?;
        joined.null |= null;
        Some(joined)
    }

    /// The schema that has the values of all of these.
    fn either(&mut self, alternatives: &[Schema], at: &JsonPointer) -> Option<Schema> {
        let null = alternatives.iter().any(|schema| schema.null);
        let kinds: Vec<&Kind> = alternatives.iter().map(|schema| &schema.kind).collect();
        let bounds: Vec<&[Bound]> = alternatives.iter().map(|schema| schema.bounds.as_slice()).collect();
        let same = kinds.iter().all(|kind| *kind == kinds[0]);
        if same && let Some(bounds) = either_bound(&bounds) {
            return Some(Schema { kind: kinds[0].clone(), null, bounds });
        }
        let loses_detail = kinds.iter().any(|kind| !matches!(kind, Kind::Json(_)) && kind_of(types_of(kind)) != **kind);
        let types = kinds.iter().map(|kind| types_of(kind)).reduce(JsonTypes::or).unwrap_or_default();
        let kind = if same { kinds[0].clone() } else { kind_of(types) };
        if loses_detail && !same || bounds.iter().any(|bounds| !bounds.is_empty()) {
            let what =
                "the fields, formats and limits of alternatives that differ are not enforced; check them in the SQL's WHERE if they matter";
            self.note_that(at, what.to_owned(), false);
        }
        Some(Schema { kind, null, bounds: Vec::new() })
    }

    /// Reads a schema that says its type itself.
    fn typed(&mut self, schema: &'a Map<String, Value>, at: &JsonPointer, depth: usize) -> Option<Schema> {
        let (types, null) = match schema.keys().any(|keyword| TYPE_KEYWORDS.contains(&keyword.as_str())) {
            false if keywords::restrictions(schema).next().is_none() => return Some(Schema::any()),
            _ => self.types(schema, at)?,
        };
        let has = |keyword: &str| match schema.get(keyword) {
            Some(Value::Object(members)) => !members.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            other => other.is_some(),
        };
        let kind = match types {
            JsonTypes::OBJECT if !has("properties") => Kind::Json(types),
            JsonTypes::ARRAY if !has("items") || schema["items"].is_array() => Kind::Json(types),
            JsonTypes::OBJECT => Kind::Object(self.fields(schema, at, depth)?),
            JsonTypes::ARRAY => Kind::Array(Box::new(self.items(schema, at, depth)?)),
            types if JsonTypes::SCALARS.has(types) && !types.is_empty() => self.format(types, schema, at)?,
            types if types.is_empty() => {
                return self.refuse(
                    &at.child("type"),
                    format!("{} is not supported", schema.get("type").unwrap_or(&Value::Null)),
                    "use one of boolean, integer, number, string, object, array, each also with \"null\", or a list of them",
                );
            }
            types => Kind::Json(types),
        };
        let object = matches!(kind, Kind::Object(_));
        for (keyword, applies) in [("properties", object), ("required", object), ("items", matches!(kind, Kind::Array(_)))] {
            if has(keyword) && matches!(kind, Kind::Json(_)) {
                self.not_enforced(at, keyword);
            } else if has(keyword) && !applies {
                let what = format!("`{keyword}` says nothing of {}, and is ignored", kind.expected());
                self.note_that(&at.child(keyword), what, false);
            }
        }
        let (bounds, listed_null) = self.bounds(schema, &kind, at)?;
        Some(Schema { kind, null: null && listed_null, bounds })
    }

    /// The types without null, and whether null is one of them.
    fn types(&mut self, schema: &'a Map<String, Value>, at: &JsonPointer) -> Option<(JsonTypes, bool)> {
        let here = at.child("type");
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => list.iter().filter_map(Value::as_str).collect(),
            Some(_) => {
                return self.refuse(
                    &here,
                    "a type must be a name or a list of names",
                    "write \"type\": \"string\", or [\"string\", \"null\"]",
                );
            }
            None if schema.contains_key("properties") => vec!["object"],
            None if schema.contains_key("items") => vec!["array"],
            None => match listed(schema) {
                Some(values) => values.iter().map(|value| type_name(value)).collect(),
                None => return self.refuse(at, "has no type", "add one, such as \"type\": \"string\""),
            },
        };
        let mut types = JsonTypes::default();
        for name in names.iter().filter(|name| **name != "null") {
            let Some((_, of_name)) = JsonTypes::NAMES.iter().find(|(known, _)| known == name) else {
                let known = || JsonTypes::NAMES.iter().map(|(known, _)| *known);
                let help = match nearest(name, known()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("use one of {}, each also with \"null\"", known().collect::<Vec<_>>().join(", ")),
                };
                return self.refuse(&here, format!("{name:?} is no type of JSON Schema"), help);
            };
            types = types.or(*of_name);
        }
        Some((types, names.contains(&"null")))
    }

    /// The type of a value of one type, with its format.
    fn format(&mut self, types: JsonTypes, schema: &'a Map<String, Value>, at: &JsonPointer) -> Option<Kind> {
        let Some(format) = schema.get("format").and_then(Value::as_str) else { return Some(kind_of(types)) };
        match times::kind(format, types, schema, at) {
            Some(Ok(kind)) => return Some(kind),
            Some(Err(SchemaError { pointer, message, help })) => return self.refuse(&pointer, message, help),
            None if format == "uuid" && types == JsonTypes::TEXT => return Some(Kind::Uuid),
            None => {}
        }
        if let Some(what) = keywords::format_note(format) {
            self.note_that(&at.child("format"), what, false);
        }
        Some(kind_of(types))
    }

    fn fields(&mut self, schema: &'a Map<String, Value>, at: &JsonPointer, depth: usize) -> Option<Vec<Field>> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return self.refuse(&at.child("properties"), "is not an object", "write the schema of each field under its name");
        };
        let required = self.required(schema, properties, at);
        let mut fields = Vec::with_capacity(properties.len());
        for (name, value) in properties {
            let read = self.schema(value, &at.child("properties").child(name), depth + 1);
            let doc = ["description", "title"].iter().find_map(|key| value.get(key)?.as_str()).map(str::to_owned);
            fields.push(read.map(|Schema { kind, null, bounds }| Field {
                name: name.clone(),
                kind,
                optional: required.as_ref().is_none_or(|required| !required.contains(name.as_str())),
                null,
                bounds,
                doc,
            }));
        }
        required?;
        fields.into_iter().collect()
    }

    /// The names of the fields that must be there.
    fn required(
        &mut self,
        schema: &'a Map<String, Value>,
        properties: &'a Map<String, Value>,
        at: &JsonPointer,
    ) -> Option<HashSet<&'a str>> {
        let here = at.child("required");
        let mut required = HashSet::new();
        let list = match schema.get("required") {
            None => return Some(required),
            Some(Value::Array(list)) => list,
            Some(_) => return self.refuse(&here, "is not a list", "list the names of the fields"),
        };
        let before = self.errors.len();
        for (index, name) in list.iter().enumerate() {
            match name.as_str().filter(|name| properties.contains_key(*name)) {
                Some(name) => _ = required.insert(name),
                None => {
                    let near = name.as_str().and_then(|name| nearest(name, properties.keys().map(String::as_str)));
                    let help = near.map_or("add it to \"properties\"".to_owned(), |near| format!("did you mean `{near}`?"));
                    let message = format!("{name} is required but not among the properties");
                    self.refuse::<()>(&here.child(&index.to_string()), message, help);
                }
            }
        }
        (self.errors.len() == before).then_some(required)
    }

    fn items(&mut self, schema: &'a Map<String, Value>, at: &JsonPointer, depth: usize) -> Option<Item> {
        let items = schema.get("items")?;
        let Schema { kind, null, bounds } = self.schema(items, &at.child("items"), depth + 1)?;
        Some(Item { kind, null, bounds })
    }

    /// The bounds of a schema, and whether null is allowed by its `enum` or `const`.
    fn bounds(&mut self, schema: &'a Map<String, Value>, kind: &Kind, at: &JsonPointer) -> Option<(Vec<Bound>, bool)> {
        let mut bounds = Vec::new();
        let mut listed_null = true;
        if let Some(values) = listed(schema) {
            let keyword = if schema.contains_key("const") { "const" } else { "enum" };
            listed_null = values.iter().any(|value| value.is_null());
            match list_bound(&values, kind) {
                Some(bound) if bound.is_empty_list() && !listed_null => {
                    let message = format!("`{keyword}` has no value that is {}", kind.expected());
                    return self.refuse(&at.child(keyword), message, "correct the type or the values");
                }
                Some(bound) => bounds.push(bound),
                None => self.not_enforced(at, keyword),
            }
        }
        let is_number = matches!(kind, Kind::Int64 | Kind::Float64);
        for keyword in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"] {
            let Some(value) = schema.get(keyword) else { continue };
            if !if keyword.ends_with("Length") { *kind == Kind::Text } else { is_number } {
                self.not_enforced(at, keyword);
                continue;
            }
            match bound(keyword, value, schema) {
                Some(bound) => bounds.extend(bound),
                None => {
                    let message = format!("{value} is no limit");
                    return self.refuse(&at.child(keyword), message, "write a number; for a length, one that is not negative");
                }
            }
        }
        Some((bounds, listed_null))
    }

    fn not_enforced(&mut self, at: &JsonPointer, keyword: &str) {
        self.note_that(&at.child(keyword), keywords::not_enforced(keyword), false);
    }

    fn note_that(&mut self, pointer: &JsonPointer, what: String, is_closed_object: bool) {
        match self.notes.iter_mut().find(|note| note.what == what) {
            Some(note) if note.pointers.contains(pointer) => {}
            Some(note) => note.pointers.push(pointer.clone()),
            None => self.notes.push(Note { what, is_closed_object, pointers: vec![pointer.clone()] }),
        }
    }

    /// Adds an error. A definition that is read several times has its errors once.
    fn refuse<T>(&mut self, pointer: &JsonPointer, message: impl Into<String>, help: impl Into<String>) -> Option<T> {
        let error = SchemaError { pointer: pointer.clone(), message: message.into(), help: help.into() };
        if self.errors.len() < MAX_ERRORS && !self.errors.contains(&error) {
            self.errors.push(error);
        }
        None
    }
}

/// The member or item with this name.
fn child<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(token),
        Value::Array(items) => items.get(token.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Whether a schema has null only.
fn is_null(schema: &Value) -> bool {
    schema["type"] == "null" || schema.get("const").is_some_and(Value::is_null) || schema["enum"] == Value::Array(vec![Value::Null])
}

/// The values of `const` or `enum`.
fn listed(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The type that has the values of all of these types.
fn kind_of(types: JsonTypes) -> Kind {
    match types {
        JsonTypes::BOOLEAN => Kind::Bool,
        JsonTypes::INTEGER => Kind::Int64,
        JsonTypes::NUMBER => Kind::Float64,
        JsonTypes::TEXT => Kind::Text,
        several if JsonTypes::SCALARS.has(several) => Kind::TextOf(several),
        several => Kind::Json(several),
    }
}

/// The JSON types of the values of a type.
fn types_of(kind: &Kind) -> JsonTypes {
    match kind {
        Kind::Bool => JsonTypes::BOOLEAN,
        Kind::Int64 | Kind::Epoch { fraction: false, .. } => JsonTypes::INTEGER,
        Kind::Float64 | Kind::Epoch { fraction: true, .. } => JsonTypes::NUMBER,
        Kind::Text | Kind::Uuid | Kind::Timestamp | Kind::LocalTimestamp { .. } | Kind::Date => JsonTypes::TEXT,
        Kind::TextOf(types) | Kind::Json(types) => *types,
        Kind::Object(_) => JsonTypes::OBJECT,
        Kind::Array(_) => JsonTypes::ARRAY,
    }
}

/// The bounds that meet one of these; `None` when no bound says that.
fn either_bound(alternatives: &[&[Bound]]) -> Option<Vec<Bound>> {
    if alternatives.iter().all(|bounds| *bounds == alternatives[0]) {
        return Some(alternatives[0].to_vec());
    }
    let texts = alternatives.iter().map(|bounds| match bounds {
        [Bound::Texts(texts)] => Some(texts.clone()),
        _ => None,
    });
    let mut texts = texts.collect::<Option<Vec<_>>>()?.concat();
    texts.sort_unstable();
    texts.dedup();
    Some(vec![Bound::Texts(texts)])
}

/// The schema whose values both have; `None` when their types differ.
fn both(a: Schema, b: Schema) -> Option<Schema> {
    let kind = match (a.kind, b.kind) {
        (Kind::Object(mut fields), Kind::Object(more)) => {
            for field in more {
                match fields.iter().position(|known| known.name == field.name) {
                    None => fields.push(field),
                    Some(at) => {
                        let known = fields.remove(at);
                        let optional = known.optional && field.optional;
                        let first = Schema { kind: known.kind, null: known.null, bounds: known.bounds };
                        let Schema { kind, null, bounds } =
                            both(first, Schema { kind: field.kind, null: field.null, bounds: field.bounds })?;
                        fields.insert(at, Field { name: known.name, kind, optional, null, bounds, doc: known.doc.or(field.doc) });
                    }
                }
            }
            Kind::Object(fields)
        }
        (a, b) if a == b => a,
        _ => return None,
    };
    Some(Schema { kind, null: a.null && b.null, bounds: [a.bounds, b.bounds].concat() })
}

/// The bound that a value is one of a list, as far as the values are of the type; `None` for a type
/// whose values are not compared with a list.
fn list_bound(values: &[&Value], kind: &Kind) -> Option<Bound> {
    match kind {
        Kind::Text => {
            let mut texts: Vec<String> = values.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect();
            texts.sort_unstable();
            texts.dedup();
            Some(Bound::Texts(texts))
        }
        Kind::Int64 | Kind::Float64 => Some(Bound::Numbers(values.iter().filter_map(|value| value.as_number()).cloned().collect())),
        Kind::Bool => match values.iter().filter_map(|value| value.as_bool()).collect::<Vec<_>>().as_slice() {
            [] => Some(Bound::Texts(Vec::new())),
            [first, rest @ ..] if rest.iter().all(|value| value == first) => Some(Bound::Boolean(*first)),
            _ => None,
        },
        _ => None,
    }
}

/// The bound of a keyword with this value; `None` for a value that is none. Before JSON Schema's
/// draft 6, `exclusiveMinimum` was a boolean beside `minimum`.
fn bound(keyword: &str, value: &Value, schema: &Map<String, Value>) -> Option<Option<Bound>> {
    let number = || value.as_number().cloned();
    let length = || value.as_u64().and_then(|length| usize::try_from(length).ok());
    let excludes = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(true));
    let bound = match keyword {
        "minimum" if excludes("exclusiveMinimum") => Bound::MoreThan(number()?),
        "maximum" if excludes("exclusiveMaximum") => Bound::LessThan(number()?),
        "minimum" => Bound::AtLeast(number()?),
        "maximum" => Bound::AtMost(number()?),
        "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => return Some(None),
        "exclusiveMinimum" => Bound::MoreThan(number()?),
        "exclusiveMaximum" => Bound::LessThan(number()?),
        "minLength" => Bound::MinLength(length()?),
        _ => Bound::MaxLength(length()?),
    };
    Some(Some(bound))
}
