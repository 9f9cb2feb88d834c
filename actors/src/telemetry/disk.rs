//! What the process has on the disk, and how much room is left there.
//!
//! Guarantee: bounded work, off the actors' thread. Not guaranteed: figures of a file system that does not answer; the last ones stay then.

use std::path::{Path, PathBuf};

use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::snapshot::{DiskView, TopicDiskView};

use crate::data_dir::broker_dir;
use forebay_dataplane::store;

/// Files of one folder that are counted, at most.
const FILES: usize = 100_000;

/// Where a pipeline has its data.
#[derive(Debug, Clone)]
pub struct DataPlaces {
    data_dir: PathBuf,
    journal: PathBuf,
    broker: Option<PathBuf>,
    /// The table's file.
    table: Option<PathBuf>,
    /// What the embedded topics may take.
    limit_bytes: u64,
}

impl DataPlaces {
    /// Those of a pipeline, whose journal is in that folder.
    pub fn of(pipeline: &Pipeline, journal: PathBuf) -> Self {
        let data_dir = pipeline.data_dir();
        let broker = pipeline.kafka.is_embedded().then(|| broker_dir(&data_dir));
        let table = pipeline.cassandra.as_ref().filter(|table| table.is_embedded()).map(|_| data_dir.join(store::EMBEDDED_FILE));
        Self { data_dir, journal, broker, table, limit_bytes: pipeline.kafka.retention().bytes.0 }
    }

    /// Measures. Blocks as long as the file system does.
    pub(super) fn look(&self, removed_records: u64) -> DiskView {
        let room = room(&self.data_dir);
        DiskView {
            free_bytes: room.map(|(free, _)| free),
            total_bytes: room.map(|(_, total)| total),
            journal_bytes: folder(&self.journal, |_| true),
            topic: self.broker.as_ref().map(|broker| TopicDiskView {
                bytes: folder(broker, |_| true),
                limit_bytes: self.limit_bytes,
                removed_records,
            }),
            table_bytes: self.table.as_ref().map(|table| {
                let name = table.file_name().unwrap_or_default().as_encoded_bytes();
                // The file, and what SQLite keeps beside it.
                folder(&self.data_dir, |file| file.as_encoded_bytes().starts_with(name))
            }),
        }
    }
}

/// Bytes that this process may still take on the file system of a path; none when the system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    room(path).map(|(free, _)| free)
}

/// The bytes of the file system of a path that this process may still take, and all that it has.
fn room(path: &Path) -> Option<(u64, u64)> {
    let of = rustix::fs::statvfs(path).ok()?;
    Some((of.f_bavail.saturating_mul(of.f_frsize), of.f_blocks.saturating_mul(of.f_frsize)))
}

/// The bytes of the files in a folder whose names are wanted; not of folders in it.
fn folder(path: &Path, wanted: impl Fn(&std::ffi::OsStr) -> bool) -> u64 {
    let Ok(entries) = path.read_dir() else { return 0 };
    let files = entries.take(FILES).flatten().filter(|entry| wanted(&entry.file_name()));
    files.filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_disk_is_measured_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let places = DataPlaces {
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
        let look = places.look(4);
        assert_eq!((look.journal_bytes, look.table_bytes), (10, Some(10)));
        assert_eq!(look.topic, Some(TopicDiskView { bytes: 25, limit_bytes: 100, removed_records: 4 }));
        assert!(look.free_bytes.unwrap() > 0 && look.free_bytes <= look.total_bytes);
    }
}
