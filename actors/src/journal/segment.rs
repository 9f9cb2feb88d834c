//! Segments: their names, their headers, and the check of their lines.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::frame::{self, FORMAT};

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The sequence of its first event.
    pub first: u64,
    /// Its file.
    pub path: PathBuf,
}

/// The header, the first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The segment's number, from 1.
    pub segment: u64,
    /// The format of its lines.
    pub format: u64,
    /// The sequence of its first event.
    pub first: u64,
    /// The pipeline that the journal belongs to.
    pub pipeline: String,
}

/// Returns the name of the segment that starts with event `first`.
pub fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// Returns the segments of a folder, in order; none when the folder does not exist.
///
/// # Errors
/// When the folder can't be read.
pub fn list(folder: &Path) -> Result<Vec<Segment>, JournalError> {
    Ok(numbered(folder, "log")?.into_iter().map(|(first, path)| Segment { first, path }).collect())
}

/// Returns the files of a folder that are named by a sequence of 20 digits and `extension`, in
/// order.
pub(super) fn numbered(folder: &Path, extension: &str) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(JournalError::io("read", folder)(cause)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(JournalError::io("read", folder))?.path();
        let stem = path.file_stem().and_then(|name| name.to_str()).filter(|digits| digits.len() == 20);
        if path.extension().is_some_and(|found| found == extension)
            && let Some(number) = stem.and_then(|digits| digits.parse().ok())
        {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

/// The number of bytes read at a time.
const BLOCK_BYTES: u64 = 64 << 10;

/// A reader's position in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    /// Bytes read.
    pub(super) byte: u64,
    /// Lines read.
    pub(super) line: u64,
    /// The sequence of the next event.
    pub(super) next: u64,
    /// The header, once it is read.
    pub(super) header: Option<Header>,
}

impl Cursor {
    /// The start of a segment.
    pub(super) fn at(segment: &Segment) -> Self {
        Self { next: segment.first, ..Self::default() }
    }

    /// Returns the error for damage in the line at the cursor.
    pub(super) fn damage(&self, segment: &Segment, what: impl Into<String>) -> JournalError {
        let sequence = if self.line == 0 { 0 } else { self.next };
        JournalError::Damaged { path: segment.path.clone(), line: self.line + 1, sequence, what: what.into() }
    }
}

/// Reads from the cursor, checks every line, and passes each event with its sequence to `visit`.
///
/// Stops before an unfinished line, and returns its number of bytes. A finished line that is not as
/// written is damage, wherever it is.
pub(super) fn scan<E: From<JournalError>>(
    segment: &Segment,
    cursor: &mut Cursor,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let path = &segment.path;
    let read = |cause| JournalError::io("read", path)(cause);
    let mut file = fs::File::open(path).map_err(read)?;
    file.seek(SeekFrom::Start(cursor.byte)).map_err(read)?;
    let mut bytes = Vec::new();
    // A reader holds one block and one line, however long the segment is.
    while file.by_ref().take(BLOCK_BYTES).read_to_end(&mut bytes).map_err(read)? > 0 {
        let taken = scan_lines(segment, cursor, &bytes, &mut visit)?;
        bytes.drain(..taken);
    }
    Ok(bytes.len() as u64)
}

/// Visits the finished lines, and returns their number of bytes.
fn scan_lines<E: From<JournalError>>(
    segment: &Segment,
    cursor: &mut Cursor,
    bytes: &[u8],
    visit: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<usize, E> {
    let path = &segment.path;
    let mut rest = bytes;
    while let Some(length) = memchr::memchr(b'\n', rest) {
        let json = frame::decode(&rest[..length]).map_err(|what| cursor.damage(segment, what))?;
        if cursor.line == 0 {
            cursor.header = Some(header(json, segment).map_err(|what| cursor.damage(segment, what))?);
        } else {
            check(json, cursor.next).map_err(|what| cursor.damage(segment, what))?;
            visit(cursor.next, json)?;
            cursor.next += 1;
        }
        cursor.line += 1;
        cursor.byte += length as u64 + 1;
        rest = &rest[length + 1..];
        if let Some(format) = cursor.header.as_ref().map(|header| header.format).filter(|format| *format > FORMAT) {
            return Err(JournalError::Newer { path: path.clone(), format }.into());
        }
    }
    Ok(bytes.len() - rest.len())
}

fn header(json: &[u8], segment: &Segment) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(json).map_err(|cause| format!("it is not a segment header: {cause}"))?;
    if header.first != segment.first {
        return Err(format!("it starts with sequence {}, but the file is named {}", header.first, segment.first));
    }
    Ok(header)
}

/// Checks that the event starts with its sequence.
fn check(json: &[u8], sequence: u64) -> Result<(), String> {
    let digits = json.strip_prefix(b"{\"seq\":").and_then(|rest| rest.split(|byte| !byte.is_ascii_digit()).next());
    let found = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    match found {
        Some(found) if found == sequence => Ok(()),
        Some(found) => Err(format!("it has sequence {found}, not {sequence}")),
        None => Err("it is not an event: it does not start with its sequence".into()),
    }
}
