//! What the status of a response means: one table, and what the pipeline file changes in it. Pure.

use forebay_schemas::pipeline::StatusesSection;
use reqwest::StatusCode;

/// What statuses mean to one API.
#[derive(Debug, Clone, Default)]
pub(super) struct Statuses(StatusesSection);

/// What a status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The body has the records.
    Answer,
    /// There are no records.
    Empty,
    /// The request failed.
    Failure {
        /// Whether the same request may succeed later.
        retry: bool,
    },
}

impl Statuses {
    /// The statuses of a pipeline file.
    pub(super) fn of(section: &StatusesSection) -> Self {
        Self(section.clone())
    }

    /// The meaning of a status. `is_conditional`: the request had a condition, such as
    /// `If-None-Match`. `limited`: the response names a rate limit that is used up.
    pub(super) fn meaning(&self, status: StatusCode, is_conditional: bool, limited: bool) -> Meaning {
        let Self(StatusesSection { retry, ignore, fatal }) = self;
        match status.as_u16() {
            code if ignore.contains(&code) => Meaning::Empty,
            code if fatal.contains(&code) => Meaning::Failure { retry: false },
            code if retry.contains(&code) => Meaning::Failure { retry: true },
            204 | 205 => Meaning::Empty,
            304 if is_conditional => Meaning::Empty,
            200..300 => Meaning::Answer,
            code => Meaning::Failure { retry: limited || is_transient(code) },
        }
    }
}

/// Whether a retry may get another status.
fn is_transient(code: u16) -> bool {
    matches!(code, 408 | 425 | 429) || code >= 500 && code != 501
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_file_outweighs_the_defaults_and_the_headers() {
        let (again, end) = (Meaning::Failure { retry: true }, Meaning::Failure { retry: false });
        let defaults = Statuses::default();
        let own = Statuses::of(&StatusesSection { retry: vec![404, 200], ignore: vec![400, 409], fatal: vec![500, 429] });
        for (code, limited, by_default, by_file) in [
            (200, false, Meaning::Answer, again),
            (204, false, Meaning::Empty, Meaning::Empty),
            (301, false, end, end),
            (304, false, end, end),
            (400, false, end, Meaning::Empty),
            (401, false, end, end),
            (403, true, again, again),
            (404, false, end, again),
            (408, false, again, again),
            (409, false, end, Meaning::Empty),
            (429, true, again, end),
            (500, false, again, end),
            (501, false, end, end),
            (503, false, again, again),
            (599, false, again, again),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(defaults.meaning(status, false, limited), by_default, "{code}");
            assert_eq!(own.meaning(status, false, limited), by_file, "{code}");
        }
        assert_eq!(defaults.meaning(StatusCode::NOT_MODIFIED, true, false), Meaning::Empty);
    }
}
