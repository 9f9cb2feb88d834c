//! JSON pointers (RFC 6901): parsing, printing, and the escapes of their tokens.
//!
//! Guarantees:
//! * A pointer that was parsed prints the same text.
//! * Any text is a valid token once it is escaped.
//!
//! Does not guarantee that a pointer leads to a value in any document.

use std::borrow::Cow;
use std::fmt;

/// A JSON pointer: the names and indices that lead from the top of a document to a value in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonPointer {
    tokens: Vec<String>,
}

impl JsonPointer {
    /// Parses a pointer: empty for the whole document, or tokens that each follow a slash. Returns
    /// `None` for text that is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let mut tokens = text.split('/');
        // What precedes the first slash.
        let is_pointer = tokens.next() == Some("");
        is_pointer.then(|| Self { tokens: tokens.map(|token| unescape(token).into_owned()).collect() })
    }

    /// The pointer to the child `token` of this value.
    #[must_use]
    pub fn child(&self, token: &str) -> Self {
        let tokens = self.tokens.iter().cloned().chain([token.to_owned()]).collect();
        Self { tokens }
    }

    /// The pointer to the value that holds this one. The root is its own parent.
    #[must_use]
    pub fn parent(&self) -> Self {
        let tokens = self.tokens.iter().take(self.tokens.len().saturating_sub(1)).cloned().collect();
        Self { tokens }
    }

    /// The unescaped tokens, from the top of the document down.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Whether this is the pointer to the whole document.
    pub fn is_root(&self) -> bool {
        self.tokens.is_empty()
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "/{}", escape(token)))
    }
}

/// Escapes a name for use as a token: `~` becomes `~0`, `/` becomes `~1`.
pub fn escape(name: &str) -> Cow<'_, str> {
    match name.contains(['~', '/']) {
        true => name.replace('~', "~0").replace('/', "~1").into(),
        false => name.into(),
    }
}

/// The name that a token stands for.
pub fn unescape(token: &str) -> Cow<'_, str> {
    match token.contains('~') {
        true => token.replace("~1", "/").replace("~0", "~").into(),
        false => token.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pointer_has_the_tokens_that_rfc_6901_gives_it() {
        let tokens = |text: &str| JsonPointer::parse(text).unwrap().tokens().join("|");
        assert_eq!(tokens("/a~1b/m~0n/~01"), "a/b|m~n|~1");
        assert!(JsonPointer::parse("").unwrap().is_root());
        assert_eq!(JsonPointer::parse("/").unwrap().tokens(), [""]);
        assert_eq!(JsonPointer::parse("a/b"), None);
    }

    proptest! {
        #[test]
        fn tokens_survive_printing_and_parsing(tokens in prop::collection::vec("[a~/01é]{0,4}", 0..4)) {
            let pointer = tokens.iter().fold(JsonPointer::default(), |pointer, token| pointer.child(token));
            let parsed = JsonPointer::parse(&pointer.to_string()).unwrap();
            prop_assert_eq!(parsed.tokens(), tokens);
        }
    }
}
