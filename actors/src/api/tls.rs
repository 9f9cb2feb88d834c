//! TLS of the API: the certificate and the key of `[api] tls`, read again when their files change.
//!
//! Guarantees:
//! * A connection that begins after the files were replaced gets the new certificate. While they
//!   are unusable, the last usable pair is presented.
//! * An unusable file is an error at its key. A key that others than its owner can read is
//!   refused.
//! * TLS is 1.2 or 1.3.
//!
//! Does not guarantee that clients accept the certificate: one that has expired is presented, too,
//! because a pipeline needs no API to move records. [`check_validity`] finds it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_dataplane::pem_file::{PemFile, unusable_pair};
use forebay_schemas::pipeline::{ApiTlsSection, FileError, Pipeline};
use parking_lot::Mutex;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor as verify;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};

use super::file_version::FileVersion;

/// The keys of the pipeline file.
const CERTIFICATE: &[&str] = &["api", "tls", "certificate"];
const KEY: &[&str] = &["api", "tls", "key"];

/// The certificate and the key that the API presents.
#[derive(Clone)]
pub struct ApiTls {
    pipeline: Arc<Pipeline>,
    /// The files of the certificate and of the key.
    files: [PathBuf; 2],
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// The versions of the files that were read last, usable or not.
    versions: [Option<FileVersion>; 2],
    config: Arc<ServerConfig>,
}

impl ApiTls {
    /// Reads the files of `[api] tls`. `None` without that key.
    ///
    /// # Errors
    /// When a file can't be read, is not PEM, or does not fit the other, at its key.
    pub fn new(pipeline: &Arc<Pipeline>) -> Result<Option<Self>, FileError> {
        let Some(tls) = &pipeline.api.tls else { return Ok(None) };
        let files = [pipeline.relative(&tls.certificate), pipeline.relative(&tls.key)];
        // Before their contents, so that a change in between is noticed later.
        let versions = files.each_ref().map(|file| FileVersion::of(file));
        let config = server_config(pipeline, tls)?;
        Ok(Some(Self { pipeline: Arc::clone(pipeline), files, current: Arc::new(Mutex::new(Current { versions, config })) }))
    }

    /// The configuration of the next connection. Asks for the state of the files.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        let versions = self.files.each_ref().map(|file| FileVersion::of(file));
        if current.versions != versions
            && let Some(tls) = &self.pipeline.api.tls
        {
            current.versions = versions;
            match server_config(&self.pipeline, tls) {
                Ok(config) => current.config = config,
                Err(error) => {
                    let remedy = error.remedy().unwrap_or_default();
                    tracing::warn!(%error, remedy, "files of [api] tls changed but are unusable; the last pair stays in use");
                }
            }
        }
        Arc::clone(&current.config)
    }
}

/// Shows the files.
impl fmt::Debug for ApiTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiTls({:?})", self.files)
    }
}

/// Checks the files of `[api] tls`, if the pipeline file has it.
///
/// # Errors
/// As [`ApiTls::new`].
pub fn check_files(pipeline: &Pipeline) -> Result<(), FileError> {
    pipeline.api.tls.as_ref().map_or(Ok(()), |tls| server_config(pipeline, tls).map(|_| ()))
}

/// Checks that the certificates of `[api] tls` are valid at a time since the epoch.
///
/// # Errors
/// When the file is unusable, or one of its certificates is not valid then.
pub fn check_validity(pipeline: &Pipeline, now: Duration) -> Result<(), FileError> {
    let Some(tls) = &pipeline.api.tls else { return Ok(()) };
    let file = PemFile { pipeline, key: CERTIFICATE, path: &tls.certificate };
    let path = pipeline.relative(&tls.certificate);
    for certificate in file.certificates()? {
        if let Some(error) = invalid_at(&certificate, UnixTime::since_unix_epoch(now)) {
            let message = format!("a certificate of {} is not valid now ({error})", path.display());
            return Err(pipeline.error_at(CERTIFICATE, message, "renew it and replace both files; a running process reads them again"));
        }
    }
    Ok(())
}

/// Why a certificate is not valid at a time. Neither its issuer nor its name is checked.
fn invalid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateError> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    // Without a trusted CA this always fails; the validity is checked first.
    match verify(&parsed, &RootCertStore::empty(), &[], now, algorithms.all) {
        Err(Error::InvalidCertificate(
            error @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        )) => Some(error),
        _ => None,
    }
}

fn server_config(pipeline: &Pipeline, tls: &ApiTlsSection) -> Result<Arc<ServerConfig>, FileError> {
    let chain = PemFile { pipeline, key: CERTIFICATE, path: &tls.certificate }.certificates()?;
    let key = PemFile { pipeline, key: KEY, path: &tls.key }.private_key()?;
    let unusable = |error: &Error| unusable_pair(pipeline, CERTIFICATE, KEY, error);
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use forebay_test_services::certificates::{Authority, Certificate};
    use tempfile::TempDir;

    use super::*;

    /// A folder with the files `api.pem` and `api.key` of a certificate.
    fn folder(certificate: &Certificate) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, "api.pem", &certificate.certificate);
        write(&dir, "api.key", &certificate.key);
        dir
    }

    fn write(dir: &TempDir, name: &str, text: &str) {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn pipeline(dir: &TempDir) -> Arc<Pipeline> {
        let text = "[pipeline]\nname = \"x\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"http://x/\"\n\
                    [producer]\nkey = \"/id\"\n[api.tls]\ncertificate = \"api.pem\"\nkey = \"api.key\"\n";
        Arc::new(forebay_schemas::pipeline::parse(&dir.path().join("forebay.toml"), text.to_owned()).unwrap())
    }

    fn now() -> Duration {
        std::time::UNIX_EPOCH.elapsed().unwrap()
    }

    #[test]
    fn an_unusable_file_is_an_error_at_its_key_with_the_remedy() {
        let authority = Authority::new("a CA");
        let (api, other) = (authority.issue("api", &["127.0.0.1"]), authority.issue("other", &[]));
        for (file, text, line, message, remedy) in [
            ("api.pem", "", 11, "api.pem has no certificate in PEM", "BEGIN CERTIFICATE"),
            ("api.pem", "-----BEGIN CERTIFICATE-----\n?\n", 11, "api.pem is not valid PEM", "BEGIN CERTIFICATE"),
            ("api.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 11, "can't be used", "issue them again"),
            ("api.key", &api.certificate, 12, "api.key has no private key without a password", "openssl pkcs8"),
            ("api.key", &other.key, 12, "the key does not belong to the certificate", "that certificate was issued for"),
        ] {
            let dir = folder(&api);
            write(&dir, file, text);
            let error = check_files(&pipeline(&dir)).expect_err(message);
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!((error.line(), error.remedy().unwrap().contains(remedy)), (Some(line), true), "{error}: {:?}", error.remedy());
        }
        for (file, line) in [("api.pem", 11), ("api.key", 12)] {
            let dir = folder(&api);
            std::fs::remove_file(dir.path().join(file)).unwrap();
            let error = check_files(&pipeline(&dir)).unwrap_err();
            assert!(error.to_string().contains(&format!("{file}: No such file")) && error.line() == Some(line), "{error}");
        }
        let dir = folder(&api);
        check_files(&pipeline(&dir)).unwrap();
        std::fs::set_permissions(dir.path().join("api.key"), Permissions::from_mode(0o666)).unwrap();
        let exposed = check_files(&pipeline(&dir)).expect_err("others can change the key");
        assert!(exposed.to_string().contains("api.key (mode 0666); run: chmod 600"), "{exposed}");
    }

    #[test]
    fn a_certificate_that_has_expired_or_is_not_valid_yet_is_found_and_its_files_are_usable() {
        let authority = Authority::new("a CA");
        let dir = folder(&authority.issue("api", &["127.0.0.1"]));
        check_validity(&pipeline(&dir), now()).unwrap();
        let early = check_validity(&pipeline(&dir), Duration::ZERO).expect_err("it is not valid in 1970");
        assert!(early.to_string().contains("api.pem is not valid now") && early.line() == Some(11), "{early}");
        let dir = folder(&authority.issue_expired("api", &["127.0.0.1"]));
        let expired = check_validity(&pipeline(&dir), now()).expect_err("it expired an hour ago");
        assert!(expired.to_string().contains("expired") && expired.remedy().unwrap().contains("renew it"), "{expired}");
        check_files(&pipeline(&dir)).unwrap();
    }

    #[test]
    fn a_replaced_pair_is_used_once_both_files_fit_and_the_last_one_until_then() {
        let authority = Authority::new("a CA");
        let dir = folder(&authority.issue("api", &[]));
        let tls = ApiTls::new(&pipeline(&dir)).unwrap().unwrap();
        let first = tls.config();
        assert!(Arc::ptr_eq(&first, &tls.config()), "nothing has changed");
        let renewed = authority.issue("api", &[]);
        write(&dir, "api.pem", &renewed.certificate);
        assert!(Arc::ptr_eq(&first, &tls.config()), "the key is still that of the first certificate");
        write(&dir, "api.key", &renewed.key);
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::remove_file(dir.path().join("api.key")).unwrap();
        assert!(Arc::ptr_eq(&second, &tls.config()));
    }
}
