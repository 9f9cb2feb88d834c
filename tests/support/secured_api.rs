//! A pipeline whose API has TLS, with certificates made for the test.

use std::path::Path;
use std::time::{Duration, Instant};

use forebay_test_services::certificates::{Authority, Certificate};

use super::{Job, Running, TIMEOUT, free_port, stderr, write_secret};

/// A job with `[api] tls`, and the CA of its certificate.
pub(crate) struct SecuredApi {
    pub(crate) job: Job,
    pub(crate) authority: Authority,
    port: u16,
}

impl SecuredApi {
    /// Presents a valid certificate for `127.0.0.1`. The CA is in `ca.pem`, in the job's directory.
    pub(crate) fn new(job: Job) -> Self {
        let port = free_port();
        let job = job.listening(&format!("127.0.0.1:{port}")).with("tls = { certificate = \"api.pem\", key = \"api.key\" }");
        let api = Self { job, authority: Authority::new("a CA"), port };
        api.present(&api.authority.issue("api", &["127.0.0.1"]));
        std::fs::write(api.dir().join("ca.pem"), api.authority.pem()).unwrap();
        api
    }

    /// Replaces the certificate and the key.
    pub(crate) fn present(&self, certificate: &Certificate) {
        for (name, text) in [("api.pem", &certificate.certificate), ("api.key", &certificate.key)] {
            let new = self.dir().join(format!("{name}.new"));
            write_secret(&new, text);
            std::fs::rename(&new, self.dir().join(name)).unwrap();
        }
    }

    /// Starts the pipeline and waits for its API.
    pub(crate) fn start(&self) -> Running {
        let running = self.job.start(&[], &[]);
        let until = Instant::now() + TIMEOUT;
        loop {
            let end = self.job.forebay(&["status"]);
            if end.status.success() {
                return running;
            }
            assert!(Instant::now() < until, "no answer from the API: {}\n{}", stderr(&end), running.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.job.dir()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address())
    }
}
