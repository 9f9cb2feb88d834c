//! Secrets in the pipeline file: only references, never text, never printed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

/// A reference to a secret: `{ env = "NAME" }` or `{ file = "PATH" }`, each with `prefix = "TEXT"`
/// if a text comes before it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The value of an environment variable.
    Env(String),
    /// The contents of a file without the line end; relative to the pipeline file.
    File(PathBuf),
    /// A text, such as `Bearer `, and the secret after it.
    Prefixed(String, Box<Secret>),
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
    /// Others than the file's owner may read it.
    #[error("others than its owner may read or change the secret file {} (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Whether a file of this owner and mode is no secret. Only root's may be readable by others: that
/// is how Kubernetes and Docker mount secrets into a container.
fn is_exposed(owner: u32, mode: u32) -> bool {
    mode & if owner == 0 { 0o022 } else { 0o077 } != 0
}

impl Secret {
    /// Reads the secret. `pipeline_file` is the path of the pipeline file. The caller must not
    /// print it.
    ///
    /// # Errors
    /// When the variable is not set, or the file can't be read or is exposed to others.
    pub fn reveal(&self, pipeline_file: &Path) -> Result<String, SecretError> {
        match self {
            Self::Prefixed(prefix, secret) => Ok(prefix.clone() + &secret.reveal(pipeline_file)?),
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Unset(name.clone())),
            Self::File(path) => {
                let path = pipeline_file.parent().unwrap_or(Path::new("")).join(path);
                let unreadable = |cause| SecretError::Unreadable { path: path.clone(), cause };
                let mut file = File::open(&path).map_err(unreadable)?;
                let metadata = file.metadata().map_err(unreadable)?;
                if metadata.is_file() && is_exposed(metadata.uid(), metadata.mode()) {
                    return Err(SecretError::Exposed { path, mode: metadata.mode() & 0o7777 });
                }
                let mut text = String::new();
                file.read_to_string(&mut text).map_err(unreadable)?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

impl Secret {
    /// The file that it is in, if it is in one; relative to the pipeline file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(path),
            Self::Prefixed(_, secret) => secret.file(),
        }
    }
}

/// Prints the reference, not the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "{{ env = {name:?} }}"),
            Self::File(path) => write!(f, "{{ file = {path:?} }}"),
            Self::Prefixed(prefix, secret) => write!(f, "{{ prefix = {prefix:?}, {}", format!("{secret:?}").trim_start_matches("{ ")),
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
            prefix: Option<String>,
        }
        let wrong = || {
            de::Error::custom(
                "a secret must be a reference, not text; write { env = \"NAME\" } or { file = \"PATH\" }, and { prefix = \"Bearer \", env = \
                 \"NAME\" } if a text comes before it",
            )
        };
        let Ok(Written::Reference(Reference { env, file, prefix })) = Written::deserialize(deserializer) else { return Err(wrong()) };
        let secret = match (env, file) {
            (Some(name), None) => Self::Env(name),
            (None, Some(path)) => Self::File(path),
            _ => return Err(wrong()),
        };
        Ok(match prefix {
            Some(prefix) => Self::Prefixed(prefix, Box::new(secret)),
            None => secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_before_a_secret_is_part_of_its_value_and_shown_without_it() {
        let secret: Secret = toml::from_str("prefix = \"Token \"\nenv = \"PATH\"").unwrap();
        let path = std::env::var("PATH").unwrap();
        assert_eq!(secret.reveal(Path::new("forebay.toml")).unwrap(), format!("Token {path}"));
        assert_eq!(format!("{secret:?}"), "{ prefix = \"Token \", env = \"PATH\" }");
        for text in ["prefix = \"Token \"", "prefix = \"a\"\nenv = \"A\"\nfile = \"b\"", "suffix = \"a\"\nenv = \"A\""] {
            assert!(toml::from_str::<Secret>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_file_is_its_owners_alone_unless_root_lets_others_read_it() {
        for (owner, mode, exposed) in [
            (1000, 0o100_600, false),
            (1000, 0o100_400, false),
            (1000, 0o100_640, true),
            (1000, 0o100_604, true),
            (0, 0o100_444, false),
            (0, 0o100_644, false),
            (0, 0o100_440, false),
            (0, 0o100_664, true),
            (0, 0o100_646, true),
        ] {
            assert_eq!(is_exposed(owner, mode), exposed, "mode {mode:o} of user {owner}");
        }
    }
}
