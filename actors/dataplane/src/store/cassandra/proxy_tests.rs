//! A real Cassandra behind a proxy that breaks connections and refuses writes with given messages.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::store::Store;
use crate::store::fixtures::{pairs, pipeline, small};
use forebay_schemas::error_class::{Class, Classified};

/// What the proxy does with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    /// Passes them in both directions.
    Pass,
    /// Passes requests and drops answers.
    DropAnswers,
    /// Resets connections, including new ones.
    Reset,
}

pub(super) struct Proxy {
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    /// If set, the proxy answers each write with the error `Invalid` and this message.
    pub(super) rule: watch::Sender<Option<&'static str>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (traffic, seen) = watch::channel(Traffic::Pass);
        let (rule, ruled) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *seen.borrow() != Traffic::Reset {
                    tokio::spawn(forward(client, server.clone(), seen.clone(), ruled.clone()));
                }
            }
        });
        Self { address, traffic, rule, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Client = Arc<Mutex<OwnedWriteHalf>>;

async fn forward(client: TcpStream, server: String, mut traffic: watch::Receiver<Traffic>, rule: watch::Receiver<Option<&'static str>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (answer_traffic, to_client) = (traffic.clone(), Arc::new(Mutex::new(to_client)));
    tokio::select! {
        _ = requests(from_client, to_server, Arc::clone(&to_client), rule) => {}
        _ = answers(from_server, to_client, answer_traffic) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Reset) => {}
    }
}

/// The opcodes of writes. [`ERROR_OPCODE`] is the opcode of an error.
const WRITE_OPCODES: [u8; 2] = [0x0a, 0x0d];
const ERROR_OPCODE: u8 = 0x00;
const INVALID_CODE: [u8; 4] = [0, 0, 0x22, 0];

/// Forwards requests frame by frame, and answers writes if there is a rule.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    back: Client,
    rule: watch::Receiver<Option<&'static str>>,
) -> std::io::Result<()> {
    loop {
        let (head, body) = frame(&mut from).await?;
        let [_, _, stream, id, opcode, ..] = head;
        let message = rule.borrow().filter(|_| WRITE_OPCODES.contains(&opcode));
        if let Some(message) = message {
            let text = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message.as_bytes()].concat();
            let length = u32::try_from(INVALID_CODE.len() + text.len()).unwrap().to_be_bytes();
            let answer = [&[0x84, 0, stream, id, ERROR_OPCODE][..], &length, &INVALID_CODE, &text].concat();
            back.lock().await.write_all(&answer).await?;
        } else {
            to.write_all(&[&head[..], &body].concat()).await?;
        }
    }
}

/// The server's message about an indexed value that is too long. [`UNKNOWN_MESSAGE`] replaces it
/// with an unknown one.
const KNOWN: &[u8] = b"Cannot index value of size";
pub(super) const UNKNOWN_MESSAGE: &str = "Nobody knows words like it";

async fn answers(mut from: OwnedReadHalf, to: Client, traffic: watch::Receiver<Traffic>) -> std::io::Result<()> {
    loop {
        let (head, mut body) = frame(&mut from).await?;
        if *traffic.borrow() == Traffic::DropAnswers {
            continue;
        }
        if let Some(at) = body.windows(KNOWN.len()).position(|window| window == KNOWN) {
            body[at..at + KNOWN.len()].copy_from_slice(UNKNOWN_MESSAGE.as_bytes());
        }
        to.lock().await.write_all(&[&head[..], &body].concat()).await?;
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

/// A store behind a proxy, with the table of [`small`], and a direct session with the server.
pub(super) async fn behind(keyspace: &str) -> (Proxy, Store, TableSpec, Session) {
    let server = forebay_test_services::Cassandra::shared().contact_point();
    let direct = SessionBuilder::new().known_node(&server).build().await.unwrap();
    direct.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
    let proxy = Proxy::start(server).await;
    let writer = "table = \"t\"\nprimary_key = [\"id\"]\nconsistency = \"LOCAL_QUORUM\"";
    let pipeline = pipeline(Path::new("f.toml"), &format!("[\"{}\"]", proxy.address), keyspace, writer);
    let spec = small(keyspace, "t");
    let store = Store::connect(&pipeline, Some(&spec)).await.unwrap();
    (proxy, store, spec, direct)
}

/// Writes until everything is written. Returns the number of retries.
async fn write_all(store: &Store, rows: RowSet) -> usize {
    let (mut left, mut again, mut written) = (rows.clone(), 0, 0);
    loop {
        let outcome = store.write(&left, &|| ()).await.unwrap();
        assert!(outcome.rejected.is_empty(), "{:?}", outcome.rejected);
        written += usize::try_from(outcome.written).unwrap();
        let Some((unwritten, failure)) = outcome.unwritten else { break };
        assert_eq!(failure.class(), Class::Transient, "{failure}");
        assert_eq!(written + unwritten.len(), rows.len());
        (left, again) = (unwritten, again + 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(written, rows.len());
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_connections_lost_during_writes_lose_and_miscount_no_row() {
    const BATCHES: usize = 150;
    let (proxy, store, spec, direct) = behind("fb_outage").await;
    let names: Vec<String> = (0..BATCHES * 500).map(|n| format!("key-{n}")).collect();
    let writing = async {
        let mut again = 0;
        for batch in names.chunks(500) {
            let values: Vec<_> = batch.iter().map(|name| (name.as_str(), Some("v"))).collect();
            again += write_all(&store, pairs(&spec, &values, 7)).await;
        }
        again
    };
    let failure = async {
        for _ in 0..4 {
            for (traffic, millis) in [(Traffic::Pass, 150), (Traffic::DropAnswers, 100), (Traffic::Reset, 200)] {
                proxy.traffic.send_replace(traffic);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        proxy.traffic.send_replace(Traffic::Pass);
    };
    let (retries, ()) = tokio::join!(writing, failure);
    assert!(retries > 0, "no connection was lost during a write");
    let rows = direct.query_unpaged("SELECT writetime(v) FROM fb_outage.t", ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), names.len());
    assert!(rows.rows::<(i64,)>().unwrap().all(|row| row.unwrap().0 == 7));
}
