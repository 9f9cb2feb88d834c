//! Converts errors of the driver and the server into errors of the store.

use std::fmt::Display;

use scylla::errors::{
    BrokenConnectionError, BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError,
    ExecutionError, FrameHeaderParseError, MetadataError, NewSessionError, NextPageError, PagerExecutionError, PrepareError,
    RequestAttemptError, RequestError, UseKeyspaceError,
};

use super::server_message::{self, Subject};
use super::tls;
use crate::store::error::{RetryReason, StoreError};

/// A failure of one request.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// The batch is too large. Its halves may be accepted.
    BatchTooLarge(StoreError),
    /// A row exceeds a built-in limit of Cassandra.
    RowLimit(StoreError),
    /// A value exceeds a limit that an operator sets.
    ValueLimit(StoreError),
    /// A refusal with an unknown message.
    UnknownRefusal(StoreError),
    /// Any other failure.
    Other(StoreError),
}

impl RequestFailure {
    /// Converts the failure of a request without rows, where no row can be at fault.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::UnknownRefusal(StoreError::Refused { server, message }) => schema(&server, &message),
            Self::BatchTooLarge(error)
            | Self::RowLimit(error)
            | Self::ValueLimit(error)
            | Self::UnknownRefusal(error)
            | Self::Other(error) => error,
        }
    }
}

fn schema(server: &str, message: &str) -> StoreError {
    StoreError::Schema {
        server: server.to_owned(),
        message: one_line(message),
        remedy: "make the keyspace, the table and the pipeline file match; `forebay check --cql` prints the table that the pipeline needs"
            .to_owned(),
    }
}

fn unavailable(server: &str, message: &dyn Display, reason: RetryReason) -> StoreError {
    StoreError::Unavailable { server: server.to_owned(), message: one_line(&message.to_string()), reason }
}

fn unrecoverable(server: &str, message: &dyn Display) -> StoreError {
    StoreError::Unrecoverable { server: server.to_owned(), message: one_line(&message.to_string()) }
}

/// Shortens a driver's error, which can span a paragraph, to one line of at most 400 characters.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(400) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// Classifies the failure of a write. A missing permission is retried, because an operator can
/// grant it while the pipeline runs.
pub(super) fn write_failure(server: &str, error: &ExecutionError) -> RequestFailure {
    match execution_failure(server, error) {
        RequestFailure::Other(StoreError::Denied { server, message }) => {
            let message = format!("{message}; the rows are not at fault and are retried; grant the user MODIFY on the table");
            RequestFailure::Other(unavailable(&server, &message, RetryReason::Policy))
        }
        failure => failure,
    }
}

/// Classifies the failure of a query or a DDL statement.
pub(super) fn execution_failure(server: &str, error: &ExecutionError) -> RequestFailure {
    let other = RequestFailure::Other;
    match error {
        ExecutionError::LastAttemptError(attempt) => attempt_failure(server, attempt),
        ExecutionError::ConnectionPoolError(pool) => other(pool_error(server, pool)),
        ExecutionError::PrepareError(prepare) => prepare_failure(server, prepare),
        ExecutionError::UseKeyspaceError(error) => other(use_keyspace_error(server, error)),
        ExecutionError::RequestTimeout(after) => {
            other(unavailable(server, &format!("no answer within {} s", after.as_secs()), RetryReason::WriteTimeout))
        }
        ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) | ExecutionError::EmptyPlan => {
            other(unavailable(server, error, RetryReason::Other))
        }
        _ => other(unrecoverable(server, error)),
    }
}

pub(super) fn prepare_failure(server: &str, error: &PrepareError) -> RequestFailure {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => attempt_failure(server, first_attempt),
        PrepareError::ConnectionPoolError(pool) => RequestFailure::Other(pool_error(server, pool)),
        _ => RequestFailure::Other(unavailable(server, error, RetryReason::Other)),
    }
}

/// Converts the failure to connect, with TLS or without.
pub(super) fn session_error(server: &str, tls: bool, error: &NewSessionError) -> StoreError {
    match error {
        NewSessionError::MetadataError(metadata) => match metadata {
            MetadataError::ConnectionPoolError(pool) => match broken_in_setup(pool) {
                Some(broken) => closed_early(server, tls, broken),
                None => pool_error(server, pool),
            },
            _ => unavailable(server, metadata, RetryReason::Connection),
        },
        NewSessionError::UseKeyspaceError(error) => use_keyspace_error(server, error),
        NewSessionError::FailedToResolveAnyHostname(_) => {
            unavailable(server, &"no contact point resolves to an address", RetryReason::Connection)
        }
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => unrecoverable(server, error),
        _ => unavailable(server, error, RetryReason::Connection),
    }
}

pub(super) fn use_keyspace_error(server: &str, error: &UseKeyspaceError) -> StoreError {
    match error {
        UseKeyspaceError::RequestError(attempt) => attempt_failure(server, attempt).into_error(),
        UseKeyspaceError::RequestTimeout(_) => unavailable(server, error, RetryReason::Other),
        _ => unrecoverable(server, error),
    }
}

/// Converts the failure of a paged query.
pub(super) fn pager_error(server: &str, error: &PagerExecutionError) -> StoreError {
    match error {
        PagerExecutionError::PrepareError(prepare) => prepare_failure(server, prepare).into_error(),
        PagerExecutionError::NextPageError(page) => next_page_error(server, page),
        PagerExecutionError::UseKeyspaceError(error) => use_keyspace_error(server, error),
        _ => unavailable(server, error, RetryReason::Other),
    }
}

pub(super) fn next_page_error(server: &str, error: &NextPageError) -> StoreError {
    match error {
        NextPageError::RequestFailure(RequestError::LastAttemptError(attempt)) => attempt_failure(server, attempt).into_error(),
        NextPageError::RequestFailure(RequestError::ConnectionPoolError(pool)) => pool_error(server, pool),
        NextPageError::RequestFailure(_) => unavailable(server, error, RetryReason::Other),
        _ => unrecoverable(server, error),
    }
}

fn pool_error(server: &str, error: &ConnectionPoolError) -> StoreError {
    let ConnectionPoolError::Broken { last_connection_error } = error else {
        return unavailable(server, error, RetryReason::Connection);
    };
    match last_connection_error {
        ConnectionError::IoError(cause) => match tls_error(cause) {
            Some(error) => tls::handshake_failure(server, error),
            None => unavailable(server, cause, RetryReason::Connection),
        },
        ConnectionError::ConnectTimeout => unavailable(server, &"no answer to the connection request", RetryReason::Connection),
        ConnectionError::ConnectionSetupRequestError(setup) => match setup.get_error() {
            ConnectionSetupRequestErrorKind::DbError(error, message) => server_failure(server, error, message).into_error(),
            ConnectionSetupRequestErrorKind::MissingAuthentication => StoreError::Denied {
                server: server.to_owned(),
                message: "the server requires a user, and the pipeline file has none".to_owned(),
            },
            kind @ (ConnectionSetupRequestErrorKind::StartAuthSessionError(_)
            | ConnectionSetupRequestErrorKind::AuthChallengeEvaluationError(_)
            | ConnectionSetupRequestErrorKind::AuthFinishError(_)) => {
                StoreError::Denied { server: server.to_owned(), message: one_line(&kind.to_string()) }
            }
            kind => unavailable(server, kind, RetryReason::Connection),
        },
        other => unavailable(server, other, RetryReason::Connection),
    }
}

fn broken_in_setup(error: &ConnectionPoolError) -> Option<&BrokenConnectionError> {
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectionSetupRequestError(setup) } = error else {
        return None;
    };
    match setup.get_error() {
        ConnectionSetupRequestErrorKind::BrokenConnection(broken) => Some(broken),
        _ => None,
    }
}

/// Converts a connection that the node closed before its first answer, as it does if only one side
/// expects TLS, and, in TLS 1.3, if it refuses the client's certificate.
fn closed_early(server: &str, tls: bool, error: &BrokenConnectionError) -> StoreError {
    if let Some(BrokenConnectionErrorKind::FrameHeaderParseError(FrameHeaderParseError::HeaderIoError(cause))) = error.downcast_ref()
        && let Some(error) = tls_error(cause)
    {
        return tls::handshake_failure(server, error);
    }
    let remedy = if tls { tls::CLIENT_CERTIFICATE } else { "if it requires TLS, add a [cassandra.tls] section" };
    unavailable(server, &format!("the node closed the connection before its first answer; {remedy}"), RetryReason::Connection)
}

fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn attempt_failure(server: &str, error: &RequestAttemptError) -> RequestFailure {
    match error {
        RequestAttemptError::DbError(error, message) => server_failure(server, error, message),
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            RequestFailure::Other(unrecoverable(server, error))
        }
        RequestAttemptError::BrokenConnectionError(_) => RequestFailure::Other(unavailable(server, error, RetryReason::Connection)),
        // For example a statement that has to be prepared again, or an unreadable answer. Whether
        // the request took effect is unknown.
        _ => RequestFailure::Other(unavailable(server, error, RetryReason::Other)),
    }
}

fn server_failure(server: &str, error: &DbError, message: &str) -> RequestFailure {
    let to_server = || server.to_owned();
    let refused = || StoreError::Refused { server: to_server(), message: one_line(message) };
    RequestFailure::Other(match error {
        DbError::Invalid => match server_message::subject_of(message) {
            Subject::Batch => return RequestFailure::BatchTooLarge(refused()),
            Subject::Row => return RequestFailure::RowLimit(refused()),
            Subject::Value => return RequestFailure::ValueLimit(refused()),
            Subject::Unknown => return RequestFailure::UnknownRefusal(refused()),
            // Retried, because an operator can lift a rule or free space while the pipeline runs.
            Subject::Disk(guardrail) => cluster_refusal(server, message, guardrail, RetryReason::DiskFull),
            Subject::Guardrail(guardrail) => cluster_refusal(server, message, guardrail, RetryReason::Policy),
            Subject::Table => schema(server, message),
        },
        // Some versions report a mutation that is too large as a server error.
        DbError::ServerError if message.contains("Mutation of ") && server_message::subject_of(message) == Subject::Row => {
            return RequestFailure::RowLimit(refused());
        }
        DbError::SyntaxError | DbError::ConfigError => schema(server, message),
        // A starting server that can't read its own user tables answers this too.
        DbError::AuthenticationError | DbError::Unauthorized if message.to_ascii_lowercase().contains("unable to perform") => {
            unavailable(server, &message, RetryReason::Unavailable)
        }
        DbError::AuthenticationError | DbError::Unauthorized => StoreError::Denied { server: to_server(), message: one_line(message) },
        DbError::ProtocolError => unrecoverable(server, &message),
        other if message.is_empty() => unavailable(server, other, retry_reason(other)),
        other => unavailable(server, &format!("{other}: {message}"), retry_reason(other)),
    })
}

/// A refusal by the cluster that is not the rows' fault. The rows are retried until it is lifted.
fn cluster_refusal(server: &str, message: &str, guardrail: &str, reason: RetryReason) -> StoreError {
    let (message, remedy) = (server_message::guardrail_message(guardrail, message), server_message::guardrail_remedy(guardrail));
    unavailable(server, &format!("{message}; the rows are not at fault and are retried; {remedy}"), reason)
}

fn retry_reason(error: &DbError) -> RetryReason {
    match error {
        DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => RetryReason::WriteTimeout,
        DbError::Unavailable { .. } => RetryReason::Unavailable,
        DbError::Overloaded | DbError::IsBootstrapping | DbError::RateLimitReached { .. } => RetryReason::Overloaded,
        _ => RetryReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_schemas::error_class::{Class, Classified};

    fn class(error: &DbError, message: &str) -> Class {
        server_failure("cassandra x", error, message).into_error().class()
    }

    #[test]
    fn transient_server_errors_are_retried() {
        for error in [DbError::Overloaded, DbError::IsBootstrapping, DbError::ServerError, DbError::Other(0x1700)] {
            assert!(matches!(class(&error, "busy"), Class::Transient));
        }
        assert_eq!(server_failure("x", &DbError::Overloaded, "busy").into_error().reason(), RetryReason::Overloaded);
        assert_eq!(server_failure("x", &DbError::ServerError, "").into_error().reason(), RetryReason::Other);
        assert!(matches!(class(&DbError::AuthenticationError, "Unable to perform authentication: Cannot achieve"), Class::Transient));
    }

    #[test]
    fn built_in_limits_reject_only_the_row() {
        assert!(matches!(class(&DbError::Invalid, "Key may not be empty"), Class::Rejected));
        assert!(matches!(server_failure("x", &DbError::Invalid, "Key may not be empty"), RequestFailure::RowLimit(_)));
        assert!(matches!(server_failure("x", &DbError::Invalid, "Batch too large"), RequestFailure::BatchTooLarge(_)));
        let oversized = "java.lang.IllegalArgumentException: Mutation of 20.000MiB is too large for the maximum size of 16.000MiB";
        assert!(matches!(server_failure("x", &DbError::ServerError, oversized), RequestFailure::RowLimit(_)));
        assert!(matches!(
            server_failure("x", &DbError::Invalid, "made up tomorrow: it exceeds what is allowed"),
            RequestFailure::UnknownRefusal(_)
        ));
        let value = "Guardrail column_value_size violated: Value of column 'v' has size 2KiB, this exceeds the failure threshold of 1KiB.";
        assert!(matches!(server_failure("x", &DbError::Invalid, value), RequestFailure::ValueLimit(_)));
    }

    #[test]
    fn cluster_rules_and_full_disks_are_retried_and_the_error_has_the_remedy() {
        let rule =
            "Guardrail write_consistency_levels violated: Provided values [LOCAL_QUORUM] are not allowed for write consistency levels";
        let disk = "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold";
        let stamps = "Guardrail user_timestamps violated: User provided timestamps (USING TIMESTAMP) is not allowed";
        for (message, reason, remedy) in [
            (rule, RetryReason::Policy, "[writer] consistency"),
            (disk, RetryReason::DiskFull, "free disk space"),
            (stamps, RetryReason::Policy, "user_timestamps_enabled"),
            ("Guardrail made_tomorrow violated: it exceeds what is allowed", RetryReason::Policy, "lift the guardrail made_tomorrow"),
        ] {
            let error = server_failure("x", &DbError::Invalid, message).into_error();
            assert!(matches!(error.class(), Class::Transient), "{error}");
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains(remedy) && error.to_string().contains("the rows are not at fault"), "{error}");
        }
    }

    #[test]
    fn errors_about_the_table_are_fatal() {
        assert!(matches!(class(&DbError::Invalid, "table t does not exist"), Class::Fatal));
        assert!(matches!(class(&DbError::Invalid, "an unknown message to a request without rows"), Class::Fatal));
        assert!(matches!(class(&DbError::AuthenticationError, "Provided username x and/or password are incorrect"), Class::Fatal));
        assert!(matches!(class(&DbError::Unauthorized, "User x has no MODIFY permission"), Class::Fatal));
    }

    #[test]
    fn a_missing_permission_is_retried_only_when_rows_are_written() {
        let message = "User x has no MODIFY permission on <table k.t>".to_owned();
        let error = ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unauthorized, message));
        assert!(matches!(execution_failure("cassandra x", &error).into_error().class(), Class::Fatal));
        let waits = write_failure("cassandra x", &error).into_error();
        assert_eq!((waits.class(), waits.reason()), (Class::Transient, RetryReason::Policy));
        assert!(waits.to_string().ends_with("<table k.t>; the rows are not at fault and are retried; grant the user MODIFY on the table"));
    }
}
