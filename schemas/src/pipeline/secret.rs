//! Secrets in the pipeline file: only references, never text, never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

/// A reference to a secret: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The value of an environment variable.
    Env(String),
    /// The contents of a file without the line end; relative to the pipeline file.
    File(PathBuf),
}

/// A secret that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable {0} is not set; set it, or change {{ env = \"…\" }}")]
    Unset(String),
    /// The file can't be read.
    #[error("can't read the secret file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
}

impl Secret {
    /// Reads the secret. `pipeline_file` is the path of the pipeline file. The caller must not
    /// print it.
    ///
    /// # Errors
    /// When the variable is not set or the file can't be read.
    pub fn reveal(&self, pipeline_file: &Path) -> Result<String, SecretError> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Unset(name.clone())),
            Self::File(path) => {
                let path = pipeline_file.parent().unwrap_or(Path::new("")).join(path);
                let text = std::fs::read_to_string(&path).map_err(|cause| SecretError::Unreadable { path, cause })?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

/// Prints the reference, not the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "{{ env = {name:?} }}"),
            Self::File(path) => write!(f, "{{ file = {path:?} }}"),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Reference(Reference),
            #[allow(dead_code, reason = "matched only to reject it")]
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Reference {
            env: Option<String>,
            file: Option<PathBuf>,
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Reference(Reference { env: Some(name), file: None })) => Ok(Self::Env(name)),
            Ok(Written::Reference(Reference { env: None, file: Some(path) })) => Ok(Self::File(path)),
            _ => Err(de::Error::custom("a secret must be a reference, not text: { env = \"NAME\" } or { file = \"PATH\" }")),
        }
    }
}
