//! Why a snapshot could not be read. Every error is transient: the monitor shows it and retries.

use thiserror::Error;

/// Why a snapshot could not be read.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The server did not answer, or not within the timeout.
    #[error("no answer from {url}: {cause}; check that `forebay run` is up and has the role api")]
    Unreachable {
        /// The address.
        url: String,
        /// The root cause.
        cause: String,
    },
    /// The TLS handshake failed.
    #[error("{url}: {message}; {remedy}")]
    Tls {
        /// The address.
        url: String,
        /// What failed.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The server answered with a status other than 200.
    #[error("{url} answered {status}; check that it is the [api] address of Forebay, and that http or https is right")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The response exceeds the size limit.
    #[error("{url} answered with more than {limit} bytes; check that it is the [api] address of Forebay")]
    TooLarge {
        /// The address.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The response is not a snapshot, or a snapshot of another version.
    #[error("{url} did not answer with a snapshot ({cause}); use the same version on both sides")]
    NotASnapshot {
        /// The address.
        url: String,
        /// The parse error.
        cause: serde_json::Error,
    },
    /// A recording cannot be read.
    #[error("{}: {why}", .path.display())]
    Recording {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        why: String,
    },
}

/// Returns the innermost cause of an error, which is the most specific one.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
