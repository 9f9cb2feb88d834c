//! The users example, built into the program: `init` writes it, and `demo` runs it.

/// The pipeline file.
pub(crate) const PIPELINE: &str = include_str!("../examples/users/forebay.toml");
/// The schema of its records.
pub(crate) const SCHEMA: &str = include_str!("../examples/users/users.schema.json");
/// The schema's file name, as the pipeline file has it.
pub(crate) const SCHEMA_NAME: &str = "users.schema.json";
