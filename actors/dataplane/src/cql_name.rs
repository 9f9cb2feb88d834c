//! Names in CQL statements.
//!
//! Guarantee: a name in a statement means exactly the name that the pipeline file, the SELECT or
//! the server has, whatever its case and even if it is a reserved word.

use std::borrow::Cow;

/// CQL's reserved words. As names they need quotes.
const RESERVED: &str = "add allow alter and apply asc authorize batch begin by columnfamily create default delete desc describe drop entries \
    execute from full grant if in index infinity insert into is keyspace limit materialized mbean mbeans modify nan \
    norecursive not null of on or order primary rename replace revoke schema select set table to token truncate unlogged \
    unset update use using view where with";

/// Whether a name is a reserved word of CQL.
pub fn is_reserved_word(name: &str) -> bool {
    RESERVED.split(' ').any(|word| word == name)
}

/// Returns a name as a statement of CQL has it: with quotes if it needs them.
pub(crate) fn cql_name(name: &str) -> Cow<'_, str> {
    let mut bytes = name.bytes();
    let is_plain = bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !is_reserved_word(name);
    if is_plain { Cow::Borrowed(name) } else { Cow::Owned(quoted(name)) }
}

/// Returns a name in quotes, as CQL and SQLite have them.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns names for a list in a statement of CQL.
pub(crate) fn cql_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(cql_name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_quotes_where_cql_would_read_another_one() {
        for plain in ["id", "first_name", "a1", "ttl", "timestamp"] {
            assert_eq!(cql_name(plain), plain);
        }
        for (name, written) in [
            ("userId", "\"userId\""),
            ("order", "\"order\""),
            ("token", "\"token\""),
            ("1st", "\"1st\""),
            ("_id", "\"_id\""),
            ("größe", "\"größe\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(cql_name(name), written);
        }
        assert_eq!(cql_names(["id", "Age"]), "id, \"Age\"");
    }
}
