//! What the driver and the server say, sorted into what to do about it.

use std::fmt::Display;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError, NewSessionError,
    NextPageError, PagerExecutionError, PrepareError, RequestAttemptError, RequestError, UseKeyspaceError,
};

use super::words::{self, About};
use crate::store::error::{Reason, StoreError};

/// A failure of one request.
#[derive(Debug)]
pub(super) enum Fault {
    /// Too large a batch: its halves may pass.
    TooLarge(StoreError),
    /// A row of it is beyond a limit of Cassandra's own.
    Row(StoreError),
    /// A value of it is beyond a limit that an operator sets.
    Value(StoreError),
    /// It is refused, in words that are not known.
    Unknown(StoreError),
    /// Anything else.
    Other(StoreError),
}

impl Fault {
    /// The error where no row was sent, so that no row can be at fault.
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Unknown(StoreError::Refused { server, what }) => schema(&server, &what),
            Self::TooLarge(error) | Self::Row(error) | Self::Value(error) | Self::Unknown(error) | Self::Other(error) => error,
        }
    }
}

fn schema(server: &str, said: &str) -> StoreError {
    StoreError::Schema {
        server: server.to_owned(),
        what: one_line(said),
        remedy: "bring keyspace, table and pipeline file together; `forebay check --cql` shows what the pipeline needs".to_owned(),
    }
}

fn unavailable(server: &str, what: &dyn Display, reason: Reason) -> StoreError {
    StoreError::Unavailable { server: server.to_owned(), what: one_line(&what.to_string()), reason }
}

fn broken(server: &str, what: &dyn Display) -> StoreError {
    StoreError::Broken { server: server.to_owned(), what: one_line(&what.to_string()) }
}

/// Errors of the driver can be a paragraph, and a cause a stack.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(400) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// Sorts the failure of a write, a query or a statement of DDL.
pub(super) fn of_execution(server: &str, error: &ExecutionError) -> Fault {
    let other = Fault::Other;
    match error {
        ExecutionError::LastAttemptError(attempt) => of_attempt(server, attempt),
        ExecutionError::ConnectionPoolError(pool) => other(of_pool(server, pool)),
        ExecutionError::PrepareError(prepare) => of_prepare(server, prepare),
        ExecutionError::UseKeyspaceError(error) => other(of_use_keyspace(server, error)),
        ExecutionError::RequestTimeout(after) => {
            other(unavailable(server, &format!("no answer within {} s", after.as_secs()), Reason::WriteTimeout))
        }
        ExecutionError::SchemaAgreementError(_) | ExecutionError::MetadataError(_) | ExecutionError::EmptyPlan => {
            other(unavailable(server, error, Reason::Other))
        }
        _ => other(broken(server, error)),
    }
}

pub(super) fn of_prepare(server: &str, error: &PrepareError) -> Fault {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(server, first_attempt),
        PrepareError::ConnectionPoolError(pool) => Fault::Other(of_pool(server, pool)),
        _ => Fault::Other(unavailable(server, error, Reason::Other)),
    }
}

/// Sorts the failure to connect.
pub(super) fn of_session(server: &str, error: &NewSessionError) -> StoreError {
    match error {
        NewSessionError::MetadataError(metadata) => match metadata {
            MetadataError::ConnectionPoolError(pool) => of_pool(server, pool),
            _ => unavailable(server, metadata, Reason::Connection),
        },
        NewSessionError::UseKeyspaceError(error) => of_use_keyspace(server, error),
        NewSessionError::FailedToResolveAnyHostname(_) => unavailable(server, &"the host's name is not known", Reason::Connection),
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => broken(server, error),
        _ => unavailable(server, error, Reason::Connection),
    }
}

pub(super) fn of_use_keyspace(server: &str, error: &UseKeyspaceError) -> StoreError {
    match error {
        UseKeyspaceError::RequestError(attempt) => of_attempt(server, attempt).into_error(),
        UseKeyspaceError::RequestTimeout(_) => unavailable(server, error, Reason::Other),
        _ => broken(server, error),
    }
}

/// Sorts the failure of a query in pages.
pub(super) fn of_pager(server: &str, error: &PagerExecutionError) -> StoreError {
    match error {
        PagerExecutionError::PrepareError(prepare) => of_prepare(server, prepare).into_error(),
        PagerExecutionError::NextPageError(page) => of_next_page(server, page),
        PagerExecutionError::UseKeyspaceError(error) => of_use_keyspace(server, error),
        _ => unavailable(server, error, Reason::Other),
    }
}

pub(super) fn of_next_page(server: &str, error: &NextPageError) -> StoreError {
    match error {
        NextPageError::RequestFailure(RequestError::LastAttemptError(attempt)) => of_attempt(server, attempt).into_error(),
        NextPageError::RequestFailure(RequestError::ConnectionPoolError(pool)) => of_pool(server, pool),
        NextPageError::RequestFailure(_) => unavailable(server, error, Reason::Other),
        _ => broken(server, error),
    }
}

fn of_pool(server: &str, error: &ConnectionPoolError) -> StoreError {
    let ConnectionPoolError::Broken { last_connection_error } = error else {
        return unavailable(server, error, Reason::Connection);
    };
    match last_connection_error {
        ConnectionError::IoError(cause) => unavailable(server, cause, Reason::Connection),
        ConnectionError::ConnectTimeout => unavailable(server, &"no answer to the connection request", Reason::Connection),
        ConnectionError::ConnectionSetupRequestError(setup) => match setup.get_error() {
            ConnectionSetupRequestErrorKind::DbError(error, said) => of_server(server, error, said).into_error(),
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                StoreError::Denied { server: server.to_owned(), what: "the server asks for a user, and the file names none".to_owned() }
            }
            kind @ (ConnectionSetupRequestErrorKind::StartAuthSessionError(_)
            | ConnectionSetupRequestErrorKind::AuthChallengeEvaluationError(_)
            | ConnectionSetupRequestErrorKind::AuthFinishError(_)) => {
                StoreError::Denied { server: server.to_owned(), what: one_line(&kind.to_string()) }
            }
            kind => unavailable(server, kind, Reason::Connection),
        },
        other => unavailable(server, other, Reason::Connection),
    }
}

fn of_attempt(server: &str, error: &RequestAttemptError) -> Fault {
    match error {
        RequestAttemptError::DbError(error, said) => of_server(server, error, said),
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => Fault::Other(broken(server, error)),
        RequestAttemptError::BrokenConnectionError(_) => Fault::Other(unavailable(server, error, Reason::Connection)),
        // Statements being prepared anew, answers that can't be read: what became of the request is not known.
        _ => Fault::Other(unavailable(server, error, Reason::Other)),
    }
}

fn of_server(server: &str, error: &DbError, said: &str) -> Fault {
    let to_server = || server.to_owned();
    let refused = || StoreError::Refused { server: to_server(), what: one_line(said) };
    Fault::Other(match error {
        DbError::Invalid => match words::about(said) {
            About::Batch => return Fault::TooLarge(refused()),
            About::Row => return Fault::Row(refused()),
            About::Value => return Fault::Value(refused()),
            About::Unknown => return Fault::Unknown(refused()),
            // An operator lifts it, or makes room, while the pipeline runs; so it is waited for.
            About::Disk(guardrail) => to_wait_for(server, said, guardrail, Reason::DiskFull),
            About::Rule(guardrail) => to_wait_for(server, said, guardrail, Reason::Policy),
            About::Table => schema(server, said),
        },
        // Some versions take the limit of a mutation for an error of their own.
        DbError::ServerError if said.contains("Mutation of ") && words::about(said) == About::Row => return Fault::Row(refused()),
        DbError::SyntaxError | DbError::ConfigError => schema(server, said),
        // A server that can't read its own tables of users answers so too, while it starts.
        DbError::AuthenticationError | DbError::Unauthorized if said.to_ascii_lowercase().contains("unable to perform") => {
            unavailable(server, &said, Reason::Unavailable)
        }
        DbError::AuthenticationError | DbError::Unauthorized => StoreError::Denied { server: to_server(), what: one_line(said) },
        DbError::ProtocolError => broken(server, &said),
        other if said.is_empty() => unavailable(server, other, reason_of(other)),
        other => unavailable(server, &format!("{other}: {said}"), reason_of(other)),
    })
}

/// What is no fault of the rows: they are written when it is lifted.
fn to_wait_for(server: &str, said: &str, guardrail: &str, reason: Reason) -> StoreError {
    let (said, remedy) = (words::of_rule(guardrail, said), words::remedy(guardrail));
    unavailable(server, &format!("{said}: no fault of the rows, none is set aside; {remedy}"), reason)
}

fn reason_of(error: &DbError) -> Reason {
    match error {
        DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => Reason::WriteTimeout,
        DbError::Unavailable { .. } => Reason::Unavailable,
        DbError::Overloaded | DbError::IsBootstrapping | DbError::RateLimitReached { .. } => Reason::Overloaded,
        _ => Reason::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_schemas::failure::{Class, Classified};

    fn class(error: &DbError, said: &str) -> Class {
        of_server("cassandra x", error, said).into_error().class()
    }

    #[test]
    fn trouble_of_the_server_is_tried_again() {
        for error in [DbError::Overloaded, DbError::IsBootstrapping, DbError::ServerError, DbError::Other(0x1700)] {
            assert!(matches!(class(&error, "busy"), Class::Transient));
        }
        assert_eq!(of_server("x", &DbError::Overloaded, "busy").into_error().reason(), Reason::Overloaded);
        assert_eq!(of_server("x", &DbError::ServerError, "").into_error().reason(), Reason::Other);
        assert!(matches!(class(&DbError::AuthenticationError, "Unable to perform authentication: Cannot achieve"), Class::Transient));
    }

    #[test]
    fn limits_of_cassandra_itself_give_up_on_the_row_only() {
        assert!(matches!(class(&DbError::Invalid, "Key may not be empty"), Class::Rejected));
        assert!(matches!(of_server("x", &DbError::Invalid, "Key may not be empty"), Fault::Row(_)));
        assert!(matches!(of_server("x", &DbError::Invalid, "Batch too large"), Fault::TooLarge(_)));
        let oversized = "java.lang.IllegalArgumentException: Mutation of 20.000MiB is too large for the maximum size of 16.000MiB";
        assert!(matches!(of_server("x", &DbError::ServerError, oversized), Fault::Row(_)));
        assert!(matches!(of_server("x", &DbError::Invalid, "made up tomorrow: it exceeds what is allowed"), Fault::Unknown(_)));
        let value = "Guardrail column_value_size violated: Value of column 'v' has size 2KiB, this exceeds the failure threshold of 1KiB.";
        assert!(matches!(of_server("x", &DbError::Invalid, value), Fault::Value(_)));
    }

    #[test]
    fn a_rule_of_the_cluster_and_a_full_disk_are_waited_for_with_what_lifts_them() {
        let rule =
            "Guardrail write_consistency_levels violated: Provided values [LOCAL_QUORUM] are not allowed for write consistency levels";
        let disk = "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold";
        let stamps = "Guardrail user_timestamps violated: User provided timestamps (USING TIMESTAMP) is not allowed";
        for (said, reason, remedy) in [
            (rule, Reason::Policy, "[writer] consistency"),
            (disk, Reason::DiskFull, "free disk space"),
            (stamps, Reason::Policy, "user_timestamps_enabled"),
            ("Guardrail made_tomorrow violated: it exceeds what is allowed", Reason::Policy, "lift the guardrail made_tomorrow"),
        ] {
            let error = of_server("x", &DbError::Invalid, said).into_error();
            assert!(matches!(error.class(), Class::Transient), "{error}");
            assert_eq!(error.reason(), reason);
            assert!(error.to_string().contains(remedy) && error.to_string().contains("no fault of the rows"), "{error}");
        }
    }

    #[test]
    fn words_about_the_table_give_up() {
        assert!(matches!(class(&DbError::Invalid, "table t does not exist"), Class::Fatal));
        assert!(matches!(class(&DbError::Invalid, "words that nobody knows, where no row was sent"), Class::Fatal));
        assert!(matches!(class(&DbError::AuthenticationError, "Provided username x and/or password are incorrect"), Class::Fatal));
        assert!(matches!(class(&DbError::Unauthorized, "User x has no MODIFY permission"), Class::Fatal));
    }
}
