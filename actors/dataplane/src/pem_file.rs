//! PEM files of certificates and of private keys, which the pipeline file names.
//!
//! Guarantees:
//! * An unusable file is an error at its key, with the remedy.
//! * A private key that others than its owner can read is refused.

use std::path::Path;

use forebay_schemas::pipeline::{FileError, Pipeline, Secret};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const CERTIFICATE_HELP: &str = "name a PEM file, with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der` converts DER, `keytool -exportcert \
                                -rfc` a keystore";
const KEY_HELP: &str = "name a PEM file, with -----BEGIN PRIVATE KEY-----; `openssl pkcs8 -topk8 -nocrypt` decrypts and converts a key";

/// A PEM file that a key of the pipeline file names.
#[derive(Debug, Clone, Copy)]
pub struct PemFile<'a> {
    /// The pipeline file.
    pub pipeline: &'a Pipeline,
    /// The key, such as `["api", "tls", "certificate"]`.
    pub key: &'a [&'a str],
    /// Its value, relative to the pipeline file.
    pub path: &'a Path,
}

impl PemFile<'_> {
    /// The certificates of the file; at least one.
    ///
    /// # Errors
    /// When the file can't be read, or has none.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let path = self.pipeline.relative(self.path);
        let pem = std::fs::read(&path).map_err(|error| self.error(format!("can't read {}: {error}", path.display()), CERTIFICATE_HELP))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let unusable = |error: &PemError| self.unusable(error, "certificate", CERTIFICATE_HELP);
        match found {
            Ok(found) if found.is_empty() => Err(unusable(&PemError::NoItemsFound)),
            found => found.map_err(|error| unusable(&error)),
        }
    }

    /// The private key of the file.
    ///
    /// # Errors
    /// When the file can't be read, has none, or can be read by others than its owner.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        let pem = Secret::File(self.path.to_owned())
            .reveal(&self.pipeline.source.path)
            .map_err(|error| self.error(error.to_string(), KEY_HELP))?;
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| self.unusable(&error, "private key without a password", KEY_HELP))
    }

    fn unusable(&self, error: &PemError, what: &str, help: &str) -> FileError {
        let path = self.pipeline.relative(self.path);
        let message = match error {
            PemError::NoItemsFound => format!("{} has no {what} in PEM", path.display()),
            error => format!("{} is not valid PEM: {error}", path.display()),
        };
        self.error(message, help)
    }

    fn error(&self, message: String, help: &str) -> FileError {
        self.pipeline.error_at(self.key, message, help)
    }
}

/// The error of a certificate and a private key that can't be used together. `key` and
/// `certificate` are the keys of the pipeline file that name them.
pub fn unusable_pair(pipeline: &Pipeline, certificate: &[&str], key: &[&str], error: &rustls::Error) -> FileError {
    match error {
        rustls::Error::InconsistentKeys(_) => pipeline.error_at(
            key,
            "the key does not belong to the certificate",
            "set key to the private key that certificate was issued for",
        ),
        error => {
            pipeline.error_at(certificate, format!("certificate and key can't be used: {error}"), "issue them again, as X.509 version 3")
        }
    }
}
