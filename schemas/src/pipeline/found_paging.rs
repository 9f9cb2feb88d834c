//! The rule that `paging = "auto"` has found, and the file that keeps it: `paging.toml` in the data
//! directory.
//!
//! Guarantee: a file that is written reads as the same rule.

use std::fmt::Write as _;

use serde::Deserialize;

use super::paging::PagingSection;

/// How an API paginates, as `paging = "auto"` has found it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundPaging {
    /// The source that it was found for: a hash of what is requested.
    pub source: String,
    /// When it was found, in RFC 3339.
    pub found: String,
    /// What in the answers says so.
    pub why: String,
    /// The lines of `[fetcher.paging]`.
    pub lines: Vec<String>,
}

impl FoundPaging {
    /// The name of the file.
    pub const FILE: &str = "paging.toml";

    /// Parses the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let found: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        found.section()?;
        Ok(found)
    }

    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut text = String::from(
            "# How the API paginates: found by `paging = \"auto\"` at the first start, and used by every later one.\n# Delete this file \
             to find out again, or copy the lines to [fetcher.paging] of the pipeline file.\n",
        );
        for (key, value) in [("source", &self.source), ("found", &self.found), ("why", &self.why)] {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
        let lines: Vec<_> = self.lines.iter().map(|line| format!("  {},\n", quoted(line))).collect();
        let _ = writeln!(text, "lines = [\n{}]", lines.concat());
        text
    }

    /// The rule.
    ///
    /// # Errors
    /// What is wrong with the lines.
    pub fn section(&self) -> Result<PagingSection, String> {
        PagingSection::from_toml(&self.lines.join("\n")).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_reads_as_it_was_written() {
        let lines = ["kind = \"cursor\"", "next = \"/a\\\"b\"", "param = \"after\""].map(str::to_owned).to_vec();
        let found = FoundPaging { source: "abc".into(), found: "2026-11-30T10:00:00Z".into(), why: "the response has /a\"b".into(), lines };
        assert_eq!(FoundPaging::from_toml(&found.to_toml()), Ok(found.clone()), "{}", found.to_toml());
        assert!(FoundPaging::from_toml("source = \"a\"").is_err());
        let wrong = FoundPaging { lines: vec!["kind = \"pages\"".to_owned()], ..found };
        assert!(FoundPaging::from_toml(&wrong.to_toml()).unwrap_err().contains("pages"));
    }
}
