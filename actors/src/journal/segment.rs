//! Segments: their names, their first lines, and how far each can be believed.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::frame::{self, FORMAT};

/// A segment in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The sequence of its first event.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The segment's number, from 1.
    pub segment: u64,
    /// The format of its lines.
    pub format: u64,
    /// The sequence of its first event.
    pub first: u64,
    /// The pipeline whose journal it is.
    pub pipeline: String,
}

/// The name of the segment that begins with an event.
pub fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The segments of a folder, in order; none when there is no such folder.
///
/// # Errors
/// When the folder can't be read.
pub fn list(folder: &Path) -> Result<Vec<Segment>, JournalError> {
    Ok(numbered(folder, "log")?.into_iter().map(|(first, path)| Segment { first, path }).collect())
}

/// The files of a folder whose names are a sequence of 20 digits and `extension`, in order.
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

/// How much of a segment is read at a time.
const BLOCK: u64 = 64 << 10;

/// How far a reader is in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    /// Bytes read.
    pub(super) byte: u64,
    /// Lines read.
    pub(super) line: u64,
    /// The sequence of the next event.
    pub(super) next: u64,
    /// The first line, once it is read.
    pub(super) header: Option<Header>,
}

impl Cursor {
    /// At the begin of a segment.
    pub(super) fn at(segment: &Segment) -> Self {
        Self { next: segment.first, ..Self::default() }
    }

    /// What is wrong with the line at the cursor.
    pub(super) fn damage(&self, segment: &Segment, what: impl Into<String>) -> JournalError {
        let sequence = if self.line == 0 { 0 } else { self.next };
        JournalError::Damaged { path: segment.path.clone(), line: self.line + 1, sequence, what: what.into() }
    }
}

/// Reads on from the cursor, checks every line, and gives each event and its sequence to `take`. It stops before a line that has no end, and
/// gives how many bytes that has. A line that has its end and is not as written is damage, wherever it stands.
pub(super) fn scan<E: From<JournalError>>(
    segment: &Segment,
    cursor: &mut Cursor,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    let path = &segment.path;
    let read = |cause| JournalError::io("read", path)(cause);
    let mut file = fs::File::open(path).map_err(read)?;
    file.seek(SeekFrom::Start(cursor.byte)).map_err(read)?;
    let mut bytes = Vec::new();
    // What a reader holds is a block and a line, however long the segment is.
    while file.by_ref().take(BLOCK).read_to_end(&mut bytes).map_err(read)? > 0 {
        let taken = scan_lines(segment, cursor, &bytes, &mut take)?;
        bytes.drain(..taken);
    }
    Ok(bytes.len() as u64)
}

/// Takes the lines that have their end, and gives how many bytes they are.
fn scan_lines<E: From<JournalError>>(
    segment: &Segment,
    cursor: &mut Cursor,
    bytes: &[u8],
    take: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<usize, E> {
    let path = &segment.path;
    let mut rest = bytes;
    while let Some(length) = memchr::memchr(b'\n', rest) {
        let json = frame::decode(&rest[..length]).map_err(|what| cursor.damage(segment, what))?;
        if cursor.line == 0 {
            cursor.header = Some(header(json, segment).map_err(|what| cursor.damage(segment, what))?);
        } else {
            check(json, cursor.next).map_err(|what| cursor.damage(segment, what))?;
            take(cursor.next, json)?;
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
    let header: Header = serde_json::from_slice(json).map_err(|cause| format!("it is no first line of a segment: {cause}"))?;
    if header.first != segment.first {
        return Err(format!("it begins with sequence {}, and the file's name says {}", header.first, segment.first));
    }
    Ok(header)
}

/// An event says its sequence first.
fn check(json: &[u8], sequence: u64) -> Result<(), String> {
    let digits = json.strip_prefix(b"{\"seq\":").and_then(|rest| rest.split(|byte| !byte.is_ascii_digit()).next());
    let says = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    match says {
        Some(says) if says == sequence => Ok(()),
        Some(says) => Err(format!("it has sequence {says}, not {sequence}")),
        None => Err("it is no event: it does not begin with its sequence".into()),
    }
}
