//! A real Cassandra behind proxies: one that spoils its connections, and one that forges its
//! answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use forebay_test_services::NetworkFault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::store::fixtures::{pairs, pipeline, small};
use crate::store::{RetryReason, Store};
use forebay_schemas::error_class::{Class, Classified};

/// An error that the proxy answers in place of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forged {
    Invalid(&'static str),
    Unavailable,
    Overloaded,
    IsBootstrapping,
    /// The server gets the write, and its answer is replaced.
    WriteTimeout,
    Unprepared,
}

impl Forged {
    /// The body of the error, as in the protocol's version 4.
    fn body(self) -> Vec<u8> {
        const LOCAL_QUORUM: [u8; 2] = [0, 6];
        let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let (code, message, more) = match self {
            Self::Invalid(message) => (0x2200_u32, message, vec![]),
            Self::Unavailable => (0x1000, "forged", [&LOCAL_QUORUM[..], &[0, 0, 0, 2, 0, 0, 0, 1]].concat()),
            Self::Overloaded => (0x1001, "forged", vec![]),
            Self::IsBootstrapping => (0x1002, "forged", vec![]),
            Self::WriteTimeout => (0x1100, "forged", [&LOCAL_QUORUM[..], &[0, 0, 0, 0, 0, 0, 0, 1], &text("UNLOGGED_BATCH")].concat()),
            Self::Unprepared => (0x2500, "forged", vec![0, 2, 7, 7]),
        };
        [&code.to_be_bytes()[..], &text(message), &more].concat()
    }

    /// The frame of the error, as the answer to the request with this stream.
    fn frame(self, stream: [u8; 2]) -> Vec<u8> {
        let body = self.body();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0x84, 0, stream[0], stream[1], ERROR_OPCODE][..], &length, &body].concat()
    }
}

/// Forges the answers to writes.
#[derive(Debug, Clone, Copy)]
struct Rule {
    answer: Forged,
    /// One write in so many gets the answer.
    one_in: usize,
}

pub(super) struct Proxy {
    address: SocketAddr,
    rule: watch::Sender<Option<Rule>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (rule, ruled) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(forward(client, server.clone(), ruled.clone()));
            }
        });
        Self { address, rule, task }
    }

    /// Answers each write with the error `Invalid` and this message.
    pub(super) fn refuse(&self, message: Option<&'static str>) {
        self.rule.send_replace(message.map(|message| Rule { answer: Forged::Invalid(message), one_in: 1 }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The two directions of a client's connection.
struct Connection {
    client: Mutex<OwnedWriteHalf>,
    /// Streams of requests whose answers are to be replaced.
    replaced: parking_lot::Mutex<HashMap<[u8; 2], Forged>>,
}

async fn forward(client: TcpStream, server: String, rule: watch::Receiver<Option<Rule>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let connection = Connection { client: Mutex::new(to_client), replaced: parking_lot::Mutex::default() };
    tokio::select! {
        _ = requests(from_client, to_server, &connection, rule) => {}
        _ = answers(from_server, &connection) => {}
    }
}

/// The opcodes of writes. [`ERROR_OPCODE`] is the opcode of an error.
const WRITE_OPCODES: [u8; 2] = [0x0a, 0x0d];
const ERROR_OPCODE: u8 = 0x00;

/// Forwards requests frame by frame, and answers writes if there is a rule.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    connection: &Connection,
    rule: watch::Receiver<Option<Rule>>,
) -> std::io::Result<()> {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    loop {
        let (head, body) = frame(&mut from).await?;
        let [_, _, a, b, opcode, ..] = head;
        let rule = rule.borrow().filter(|_| WRITE_OPCODES.contains(&opcode));
        match rule.filter(|rule| WRITES.fetch_add(1, Ordering::Relaxed).is_multiple_of(rule.one_in)) {
            Some(Rule { answer, .. }) if answer != Forged::WriteTimeout => {
                connection.client.lock().await.write_all(&answer.frame([a, b])).await?;
                continue;
            }
            Some(Rule { answer, .. }) => drop(connection.replaced.lock().insert([a, b], answer)),
            None => {}
        }
        to.write_all(&[&head[..], &body].concat()).await?;
    }
}

/// The server's message about an indexed value that is too long. [`UNKNOWN_MESSAGE`] replaces it
/// with an unknown one.
const KNOWN: &[u8] = b"Cannot index value of size";
pub(super) const UNKNOWN_MESSAGE: &str = "Nobody knows words like it";

async fn answers(mut from: OwnedReadHalf, connection: &Connection) -> std::io::Result<()> {
    loop {
        let (head, mut body) = frame(&mut from).await?;
        let stream = [head[2], head[3]];
        let replaced = connection.replaced.lock().remove(&stream);
        if let Some(at) = body.windows(KNOWN.len()).position(|window| window == KNOWN) {
            body[at..at + KNOWN.len()].copy_from_slice(UNKNOWN_MESSAGE.as_bytes());
        }
        let answer = replaced.map_or_else(|| [&head[..], &body].concat(), |forged| forged.frame(stream));
        connection.client.lock().await.write_all(&answer).await?;
    }
}

/// Reads the next frame: its header and its body.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let [.., a, b, c, d] = head;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap()];
    from.read_exact(&mut body).await?;
    Ok((head, body))
}

/// A store whose server is at this address, with the table of [`small`].
async fn store_at(address: &str, keyspace: &str) -> (Store, TableSpec) {
    let writer = "table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_QUORUM\"";
    let pipeline = pipeline(Path::new("f.toml"), &format!("[\"{address}\"]"), keyspace, writer);
    let spec = small(keyspace, "t");
    (Store::connect(&pipeline, Some(&spec)).await.unwrap(), spec)
}

/// A session with the shared server, without the keyspace.
async fn direct_session(keyspace: &str) -> Session {
    let server = forebay_test_services::Cassandra::shared().contact_point();
    let direct = SessionBuilder::new().known_node(&server).build().await.unwrap();
    direct.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
    direct
}

/// A store behind a proxy that forges answers, and a direct session with the server.
pub(super) async fn behind(keyspace: &str) -> (Proxy, Store, TableSpec, Session) {
    let direct = direct_session(keyspace).await;
    let proxy = Proxy::start(forebay_test_services::Cassandra::shared().contact_point()).await;
    let (store, spec) = store_at(&proxy.address.to_string(), keyspace).await;
    (proxy, store, spec, direct)
}

/// Writes these keys until all are written. Returns why it had to retry, each time.
async fn write_all(store: &Store, spec: &TableSpec, keys: &[String]) -> Vec<RetryReason> {
    let values: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    let (mut left, mut again, mut written) = (pairs(spec, &values, 7), Vec::new(), 0);
    loop {
        let outcome = store.write(&left, &|| ()).await.unwrap();
        assert!(outcome.rejected.is_empty(), "{:?}", outcome.rejected);
        written += usize::try_from(outcome.written).unwrap();
        let Some((unwritten, failure)) = outcome.unwritten else { break };
        assert_eq!(failure.class(), Class::Transient, "{failure}");
        assert_eq!(written + unwritten.len(), keys.len());
        again.push(failure.reason());
        left = unwritten;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(written, keys.len());
    again
}

/// Asserts that the table has these many rows, each with the timestamp of its one write.
async fn assert_written_once(direct: &Session, keyspace: &str, rows: usize) {
    let answer = direct.query_unpaged(format!("SELECT writetime(v) FROM {keyspace}.t"), ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(answer.rows_num(), rows);
    assert!(answer.rows::<(i64,)>().unwrap().all(|row| row.unwrap().0 == 7));
}

fn keys(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_connections_lost_during_writes_lose_and_miscount_no_row() {
    let direct = direct_session("fb_outage").await;
    let proxy = forebay_test_services::Cassandra::shared().proxy();
    let (store, spec) = store_at(&proxy.address(), "fb_outage").await;
    let keys = keys("key", 75_000);
    let writing = async {
        let mut again = 0;
        for batch in keys.chunks(500) {
            again += write_all(&store, &spec, batch).await.len();
        }
        again
    };
    let failure = async {
        for fault in [NetworkFault::LostAnswers, NetworkFault::LostRequests, NetworkFault::ResetAfter(20_000), NetworkFault::Sliced] {
            for (fault, millis) in [(NetworkFault::None, 150), (fault, 100), (NetworkFault::Reset, 200)] {
                proxy.set(fault);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        proxy.set(NetworkFault::None);
    };
    let (retries, ()) = tokio::join!(writing, failure);
    assert!(retries > 0, "no connection was lost during a write");
    assert_written_once(&direct, "fb_outage", keys.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_errors_of_the_cluster_are_retried_and_reject_no_row() {
    let (proxy, store, spec, direct) = behind("fb_forged").await;
    for (answer, reason) in [
        (Forged::WriteTimeout, RetryReason::WriteTimeout),
        (Forged::Unavailable, RetryReason::Unavailable),
        (Forged::Overloaded, RetryReason::Overloaded),
        (Forged::IsBootstrapping, RetryReason::Overloaded),
        (Forged::Unprepared, RetryReason::Other),
    ] {
        proxy.rule.send_replace(Some(Rule { answer, one_in: 3 }));
        let again = write_all(&store, &spec, &keys(&format!("{answer:?}"), 1_000)).await;
        assert!(!again.is_empty() && again.iter().all(|it| *it == reason), "{answer:?}: {again:?}");
    }
    assert_written_once(&direct, "fb_forged", 5 * 1_000).await;
}
