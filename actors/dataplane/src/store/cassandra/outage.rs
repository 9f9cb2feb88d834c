//! A real Cassandra behind a proxy of the test's own, which lets connections die in every way, and refuses writes in words of the test's own.

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
use crate::store::testing::{pairs, pipeline, small};
use forebay_schemas::failure::{Class, Classified};

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// They pass both ways.
    Open,
    /// Requests reach the server, answers are lost.
    Deaf,
    /// Connections are reset, and new ones too.
    Cut,
}

pub(super) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// What each write is answered with in the server's place: that it is invalid, in these words.
    pub(super) rule: watch::Sender<Option<&'static str>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(Line::Open);
        let (rule, ruled) = watch::channel(None);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *seen.borrow() != Line::Cut {
                    tokio::spawn(carry(client, server.clone(), seen.clone(), ruled.clone()));
                }
            }
        });
        Self { address, line, rule, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Client = Arc<Mutex<OwnedWriteHalf>>;

async fn carry(client: TcpStream, server: String, mut line: watch::Receiver<Line>, rule: watch::Receiver<Option<&'static str>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (always, to_client) = (line.clone(), Arc::new(Mutex::new(to_client)));
    tokio::select! {
        _ = requests(from_client, to_server, Arc::clone(&to_client), rule) => {}
        _ = answers(from_server, to_client, always) => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

/// The opcodes of requests that write, and that of an error.
const WRITES: [u8; 2] = [0x0a, 0x0d];
const ERROR: u8 = 0x00;
const INVALID: [u8; 4] = [0, 0, 0x22, 0];

/// Carries requests, frame by frame, and answers those that a rule is for.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    back: Client,
    rule: watch::Receiver<Option<&'static str>>,
) -> std::io::Result<()> {
    loop {
        let (head, body) = frame(&mut from).await?;
        let [_, _, stream, id, opcode, ..] = head;
        let said = rule.borrow().filter(|_| WRITES.contains(&opcode));
        if let Some(said) = said {
            let text = [&u16::try_from(said.len()).unwrap().to_be_bytes()[..], said.as_bytes()].concat();
            let length = u32::try_from(INVALID.len() + text.len()).unwrap().to_be_bytes();
            let answer = [&[0x84, 0, stream, id, ERROR][..], &length, &INVALID, &text].concat();
            back.lock().await.write_all(&answer).await?;
        } else {
            to.write_all(&[&head[..], &body].concat()).await?;
        }
    }
}

/// What the server says of a value that is too long for an index, and the same in words that nobody knows.
const KNOWN: &[u8] = b"Cannot index value of size";
pub(super) const UNHEARD: &str = "Nobody knows words like it";

async fn answers(mut from: OwnedReadHalf, to: Client, line: watch::Receiver<Line>) -> std::io::Result<()> {
    loop {
        let (head, mut body) = frame(&mut from).await?;
        if *line.borrow() == Line::Deaf {
            continue;
        }
        if let Some(at) = body.windows(KNOWN.len()).position(|window| window == KNOWN) {
            body[at..at + KNOWN.len()].copy_from_slice(UNHEARD.as_bytes());
        }
        to.lock().await.write_all(&[&head[..], &body].concat()).await?;
    }
}

/// The next frame: its head, and its body.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let [.., a, b, c, d] = head;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap()];
    from.read_exact(&mut body).await?;
    Ok((head, body))
}

/// A store behind a proxy, with its table of [`small`], and a session with the server itself.
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

/// Writes until everything is written; how often something had to be written again.
async fn write_all(store: &Store, rows: RowSet) -> usize {
    let (mut left, mut again, mut written) = (rows.clone(), 0, 0);
    loop {
        let end = store.write(&left, &|| ()).await.unwrap();
        assert!(end.rejected.is_empty(), "{:?}", end.rejected);
        written += usize::try_from(end.written).unwrap();
        let Some((unwritten, trouble)) = end.unwritten else { break };
        assert_eq!(trouble.class(), Class::Transient, "{trouble}");
        assert_eq!(written + unwritten.len(), rows.len());
        (left, again) = (unwritten, again + 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(written, rows.len());
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn real_cassandra_connections_that_die_in_mid_write_lose_no_row_and_give_no_wrong_count() {
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
    let trouble = async {
        for _ in 0..4 {
            for (line, millis) in [(Line::Open, 150), (Line::Deaf, 100), (Line::Cut, 200)] {
                proxy.line.send_replace(line);
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        proxy.line.send_replace(Line::Open);
    };
    let (again, ()) = tokio::join!(writing, trouble);
    assert!(again > 0, "the trouble came too late");
    let rows = direct.query_unpaged("SELECT writetime(v) FROM fb_outage.t", ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), names.len());
    assert!(rows.rows::<(i64,)>().unwrap().all(|row| row.unwrap().0 == 7));
}
