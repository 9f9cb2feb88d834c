//! The metadata of a commit is not Forebay's, or has a write clock that Forebay may have written.

use forebay_dataplane::commit_metadata::CommitMetadata;

/// Checks one input.
pub fn check(bytes: &[u8]) {
    if let Some(metadata) = CommitMetadata::parse(&String::from_utf8_lossy(bytes)) {
        assert!(metadata.write_clock.micros() >= 0, "{metadata:?}");
        assert_eq!(CommitMetadata::parse(&metadata.to_string()), Some(metadata));
    }
}
