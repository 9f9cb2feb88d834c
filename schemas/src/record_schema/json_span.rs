//! Locates the value of a JSON pointer in a JSON text, for error messages.
//!
//! Expects text that a parser has already accepted.

use crate::json_pointer::JsonPointer;
use crate::pipeline::ByteSpan;

/// The location of the pointer's value, or of the innermost value on its path that exists.
pub(super) fn locate(text: &str, pointer: &JsonPointer) -> Option<ByteSpan> {
    let bytes = text.as_bytes();
    let mut at = skip_whitespace(bytes, 0);
    for token in pointer.tokens() {
        match child(bytes, at, token) {
            Some(inner) => at = inner,
            None => break,
        }
    }
    Some(ByteSpan { start: at, len: end(bytes, at)? - at })
}

/// The location of a line and a column, both from 1 and in bytes, as serde_json counts.
pub(super) fn line_column(text: &str, line: usize, column: usize) -> ByteSpan {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    ByteSpan { start: (start + column.saturating_sub(1)).min(text.len()), len: 1 }
}

/// The first byte of the member or item with this name.
fn child(bytes: &[u8], at: usize, token: &str) -> Option<usize> {
    let object = match bytes.get(at)? {
        b'{' => true,
        b'[' => false,
        _ => return None,
    };
    let mut at = skip_whitespace(bytes, at + 1);
    let mut index = 0_usize;
    while !matches!(bytes.get(at)?, b'}' | b']') {
        let mut found = index.to_string() == token;
        if object {
            let key = end(bytes, at)?;
            let name: String = serde_json::from_slice(&bytes[at..key]).ok()?;
            found = name == token;
            at = skip_whitespace(bytes, skip_whitespace(bytes, key) + 1);
        }
        if found {
            return Some(at);
        }
        at = skip_whitespace(bytes, end(bytes, at)?);
        if bytes.get(at)? == &b',' {
            at = skip_whitespace(bytes, at + 1);
        }
        index += 1;
    }
    None
}

/// The end of the value that starts at `at`.
fn end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, at);
            loop {
                match bytes.get(at)? {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    b'"' => at = end(bytes, at)? - 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        b'"' => {
            let mut at = at + 1;
            while bytes.get(at)? != &b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            Some(at + 1)
        }
        _ => Some(at + bytes[at..].iter().position(|b| b",]} \t\r\n".contains(b)).unwrap_or(bytes.len() - at)),
    }
}

fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}
