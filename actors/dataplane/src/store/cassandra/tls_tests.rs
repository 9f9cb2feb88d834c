//! TLS with certificates made for each test, and servers that only shake hands.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use forebay_schemas::error_class::{Class, Classified};
use forebay_test_services::certificates::{Authority, Certificate};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::store::Store;
use crate::store::fixtures;

/// A folder with a CA, a client certificate that it issued, its key, and the key of another one.
struct Files {
    dir: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("a CA"));
        let (client, other) = (authority.issue("client", &[]), authority.issue("other", &[]));
        let write = |name: &str, text: &str| fixtures::write_secret(&dir.path().join(name), text);
        write("ca.pem", &authority.pem());
        write("other-ca.pem", &Authority::new("another CA").pem());
        write("client.pem", &client.certificate);
        write("client.key", &client.key);
        write("other.key", &other.key);
        write("secret.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        write("der.pem", "0\u{82}\u{3}");
        Self { dir, authority }
    }

    /// A pipeline with this `tls` and this server.
    fn pipeline(&self, tls: &str, server: &str) -> Pipeline {
        let path = self.dir.path().join("forebay.toml");
        let contact_points = format!("[{server:?}]\ntls = {{ {tls} }}");
        fixtures::pipeline(&path, &contact_points, "t", "table = \"t\"\nprimary_key = [\"id\"]")
    }

    fn config(&self, tls: &str) -> Result<Arc<rustls::ClientConfig>, FileError> {
        let pipeline = self.pipeline(tls, "127.0.0.1:9042");
        let tls = pipeline.cassandra.as_ref().and_then(|table| table.tls.as_ref());
        tls::client_config(&pipeline, tls.expect("the pipeline has TLS"))
    }
}

/// Starts a server that shakes hands and then closes the connection. Returns its address.
async fn serve(certificate: &Certificate, clients: Option<&Authority>) -> String {
    let verifier = match clients {
        None => Arc::new(NoClientAuth),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap()
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    address
}

/// Shakes hands as the driver does, for the address of the node. Returns the error.
async fn handshake(config: Arc<rustls::ClientConfig>, server: &str) -> Option<String> {
    let stream = TcpStream::connect(server).await.unwrap();
    let address = ServerName::IpAddress(stream.peer_addr().unwrap().ip().into());
    TlsConnector::from(config).connect(address, stream).await.err().map(|error| error.to_string())
}

#[test]
fn an_unusable_file_is_an_error_at_its_key_with_the_remedy() {
    let files = Files::new();
    for (tls, message, help) in [
        ("ca = 'gone.pem'", "can't read", "BEGIN CERTIFICATE"),
        ("ca = 'client.key'", "has no certificate in PEM", "openssl x509"),
        ("ca = 'der.pem'", "has no certificate in PEM", "openssl x509"),
        ("ca = 'ca.pem', certificate = 'client.pem', key = 'gone.key'", "gone.key: No such file", "BEGIN PRIVATE KEY"),
        ("ca = 'ca.pem', certificate = 'client.pem', key = 'ca.pem'", "has no private key without a password", "openssl pkcs8"),
        ("ca = 'ca.pem', certificate = 'client.pem', key = 'secret.key'", "has no private key without a password", "openssl pkcs8"),
        (
            "ca = 'ca.pem', certificate = 'client.pem', key = 'other.key'",
            "does not belong to the certificate",
            "that certificate was issued",
        ),
        ("ca = 'ca.pem', hostname = 'a b'", "is not a host name", "cassandra.example.org"),
    ] {
        let error = files.config(tls).expect_err(tls);
        let remedy = error.remedy().unwrap_or_default();
        assert!(error.to_string().contains(message) && remedy.contains(help), "{tls}: {error}; {remedy}");
        assert_eq!(error.line(), Some(9), "{tls}");
    }
    let usable = "ca = 'ca.pem', certificate = 'client.pem', key = 'client.key'";
    files.config(usable).unwrap();
    std::fs::set_permissions(files.dir.path().join("client.key"), Permissions::from_mode(0o666)).unwrap();
    let exposed = files.config(usable).expect_err("others can change the key");
    assert!(exposed.to_string().contains("client.key (mode 0666); run: chmod 600"), "{exposed}");
}

#[tokio::test]
async fn only_verify_hostname_accepts_a_certificate_with_any_name_and_nothing_else() {
    let files = Files::new();
    let named = serve(&files.authority.issue("node", &["cassandra.example.org"]), None).await;
    let addressed = serve(&files.authority.issue("node", &["127.0.0.1"]), None).await;
    let expired = serve(&files.authority.issue_expired("node", &["127.0.0.1"]), None).await;
    for (server, tls, error) in [
        (&addressed, "ca = 'ca.pem'", None),
        (&named, "ca = 'ca.pem'", Some("not valid for name")),
        (&named, "ca = 'ca.pem', hostname = 'cassandra.example.org'", None),
        (&named, "ca = 'ca.pem', hostname = 'other.example.org'", Some("not valid for name")),
        (&named, "ca = 'ca.pem', verify_hostname = false", None),
        (&named, "ca = 'other-ca.pem', verify_hostname = false", Some("UnknownIssuer")),
        (&named, "ca = 'other-ca.pem', hostname = 'cassandra.example.org'", Some("UnknownIssuer")),
        (&expired, "ca = 'ca.pem', verify_hostname = false", Some("certificate expired")),
        (&addressed, "", Some("UnknownIssuer")),
    ] {
        let found = handshake(files.config(tls).unwrap(), server).await;
        let matches = match (&found, error) {
            (None, None) => true,
            (Some(found), Some(error)) => found.contains(error),
            _ => false,
        };
        assert!(matches, "{tls}: {found:?} instead of {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_handshake_says_its_cause_and_remedy_and_is_waited_for_if_the_node_can_end_it() {
    let files = Files::new();
    let node = files.authority.issue("node", &["127.0.0.1"]);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let without_tls = plain.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            // The header of a CQL error, which Cassandra sends to a client that begins with TLS.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &[0x85, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        }
    });
    for (server, tls, message, is_waited_for) in [
        (serve(&node, None).await, "ca = 'other-ca.pem'", "unknown CA; set [cassandra.tls] ca", false),
        (serve(&files.authority.issue("node", &["10.0.0.1"]), None).await, "ca = 'ca.pem'", "set [cassandra.tls] hostname", false),
        (serve(&files.authority.issue_expired("node", &["127.0.0.1"]), None).await, "ca = 'ca.pem'", "renew it on the node", true),
        (serve(&node, Some(&files.authority)).await, "ca = 'ca.pem'", "set certificate and key in [cassandra.tls]", true),
        (without_tls, "ca = 'ca.pem'", "does not speak TLS at this port; remove [cassandra.tls]", false),
    ] {
        let error = Store::connect(&files.pipeline(tls, &server), None).await.err().expect("the handshake fails");
        let class = if is_waited_for { Class::Transient } else { Class::Fatal };
        assert!(error.to_string().contains(message) && error.class() == class, "{tls}: {error}");
        assert!(error.to_string().contains(&server), "{error}");
    }
}

#[test]
fn an_unknown_datacenter_is_an_error_that_names_the_known_ones() {
    let known = BTreeSet::from(["dc1", "dc2"]);
    assert!(check_datacenter("cassandra a", None, &known).is_ok());
    assert!(check_datacenter("cassandra a", Some("dc2"), &known).is_ok());
    let error = check_datacenter("cassandra a", Some("DC1"), &known).expect_err("names are case-sensitive");
    assert_eq!(error.to_string(), "cassandra a: the cluster has no datacenter \"DC1\"; set [cassandra] datacenter = \"dc1\" or \"dc2\"");
    assert_eq!(error.class(), Class::Fatal);
}
