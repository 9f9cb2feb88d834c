//! Text tools that several actors share: JSON pointers into bytes.

pub(crate) mod json_lookup;
