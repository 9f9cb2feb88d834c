//! Text tools that several actors share: JSON pointers into bytes, and URLs without secrets.

pub(crate) mod json_lookup;
mod redact;

pub(crate) use redact::without_query;
pub use redact::without_secrets;
