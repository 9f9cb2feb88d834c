//! `[fetcher] window`: how requests write the window of a run, and which runs have one.
//!
//! Guarantee: a run has a window exactly if the requests of the file name it, so none reads
//! everything in the belief that it reads a part.

use serde::Deserialize;

use super::FetcherSection;
use super::request::{RequestError, RequestTemplates};
use crate::template::Name;
use crate::window::{Window, WindowFormat, rfc3339};

/// `[fetcher] window`: how `{{ window.start }}` and `{{ window.end }}` are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSection {
    /// `"rfc3339"`, `"date"`, `"unix"` (seconds) or `"unix_ms"`. Default `"rfc3339"`.
    pub format: WindowFormat,
}

/// How requests write a window; `None` if none of these names is of a window.
pub(super) fn format_of(section: &FetcherSection, names: &[Name]) -> Result<Option<WindowFormat>, RequestError> {
    let Some(name) = names.iter().find(|name| name.is_window()) else {
        return match section.window {
            None => Ok(None),
            Some(_) => Err(RequestError::new(
                &["window"],
                "no request has a window",
                "put {{ window.start }} and {{ window.end }} into url, query, headers or body; or remove `window`",
            )),
        };
    };
    if section.every.is_some() {
        return Err(RequestError::new(
            &["every"],
            format!("a scheduled fetch has no window, and `{{{{ {name} }}}}` needs one"),
            "remove `every`: `forebay trigger --from DATE --to DATE --window 1d`, or Airflow, requests a run for each window",
        ));
    }
    Ok(Some(section.window.unwrap_or_default().format))
}

impl RequestTemplates {
    /// The window of a request, and how to write it.
    ///
    /// # Errors
    /// When the requests need a window and there is none, or the other way around, or the format
    /// can't write it. Says what to do.
    pub fn in_window(&self, window: Option<Window>) -> Result<Option<(Window, WindowFormat)>, String> {
        let (window, format) = match (window, self.window) {
            (None, None) => return Ok(None),
            (Some(window), Some(format)) => (window, format),
            (None, Some(_)) => {
                return Err("[fetcher] reads windows (it names {{ window.start }} or {{ window.end }}), and this fetch has none: \
                            request runs with `forebay trigger --from DATE --to DATE --window 1d`, or with `window` in Airflow or the API"
                    .to_owned());
            }
            (Some(window), None) => {
                return Err(format!(
                    "no request of [fetcher] has {{{{ window.start }}}} or {{{{ window.end }}}}, so a run for {window} would read everything: \
                     put them into url, query, headers or body"
                ));
            }
        };
        match [window.start, window.end].into_iter().find(|at| !format.is_exact(*at)) {
            None => Ok(Some((window, format))),
            Some(at) => Err(format!(
                "{} can't be written in the format {:?} of fetcher.window without a loss: choose windows that fit it, or another format",
                rfc3339(at),
                format.as_str()
            )),
        }
    }
}

impl FetcherSection {
    /// Checks that a run may have this window, or none.
    ///
    /// # Errors
    /// As of [`RequestTemplates::in_window`].
    pub fn check_window(&self, window: Option<Window>) -> Result<(), String> {
        match RequestTemplates::of(self) {
            Ok(templates) => templates.in_window(window).map(drop),
            Err(error) => Err(error.message),
        }
    }
}
