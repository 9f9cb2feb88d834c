//! Segments: their names, their first lines, and how far each can be believed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::frame;

/// The format this version writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

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
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(JournalError::io("read", folder)(cause)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(JournalError::io("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(".log").filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok()) {
            segments.push(Segment { first, path });
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// What a segment holds that can be believed.
#[derive(Debug)]
pub(super) struct Contents {
    /// All of the file.
    bytes: Vec<u8>,
    /// Where the JSON of each event stands in it.
    events: Vec<std::ops::Range<usize>>,
    /// The first line; none when it is torn.
    pub(super) header: Option<Header>,
    /// How many bytes can be believed; the rest is a torn tail.
    pub(super) sound: u64,
}

impl Contents {
    /// The JSON of each event, in order.
    pub(super) fn events(&self) -> impl Iterator<Item = &[u8]> {
        self.events.iter().map(|at| &self.bytes[at.clone()])
    }

    /// How many events there are.
    pub(super) fn len(&self) -> u64 {
        self.events.len() as u64
    }
}

/// Reads a segment and checks every line. Only the last segment of a journal may end torn: in a line without its line end, which is what
/// a crash in mid-write leaves. A line that has its end and is not as written is damage, wherever it stands.
pub(super) fn load(segment: &Segment, is_last: bool) -> Result<Contents, JournalError> {
    let path = &segment.path;
    let bytes = fs::read(path).map_err(JournalError::io("read", path))?;
    let mut contents = Contents { bytes: Vec::new(), events: Vec::new(), header: None, sound: 0 };
    let (mut at, mut line_number) = (0, 0u64);
    while at < bytes.len() {
        line_number += 1;
        let end = bytes[at..].iter().position(|byte| *byte == b'\n').map(|length| at + length);
        let whole = end.unwrap_or(bytes.len());
        let sequence = if line_number == 1 { 0 } else { segment.first + contents.len() };
        let checked = match end {
            Some(end) => check(&bytes[at..end], line_number, sequence, segment, &mut contents),
            None => Err("it has no end".to_owned()),
        };
        match checked {
            Ok(length) => contents.events.extend((line_number > 1).then(|| whole - length..whole)),
            Err(_) if is_last && end.is_none() => break,
            Err(what) => return Err(JournalError::Damaged { path: path.clone(), line: line_number, sequence, what }),
        }
        at = whole + 1;
        contents.sound = at as u64;
    }
    if let Some(format) = contents.header.as_ref().map(|header| header.format).filter(|format| *format > FORMAT) {
        return Err(JournalError::Newer { path: path.clone(), format });
    }
    contents.bytes = bytes;
    Ok(contents)
}

/// Checks one line; gives the length of its JSON.
fn check(line: &[u8], number: u64, sequence: u64, segment: &Segment, contents: &mut Contents) -> Result<usize, String> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let json = frame::decode(line)?;
    if number == 1 {
        let header: Header = serde_json::from_slice(json).map_err(|cause| format!("it is no first line of a segment: {cause}"))?;
        if header.first != segment.first {
            return Err(format!("it begins with sequence {}, and the file's name says {}", header.first, segment.first));
        }
        contents.header = Some(header);
    } else {
        let event: Numbered = serde_json::from_slice(json).map_err(|cause| format!("it is no event: {cause}"))?;
        if event.seq != sequence {
            return Err(format!("it has sequence {}, not {sequence}", event.seq));
        }
    }
    Ok(json.len())
}
