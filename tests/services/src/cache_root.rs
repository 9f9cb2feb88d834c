//! The folder in which servers, tools and runs are kept.

use std::path::PathBuf;

use crate::Result;

/// `$FOREBAY_CACHE`, else `~/.cache/forebay`.
pub(crate) fn cache_root() -> Result<PathBuf> {
    let root = match std::env::var_os("FOREBAY_CACHE").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir().ok_or("no home directory; set FOREBAY_CACHE to a folder for the servers")?.join(".cache/forebay"),
    };
    std::path::absolute(&root).map_err(|cause| format!("the path {} is not valid: {cause}", root.display()))
}
