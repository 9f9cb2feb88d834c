//! Disk usage of the process, and the free space.
//!
//! Guarantees:
//! * The work is bounded, and runs off the actor thread.
//!
//! Does not guarantee fresh numbers while the file system hangs: the last measurement stays.

use std::path::{Path, PathBuf};

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::{DiskView, TopicDiskView};

use crate::data_dir::broker_dir;
use forebay_dataplane::store;

/// Files that are counted in one directory.
const MAX_FILES: usize = 100_000;

/// The files and directories of a pipeline.
#[derive(Debug, Clone)]
pub struct DataPaths {
    data_dir: PathBuf,
    journal: PathBuf,
    broker: Option<PathBuf>,
    /// The file of the embedded store.
    table: Option<PathBuf>,
    /// The limit of the embedded topics.
    limit_bytes: u64,
}

impl DataPaths {
    /// The paths of a pipeline whose journal is in `journal`.
    pub fn of(pipeline: &Pipeline, journal: PathBuf) -> Self {
        let data_dir = pipeline.data_dir();
        let broker = pipeline.kafka.is_embedded().then(|| broker_dir(&data_dir));
        let table = pipeline.cassandra.as_ref().filter(|table| table.is_embedded()).map(|_| data_dir.join(store::EMBEDDED_FILE));
        Self { data_dir, journal, broker, table, limit_bytes: pipeline.kafka.retention().bytes.0 }
    }

    /// Measures the usage. Blocks on the file system.
    pub(super) fn measure(&self, removed_records: u64) -> DiskView {
        let space = space(&self.data_dir);
        DiskView {
            free_bytes: space.map(|(free, _)| free),
            total_bytes: space.map(|(_, total)| total),
            journal_bytes: folder(&self.journal, |_| true),
            topic: self.broker.as_ref().map(|broker| TopicDiskView {
                bytes: folder(broker, |_| true),
                limit_bytes: self.limit_bytes,
                removed_records,
            }),
            table_bytes: self.table.as_ref().map(|table| {
                let name = table.file_name().unwrap_or_default().as_encoded_bytes();
                // The file, its WAL and its shared memory.
                folder(&self.data_dir, |file| file.as_encoded_bytes().starts_with(name))
            }),
        }
    }
}

/// Bytes available to this process on the file system of a path, if the system reports them.
pub fn free_bytes(path: &Path) -> Option<u64> {
    space(path).map(|(free, _)| free)
}

/// The available and the total bytes of the file system of a path.
fn space(path: &Path) -> Option<(u64, u64)> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some((of.f_bavail.saturating_mul(of.f_frsize), of.f_blocks.saturating_mul(of.f_frsize)))
}

/// The bytes of the files in a directory whose names match, without its subdirectories.
fn folder(path: &Path, wanted: impl Fn(&std::ffi::OsStr) -> bool) -> u64 {
    let Ok(entries) = path.read_dir() else { return 0 };
    let files = entries.take(MAX_FILES).flatten().filter(|entry| wanted(&entry.file_name()));
    files.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_usage_is_the_sum_of_the_matching_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths = DataPaths {
            data_dir: folder.path().to_owned(),
            journal: folder.path().join("journal"),
            broker: Some(folder.path().join("broker")),
            table: Some(folder.path().join("store.db")),
            limit_bytes: 100,
        };
        for (file, bytes) in
            [("journal/a.log", 10), ("broker/kafka.db", 20), ("broker/kafka.db-wal", 5), ("store.db", 7), ("store.db-wal", 3), ("LOCK", 1)]
        {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; bytes]).unwrap();
        }
        let usage = paths.measure(4);
        assert_eq!((usage.journal_bytes, usage.table_bytes), (10, Some(10)));
        assert_eq!(usage.topic, Some(TopicDiskView { bytes: 25, limit_bytes: 100, removed_records: 4 }));
        assert!(usage.free_bytes.unwrap() > 0 && usage.free_bytes <= usage.total_bytes);
    }
}
