//! What a failed TLS handshake with the API means, and what to do.

use std::error::Error;
use std::io;

use rustls::CertificateError::{
    ApplicationVerificationFailure, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
    UnknownIssuer,
};

/// A failed TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFailure {
    /// What failed.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

impl TlsFailure {
    /// The TLS failure in an error or its causes, if there is one.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        find(error).map(Self::explain)
    }

    fn explain(error: &rustls::Error) -> Self {
        let (message, remedy) = match error {
            rustls::Error::InvalidCertificate(UnknownIssuer) => (
                "the API's certificate is issued by an unknown CA".to_owned(),
                "name the PEM file of that CA with --ca FILE or FOREBAY_CA; on the machine of the pipeline, `-c` with its file is enough",
            ),
            rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => (
                format!("the API's certificate has another name ({error})"),
                "write a name that it has in --url, or issue it with this one; on the machine of the pipeline, `-c` with its file is enough",
            ),
            rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => (
                format!("the API's certificate is not valid now ({error})"),
                "renew it and replace the files of [api] tls, without a restart; or correct the clock of this machine",
            ),
            // Only the verifier for a certificate of the pipeline file fails so.
            rustls::Error::InvalidCertificate(ApplicationVerificationFailure) => (
                "the API's certificate is not the one that the pipeline file names".to_owned(),
                "see `forebay check` and the log of the process, which keeps the last usable pair; or name the address with --url",
            ),
            rustls::Error::InvalidCertificate(_) if error.to_string().contains("CaUsedAsEndEntity") => (
                "the API's certificate is that of a CA".to_owned(),
                "issue it with `basicConstraints = CA:FALSE`, such as by `openssl req -addext basicConstraints=critical,CA:FALSE`",
            ),
            rustls::Error::InvalidCertificate(_) => (
                format!("the API's certificate can't be verified: {error}"),
                "issue it again, as X.509 version 3 with a name of the machine",
            ),
            rustls::Error::InvalidMessage(_) => {
                ("there is no TLS at this port".to_owned(), "write http:// in --url, or add tls to [api] of the pipeline file")
            }
            error => (format!("TLS failed: {error}"), "see the log of the process; TLS is 1.2 or 1.3"),
        };
        Self { message, remedy }
    }
}

fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    // The source of an I/O error is the source of the error in it, not that error.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.and_then(|inner| find(inner)).or_else(|| error.source().and_then(find))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_failure_is_found_among_the_causes_of_io_errors() {
        let unknown = rustls::Error::InvalidCertificate(UnknownIssuer);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, unknown));
        assert!(TlsFailure::of(&nested).unwrap().remedy.contains("--ca FILE or FOREBAY_CA"));
        assert_eq!(TlsFailure::of(&io::Error::other("reset")), None);
    }
}
