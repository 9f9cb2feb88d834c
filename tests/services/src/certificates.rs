//! Certificates for the servers and clients of tests.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

use crate::must;

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate for server and client authentication, in PEM.
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key, as PKCS #8.
    pub key: String,
}

impl Certificate {
    /// A certificate that is its own issuer. `is_ca`: whether it may issue others.
    pub fn self_signed(name: &str, alternatives: &[&str], is_ca: bool) -> Self {
        let (key, mut params) = (made(KeyPair::generate()), params(name, alternatives));
        params.is_ca = if is_ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        Self { certificate: made(params.self_signed(&key)).pem(), key: key.serialize_pem() }
    }
}

impl Authority {
    /// Creates an authority of this name.
    pub fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(made(KeyPair::generate().and_then(|key| CertifiedIssuer::self_signed(params, key))))
    }

    /// The authority's own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a valid certificate with these subject alternative names: addresses and host names.
    pub fn issue(&self, name: &str, alternatives: &[&str]) -> Certificate {
        self.sign(&params(name, alternatives))
    }

    /// Issues a certificate that expired an hour ago.
    pub fn issue_expired(&self, name: &str, alternatives: &[&str]) -> Certificate {
        let mut params = params(name, alternatives);
        params.not_after = (SystemTime::now() - Duration::from_secs(3_600)).into();
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = made(KeyPair::generate());
        Certificate { certificate: made(params.signed_by(&key, &self.0)).pem(), key: key.serialize_pem() }
    }
}

fn params(name: &str, alternatives: &[&str]) -> CertificateParams {
    let mut params = made(CertificateParams::new(alternatives.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()));
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

#[track_caller]
fn made<T>(result: Result<T, rcgen::Error>) -> T {
    must(result.map_err(|error| format!("can't make a certificate: {error}")))
}
