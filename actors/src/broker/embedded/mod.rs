//! A Kafka-compatible broker inside this process, on loopback, with its log in a file:
//! `<data_dir>/broker/kafka.db`.
//!
//! Guarantees:
//! * Each data directory has one address, in `<data_dir>/broker/port`. It is the same after a
//!   restart if the port is still free.
//! * Acknowledged records survive a kill of the process.
//!
//! Does not guarantee the last moments before a power failure, nor more than the load of one
//! pipeline. A real cluster is one line in the pipeline file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_dataplane::private_file;
use forebay_schemas::offset::{Offset, Partition};

use super::error::BrokerError;
use crate::data_dir::broker_dir;

mod actor;

pub use actor::EmbeddedBroker;

/// Kafka's port, used when it is free, so that `kcat -b localhost` works.
const DEFAULT_PORT: u16 = 9092;
/// The time-out of a connection to the running broker.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Where the embedded broker listens: a port on 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

impl Address {
    /// Picks the address for the process that will serve the broker of `data_dir`: the previous
    /// port if it is free, else Kafka's port if it is free, else any. Writes it to the port file.
    ///
    /// # Errors
    /// When no port is free or the directory can't be written.
    pub fn pick(data_dir: &Path) -> Result<(Self, Claim), BrokerError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |cause: std::io::Error| BrokerError::Embedded { what, cause: cause.to_string() }
        };
        let file = port_file(data_dir);
        let previous = read_port(&file);
        let free = |port| Claim::of(port).filter(|_| is_free(port)).map(|claim| (port, claim));
        let (port, claim) = match previous.into_iter().chain([DEFAULT_PORT]).find_map(free) {
            Some(found) => found,
            None => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
                let port = listener.map_err(failed("find a free port"))?.port();
                // The system does not reuse such a port soon. It needs no claim where claims can't
                // be written.
                (port, Claim::of(port).unwrap_or(Claim(None)))
            }
        };
        private_file::create_dir(&broker_dir(data_dir)).map_err(failed("create its directory"))?;
        private_file::replace(&file, &format!("{port}\n")).map_err(failed("write its port file"))?;
        Ok((Self { port }, claim))
    }

    /// The address of the running broker of `data_dir`, in whatever process.
    ///
    /// # Errors
    /// When none runs.
    pub fn of_running(data_dir: &Path) -> Result<Self, BrokerError> {
        read_port(&port_file(data_dir))
            .filter(|&port| TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_TIMEOUT).is_ok())
            .map(|port| Self { port })
            .ok_or_else(|| BrokerError::NotRunning { data_dir: data_dir.to_owned() })
    }
}

/// A lock file that reserves a port for the life of the process. Without it, a process that starts
/// at the same time could find the port free before the broker binds it, and then use a broker that
/// is not its own.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held for its lock, not read")] Option<File>);

impl Claim {
    /// Claims a port. `None` when another process has claimed it, or claims can't be written.
    fn of(port: u16) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("forebay-broker-{port}.lock"));
        // A folder that everybody may write to: a link that somebody put there is not followed.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("an open flag fits");
        let file = File::options().create(true).truncate(false).write(true).custom_flags(flags).open(path).ok()?;
        file.try_lock().ok()?;
        Some(Self(Some(file)))
    }
}

fn port_file(data_dir: &Path) -> PathBuf {
    broker_dir(data_dir).join("port")
}

fn read_port(file: &Path) -> Option<u16> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Serves the broker until it fails. Dropping the future stops it.
///
/// # Errors
/// When the build has no broker, the files can't be opened or the port is taken.
#[cfg(not(feature = "embedded-broker"))]
pub async fn serve(_address: Address, _data_dir: PathBuf) -> Result<(), BrokerError> {
    Err(BrokerError::NotBuiltIn)
}

/// The committed offsets of a group, with the metadata that the broker does not return over the
/// wire.
#[cfg(not(feature = "embedded-broker"))]
pub(super) fn commits(_data_dir: &Path, _group: &str, _topic: &str) -> Result<BTreeMap<Partition, (Offset, String)>, BrokerError> {
    Err(BrokerError::NotBuiltIn)
}

#[cfg(feature = "embedded-broker")]
pub use server::serve;

/// The start and end offsets of each topic in the file of a broker that does not run.
#[cfg(not(feature = "embedded-broker"))]
pub(super) fn topics(_data_dir: &Path) -> Result<BTreeMap<String, Ends>, BrokerError> {
    Err(BrokerError::NotBuiltIn)
}

/// The bytes of a broker's file that are in use; 0 without a file.
#[cfg(not(feature = "embedded-broker"))]
pub(super) fn used_bytes(_data_dir: &Path) -> Result<u64, BrokerError> {
    Err(BrokerError::NotBuiltIn)
}

/// The start and end offset of each partition.
pub(super) type Ends = BTreeMap<Partition, (Offset, Offset)>;

#[cfg(feature = "embedded-broker")]
pub(super) use server::{commits, topics, used_bytes};

#[cfg(feature = "embedded-broker")]
mod server {
    use nisshi_broker::broker::Broker;
    use nisshi_broker::coordinator::group::administrator::{Controller, GroupCoordinatorConfig};
    use nisshi_storage::ArcDynStorage;
    use reqwest::Url;
    use uuid::Uuid;

    use super::*;

    /// The name of the one-node cluster.
    const CLUSTER: &str = "forebay";
    /// The file of the log.
    const DATABASE: &str = "kafka.db";
    /// The time-out of a statement for the lock of the file.
    const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long the first member waits for others. The default of 3 s would be most of a demo.
    const REBALANCE_DELAY: Duration = Duration::from_millis(50);
    /// How often a waiting member polls the coordinator.
    const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(500);

    /// Serves the broker until it fails. Dropping the future stops it.
    ///
    /// # Errors
    /// When the files can't be opened or the port is taken.
    pub async fn serve(address: Address, data_dir: PathBuf) -> Result<(), BrokerError> {
        let failed = |what: &str, cause: &dyn fmt::Display| BrokerError::Embedded { what: what.to_owned(), cause: cause.to_string() };
        private_file::create_dir(&broker_dir(&data_dir)).map_err(|cause| failed("create its directory", &cause))?;
        private_file::create_if_missing(&broker_dir(&data_dir).join(DATABASE)).map_err(|cause| failed("create its file", &cause))?;
        let (storage, _alias) = storage_url(&broker_dir(&data_dir)).map_err(|cause| failed("name its file", &cause))?;
        let listener = Url::parse(&format!("tcp://{address}")).map_err(|cause| failed("name its address", &cause))?;
        let mut broker = Broker::<Controller<ArcDynStorage>, ArcDynStorage>::builder()
            .node_id(1)
            .cluster_id(CLUSTER)
            .incarnation_id(Uuid::now_v7())
            .listener(listener.clone())
            .advertised_listener(listener)
            .storage(storage)
            .group_coordinator(GroupCoordinatorConfig { initial_rebalance_delay: REBALANCE_DELAY, poll_interval: GROUP_POLL_INTERVAL })
            .silent(true)
            .build()
            .await
            .map_err(|cause| failed("open its files", &cause))?;
        broker.serve(tokio::time::Instant::now()).await.map_err(|cause| failed(&format!("serve on {address}"), &cause))
    }

    /// The committed offsets of a group, with the metadata that the broker does not return over the
    /// wire. Reads the broker's file, where offset and metadata are one row.
    pub(in crate::broker) fn commits(
        data_dir: &Path,
        group: &str,
        topic: &str,
    ) -> Result<BTreeMap<Partition, (Offset, String)>, BrokerError> {
        let sql = "select tp.partition, co.committed_offset, co.metadata from cluster c \
                   join consumer_group cg on cg.cluster = c.id join topic t on t.cluster = c.id \
                   join topition tp on tp.topic = t.id \
                   join consumer_offset co on co.consumer_group = cg.id and co.topition = tp.id \
                   where c.name = ?1 and cg.name = ?2 and t.name = ?3";
        let mut commits = BTreeMap::new();
        read(data_dir, "read its commits", sql, (CLUSTER, group, topic), |row| {
            let metadata = row.get::<Option<String>>(2)?.unwrap_or_default();
            commits.insert(row.get::<i32>(0)?, (Offset(row.get(1)?), metadata));
            Ok(())
        })?;
        Ok(commits)
    }

    /// The start and end offsets of each topic in the file of a broker that does not run. Empty
    /// without a file.
    pub(in crate::broker) fn topics(data_dir: &Path) -> Result<BTreeMap<String, Ends>, BrokerError> {
        if !broker_dir(data_dir).join(DATABASE).exists() {
            return Ok(BTreeMap::new());
        }
        // Retention removes records without raising the low watermark.
        let sql = "select t.name, tp.partition, w.high, \
                   (select min(r.offset_id) from record r where r.topition = tp.id and r.offset_id >= coalesce(w.low, 0)) \
                   from cluster c join topic t on t.cluster = c.id join topition tp on tp.topic = t.id \
                   left join watermark w on w.topition = tp.id where c.name = ?1";
        let mut topics: BTreeMap<String, Ends> = BTreeMap::new();
        read(data_dir, "read its topics", sql, [CLUSTER], |row| {
            let end = row.get::<Option<i64>>(2)?.unwrap_or(0);
            let start = row.get::<Option<i64>>(3)?.unwrap_or(end);
            topics.entry(row.get(0)?).or_default().insert(row.get::<i32>(1)?, (Offset(start), Offset(end)));
            Ok(())
        })?;
        Ok(topics)
    }

    /// The bytes of a broker's file that are in use, without free pages; 0 without a file.
    pub(in crate::broker) fn used_bytes(data_dir: &Path) -> Result<u64, BrokerError> {
        if !broker_dir(data_dir).join(DATABASE).exists() {
            return Ok(0);
        }
        let sql = "select (page_count - freelist_count) * page_size \
                   from pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
        let mut used = 0;
        read(data_dir, "measure its file", sql, (), |row| {
            used = u64::try_from(row.get::<i64>(0)?).unwrap_or(0);
            Ok(())
        })?;
        Ok(used)
    }

    /// Reads the broker's file, whether the broker runs or not.
    fn read(
        data_dir: &Path,
        what: &str,
        sql: &str,
        params: impl libsql::params::IntoParams,
        mut each: impl FnMut(&libsql::Row) -> libsql::Result<()>,
    ) -> Result<(), BrokerError> {
        let failed = |cause: &dyn fmt::Display| BrokerError::Embedded { what: what.to_owned(), cause: cause.to_string() };
        let file = broker_dir(data_dir).join(DATABASE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|cause| failed(&cause))?;
        runtime
            .block_on(async {
                let database = libsql::Builder::new_local(file).flags(libsql::OpenFlags::SQLITE_OPEN_READ_WRITE).build().await?;
                let connection = database.connect()?;
                connection.busy_timeout(BUSY_TIMEOUT)?;
                let mut rows = connection.query(sql, params).await?;
                while let Some(row) = rows.next().await? {
                    each(&row)?;
                }
                Ok(())
            })
            .map_err(|cause: libsql::Error| failed(&cause))
    }

    /// The storage URL of the broker's file, and the link that must outlive the broker.
    ///
    /// The broker takes the URL's path less one slash, relative to the working directory, without
    /// decoding it. An absolute path works with one more slash. A path that a URL has to encode,
    /// for example one with a space, is opened through a symbolic link.
    fn storage_url(directory: &Path) -> std::io::Result<(Url, Option<Alias>)> {
        let directory = std::path::absolute(directory)?;
        let unencoded = |directory: &Path| {
            let path = directory.join(DATABASE);
            let path = path.to_str()?;
            let url = Url::parse(&format!("sqlite:///{path}")).ok()?;
            (url.path().strip_prefix('/') == Some(path) && url.query().is_none() && url.fragment().is_none()).then_some(url)
        };
        if let Some(url) = unencoded(&directory) {
            return Ok((url, None));
        }
        let alias = Alias::of(&directory)?;
        let url =
            unencoded(&alias.0).ok_or_else(|| std::io::Error::other("the path of the temporary directory has special characters, too"))?;
        Ok((url, Some(alias)))
    }

    /// A symbolic link to a directory, under an unguessable name. Removed on drop.
    struct Alias(PathBuf);

    impl Alias {
        #[cfg(unix)]
        fn of(directory: &Path) -> std::io::Result<Self> {
            let link = std::env::temp_dir().join(format!("forebay-{}", Uuid::new_v4()));
            std::os::unix::fs::symlink(directory, &link)?;
            Ok(Self(link))
        }

        #[cfg(not(unix))]
        fn of(directory: &Path) -> std::io::Result<Self> {
            Err(std::io::Error::other(format!("{} has characters that the broker can't open; use another data_dir", directory.display())))
        }
    }

    impl Drop for Alias {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_a_ports_lock_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        // A port that no broker listens on.
        let port = 9;
        let link = std::env::temp_dir().join(format!("forebay-broker-{port}.lock"));
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(Claim::of(port).is_none());
        assert!(!target.exists(), "nothing is created behind the link");
        std::fs::remove_file(&link).unwrap();
        assert!(Claim::of(port).is_some());
        std::fs::remove_file(&link).unwrap();
    }
}
