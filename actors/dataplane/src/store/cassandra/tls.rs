//! TLS of the connections to Cassandra: the files of `[cassandra.tls]`, and what a failed handshake
//! means.
//!
//! Guarantees:
//! * The certificate of each node is issued by a trusted CA, is valid now, and has the name that
//!   the pipeline file requires. Only `verify_hostname = false` omits the name, and nothing else.
//! * An unusable file is an error at its key.
//!
//! Does not guarantee that a certificate has not been revoked: no revocation list is read.

use std::sync::Arc;

use forebay_schemas::pipeline::{CassandraTlsSection, FileError, Pipeline};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor as verify_chain;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::pem_file::{PemFile, unusable_pair};
use crate::store::error::{RetryReason, StoreError};
use crate::tls_client::roots;

/// The remedy if a node refuses the client's certificate.
pub(super) const CLIENT_CERTIFICATE: &str = "if it requires a client's certificate, set certificate and key in [cassandra.tls] to a pair that \
                                             has not expired and whose CA it trusts";

/// Reads the files of `[cassandra.tls]`.
///
/// # Errors
/// When a file can't be read, is not PEM, or does not fit the others, at its key.
pub(super) fn client_config(pipeline: &Pipeline, tls: &CassandraTlsSection) -> Result<Arc<ClientConfig>, FileError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(roots(pipeline, ["cassandra", "tls"], tls.ca.as_deref())?);
    let at = |name, message: String, help: &str| pipeline.error_at(&["cassandra", "tls", name], message, help);
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| at("ca", format!("the CAs can't be used: {error}"), "set ca to a PEM file of CAs"))?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| at("ca", format!("TLS can't be used: {error}"), "remove [cassandra.tls]"))?;
    let name = match &tls.hostname {
        None => None,
        Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
            at("hostname", format!("{name:?} is not a host name"), "write a name that the certificates have: \"cassandra.example.org\"")
        })?),
    };
    let builder = match (name, tls.verify_hostname) {
        (None, true) => builder.with_webpki_verifier(webpki),
        (name, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(OtherName { name, webpki, roots, provider })),
    };
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let (certificate_at, key_at) = (["cassandra", "tls", "certificate"], ["cassandra", "tls", "key"]);
    let chain = PemFile { pipeline, key: &certificate_at, path: certificate }.certificates()?;
    let key = PemFile { pipeline, key: &key_at, path: key }.private_key()?;
    let config = builder.with_client_auth_cert(chain, key);
    Ok(Arc::new(config.map_err(|error| unusable_pair(pipeline, &certificate_at, &key_at, &error))?))
}

/// Verifies certificates as rustls does, but for another name than the node's address, or for any.
#[derive(Debug)]
struct OtherName {
    /// The name. `None`: any.
    name: Option<ServerName<'static>>,
    webpki: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OtherName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(name) = &self.name {
            return self.webpki.verify_server_cert(certificate, intermediates, name, ocsp, now);
        }
        let (certificate, algorithms) = (ParsedCertificate::try_from(certificate)?, self.provider.signature_verification_algorithms);
        verify_chain(&certificate, &self.roots, intermediates, now, algorithms.all)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Converts the failure of a handshake.
///
/// What the node refuses, and a certificate that has expired, is retried: the node's operator can
/// change it. What needs another pipeline file, or other files, is fatal.
pub(super) fn handshake_failure(server: &str, error: &rustls::Error) -> StoreError {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    let (server, renew) = (server.to_owned(), "renew it on the node, or correct the clock of this machine; Forebay then continues");
    let message = match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => {
            let message = format!("the node's certificate is not valid now ({error}); {renew}");
            return StoreError::Unavailable { server, message, reason: RetryReason::Policy };
        }
        rustls::Error::AlertReceived(_) => {
            let message = format!("the node refused the TLS handshake ({error}); {CLIENT_CERTIFICATE}");
            return StoreError::Unavailable { server, message, reason: RetryReason::Policy };
        }
        rustls::Error::InvalidCertificate(UnknownIssuer) => {
            "the node's certificate is issued by an unknown CA; set [cassandra.tls] ca to a PEM file of the CA that issues the nodes' \
             certificates"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => format!(
            "the node's certificate has another name ({error}); set [cassandra.tls] hostname to a name that it has, issue it with the node's \
             IP address, or set verify_hostname = false"
        ),
        rustls::Error::InvalidCertificate(_) => format!("the node's certificate can't be verified: {error}"),
        rustls::Error::InvalidMessage(_) => {
            "the node does not speak TLS at this port; remove [cassandra.tls], or name a port with TLS in contact_points".to_owned()
        }
        error => format!("TLS failed: {error}"),
    };
    StoreError::Unrecoverable { server, message }
}
