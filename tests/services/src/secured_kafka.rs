//! A Kafka that asks its clients for passwords or certificates, and what they need for that.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::certificates::{Authority, Certificate};
use crate::kafka::{self, Kafka};
use crate::process::{self, Folder};
use crate::{Result, java, must, ports};

/// A Kafka with listeners for TLS. Its plain listener is an administrator's.
pub struct SecuredKafka {
    kafka: Kafka,
    folder: PathBuf,
    ports: [u16; 3],
}

impl SecuredKafka {
    /// The user of the listener [`Self::sasl`], for PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    pub const USER: &str = "forebay";
    /// Its password.
    pub const PASSWORD: &str = "correct-horse";

    /// Returns the server that all tests of this process share. It starts at the first call.
    ///
    /// # Panics
    /// At every call, if it can't be started, with what to install.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<SecuredKafka>> = OnceLock::new();
        SHARED.get_or_init(Self::launch).as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    fn launch() -> Result<Self> {
        let folder = Folder::new("kafka")?;
        let (known, unknown) = (Authority::new("known"), Authority::new("unknown"));
        let pair = |Certificate { certificate, key }: Certificate| format!("{key}{certificate}");
        for (name, text) in [
            ("ca.pem", known.pem()),
            ("unknown-ca.pem", unknown.pem()),
            ("server.pem", pair(known.issue("server", &["127.0.0.1"]))),
            ("expired-server.pem", pair(known.issue_expired("server", &["127.0.0.1"]))),
            ("client.pem", pair(known.issue("client", &[]))),
            ("expired-client.pem", pair(known.issue_expired("client", &[]))),
            ("unknown-client.pem", pair(unknown.issue("client", &[]))),
        ] {
            folder.write(name, &text)?;
        }
        let (path, ports) = (folder.path().to_owned(), [ports::free(), ports::free(), ports::free()]);
        let security = security(&path.display().to_string(), ports);
        let kafka = Kafka::launch_secured(folder, &security)?;
        Ok(Self { kafka, folder: path, ports })
    }

    /// The plain listener, `127.0.0.1:port`. Its clients may do everything.
    pub fn plain(&self) -> &str {
        self.kafka.bootstrap()
    }

    /// The listener that asks for a password over TLS (`SASL_SSL`).
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// The listener that asks for a client certificate (`SSL`).
    pub fn mutual_tls(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    /// The listener whose own certificate has expired (`SSL`).
    pub fn expired(&self) -> String {
        format!("127.0.0.1:{}", self.ports[2])
    }

    /// A file for clients: `ca.pem` and `unknown-ca.pem`; `client.pem`, `expired-client.pem` and
    /// `unknown-client.pem`, each a key with its certificate.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Denies the user every operation on a topic.
    ///
    /// # Panics
    /// When the broker does not accept it.
    #[track_caller]
    pub fn deny(&self, topic: &str) {
        let deny = || {
            let mut command = java::java(&kafka::installed()?.join("lib"))?;
            let user = format!("User:{}", Self::USER);
            command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", self.plain(), "--add", "--force"]);
            command.args(["--deny-principal", &user, "--operation", "All", "--topic", topic]);
            process::output(&mut command, 60).map(|_| ())
        };
        must(deny());
    }
}

/// The properties of the listeners and of their users. The files are in `folder`.
fn security(folder: &str, [sasl, mutual, expired]: [u16; 3]) -> kafka::Security {
    let (user, password) = (SecuredKafka::USER, SecuredKafka::PASSWORD);
    let modules = "org.apache.kafka.common.security";
    let properties = format!(
        "ssl.keystore.type=PEM\n\
         ssl.keystore.location={folder}/server.pem\n\
         ssl.truststore.type=PEM\n\
         ssl.truststore.location={folder}/ca.pem\n\
         listener.name.mutual.ssl.client.auth=required\n\
         listener.name.expired.ssl.keystore.type=PEM\n\
         listener.name.expired.ssl.keystore.location={folder}/expired-server.pem\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         listener.name.sasl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{user}=\"{password}\";\n\
         listener.name.sasl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n\
         listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n\
         allow.everyone.if.no.acl.found=true\n"
    );
    let listeners = [("SASL", "SASL_SSL", sasl), ("MUTUAL", "SSL", mutual), ("EXPIRED", "SSL", expired)];
    let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"].map(|mechanism| format!("{mechanism}=[name={user},password={password}]"));
    kafka::Security { listeners: listeners.to_vec(), properties, users: users.to_vec() }
}
