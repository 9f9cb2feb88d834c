//! What a failed TLS handshake with the source API means. Pure.
//!
//! Guarantee: a message names the remedy. What the API's operator can end is retried: a certificate
//! that has expired, and a client that is refused. What needs another pipeline file is not.

use std::error::Error;
use std::io;

use rustls::CertificateError::{
    Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, UnknownIssuer,
};

/// The cause and the remedy of a failed request, if TLS is the cause, and whether it may end by
/// itself.
pub(super) fn of(error: &(dyn Error + 'static)) -> Option<(String, bool)> {
    find(error).map(explain)
}

/// The failure of TLS in an error, or in what it wraps.
fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(failure) = error.downcast_ref() {
        return Some(failure);
    }
    // The source of an I/O error is that of the error which it wraps, not that error.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => find(wrapped),
        None => find(error.source()?),
    }
}

fn explain(error: &rustls::Error) -> (String, bool) {
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => (
            format!("its certificate is not valid now ({error}); its operator has to renew it, or correct the clock of this machine"),
            true,
        ),
        rustls::Error::InvalidCertificate(UnknownIssuer) => (
            "its certificate is issued by an unknown CA; set [fetcher.tls] ca to a PEM file of the CA that issues the API's certificate"
                .to_owned(),
            false,
        ),
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            (format!("its certificate has another name ({error}); write a name that it has in fetcher.url"), false)
        }
        rustls::Error::InvalidCertificate(_) => (format!("its certificate can't be verified: {error}"), false),
        rustls::Error::AlertReceived(_) => (
            format!(
                "it refused the TLS handshake ({error}); if it requires a client's certificate, set certificate and key in [fetcher.tls] to a \
                 pair that has not expired and whose CA it trusts"
            ),
            true,
        ),
        rustls::Error::InvalidMessage(_) => {
            ("it does not speak TLS at this port; write http:// in fetcher.url, or another port".to_owned(), false)
        }
        error => (format!("TLS failed: {error}"), true),
    }
}
