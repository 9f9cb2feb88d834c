//! The TLS of Forebay as a client: whom it trusts, and the certificate that it shows.
//!
//! Guarantee: an unusable file is an error at its key.
//!
//! Does not guarantee that a certificate has not been revoked: no revocation list is read.

use std::path::Path;
use std::sync::Arc;

use forebay_schemas::pipeline::{FileError, Pipeline, SourceTlsSection};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::pem_file::{PemFile, unusable_pair};

/// The CAs of the file that the key `ca` of this section names, or of the system.
///
/// # Errors
/// When the file can't be read or has no CA, or the system has none.
pub(crate) fn roots(pipeline: &Pipeline, section: [&str; 2], ca: Option<&Path>) -> Result<RootCertStore, FileError> {
    let key = [section[0], section[1], "ca"];
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(pipeline.error_at(&key, "the system has no CAs", "set ca to a PEM file, or install the package ca-certificates"));
        }
        return Ok(roots);
    };
    for certificate in (PemFile { pipeline, key: &key, path: ca }).certificates()? {
        roots.add(certificate).map_err(|error| {
            let message = format!("a certificate of {} can't be used: {error}", pipeline.relative(ca).display());
            pipeline.error_at(&key, message, "issue it again, as X.509 version 3")
        })?;
    }
    Ok(roots)
}

/// Reads the files of `[fetcher.tls]`.
///
/// # Errors
/// When a file can't be read, is not PEM, or does not fit the others, at its key.
pub fn source_config(pipeline: &Pipeline, tls: &SourceTlsSection) -> Result<ClientConfig, FileError> {
    let section = ["fetcher", "tls"];
    let roots = roots(pipeline, section, tls.ca.as_deref())?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| pipeline.error_at(&section, format!("TLS can't be used: {error}"), "remove [fetcher.tls]"))?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(builder.with_no_client_auth()) };
    let (certificate_at, key_at) = (["fetcher", "tls", "certificate"], ["fetcher", "tls", "key"]);
    let chain = PemFile { pipeline, key: &certificate_at, path: certificate }.certificates()?;
    let key = PemFile { pipeline, key: &key_at, path: key }.private_key()?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable_pair(pipeline, &certificate_at, &key_at, &error))
}
