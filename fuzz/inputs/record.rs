//! A record becomes one row or one reject, whatever its bytes are.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use forebay_dataplane::transform::{Parts, Transform};
use forebay_dataplane::{NewRecord, RawBatch};
use forebay_schemas::pipeline;

static TRANSFORM: LazyLock<Transform> = LazyLock::new(|| {
    let pipeline = pipeline::load(&example()).expect("the example is valid");
    Transform::new(&pipeline).expect("the example's SQL is valid")
});

/// The example's pipeline file, from this repository's root or from `fuzz`.
fn example() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().map(|folder| folder.join("examples/users/forebay.toml")).find(|path| path.exists()).expect("the example is there")
}

/// The numbers of rows and rejects of one record.
pub fn transformed(value: &[u8]) -> (usize, usize) {
    let mut batch = RawBatch::default();
    batch.push(&NewRecord { write_ts: 1_700_000_000_000_000, value: Some(value), ..NewRecord::default() });
    let (mut rows, mut rejects) = (0, 0);
    let mut parts = Parts::default();
    while !parts.is_done() {
        let part = parts.next(&TRANSFORM, &batch, &|| {});
        rows += part.rows.num_rows();
        rejects += part.rejects.len();
    }
    (rows, rejects)
}

/// Checks one input.
pub fn check(value: &[u8]) {
    let (rows, rejects) = transformed(value);
    assert_eq!(rows + rejects, 1, "{rows} rows and {rejects} rejects");
}
