//! Which certificate of an API the command line trusts.
//!
//! Guarantees:
//! * An API that is found by a pipeline file must present exactly the certificate that the file
//!   names, whatever its name, issuer and validity are.
//! * Any other API must present a certificate with its name, issued by a CA of the system or of
//!   `--ca`, that is valid now.

use std::path::PathBuf;
use std::sync::Arc;

use forebay_dataplane::pem_file::PemFile;
use forebay_schemas::pipeline::Pipeline;
use reqwest::{Certificate, Client, ClientBuilder};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::error::CliError;

/// Trusts the CAs of the system, and those of a PEM file.
///
/// # Errors
/// When the file can't be read or has no certificate.
pub(crate) fn issued(ca: Option<&PathBuf>) -> Result<ClientBuilder, CliError> {
    const HELP: &str = "name a PEM file of CAs, with -----BEGIN CERTIFICATE-----, in --ca or FOREBAY_CA";
    let Some(path) = ca else { return Ok(Client::builder()) };
    let failed = |error: String| CliError::usage(format!("can't use the CA {}: {error}", path.display()), HELP);
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| failed(forebay_tui::root_cause(&error)))?;
    if certificates.is_empty() {
        return Err(failed("it has no certificate in PEM".to_owned()));
    }
    Ok(Client::builder().tls_certs_merge(certificates))
}

/// Trusts the certificate of `[api] tls` alone, if the pipeline file has one.
///
/// # Errors
/// When its file can't be read or has no certificate.
pub(crate) fn of_pipeline(pipeline: &Pipeline) -> Result<ClientBuilder, CliError> {
    let Some(tls) = &pipeline.api.tls else { return Ok(Client::builder()) };
    let mut chain = PemFile { pipeline, key: &["api", "tls", "certificate"], path: &tls.certificate }.certificates()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Exactly { certificate: chain.swap_remove(0), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the cipher suites of TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Client::builder().tls_backend_preconfigured(config))
}

/// Accepts one certificate, whose private key the server must have.
#[derive(Debug)]
struct Exactly {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *certificate == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
