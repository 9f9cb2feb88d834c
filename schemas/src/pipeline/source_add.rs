//! `[fetcher.add]`: fields that records get from outside: from params, from the window, and from
//! headers of the answer.
//!
//! Guarantee: a field has a name, and a value that the file, the run or the answer has.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::FetcherSection;
use super::paging_checks::is_token;
use super::request::{RequestError, RequestTemplates, Scope, fetcher};
use crate::template::{Name, Placeholder, Template, Values, json_value};

/// The maximum number of fields.
const MAX_FIELDS: usize = 32;

/// A field of `[fetcher.add]`: a value, `{ header = "X-Region" }`, or `{ value = "crm", replace =
/// true }`.
#[derive(Debug, Clone)]
pub struct AddedField {
    /// Its value: a text, which may be a template, a number, true or false. Absent: that of
    /// `header`.
    pub value: Option<AddedValue>,
    /// The header of the answer that has its value.
    pub header: Option<String>,
    /// Whether it replaces the value of the record. If not, a record that has the field already is
    /// a dead letter. Default false.
    pub replace: bool,
}

/// A value of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected text, a number, true or false")]
pub enum AddedValue {
    /// A text, which may be a template.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Boolean(bool),
}

/// Written by hand so that a wrong key is reported at its location, and a list is no table.
impl<'de> Deserialize<'de> for AddedField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            value: Option<AddedValue>,
            header: Option<String>,
            #[serde(default)]
            replace: bool,
        }
        struct Either;
        let plain = |value| AddedField { value: Some(value), header: None, replace: false };
        impl<'de> Visitor<'de> for Either {
            type Value = Result<AddedValue, Table>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true or false, { header = \"NAME\" } or { value = \"TEXT\", replace = true }")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Ok(AddedValue::Text(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Ok(AddedValue::Integer(number)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Ok(AddedValue::Float(number)))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Ok(AddedValue::Boolean(value)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Err)
            }
        }
        let table = |Table { value, header, replace }| AddedField { value, header, replace };
        deserializer.deserialize_any(Either).map(|found| found.map_or_else(table, plain))
    }
}

/// A field, compiled.
#[derive(Debug, Clone)]
pub struct FieldTemplate {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub source: FieldSource,
    /// Whether it replaces the value of the record.
    pub replace: bool,
}

/// Where the value of a field comes from.
#[derive(Debug, Clone)]
pub enum FieldSource {
    /// A value that is always the same.
    Fixed(serde_json::Value),
    /// A text with values of the run.
    Template(Template),
    /// A header of the answer.
    Header(String),
}

impl FieldSource {
    /// The value; `None` if the run or the answer does not have it. `header` finds a header.
    pub fn value(&self, values: &Values<'_>, header: impl FnOnce(&str) -> Option<String>) -> Option<serde_json::Value> {
        match self {
            Self::Fixed(value) => Some(value.clone()),
            Self::Template(template) => match template.only() {
                Some(Placeholder { name, is_json: true }) => values.get(name).map(|value| json_value(&value)),
                _ => template.render(values, str::to_owned).ok().map(serde_json::Value::String),
            },
            Self::Header(name) => header(name).map(serde_json::Value::String),
        }
    }
}

impl FieldTemplate {
    /// Compiles the fields of a section, sorted by name.
    ///
    /// # Errors
    /// At the first one that is not a field.
    pub fn of(section: &FetcherSection) -> Result<Vec<Self>, RequestError> {
        let paging = section.paging();
        let scope = Scope::new(section, paging.as_ref());
        if section.add.len() > MAX_FIELDS {
            let message = format!("{} fields are added; the limit is {MAX_FIELDS}", section.add.len());
            return Err(RequestError::new(&["add"], message, "add fewer"));
        }
        section.add.iter().map(|(name, field)| field.compiled(&scope, name)).collect()
    }
}

impl AddedField {
    fn compiled(&self, scope: &Scope<'_>, name: &str) -> Result<FieldTemplate, RequestError> {
        let error = |message: String, remedy: &str| Err(RequestError::new(&["add", name], message, remedy));
        if name.is_empty() {
            return error("a field has no name".to_owned(), "name it as the record's schema does");
        }
        let Self { value, header, replace } = self;
        let value = match (value, header) {
            (Some(value), None) => value,
            (None, Some(header)) if is_token(header) => {
                return Ok(FieldTemplate { name: name.to_owned(), source: FieldSource::Header(header.clone()), replace: *replace });
            }
            (None, Some(header)) => {
                return error(format!("{header:?} is not the name of a header"), "write it as the API sends it, such as \"X-Region\"");
            }
            _ => return error("the field has no value, or two".to_owned(), "set one of value and header"),
        };
        let source = match value {
            AddedValue::Text(text) => {
                let template = scope.template(fetcher(&["add", name]), text)?;
                if let Some(other) = template.names().find(|name| !matches!(name, Name::Param(_)) && !name.is_window()) {
                    let message = format!("`{{{{ {other} }}}}` is of a page, and the same record may be on another one");
                    return error(message, "use {{ params.NAME }}, {{ window.start }} or {{ window.end }}");
                }
                let is_windowed = || RequestTemplates::of(scope.section).is_ok_and(|requests| requests.window.is_some());
                if template.names().any(Name::is_window) && !is_windowed() {
                    let remedy = "put {{ window.start }} and {{ window.end }} into url, query, headers or body";
                    return error("no request has a window, so each window would have all records".to_owned(), remedy);
                }
                FieldSource::Template(template)
            }
            AddedValue::Integer(number) => FieldSource::Fixed((*number).into()),
            AddedValue::Float(number) => FieldSource::Fixed((*number).into()),
            AddedValue::Boolean(value) => FieldSource::Fixed((*value).into()),
        };
        Ok(FieldTemplate { name: name.to_owned(), source, replace: *replace })
    }
}
