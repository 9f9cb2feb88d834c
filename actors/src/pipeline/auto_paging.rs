//! `paging = "auto"`: how the API paginates is found once, before the first start, and kept in the
//! data directory.
//!
//! Guarantees:
//! * The rule of a source does not change from one start to the next: what an API answers later, or
//!   while it has few records, decides nothing about a read in progress.
//! * A pipeline does not start when the API says that it has more than one page, and no rule gets
//!   them.
//! * Where no rule is found, and nothing says that there is more, nothing is kept: the next start
//!   looks again. Meanwhile each fetch is one page, and one that says that there is more is not
//!   complete.
//!
//! Does not guarantee that an API that says nothing about pages has one.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use forebay_dataplane::private_file;
use forebay_schemas::pipeline::{FoundPaging, Pipeline};
use forebay_schemas::source_read::ReadParams;

use crate::fetcher::{FetchError, PagingGuess, PagingSearch, search_paging};
use crate::operations::cursor::requested_source;

/// A rule that can't be found, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum AutoPagingError {
    /// The first answer did not arrive.
    #[error("paging = \"auto\" needs the first answer of the API: {0}")]
    Fetch(FetchError),
    /// The API has more pages than the first, and no rule gets them.
    #[error("paging = \"auto\" finds no rule, although there is more: {more}")]
    Unknown {
        /// What says so.
        more: String,
        /// What was tried.
        notes: Vec<String>,
    },
    /// The file of the rule can't be used.
    #[error("can't use {}, which keeps what paging = \"auto\" has found: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
}

impl AutoPagingError {
    /// What to do.
    pub fn remedy(&self) -> String {
        match self {
            Self::Fetch(_) => "start again when the API answers; or write [fetcher.paging], with the kinds in docs/SOURCES.md".to_owned(),
            Self::Unknown { notes, .. } => {
                format!("write [fetcher.paging], with the kinds in docs/SOURCES.md; tried: {}", notes.join("; "))
            }
            Self::File { .. } => "delete it to find out again, or write [fetcher.paging]".to_owned(),
        }
    }
}

/// The file that keeps the rule.
fn file_of(pipeline: &Pipeline) -> PathBuf {
    pipeline.data_dir().join(FoundPaging::FILE)
}

/// Puts the rule that an earlier start has found into a pipeline with `paging = "auto"`.
///
/// # Errors
/// When the file of the rule can't be read.
pub fn use_found_paging(pipeline: &mut Pipeline) -> Result<(), AutoPagingError> {
    let path = file_of(pipeline);
    let Some(section) = pipeline.fetcher.as_mut().filter(|section| section.seeks_paging()) else { return Ok(()) };
    let unusable = |cause: String| AutoPagingError::File { path: path.clone(), cause };
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| unusable(error.to_string()))?,
    };
    let found = FoundPaging::from_toml(&text).map_err(unusable)?;
    if found.source == requested_source(section) {
        section.paging = Some(found.section().map_err(unusable)?);
        section.found_paging = Some(found);
    } else {
        tracing::info!(file = %path.display(), "the source has changed; how it paginates is found again");
    }
    Ok(())
}

/// Finds how the API of `[fetcher]` paginates, and keeps it, where the pipeline says `paging =
/// "auto"` and no earlier start has found it. The caller holds the lock of the data directory.
///
/// # Errors
/// When the API does not answer, or has more pages than a rule is found for.
pub async fn seek_paging(pipeline: &mut Pipeline, wall: SystemTime) -> Result<(), AutoPagingError> {
    let path = file_of(pipeline);
    let Some(section) = pipeline.fetcher.as_ref().filter(|section| section.seeks_paging()) else { return Ok(()) };
    let PagingSearch { found, notes, more } =
        search_paging(pipeline, section, &ReadParams::default(), wall).await.map_err(AutoPagingError::Fetch)?;
    match (found, more) {
        (Some(guess), _) => {
            let PagingGuess { lines, sign, .. } = guess;
            let found = DateTime::<Utc>::from(wall).to_rfc3339_opts(SecondsFormat::Secs, true);
            let found = FoundPaging { source: requested_source(section), found, why: sign, lines };
            let unusable = |cause: String| AutoPagingError::File { path: path.clone(), cause };
            private_file::replace(&path, &found.to_toml()).map_err(|error| unusable(error.to_string()))?;
            notes.iter().for_each(|note| tracing::info!("{note}"));
            tracing::info!(file = %path.display(), "later starts use this rule; delete the file to find out again");
            let paging = found.section().map_err(unusable)?;
            let section = pipeline.fetcher.as_mut().expect("it was there above");
            (section.paging, section.found_paging) = (Some(paging), Some(found));
            Ok(())
        }
        (None, Some(more)) => Err(AutoPagingError::Unknown { more, notes }),
        (None, None) => {
            notes.iter().for_each(|note| tracing::warn!("{note}"));
            Ok(())
        }
    }
}
