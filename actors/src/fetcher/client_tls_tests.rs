//! TLS of the source API, with certificates made for each test.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use forebay_schemas::error_class::{Class, Classified as _};
use forebay_schemas::pipeline::Pipeline;
use forebay_test_services::certificates::{Authority, Certificate};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::client_tests::fetch;
use super::error::FetchError;
use super::test_server::answer;

/// A folder with a CA, another one, and a client's certificate with its key.
struct Files {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("a CA"));
        let client = authority.issue("client", &[]);
        let texts = [
            ("ca.pem", authority.pem()),
            ("other-ca.pem", Authority::new("another CA").pem()),
            ("client.pem", client.certificate),
            ("client.key", client.key),
        ];
        for (name, text) in texts {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder, authority }
    }

    fn pipeline(&self, url: &str, tls: &str) -> Pipeline {
        let text = format!(
            "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"{url}\"\ntls = {{ {tls} }}\n[producer]\n\
             key = \"/id\"\n"
        );
        forebay_schemas::pipeline::parse(&self.folder.path().join("forebay.toml"), text).unwrap()
    }

    async fn fetch(&self, url: &str, tls: &str) -> Result<Vec<u8>, FetchError> {
        let pipeline = self.pipeline(url, tls);
        fetch(&Client::new(&pipeline, pipeline.fetcher.as_ref().unwrap())?).await
    }
}

/// An API with this certificate, which demands one of `clients`. Returns its URL.
async fn api(certificate: &Certificate, clients: Option<&Authority>) -> String {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = match clients {
        None => Arc::new(NoClientAuth) as _,
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap()
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if stream.read(&mut [0; 4096]).await.is_ok() {
                    let _ = stream.write_all(&answer("200 OK", "", b"[]")).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_api_with_its_own_ca_that_demands_a_certificate_is_read() {
    let files = Files::new();
    let own = files.authority.issue("api", &["127.0.0.1"]);
    let (open, mutual) = (api(&own, None).await, api(&own, Some(&files.authority)).await);
    assert_eq!(files.fetch(&open, "ca = 'ca.pem'").await.unwrap(), b"[]");
    assert_eq!(files.fetch(&mutual, "ca = 'ca.pem', certificate = 'client.pem', key = 'client.key'").await.unwrap(), b"[]");
}

#[tokio::test]
async fn a_failed_handshake_says_its_cause_and_remedy_and_is_retried_if_the_api_can_end_it() {
    let files = Files::new();
    let own = files.authority.issue("api", &["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&answer("400 Bad Request", "", b"")).await;
        }
    });
    for (url, tls, text, is_retried) in [
        (api(&own, None).await, "ca = 'other-ca.pem'", "issued by an unknown CA; set [fetcher.tls] ca", false),
        (api(&own, None).await, "", "issued by an unknown CA; set [fetcher.tls] ca", false),
        (api(&files.authority.issue("api", &["10.0.0.1"]), None).await, "ca = 'ca.pem'", "its certificate has another name", false),
        (api(&files.authority.issue_expired("api", &["127.0.0.1"]), None).await, "ca = 'ca.pem'", "its operator has to renew it", true),
        (api(&own, Some(&files.authority)).await, "ca = 'ca.pem'", "set certificate and key in [fetcher.tls]", true),
        (plain, "ca = 'ca.pem'", "does not speak TLS at this port; write http:// in fetcher.url", false),
    ] {
        let error = files.fetch(&url, tls).await.unwrap_err();
        let class = if is_retried { Class::Transient } else { Class::Rejected };
        assert!(error.to_string().contains(text) && error.class() == class, "{tls}: {error:?}");
        assert_eq!((error.status_class(), error.is_retryable()), (Some("none"), is_retried));
    }
}

#[test]
fn an_unusable_file_is_an_error_at_its_key() {
    let files = Files::new();
    for (tls, text) in [
        ("ca = 'gone.pem'", "gone.pem: No such file"),
        ("ca = 'client.key'", "has no certificate in PEM"),
        ("certificate = 'client.pem', key = 'ca.pem'", "has no private key without a password"),
    ] {
        let pipeline = files.pipeline("https://127.0.0.1/", tls);
        let error = forebay_dataplane::tls_client::source_config(&pipeline, pipeline.fetcher.as_ref().unwrap().tls.as_ref().unwrap());
        let error = error.expect_err(tls);
        assert!(error.to_string().contains(text) && error.line() == Some(8) && error.remedy().is_some(), "{error}");
    }
    std::fs::set_permissions(files.folder.path().join("client.key"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let pipeline = files.pipeline("https://127.0.0.1/", "certificate = 'client.pem', key = 'client.key'");
    let error = forebay_dataplane::tls_client::source_config(&pipeline, pipeline.fetcher.as_ref().unwrap().tls.as_ref().unwrap());
    assert!(error.expect_err("others can read the key").to_string().contains("chmod 600"));
}
