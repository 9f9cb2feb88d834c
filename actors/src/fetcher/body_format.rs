//! How the body of a response is read: by the pipeline file, or by its content type. Pure.
//!
//! Guarantee: without a format in the pipeline file, a content type that names none is read as
//! JSON only if servers send JSON under it.

use forebay_schemas::pipeline::{BodyFormat, FetcherSection};
use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// A format, as far as the pipeline file names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ConfiguredFormat {
    format: Option<BodyFormat>,
    delimiter: Option<u8>,
}

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As one JSON value.
    Json,
    /// As one JSON value per line.
    Ndjson,
    /// As rows under a header.
    Csv {
        /// What separates the fields.
        delimiter: u8,
    },
}

impl ConfiguredFormat {
    /// The format of a pipeline file.
    pub(super) fn of(section: &FetcherSection) -> Self {
        Self { format: section.format, delimiter: section.delimiter.and_then(|delimiter| u8::try_from(delimiter).ok()) }
    }

    /// The format of a response with these headers; `None` when its content type is none of them.
    pub(super) fn of_response(self, headers: &HeaderMap) -> Option<Format> {
        let kind = content_type(headers);
        let tabs = kind.contains("tab-separated");
        let csv = Format::Csv { delimiter: self.delimiter.unwrap_or(if tabs { b'\t' } else { b',' }) };
        let is_json = || {
            kind.is_empty()
                || kind.contains("json")
                || kind.contains("javascript")
                || matches!(kind.as_str(), "text/plain" | "application/octet-stream" | "binary/octet-stream")
                || is_gzip_file(&kind)
        };
        match self.format {
            Some(BodyFormat::Json) => Some(Format::Json),
            Some(BodyFormat::Ndjson) => Some(Format::Ndjson),
            Some(BodyFormat::Csv) => Some(csv),
            None if is_line_delimited(&kind) => Some(Format::Ndjson),
            None if tabs || kind == "text/csv" || kind == "application/csv" || kind == "text/x-csv" => Some(csv),
            None => is_json().then_some(Format::Json),
        }
    }

    /// What a request accepts.
    pub(super) fn accepted(self) -> &'static str {
        match self.format {
            Some(BodyFormat::Ndjson) => "application/x-ndjson, application/json;q=0.9",
            Some(BodyFormat::Csv) => "text/csv",
            Some(BodyFormat::Json) | None => "application/json",
        }
    }

    /// The content type of a response that is in none of the formats. With a format in the file,
    /// only HTML is: that is how a login page or a notice of maintenance arrives.
    pub(super) fn refused(self, headers: &HeaderMap) -> Option<String> {
        let kind = content_type(headers);
        (self.of_response(headers).is_none() || kind == "text/html").then_some(kind)
    }
}

/// The content type, in lower case and without parameters; empty when there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_line_delimited(kind: &str) -> bool {
    ["ndjson", "jsonl", "jsonlines", "json-lines", "json-seq", "stream+json"].iter().any(|word| kind.contains(word))
}

fn is_gzip_file(kind: &str) -> bool {
    matches!(kind, "application/gzip" | "application/x-gzip")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_format_follows_from_the_content_type_unless_the_file_names_it() {
        let of = |configured: ConfiguredFormat, kind: &'static str| {
            configured.of_response(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]))
        };
        let by_type = ConfiguredFormat::default();
        for kind in [
            "",
            "application/json",
            "application/vnd.api+json; charset=utf-8",
            "text/plain",
            "Application/Octet-Stream",
            "application/gzip",
        ] {
            assert_eq!(of(by_type, kind), Some(Format::Json), "{kind}");
        }
        for kind in ["application/x-ndjson", "application/jsonl", "application/stream+json; charset=utf-8", "application/json-seq"] {
            assert_eq!(of(by_type, kind), Some(Format::Ndjson), "{kind}");
        }
        assert_eq!(of(by_type, "text/csv; header=present"), Some(Format::Csv { delimiter: b',' }));
        assert_eq!(of(by_type, "text/tab-separated-values"), Some(Format::Csv { delimiter: b'\t' }));
        for kind in ["text/html", "application/xml", "image/png"] {
            assert_eq!(of(by_type, kind), None, "{kind}");
        }
        let csv = ConfiguredFormat { format: Some(BodyFormat::Csv), delimiter: Some(b';') };
        assert_eq!(of(csv, "application/vnd.ms-excel"), Some(Format::Csv { delimiter: b';' }));
        assert_eq!(of(ConfiguredFormat { format: Some(BodyFormat::Json), delimiter: None }, "text/csv"), Some(Format::Json));
        assert_eq!(by_type.of_response(&HeaderMap::new()), Some(Format::Json), "many APIs send no content type");
    }
}
