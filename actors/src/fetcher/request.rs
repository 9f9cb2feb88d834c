//! The request of a page: its URL and its body, from the templates of the pipeline file. Pure.
//!
//! Guarantees:
//! * The same values give the same request, so `forebay doctor` and `forebay fetch --dry-run` ask
//!   as a fetch does.
//! * A value stays within its part of the URL: it adds no segment to the path and no parameter to
//!   the query.
//! * A parameter or a field that needs a value which the request does not have is left out; a path
//!   that needs one is an error.
//!
//! Does not guarantee that the API accepts the request.

use forebay_schemas::pipeline::{FetcherSection, NextPage, QueryTemplate, RequestTemplates, Secret, form_value};
use forebay_schemas::source_read::ReadParams;
use forebay_schemas::template::{Name, Part, Template, Values, path_segment};
use reqwest::Url;

/// Whether cursors are URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamesUrls {
    Always,
    /// Those that look like one.
    Sometimes,
    Never,
}

/// Makes the requests of one source.
#[derive(Debug, Clone)]
pub(super) struct RequestBuilder {
    url: Url,
    templates: RequestTemplates,
    /// The query parameter for the cursor, the page number or the offset.
    param: Option<String>,
    /// The query parameter for the watermark.
    watermark_param: Option<String>,
    /// From where on a fetch asks whose read has no watermark.
    watermark_start: Option<String>,
    size: Option<u64>,
    size_param: Option<String>,
    names_urls: NamesUrls,
}

impl RequestBuilder {
    /// For a section that was checked.
    pub(super) fn new(section: &FetcherSection) -> Self {
        let paging = section.paging();
        Self {
            url: section.url.reveal().clone(),
            templates: RequestTemplates::of(section).expect("the check of the pipeline file compiles its requests"),
            param: paging.as_ref().and_then(|paging| paging.param.clone()),
            watermark_start: section.incremental.as_ref().and_then(|incremental| incremental.asked(None)),
            watermark_param: section.incremental.as_ref().and_then(|incremental| incremental.param.clone()),
            size: paging.as_ref().and_then(|paging| paging.size),
            size_param: paging.as_ref().and_then(|paging| paging.size_param.clone()),
            names_urls: match paging.as_ref().map(|paging| &paging.next) {
                Some(NextPage::Url(_) | NextPage::Link) => NamesUrls::Always,
                Some(NextPage::Cursor(_)) => NamesUrls::Sometimes,
                _ => NamesUrls::Never,
            },
        }
    }

    /// The URL of the pipeline file.
    pub(super) fn file_url(&self) -> &Url {
        &self.url
    }

    /// Whether the next page is named by a URL.
    pub(super) fn names_urls(&self) -> NamesUrls {
        self.names_urls
    }

    /// The query parameters that are secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.templates.query.iter().filter_map(|(name, value)| match value {
            QueryTemplate::Secret(secret) => Some((name.as_str(), secret)),
            QueryTemplate::Values(_) => None,
        })
    }

    /// The content type of the body, unless the headers have one.
    pub(super) fn content_type(&self) -> Option<&'static str> {
        self.templates.body.as_ref().map(|body| body.content_type)
    }

    /// The values of a request. A window that does not fit is none; [`RequestBuilder::check`] says
    /// so.
    pub(super) fn values<'v>(&'v self, params: &'v ReadParams, cursor: Option<&'v str>) -> Values<'v> {
        let window = self.templates.in_window(params.window).ok().flatten();
        Values { params: &params.values, window, watermark: self.watermark(params), cursor, size: self.size }
    }

    fn watermark<'v>(&'v self, params: &'v ReadParams) -> Option<&'v str> {
        params.watermark.as_deref().or(self.watermark_start.as_deref())
    }

    /// Checks that a fetch may have these params.
    ///
    /// # Errors
    /// When it needs a window and has none, or the other way around; says what to do.
    pub(super) fn check(&self, params: &ReadParams) -> Result<(), String> {
        self.templates.in_window(params.window).map(drop)
    }

    /// The URL of a page that is not named by a URL. Secrets are not in it.
    ///
    /// # Errors
    /// What the path needs, and what to do.
    pub(super) fn url(&self, params: &ReadParams, cursor: Option<&str>) -> Result<Url, String> {
        let values = self.values(params, cursor);
        let mut url = self.url.clone();
        let RequestTemplates { path, url_query, query, templated, .. } = &self.templates;
        if path.names().next().is_some() {
            let rendered = path.render(&values, path_segment).map_err(|name| missing("url", name))?;
            // A dot stays a dot when it is encoded, and an empty segment is another path.
            if let Some(segment) = rendered[1..]
                .split('/')
                .zip(path_segments(path))
                .find_map(|(segment, has_value)| (has_value && matches!(segment, "" | "." | "..")).then_some(segment))
            {
                return Err(format!("a param makes {segment:?} of a segment of fetcher.url; give it another value"));
            }
            url.set_path(&rendered);
        }
        if url_query.iter().any(|pair| pair.names().next().is_some()) {
            let pairs = url_query.iter().filter_map(|pair| pair.render(&values, form_value).ok());
            url.set_query(Some(&pairs.collect::<Vec<_>>().join("&")));
        }
        for (name, value) in query {
            let QueryTemplate::Values(templates) = value else { continue };
            let rendered: Vec<String> = templates.iter().filter_map(|template| template.render(&values, str::to_owned).ok()).collect();
            if !rendered.is_empty() {
                url = with_param(&url, name, &rendered.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
        let own = params.values.iter().filter(|(name, _)| !templated.contains(name));
        url = own.fold(url, |url, (name, value)| with_param(&url, name, &[value]));
        if let (Some(param), Some(size)) = (&self.size_param, self.size) {
            url = with_param(&url, param, &[&size.to_string()]);
        }
        if let (Some(param), Some(watermark)) = (&self.watermark_param, self.watermark(params)) {
            url = with_param(&url, param, &[watermark]);
        }
        Ok(match (&self.param, cursor) {
            (Some(param), Some(cursor)) => with_param(&url, param, &[cursor]),
            _ => url,
        })
    }

    /// The text of a header; `None` if it is left out.
    pub(super) fn header(&self, name: &str, params: &ReadParams, cursor: Option<&str>) -> Option<String> {
        self.templates.headers.get(name)?.render(&self.values(params, cursor), str::to_owned).ok()
    }

    /// The body; `None` if the requests have none.
    ///
    /// # Errors
    /// What the body needs, and what to do.
    pub(super) fn body(&self, params: &ReadParams, cursor: Option<&str>) -> Result<Option<String>, String> {
        let body = self.templates.body.as_ref().map(|body| body.render(&self.values(params, cursor)));
        body.transpose().map_err(|name| missing("body", &name))
    }
}

/// Whether each segment of a path has a value in it.
fn path_segments(path: &Template) -> Vec<bool> {
    let mut segments = vec![false];
    for part in path.parts() {
        match part {
            Part::Value(_) => *segments.last_mut().expect("a path has a segment") = true,
            Part::Text(text) => segments.extend(text.matches('/').map(|_| false)),
        }
    }
    // What precedes the first slash is no segment.
    segments.split_off(1)
}

fn missing(key: &str, name: &Name) -> String {
    match name {
        Name::Param(param) => {
            format!(
                "fetcher.{key} needs the param {param:?}, which this run does not have: `forebay trigger --param {param}=VALUE` sets it"
            )
        }
        name => format!("fetcher.{key} needs {{{{ {name} }}}}, which the first page does not have; set start in [fetcher.paging]"),
    }
}

/// The URL with query parameters in place of those of the same name. The others stay as they are,
/// byte for byte.
pub(super) fn with_param(url: &Url, name: &str, values: &[&str]) -> Url {
    let mut url = url.clone();
    let query = url.query().unwrap_or_default().to_owned();
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty() && name_of(pair) != name).map(str::to_owned).collect();
    // Most servers read `+` as a space, and all read `%20` as one. A plus is `%2B` here.
    pairs.extend(values.iter().map(|value| format!("{}={}", form_value(name), form_value(value))));
    url.set_query(Some(&pairs.join("&")));
    url
}

/// The decoded name of an unparsed parameter.
pub(super) fn name_of(pair: &str) -> String {
    let mut alone = Url::parse("http://x/").expect("it is a URL");
    alone.set_query(Some(pair));
    alone.query_pairs().next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
