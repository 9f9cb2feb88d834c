//! Why there was no snapshot at the pipeline. Each is passing: the view says it and asks again.

use thiserror::Error;

/// Why a snapshot failed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// The address is none that can be asked.
    #[error("{url:?} is not an HTTP address; write it as http://127.0.0.1:7070, or unix:PATH")]
    Address {
        /// As it was written.
        url: String,
    },
    /// Nobody answered, or not within the time-out.
    #[error("no answer from {url}: {cause}; is `forebay run` up, with the role api?")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The innermost cause.
        cause: String,
    },
    /// Somebody answered, but not with 200.
    #[error("{url} answered {status}; is it the [api] address of forebay?")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is larger than any snapshot.
    #[error("{url} answered with more than {limit} bytes; is it the [api] address of forebay?")]
    TooLarge {
        /// What was asked.
        url: String,
        /// The most bytes that are read.
        limit: usize,
    },
    /// The answer is no snapshot, or one of another version.
    #[error("{url} answered something else than a snapshot ({cause}); are both sides of one version?")]
    NotASnapshot {
        /// What was asked.
        url: String,
        /// Where it went wrong.
        cause: serde_json::Error,
    },
    /// A recording can't be read.
    #[error("{}: {why}", .path.display())]
    Recording {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        why: String,
    },
}

/// The innermost cause of an error, which is the one that says something.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
