//! `[fetcher.incremental]`: each fetch asks only for what is new, by a field of the records.
//!
//! Guarantee: the requests carry the watermark exactly if the section is there, so none reads
//! everything in the belief that it reads what is new.

use chrono::TimeDelta;
use serde::Deserialize;

use super::checks::check_pointer;
use super::paging::Scalar;
use super::request::RequestError;
use super::{FetcherSection, FileError, HumanDuration, NextFetch, NextPage, Pipeline};
use crate::template::Name;
use crate::watermark::{Mark, MarkFormat, Overlap};

/// The overlap of times, unless the file sets one.
const DEFAULT_OVERLAP: TimeDelta = TimeDelta::minutes(1);

/// `[fetcher.incremental]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncrementalSection {
    /// JSON pointer into a record: a time or a number that grows when the record changes.
    pub field: String,
    /// The query parameter for the watermark. Absent: a template has `{{ watermark }}`.
    pub param: Option<String>,
    /// Where the first fetch begins, in `format`. Absent: at everything, without the parameter.
    pub start: Option<Scalar>,
    /// How far behind the watermark a fetch begins: a duration for times, a number for numbers.
    /// Default one minute, and 0 for numbers.
    pub overlap: Option<OverlapValue>,
    /// How the field is written. Default `"rfc3339"`.
    #[serde(default)]
    pub format: MarkFormat,
    /// How the parameter is written. Default: as the field.
    pub param_format: Option<MarkFormat>,
}

/// An overlap as the file writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OverlapValue {
    /// For numbers.
    Number(u64),
    /// For times.
    Time(HumanDuration),
}

impl IncrementalSection {
    /// How the parameter is written.
    fn asks_in(&self) -> MarkFormat {
        self.param_format.unwrap_or(self.format)
    }

    /// How far behind the watermark a fetch begins.
    pub fn overlap(&self) -> Overlap {
        match self.overlap {
            Some(OverlapValue::Number(number)) => Overlap::Number(number),
            Some(OverlapValue::Time(time)) => Overlap::Time(TimeDelta::from_std(time.0).unwrap_or(TimeDelta::MAX)),
            None if self.format.is_time() => Overlap::Time(DEFAULT_OVERLAP),
            None => Overlap::Number(0),
        }
    }

    /// Where a fetch begins: at the watermark, less the overlap; without one at `start`.
    pub fn begin(&self, watermark: Option<Mark>) -> Option<Mark> {
        let start = || self.start.as_ref().and_then(|start| self.format.read(&start.to_string()));
        watermark.map(|watermark| self.asks_in().begin(watermark, self.overlap())).or_else(start)
    }

    /// From where on the requests of a fetch ask, as they write it; `None` for everything.
    pub fn asked(&self, watermark: Option<Mark>) -> Option<String> {
        self.begin(watermark).map(|mark| self.asks_in().write(mark))
    }

    /// What a fetch reads, in words.
    pub fn describe(&self) -> String {
        let by = match &self.param {
            Some(param) => format!("the parameter {param:?}"),
            None => "{{ watermark }}".to_owned(),
        };
        let overlap = match self.overlap() {
            Overlap::Number(0) => String::new(),
            Overlap::Number(number) => format!(" less {number}"),
            Overlap::Time(time) if time.is_zero() => String::new(),
            Overlap::Time(time) => format!(" less {}", HumanDuration(time.to_std().unwrap_or_default())),
        };
        let start = match &self.start {
            Some(start) => format!("; the first one begins at {start}"),
            None => "; the first one reads everything".to_owned(),
        };
        format!("each fetch asks by {by} for what is new: from the largest {} that was read{overlap}{start}", self.field)
    }
}

/// Checks that the requests carry the watermark.
pub(super) fn check_carried(section: &FetcherSection, names: &[Name]) -> Result<(), RequestError> {
    let is_named = names.contains(&Name::Watermark);
    match &section.incremental {
        Some(incremental) if incremental.param.is_none() && !is_named => Err(RequestError::new(
            &["incremental"],
            "no part of the request carries the watermark",
            "add param = \"updated_since\", the query parameter of the API; or put {{ watermark }} into url, query, headers or body",
        )),
        Some(incremental) if incremental.param.is_some() && is_named => Err(RequestError::new(
            &["incremental", "param"],
            "both `param` and `{{ watermark }}` carry the watermark",
            "remove one of them",
        )),
        _ => Ok(()),
    }
}

/// Checks `conditional`: an answer of several pages has no validators of its own.
fn check_conditional(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    let other = match fetcher {
        FetcherSection { conditional: false, .. } => return Ok(()),
        FetcherSection { paging: Some(_), .. } => "paging",
        FetcherSection { cursor: Some(_), .. } => "cursor",
        FetcherSection { incremental: Some(_), .. } => "incremental",
        _ => return Ok(()),
    };
    let message = format!("a condition is about one answer, and `{other}` makes several");
    Err(p.error_at(&["fetcher", "conditional"], message, format!("remove it, or `{other}`")))
}

/// Checks the section.
pub(super) fn check(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    check_conditional(p, fetcher)?;
    let Some(section) = &fetcher.incremental else { return Ok(()) };
    let key = |name| ["fetcher", "incremental", name];
    check_pointer(p, &key("field"), &section.field)?;
    if section.field.is_empty() || section.field.split('/').any(|token| token == "*") {
        let remedy = "write a JSON pointer to one value, such as \"/updated_at\"";
        return Err(p.error_at(&key("field"), "the watermark is one value of each record", remedy));
    }
    if section.param.as_ref().is_some_and(String::is_empty) {
        return Err(p.error_at(&key("param"), "the parameter has no name", "name it as the API does"));
    }
    if section.param_format.is_some_and(|format| format.is_time() != section.format.is_time()) {
        let remedy = "use formats of times for both, or \"number\" for both";
        return Err(p.error_at(
            &key("param_format"),
            "a time can't be written as a number of a sequence, nor the other way around",
            remedy,
        ));
    }
    if let Some(start) = &section.start
        && section.format.read(&start.to_string()).is_none()
    {
        let (format, example) = (section.format.as_str(), section.format.write(example(section.format)));
        return Err(p.error_at(
            &key("start"),
            format!("{:?} is not in the format {format:?}", start.to_string()),
            format!("write it as {example:?}, or set format"),
        ));
    }
    match section.overlap {
        Some(OverlapValue::Number(_)) if section.format.is_time() => {
            return Err(p.error_at(&key("overlap"), "the overlap of times is a duration", "write a number and a unit, such as \"5m\""));
        }
        Some(OverlapValue::Time(_)) if !section.format.is_time() => {
            return Err(p.error_at(&key("overlap"), "the overlap of numbers is a number", "write a number, such as 100"));
        }
        _ => {}
    }
    if matches!(fetcher.paging().map(|paging| paging.next), Some(NextPage::LastRecord(_))) {
        let remedy = "remove [fetcher.incremental]; or use another kind of paging";
        return Err(p.error_at(&["fetcher", "incremental"], "kind = \"last_record\" reads only what is new already", remedy));
    }
    if fetcher.paging.as_ref().and_then(|paging| paging.next_fetch) == Some(NextFetch::Continue) {
        let message = "an incremental fetch begins at the first page, with its watermark";
        return Err(p.error_at(&["fetcher", "paging", "next_fetch"], message, "remove it, or [fetcher.incremental]"));
    }
    Ok(())
}

/// A mark for messages.
fn example(format: MarkFormat) -> Mark {
    match format {
        MarkFormat::Number => Mark::Number(0),
        _ => Mark::Time(chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("it is 2026")),
    }
}
