//! `[fetcher] body`: the body of a POST, as text or as a table.
//!
//! Guarantees:
//! * A value in a body is a value: in JSON it adds no field, and in a form no parameter.
//! * A body that is JSON as text is JSON for every value.

use serde::Deserialize;
use serde_json::Value;

use super::request::{RequestError, Scope, fetcher};
use super::{Method, Property};
use crate::template::{Name, Part, Placeholder, Template, Values, json_string, json_value};

/// `[fetcher] body`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected text, or a table that becomes JSON")]
pub enum Body {
    /// A text, which may be a template.
    Text(String),
    /// A table that becomes JSON. Its texts may be templates.
    Table(toml::Table),
}

/// A body, compiled.
#[derive(Debug, Clone)]
pub struct BodyTemplate {
    /// Its content type, unless the headers have one.
    pub content_type: &'static str,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    /// JSON as text. A value is escaped inside a string, and JSON by itself elsewhere.
    Json(Vec<(Part, bool)>),
    /// A text in which values are escaped as in a query.
    Form(Template),
    /// A text without values.
    Other(String),
    /// A table as JSON.
    Table(Node),
    /// A table of texts as a form.
    FormTable(Vec<(String, Node)>),
}

/// A value in a body that is a table.
#[derive(Debug, Clone)]
enum Node {
    Fixed(Value),
    Text(Template),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Scope<'_> {
    /// The content type that the headers name, in lower case.
    fn content_type(&self) -> Option<String> {
        let header = self.section.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        match header {
            Some((_, Property::Plain(text))) => Some(text.to_ascii_lowercase()),
            _ => None,
        }
    }

    pub(super) fn body(&self) -> Result<Option<BodyTemplate>, RequestError> {
        let Some(body) = &self.section.body else { return Ok(None) };
        if self.section.method == Method::Get {
            return Err(RequestError::new(&["body"], "a GET has no body", "set method = \"POST\" in [fetcher]"));
        }
        let content_type = self.content_type();
        let is = |word: &str| content_type.as_ref().is_none_or(|kind| kind.contains(word));
        let is_form = content_type.is_some() && is("x-www-form-urlencoded");
        let content = match body {
            Body::Text(text) if is_form => {
                let template = self.template(fetcher(&["body"]), text)?;
                self.required(&["body"], &template.names().collect::<Vec<_>>())?;
                Content::Form(template)
            }
            Body::Text(text) if is("json") => self.json(text)?,
            Body::Text(text) if text.contains("{{") => {
                let kind = content_type.unwrap_or_default();
                let remedy = "use JSON or a form (application/x-www-form-urlencoded), or put the value into the query";
                return Err(RequestError::new(&["body"], format!("a body of {kind} can't have values of its own"), remedy));
            }
            Body::Text(text) => Content::Other(text.clone()),
            Body::Table(table) if is_form => {
                let Node::Object(fields) = self.object(&mut fetcher(&["body"]), table)? else { unreachable!("a table is an object") };
                let is_text = |node: &Node| !matches!(node, Node::List(_) | Node::Object(_));
                if let Some((name, _)) = fields.iter().find(|(_, node)| !is_text(node)) {
                    return Err(RequestError::new(&["body", name], "a form has texts only", "write a text, or send JSON"));
                }
                Content::FormTable(fields)
            }
            Body::Table(table) => Content::Table(self.object(&mut fetcher(&["body"]), table)?),
        };
        let content_type = if matches!(content, Content::Other(_)) { "text/plain" } else { "application/json" };
        Ok(Some(BodyTemplate { content_type, content }))
    }

    /// A body that is JSON as text.
    fn json(&self, text: &str) -> Result<Content, RequestError> {
        let template = self.template(fetcher(&["body"]), text)?;
        let (mut parts, mut in_string, mut escaped) = (Vec::new(), false, false);
        for part in template.parts() {
            parts.push((part.clone(), in_string));
            let Part::Text(text) = part else { continue };
            for letter in text.chars() {
                match letter {
                    _ if escaped => escaped = false,
                    '\\' if in_string => escaped = true,
                    '"' => in_string = !in_string,
                    _ => {}
                }
            }
        }
        let in_strings = parts.iter().filter_map(|(part, in_string)| match part {
            Part::Value(Placeholder { name, .. }) if *in_string => Some(name),
            _ => None,
        });
        let in_strings: Vec<&Name> = in_strings.collect();
        self.required(&["body"], &in_strings)?;
        let sample = parts.iter().map(|(part, in_string)| match part {
            Part::Text(text) => text.as_str(),
            Part::Value(_) if *in_string => "",
            Part::Value(_) => "null",
        });
        if let Err(cause) = serde_json::from_str::<serde::de::IgnoredAny>(&sample.collect::<String>()) {
            let remedy = "write JSON, or a TOML table; another kind of body needs its Content-Type in headers";
            return Err(RequestError::new(&["body"], format!("the body is not JSON: {cause}"), remedy));
        }
        Ok(Content::Json(parts))
    }

    fn object(&self, key: &mut Vec<String>, table: &toml::Table) -> Result<Node, RequestError> {
        let mut fields = Vec::new();
        for (name, value) in table {
            key.push(name.clone());
            fields.push((name.clone(), self.node(key, value)?));
            key.pop();
        }
        Ok(Node::Object(fields))
    }

    fn node(&self, key: &mut Vec<String>, value: &toml::Value) -> Result<Node, RequestError> {
        Ok(match value {
            toml::Value::String(text) => Node::Text(self.template(key.clone(), text)?),
            toml::Value::Integer(number) => Node::Fixed(Value::from(*number)),
            toml::Value::Float(number) => Node::Fixed(Value::from(*number)),
            toml::Value::Boolean(value) => Node::Fixed(Value::from(*value)),
            toml::Value::Datetime(time) => Node::Fixed(Value::from(time.to_string())),
            toml::Value::Array(items) => Node::List(items.iter().map(|item| self.node(key, item)).collect::<Result<_, _>>()?),
            toml::Value::Table(table) => self.object(key, table)?,
        })
    }
}

impl BodyTemplate {
    /// What its placeholders stand for.
    pub(super) fn names(&self) -> Vec<Name> {
        fn of(node: &Node) -> Vec<Name> {
            match node {
                Node::Fixed(_) => Vec::new(),
                Node::Text(template) => template.names().cloned().collect(),
                Node::List(items) => items.iter().flat_map(of).collect(),
                Node::Object(fields) => fields.iter().flat_map(|(_, node)| of(node)).collect(),
            }
        }
        match &self.content {
            Content::Json(parts) => parts
                .iter()
                .filter_map(|(part, _)| match part {
                    Part::Value(Placeholder { name, .. }) => Some(name.clone()),
                    Part::Text(_) => None,
                })
                .collect(),
            Content::Form(template) => template.names().cloned().collect(),
            Content::Other(_) => Vec::new(),
            Content::Table(node) => of(node),
            Content::FormTable(fields) => fields.iter().flat_map(|(_, node)| of(node)).collect(),
        }
    }

    /// The body of a request.
    ///
    /// In a table, a field is left out whose text has a value that the request does not have. In
    /// JSON as text, such a value is null.
    ///
    /// # Errors
    /// The first name that has no value, where it can't be left out.
    pub fn render(&self, values: &Values<'_>) -> Result<String, Name> {
        let form = |text: &str| form_value(text);
        match &self.content {
            Content::Json(parts) => parts.iter().try_fold(String::new(), |mut text, (part, in_string)| {
                match part {
                    Part::Text(literal) => text.push_str(literal),
                    Part::Value(Placeholder { name, .. }) => match (values.get(name), in_string) {
                        (Some(value), true) => text.push_str(&json_string(&value)),
                        (Some(value), false) => text.push_str(&json_value(&value).to_string()),
                        (None, false) => text.push_str("null"),
                        (None, true) => return Err(name.clone()),
                    },
                }
                Ok(text)
            }),
            Content::Form(template) => template.render(values, form).map_err(Clone::clone),
            Content::Other(text) => Ok(text.clone()),
            Content::Table(node) => Ok(node.json(values).unwrap_or_default().to_string()),
            Content::FormTable(fields) => {
                let field = |(name, node): &(String, Node)| {
                    let value = match node.json(values)? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    Some(format!("{}={}", form_value(name), form_value(&value)))
                };
                Ok(fields.iter().filter_map(field).collect::<Vec<_>>().join("&"))
            }
        }
    }
}

impl Node {
    /// The value as JSON; `None` if it is left out.
    fn json(&self, values: &Values<'_>) -> Option<Value> {
        Some(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => match template.only() {
                Some(Placeholder { name: name @ (Name::Page | Name::Offset | Name::Size), .. }) => json_value(&values.get(name)?),
                Some(Placeholder { name, is_json: true }) => json_value(&values.get(name)?),
                _ => Value::String(template.render(values, str::to_owned).ok()?),
            },
            Self::List(items) => Value::Array(items.iter().filter_map(|item| item.json(values)).collect()),
            Self::Object(fields) => {
                Value::Object(fields.iter().filter_map(|(name, node)| Some((name.clone(), node.json(values)?))).collect())
            }
        })
    }
}

/// A value in a query or in a form. Most servers read `+` as a space, and all read `%20` as one.
pub fn form_value(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
}
