//! Text from outside, such as a record or a server's message, as it may be written to a terminal.
//!
//! Guarantees:
//! * The result has no control character, no line separator and no character that reorders text. It
//!   can neither control a terminal, nor forge a line, nor look like other text.
//! * Any other text is unchanged. A text that was made printable is not changed again.
//!
//! Does not guarantee that the original can be told from the result: backslashes stay as they are.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text on one line, with visible escapes: `\n`, `\x1b`, `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(is_unprintable) else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first]);
    for c in text[first..].chars() {
        // Writing to a string does not fail.
        let _ = match c {
            '\n' | '\r' | '\t' => write!(shown, "{}", c.escape_default()),
            c if !is_unprintable(c) => shown.write_char(c),
            c if c.is_ascii() => write!(shown, "\\x{:02x}", u32::from(c)),
            c => write!(shown, "{}", c.escape_unicode()),
        };
    }
    Cow::Owned(shown)
}

/// Whether a terminal may act on the character, or show others elsewhere because of it.
fn is_unprintable(c: char) -> bool {
    // C0, DEL and C1; the bidirectional marks, embeddings, overrides and isolates; the separators
    // of lines and paragraphs.
    c.is_control() || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_bidirectional_characters_become_visible_escapes() {
        assert_eq!(printable("a\x1b]0;title\x07b"), "a\\x1b]0;title\\x07b");
        assert_eq!(printable("one\ntwo\r\tthree\0"), "one\\ntwo\\r\\tthree\\x00");
        assert_eq!(printable("\x7f\u{9b}31m"), "\\x7f\\u{9b}31m");
        assert_eq!(printable("\u{202e}gpj.exe\u{2069}"), "\\u{202e}gpj.exe\\u{2069}");
        let bidirectional = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain(['\u{200e}', '\u{200f}', '\u{61c}']);
        for c in ('\0'..='\x1f').chain('\x7f'..='\u{9f}').chain(bidirectional).chain(['\u{2028}', '\u{2029}']) {
            let shown = printable(c.encode_utf8(&mut [0; 4])).into_owned();
            assert!(shown.starts_with('\\') && shown.chars().all(|c| c.is_ascii_graphic()), "{shown:?}");
        }
    }

    #[test]
    fn other_text_is_unchanged_and_no_text_changes_twice() {
        for text in ["", "Zoë 日本 \u{1f469}\u{200d}\u{1f680}", "\\x1b as text", "שלום"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
        let once = printable("\x1b\\\u{202e}").into_owned();
        assert_eq!(printable(&once), once);
    }
}
