//! The requests of `[fetcher]`: method, query, headers and body, with their templates.
//!
//! Guarantees:
//! * [`RequestTemplates::of`] is the only reader of templates in the file. What it accepts can be
//!   rendered; only a value may still be missing or unusable.
//! * A template names a declared param, the window, or what the kind of paging gives.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::paging::{NextPage, Paging};
use super::paging_checks::is_token;
use super::request_body::BodyTemplate;
use super::source_add::FieldTemplate;
use super::{ByteSpan, FetcherSection, FileError, Pipeline, Property, Secret};
use super::{source_incremental, source_window};
use crate::template::{Name, Template, TemplateError, in_url};
use crate::window::WindowFormat;

/// The method of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// POST, as search APIs and GraphQL want it.
    Post,
}

impl Method {
    /// Its name in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A value in `[fetcher] query`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected text, a number, true or false, a list of texts, or { env = \"NAME\" }")]
pub enum QueryValue {
    /// A text, which may be a template.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// The parameter several times, each with a text, which may be a template.
    List(Vec<String>),
    /// A reference to a secret.
    Secret(Secret),
}

/// The requests of a section, compiled.
#[derive(Debug, Clone)]
pub struct RequestTemplates {
    /// The path of `url`.
    pub path: Template,
    /// The parameters in the query of `url`, as they are written there.
    pub url_query: Vec<Template>,
    /// `query`, sorted by name.
    pub query: Vec<(String, QueryTemplate)>,
    /// The headers that are text, by name.
    pub headers: BTreeMap<String, Template>,
    /// The body.
    pub body: Option<BodyTemplate>,
    /// The params that have a template, so that they are no query parameters by themselves.
    pub templated: Vec<String>,
    /// How the window of a run is written; `None` if no request has a window.
    pub window: Option<WindowFormat>,
}

/// A value of `query`, compiled.
#[derive(Debug, Clone)]
pub enum QueryTemplate {
    /// The values of the parameter.
    Values(Vec<Template>),
    /// A reference to a secret.
    Secret(Secret),
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The key in the file.
    pub key: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
    /// Where in the text of the key, if that is known: the text, the first byte and the length.
    pub inside: Option<(String, usize, usize)>,
}

/// The path of a key in `[fetcher]`.
pub(super) fn fetcher(key: &[&str]) -> Vec<String> {
    std::iter::once("fetcher").chain(key.iter().copied()).map(str::to_owned).collect()
}

impl RequestError {
    pub(super) fn new(key: &[&str], message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key: fetcher(key), message: message.into(), remedy: remedy.into(), inside: None }
    }

    fn template(key: Vec<String>, text: &str, TemplateError { message, remedy, at, len }: TemplateError) -> Self {
        Self { key, message, remedy, inside: Some((text.to_owned(), at, len)) }
    }
}

/// What templates may name.
pub(super) struct Scope<'f> {
    pub(super) section: &'f FetcherSection,
    paging: Option<&'f Paging>,
}

impl<'f> Scope<'f> {
    /// Of a section, and how it paginates.
    pub(super) fn new(section: &'f FetcherSection, paging: Option<&'f Paging>) -> Self {
        Self { section, paging }
    }

    /// Parses a text of the file, and checks what it names.
    pub(super) fn template(&self, key: Vec<String>, text: &str) -> Result<Template, RequestError> {
        let template = Template::parse(text).map_err(|error| RequestError::template(key.clone(), text, error))?;
        for name in template.names() {
            if let Err((message, remedy)) = self.check(name) {
                let at = text.find(&name.to_string()).unwrap_or_default();
                return Err(RequestError::template(key, text, TemplateError { message, remedy, at, len: name.to_string().len() }));
            }
        }
        Ok(template)
    }

    /// Checks that a name has values. An error is the message and the remedy.
    fn check(&self, name: &Name) -> Result<(), (String, String)> {
        if let Name::Param(param) = name {
            return match self.section.params.contains(param) {
                true => Ok(()),
                false => Err((format!("no run can set the param {param:?}"), format!("add it: params = [{param:?}] in [fetcher]"))),
            };
        }
        let has = match name {
            Name::WindowStart | Name::WindowEnd => true,
            Name::Watermark => self.section.incremental.is_some(),
            Name::Size => self.paging.is_some_and(|paging| paging.size.is_some()),
            name => self.paging.and_then(|paging| paging.next.carries()).is_some_and(|carries| carries == name.to_string()),
        };
        if has {
            return Ok(());
        }
        if *name == Name::Watermark {
            let message = "`{{ watermark }}` has no value: there is no [fetcher.incremental]";
            return Err((message.to_owned(), "add [fetcher.incremental] with field = \"/updated_at\", the field that grows".to_owned()));
        }
        let given = self.paging.map_or("there is no [fetcher.paging]".to_owned(), |paging| match paging.next.carries() {
            Some(carries) => format!("this kind of paging has {{{{ {carries} }}}}"),
            None => "this kind of paging requests URLs as the API names them".to_owned(),
        });
        let remedy = match name {
            Name::Size => "add size = 100 to [fetcher.paging], the number of records on a page",
            Name::Page => "use kind = \"page\" in [fetcher.paging]",
            Name::Offset => "use kind = \"offset\" in [fetcher.paging]",
            _ => "use kind = \"cursor\" or \"last_record\" in [fetcher.paging]",
        };
        Err((format!("`{{{{ {name} }}}}` has no value: {given}"), remedy.to_owned()))
    }

    /// Checks that a part of the request which can't be left out always has its values.
    pub(super) fn required(&self, key: &[&str], names: &[&Name]) -> Result<(), RequestError> {
        for name in names {
            match name {
                Name::Param(param) if self.section.seeks_paging() => {
                    return Err(RequestError::new(
                        key,
                        format!(
                            "paging = \"auto\" requests the first page without params, and `{{{{ params.{param} }}}}` can't be left out here"
                        ),
                        format!("write the rule in [fetcher.paging]; `forebay fetch --dry-run --param {param}=VALUE` prints it"),
                    ));
                }
                Name::Param(param) if self.section.every.is_some() => {
                    return Err(RequestError::new(
                        key,
                        format!("a scheduled fetch has no params, and `{{{{ params.{param} }}}}` can't be left out here"),
                        "remove `every`, so that each fetch is a run with its params",
                    ));
                }
                Name::Cursor if self.paging.is_none_or(|paging| paging.start.is_none()) => {
                    return Err(RequestError::new(
                        key,
                        "the first page has no cursor, and `{{ cursor }}` can't be left out here",
                        "add start to [fetcher.paging], the cursor of the first page; or send the cursor by param = \"NAME\"",
                    ));
                }
                Name::Watermark if self.section.incremental.as_ref().is_none_or(|incremental| incremental.start.is_none()) => {
                    return Err(RequestError::new(
                        key,
                        "the first fetch has no watermark, and `{{ watermark }}` can't be left out here",
                        "add start to [fetcher.incremental], where the first fetch begins; or send it by param = \"NAME\"",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl RequestTemplates {
    /// Compiles the requests of a section.
    ///
    /// # Errors
    /// At the first key that makes no request.
    pub fn of(section: &FetcherSection) -> Result<Self, RequestError> {
        let paging = section.paging();
        let scope = Scope::new(section, paging.as_ref());
        let url = section.url.reveal();
        let path = scope.template(fetcher(&["url"]), &in_url(url.path()))?;
        scope.required(&["url"], &path.names().collect::<Vec<_>>())?;
        let pairs = url.query().map(in_url).unwrap_or_default();
        let pairs = pairs.split('&').filter(|pair| !pair.is_empty());
        let url_query = pairs.map(|pair| scope.template(fetcher(&["url"]), pair)).collect::<Result<Vec<_>, _>>()?;
        let mut query = Vec::new();
        for (name, value) in &section.query {
            if name.is_empty() {
                return Err(RequestError::new(&["query"], "a parameter has no name", "name it as the API does"));
            }
            query.push((name.clone(), scope.query(name, value)?));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &section.headers {
            if !is_token(name) {
                let remedy = "write it as the API defines it, such as \"X-Version\"";
                return Err(RequestError::new(&["headers", name], format!("{name:?} is not the name of a header"), remedy));
            }
            if let Property::Plain(text) = value {
                headers.insert(name.clone(), scope.template(fetcher(&["headers", name]), text)?);
            }
        }
        let body = scope.body()?;
        let mut names: Vec<Name> = path.names().chain(url_query.iter().flat_map(Template::names)).cloned().collect();
        for (_, value) in &query {
            if let QueryTemplate::Values(values) = value {
                names.extend(values.iter().flat_map(Template::names).cloned());
            }
        }
        names.extend(headers.values().flat_map(Template::names).cloned());
        names.extend(body.iter().flat_map(BodyTemplate::names));
        scope.check_carried(&names)?;
        source_incremental::check_carried(section, &names)?;
        let window = source_window::format_of(section, &names)?;
        let templated = names.into_iter().filter_map(|name| match name {
            Name::Param(param) => Some(param),
            _ => None,
        });
        let templated = templated.collect();
        Ok(Self { path, url_query, query, headers, body, templated, window })
    }
}

impl Scope<'_> {
    fn query(&self, name: &str, value: &QueryValue) -> Result<QueryTemplate, RequestError> {
        let key = || fetcher(&["query", name]);
        let values = match value {
            QueryValue::Text(text) => vec![self.template(key(), text)?],
            QueryValue::Integer(number) => vec![Template::literal(number.to_string())],
            QueryValue::Float(number) => vec![Template::literal(number.to_string())],
            QueryValue::Boolean(value) => vec![Template::literal(value.to_string())],
            QueryValue::List(texts) => texts.iter().map(|text| self.template(key(), text)).collect::<Result<_, _>>()?,
            QueryValue::Secret(secret) => return Ok(QueryTemplate::Secret(secret.clone())),
        };
        Ok(QueryTemplate::Values(values))
    }

    /// Checks that a request carries what names its page.
    fn check_carried(&self, names: &[Name]) -> Result<(), RequestError> {
        let Some(paging) = self.paging else { return Ok(()) };
        let Some(carried) = paging.next.carries() else { return Ok(()) };
        let is_carried = paging.param.is_some() || names.iter().any(|name| name.to_string() == carried);
        if is_carried {
            return Ok(());
        }
        let such = match &paging.next {
            NextPage::Page { .. } => "page",
            NextPage::Offset => "offset",
            _ => "after",
        };
        Err(RequestError::new(
            &[paging.key],
            format!("no part of the request carries the {}", if carried == "page" { "page number" } else { carried }),
            format!("add param = {such:?}, the query parameter of the API; or put {{{{ {carried} }}}} into url, query, headers or body"),
        ))
    }
}

/// Checks the requests of `[fetcher]`, and what is added to its records.
pub(super) fn check(p: &Pipeline, section: &FetcherSection) -> Result<(), FileError> {
    let checked = RequestTemplates::of(section).and_then(|_| FieldTemplate::of(section));
    let Err(RequestError { key, message, remedy, inside }) = checked else { return Ok(()) };
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    Err(match inside {
        Some((text, start, len)) => p.error_inside(&key, &text, ByteSpan { start, len }, message, remedy),
        None => p.error_at(&key, message, remedy),
    })
}
