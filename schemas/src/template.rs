//! Templates of the pipeline file: text with `{{ NAME }}` where a request has a value of its own.
//!
//! Guarantees:
//! * The names are a fixed set: `params.NAME`, `window.start`, `window.end`, `watermark`, `cursor`,
//!   `page`, `offset` and `size`. There are no expressions.
//! * A value is escaped for the part of the request that it stands in, so it never becomes more
//!   than a value there.
//!
//! Does not guarantee that a value makes sense to the API. A literal `{{` can't be written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::source_read::percent_encoded;
use crate::window::{Window, WindowFormat};

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A param of the run.
    Param(String),
    /// The start of the run's window.
    WindowStart,
    /// The end of the run's window, which is no part of it.
    WindowEnd,
    /// From where on an incremental fetch asks.
    Watermark,
    /// The cursor of the page.
    Cursor,
    /// The number of the page.
    Page,
    /// The number of records before the page.
    Offset,
    /// The number of records on a page.
    Size,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param(name) => write!(f, "params.{name}"),
            Self::WindowStart => f.write_str("window.start"),
            Self::WindowEnd => f.write_str("window.end"),
            Self::Watermark => f.write_str("watermark"),
            Self::Cursor => f.write_str("cursor"),
            Self::Page => f.write_str("page"),
            Self::Offset => f.write_str("offset"),
            Self::Size => f.write_str("size"),
        }
    }
}

/// The names without params, for messages.
const NAMES: [(&str, Name); 7] = [
    ("window.start", Name::WindowStart),
    ("window.end", Name::WindowEnd),
    ("watermark", Name::Watermark),
    ("cursor", Name::Cursor),
    ("page", Name::Page),
    ("offset", Name::Offset),
    ("size", Name::Size),
];

/// A `{{ NAME }}` or `{{ NAME | json }}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// What it stands for.
    pub name: Name,
    /// Whether the value is JSON by itself: a number, true and false as such, anything else as a
    /// string.
    pub is_json: bool,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// A value.
    Value(Placeholder),
}

/// A text with placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
    /// The first byte of the placeholder in the text.
    pub at: usize,
    /// The number of its bytes.
    pub len: usize,
}

/// The values of one request.
#[derive(Debug, Clone, Copy)]
pub struct Values<'v> {
    /// The params of the run.
    pub params: &'v BTreeMap<String, String>,
    /// The window of the run, and how to write it.
    pub window: Option<(Window, WindowFormat)>,
    /// From where on an incremental fetch asks; absent where it asks for everything.
    pub watermark: Option<&'v str>,
    /// The cursor, the page number or the offset; absent on a first page without one.
    pub cursor: Option<&'v str>,
    /// The records on a page.
    pub size: Option<u64>,
}

impl Name {
    /// Whether it is of the run's window.
    pub fn is_window(&self) -> bool {
        matches!(self, Self::WindowStart | Self::WindowEnd)
    }
}

impl<'v> Values<'v> {
    /// The value of a name, if the request has one.
    pub fn get(&self, name: &Name) -> Option<Cow<'v, str>> {
        match name {
            Name::Param(name) => self.params.get(name).map(|value| Cow::Borrowed(value.as_str())),
            Name::WindowStart => self.window.map(|(window, format)| Cow::Owned(format.text(window.start))),
            Name::WindowEnd => self.window.map(|(window, format)| Cow::Owned(format.text(window.end))),
            Name::Watermark => self.watermark.map(Cow::Borrowed),
            Name::Cursor | Name::Page | Name::Offset => self.cursor.map(Cow::Borrowed),
            Name::Size => self.size.map(|size| Cow::Owned(size.to_string())),
        }
    }
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// When a placeholder is not closed, or has a name that is not known.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len() - 2;
            let Some((inner, behind)) = after.split_once("}}").filter(|(inner, _)| !inner.contains("{{")) else {
                let (message, remedy) = ("a `{{` has no `}}`".to_owned(), "close it: {{ cursor }}, or {{ params.NAME }}".to_owned());
                return Err(TemplateError { message, remedy, at, len: 2 });
            };
            let placeholder = placeholder(inner);
            let placeholder = placeholder.map_err(|(message, remedy)| TemplateError { message, remedy, at, len: inner.len() + 4 })?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Value(placeholder));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// A text without placeholders, whatever it contains.
    pub fn literal(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Text(text.into())] }
    }

    /// Its parts, in order. Text is not next to text.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What its placeholders stand for.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.placeholders().map(|placeholder| &placeholder.name)
    }

    /// Its placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The placeholder, if the template is nothing else.
    pub fn only(&self) -> Option<&Placeholder> {
        match self.parts.as_slice() {
            [Part::Value(placeholder)] => Some(placeholder),
            _ => None,
        }
    }

    /// The text with its values, each as `escape` writes it.
    ///
    /// # Errors
    /// The first name that has no value.
    pub fn render(&self, values: &Values<'_>, escape: impl Fn(&str) -> String) -> Result<String, &Name> {
        self.parts.iter().try_fold(String::new(), |mut text, part| {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Value(Placeholder { name, .. }) => text.push_str(&escape(&values.get(name).ok_or(name)?)),
            }
            Ok(text)
        })
    }
}

/// Parses what is between the braces. An error is the message and the remedy.
fn placeholder(inner: &str) -> Result<Placeholder, (String, String)> {
    let (name, filter) = inner.split_once('|').map_or((inner.trim(), None), |(name, filter)| (name.trim(), Some(filter.trim())));
    if let Some(filter) = filter.filter(|filter| *filter != "json") {
        return Err((
            format!("`{{{{{inner}}}}}` has an unknown filter, {filter:?}"),
            "the only filter is `json`: {{ params.NAME | json }}".to_owned(),
        ));
    }
    let is_json = filter.is_some();
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(Placeholder { name: name.clone(), is_json });
    }
    match name.strip_prefix("params.") {
        Some(param) if !param.is_empty() && !param.contains(char::is_whitespace) => {
            Ok(Placeholder { name: Name::Param(param.to_owned()), is_json })
        }
        _ => Err((
            format!("`{{{{{inner}}}}}` has no known name"),
            format!("use {{{{ params.NAME }}}}, or one of {}", NAMES.map(|(name, _)| format!("{{{{ {name} }}}}")).join(", ")),
        )),
    }
}

/// A part of a URL as the pipeline file has it: the URL parser encodes braces and spaces.
pub fn in_url(text: &str) -> String {
    let text = text.replace("%7B%7B", "{{").replace("%7D%7D", "}}");
    let (mut restored, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inner, behind)) = after.split_once("}}") else { break };
        restored.push_str(before);
        restored.push_str("{{");
        restored.push_str(&inner.replace("%20", " ").replace("%7C", "|"));
        restored.push_str("}}");
        rest = behind;
    }
    restored.push_str(rest);
    restored
}

/// A value as a segment of a path, or a part of one.
pub fn path_segment(value: &str) -> String {
    percent_encoded(value)
}

/// A value inside a JSON string.
pub fn json_string(value: &str) -> String {
    let quoted = serde_json::to_string(value).expect("text is JSON");
    quoted[1..quoted.len() - 1].to_owned()
}

/// A value as JSON: a number, true and false as such, anything else as a string.
pub fn json_value(value: &str) -> serde_json::Value {
    match value {
        "true" => serde_json::Value::Bool(true),
        "false" => serde_json::Value::Bool(false),
        _ => match value.parse::<serde_json::Number>() {
            // A number that is written differently when it is parsed has lost digits.
            Ok(number) if number.to_string() == value => serde_json::Value::Number(number),
            _ => serde_json::Value::String(value.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Vec<Part>, (String, String, usize, usize)> {
        Template::parse(text).map(|template| template.parts).map_err(|error| (error.message, error.remedy, error.at, error.len))
    }
    fn value(name: Name) -> Part {
        Part::Value(Placeholder { name, is_json: false })
    }

    #[test]
    fn a_template_is_text_and_names_of_a_fixed_set() {
        assert_eq!(parsed("").unwrap(), []);
        assert_eq!(parsed("a } b }} {").unwrap(), [Part::Text("a } b }} {".into())]);
        let shop = value(Name::Param("shop".into()));
        assert_eq!(
            parsed("/v1/{{ params.shop }}/{{page}}").unwrap(),
            [Part::Text("/v1/".into()), shop, Part::Text("/".into()), value(Name::Page)]
        );
        let json = Part::Value(Placeholder { name: Name::Cursor, is_json: true });
        assert_eq!(parsed("{{cursor | json}}{{ offset }}{{ size }}").unwrap(), [json, value(Name::Offset), value(Name::Size)]);
    }

    #[test]
    fn an_unknown_name_an_unclosed_brace_and_an_unknown_filter_have_their_position_and_remedy() {
        for (text, message, remedy, at, len) in [
            ("a{{ cursor", "has no `}}`", "close it", 1, 2),
            ("{{ cursor {{ page }}", "has no `}}`", "close it", 0, 2),
            ("ab{{ next }}", "`{{ next }}` has no known name", "{{ params.NAME }}", 2, 10),
            ("{{}}", "has no known name", "{{ cursor }}", 0, 4),
            ("{{ params. }}", "has no known name", "{{ page }}", 0, 13),
            ("{{ cursor | upper }}", "unknown filter, \"upper\"", "json", 0, 20),
        ] {
            let (found, help, start, bytes) = parsed(text).unwrap_err();
            assert!(found.contains(message) && help.contains(remedy), "{text}: {found}; {help}");
            assert_eq!((start, bytes), (at, len), "{text}");
        }
    }

    #[test]
    fn a_name_without_a_value_is_named() {
        let params = BTreeMap::from([("day".to_owned(), "1".to_owned())]);
        let values = Values { params: &params, window: None, watermark: None, cursor: None, size: Some(50) };
        let render = |text: &str| Template::parse(text).unwrap().render(&values, str::to_owned).map_err(ToString::to_string);
        assert_eq!(render("{{ params.day }} of {{ size }}"), Ok("1 of 50".to_owned()));
        assert_eq!(render("{{ params.month }}"), Err("params.month".to_owned()));
        assert_eq!(render("{{ page }}"), Err("page".to_owned()));
        assert_eq!(render("{{ window.end }}"), Err("window.end".to_owned()));
    }

    #[test]
    fn a_window_is_written_in_its_format() {
        let at = |text| crate::window::moment(text).unwrap();
        let window = Window { start: at("2026-01-01"), end: at("2026-01-02") };
        let render = |format| {
            let values = Values { params: &BTreeMap::new(), window: Some((window, format)), watermark: None, cursor: None, size: None };
            Template::parse("{{ window.start }} {{window.end}}").unwrap().render(&values, str::to_owned).unwrap()
        };
        assert_eq!(render(WindowFormat::Rfc3339), "2026-01-01T00:00:00Z 2026-01-02T00:00:00Z");
        assert_eq!(render(WindowFormat::Date), "2026-01-01 2026-01-02");
        assert_eq!(render(WindowFormat::UnixMs), "1767225600000 1767312000000");
    }

    #[test]
    fn a_template_in_a_url_survives_the_parser_of_urls() {
        let url = url::Url::parse("https://api.example/{{ params.a b }}/{{page}}?q={{ cursor | json }}&r=%20%7Bx").unwrap();
        assert_eq!(in_url(url.path()), "/{{ params.a b }}/{{page}}");
        assert_eq!(in_url(url.query().unwrap()), "q={{ cursor | json }}&r=%20%7Bx");
    }

    #[test]
    fn a_value_is_a_json_number_or_boolean_only_if_it_is_written_as_one() {
        for text in ["7", "-1", "0", "1.5", "true", "false", "18446744073709551615"] {
            assert_eq!(json_value(text).to_string(), text);
        }
        for text in ["007", "1e3", "1.50", "NaN", "", " 7", "+7", "null", "True", "123456789012345678901234567890", "\"a\""] {
            assert_eq!(json_value(text), serde_json::Value::String(text.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_the_same_after_escaping_and_parsing(text in any::<String>()) {
            let json: String = serde_json::from_str(&format!("\"{}\"", json_string(&text))).unwrap();
            prop_assert_eq!(&json, &text);
            let mut url = url::Url::parse("https://api.example/").unwrap();
            url.set_path(&format!("/a/x{}/b", path_segment(&text)));
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 3, "{}", url);
            prop_assert_eq!(&*urlencoding(segments[1]), &format!("x{text}"));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[{} a-z.|\u{e4}]{0,24}") {
            let _ = Template::parse(&text);
            let _ = in_url(&text);
        }
    }

    /// Decodes percent-encoded text.
    fn urlencoding(text: &str) -> String {
        let query = format!("x={}", text.replace('+', "%2B"));
        url::form_urlencoded::parse(query.as_bytes()).next().unwrap().1.into_owned()
    }
}
