//! One line of a segment: `crc32c length json`.

use std::io::Write as _;

/// The format this version writes, and the newest one it reads.
pub const FORMAT: u64 = 1;
/// The size of the largest event, in bytes of JSON.
pub const MAX_EVENT_BYTES: usize = 1 << 20;
/// Eight digits, a space, up to seven digits, a space, the newline.
const MAX_OVERHEAD_BYTES: usize = 8 + 1 + 7 + 1 + 1;

/// Appends the line of an event.
pub fn encode(json: &[u8], into: &mut Vec<u8>) {
    debug_assert!(!json.contains(&b'\n'), "compact JSON has no newlines");
    into.reserve(json.len() + MAX_OVERHEAD_BYTES);
    write!(into, "{:08x} {} ", crc32c::crc32c(json), json.len()).expect("writing to a vector never fails");
    into.extend_from_slice(json);
    into.push(b'\n');
}

/// Returns the JSON of a line, which is passed without its newline.
///
/// # Errors
/// The damage, as text for an operator.
pub fn decode(line: &[u8]) -> Result<&[u8], String> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(crc), Some(length), Some(json)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("it is not `crc32c length json`".into());
    };
    let number = |text: &[u8], radix| std::str::from_utf8(text).ok().and_then(|text| u32::from_str_radix(text, radix).ok());
    // Only the exact spelling passes.
    let plain = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let Some(crc) = number(crc, 16).filter(|_| crc.len() == 8 && plain(crc)) else {
        return Err("its checksum is not eight hexadecimal digits".into());
    };
    let Some(length) = number(length, 10).filter(|n| plain(length) && n.to_string().len() == length.len()) else {
        return Err("its length is not a number".into());
    };
    if json.len() != length as usize {
        return Err(format!("its length is {length}, but it has {} bytes", json.len()));
    }
    let actual = crc32c::crc32c(json);
    if actual != crc {
        return Err(format!("its checksum is {actual:08x}, not {crc:08x} as written"));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_any_flipped_bit_is_detected() {
        const JSON: &str = r#"{"seq":1,"type":"Grüezi"}"#;
        let mut line = Vec::new();
        encode(JSON.as_bytes(), &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert_eq!(decode(&line).unwrap(), JSON.as_bytes());
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut damaged = line.clone();
                damaged[at] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "byte {at}, bit {bit}");
            }
        }
    }
}
