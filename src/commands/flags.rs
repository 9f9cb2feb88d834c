//! Flags that several commands share, and parsers of their values.

use chrono::{DateTime, Utc};
use forebay_schemas::source_read::ReadParams;
use forebay_schemas::window::{Window, moment};

/// How many entries to list.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Limit {
    /// Maximum number of entries, up to 1000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) limit: u16,
}

/// Why an operation is done.
#[derive(clap::Args, Clone)]
pub(crate) struct RequiredReason {
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Whether to apply a change, or only to print it.
#[derive(clap::Args, Clone)]
pub(crate) struct Apply {
    /// Why; it is kept in the journal
    #[arg(long, value_name = "TEXT", required_if_eq("yes", "true"))]
    reason: Option<String>,
    /// Apply the change
    #[arg(long)]
    yes: bool,
}

impl Apply {
    /// The reason, when the change is to be applied.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| self.yes)
    }
}

/// What a run sets for its pages: its params and its window.
#[derive(clap::Args, Clone)]
pub(crate) struct ReadFlags {
    /// Param of the run, one of `[fetcher] params`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) param: Vec<(String, String)>,
    /// Start of the window of the run, as a date (midnight UTC) or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "to")]
    from: Option<DateTime<Utc>>,
    /// End of the window, which is no part of it
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "from")]
    to: Option<DateTime<Utc>>,
}

impl ReadFlags {
    /// The params and the window.
    pub(crate) fn read_params(&self) -> ReadParams {
        let window = self.from.zip(self.to).map(|(start, end)| Window { start, end });
        ReadParams { values: self.param.iter().cloned().collect(), window, ..ReadParams::default() }
    }
}

/// Parses `NAME=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
