//! Values that become text and are not, or not only, plain text in JSON.

use forebay_schemas::record_schema::{JsonTypes, Kind};

use super::decode_error::Result;
use super::json_cursor::JsonCursor;

/// Appends the value that the cursor is at, as the text that a field of this type has. `first` is
/// its first byte. A value that is read as JSON is copied as the record has it, blanks included.
///
/// The text of a number or a boolean is the record's own, but for an integer that is written with a
/// fraction or an exponent where the type has integers only: it becomes its digits.
#[inline(never)]
pub(super) fn append(kind: &Kind, first: u8, json: &mut JsonCursor<'_>, out: &mut Vec<u8>) -> Result<()> {
    let start = json.position();
    let types = match kind {
        Kind::TextOf(types) => *types,
        Kind::Json(types) => {
            if !fits(*types, first, json) {
                return Err(json.invalid(&kind.expected()));
            }
            json.skip(1)?;
            out.extend_from_slice(json.since(start).as_bytes());
            return Ok(());
        }
        _ => JsonTypes::TEXT,
    };
    match first {
        b'"' if types.has(JsonTypes::TEXT) => {
            let text = json.string()?;
            if *kind == Kind::Uuid && !is_uuid(&text.resolved()) {
                return Err(json.invalid_since(start, &kind.expected()));
            }
            text.append_to(out);
        }
        b'-' | b'0'..=b'9' if types.has(JsonTypes::NUMBER) => out.extend_from_slice(json.number()?.raw.as_bytes()),
        b'-' | b'0'..=b'9' if types.has(JsonTypes::INTEGER) => {
            let number = json.number()?;
            match number.integer() {
                _ if number.plain => out.extend_from_slice(number.raw.as_bytes()),
                Some(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
                None => return Err(json.invalid_since(start, &kind.expected())),
            }
        }
        b't' | b'f' if types.has(JsonTypes::BOOLEAN) => {
            json.literal(if first == b't' { "true" } else { "false" })?;
            out.extend_from_slice(json.since(start).as_bytes());
        }
        _ => return Err(json.invalid(&kind.expected())),
    }
    Ok(())
}

/// Whether the value that the cursor is at is of one of these types, by its first byte. What is no
/// value at all is left to the cursor.
fn fits(types: JsonTypes, first: u8, json: &JsonCursor<'_>) -> bool {
    types.has(match first {
        b'"' => JsonTypes::TEXT,
        b'{' => JsonTypes::OBJECT,
        b'[' => JsonTypes::ARRAY,
        b't' | b'f' => JsonTypes::BOOLEAN,
        b'-' | b'0'..=b'9' if types.has(JsonTypes::INTEGER) => {
            return json.clone().number().is_ok_and(|number| number.plain || number.integer().is_some());
        }
        b'-' | b'0'..=b'9' => JsonTypes::NUMBER,
        b'n' => return false,
        _ => return true,
    })
}

/// Returns whether a text has the form of RFC 9562: 8, 4, 4, 4 and 12 hexadecimal digits.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
