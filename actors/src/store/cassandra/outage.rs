//! A real Cassandra behind a proxy of the test's own, which lets connections die in every way.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::store::Store;
use crate::store::testing::{pairs, pipeline, small};

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

struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, seen) = watch::channel(Line::Open);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if *seen.borrow() != Line::Cut {
                    tokio::spawn(carry(client, server.clone(), seen.clone()));
                }
            }
        });
        Self { address, line, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: String, mut line: watch::Receiver<Line>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let always = line.clone();
    tokio::select! {
        () = pump(from_client, to_server, None) => {}
        () = pump(from_server, to_client, Some(always)) => {}
        _ = line.wait_for(|line| *line == Line::Cut) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, line: Option<watch::Receiver<Line>>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let lost = line.as_ref().is_some_and(|line| *line.borrow() == Line::Deaf);
        if !lost && to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn behind(keyspace: &str) -> (Proxy, Store, TableSpec, Session) {
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
