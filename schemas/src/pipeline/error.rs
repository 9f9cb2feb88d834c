//! Errors that point into the pipeline file.

use std::fmt;
use std::path::Path;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use thiserror::Error;

use super::FileText;
use super::secret_checks::masked;

/// An error in the pipeline file, or in what it refers to: the location, the problem and the
/// remedy.
///
/// Prints its message; as a [`Diagnostic`] it also shows the location in the text, with `*` in
/// place of what may be a secret.
#[derive(Debug)]
pub struct FileError(Box<Details>);

#[derive(Debug, Error, Diagnostic)]
#[error("{message}")]
struct Details {
    message: String,
    #[source_code]
    source_code: Option<NamedSource<String>>,
    #[label("{label}")]
    span: Option<SourceSpan>,
    label: String,
    #[help]
    help: Option<String>,
    line: Option<usize>,
    /// Further errors of the same file.
    others: Vec<FileError>,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        match self.0.others.len() {
            0 => Ok(()),
            others => write!(f, " (the first of {} errors)", others + 1),
        }
    }
}

impl std::error::Error for FileError {}

impl Diagnostic for FileError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Diagnostic::help(&*self.0)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Diagnostic::source_code(&*self.0)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let others = self.0.others.iter().map(|error| error as &dyn Diagnostic);
        (!self.0.others.is_empty()).then(|| Box::new(others) as Box<_>)
    }
}

/// A location in the file: byte offset and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSpan {
    /// The first byte.
    pub start: usize,
    /// The number of bytes.
    pub len: usize,
}

impl FileError {
    /// The file can't be read.
    pub(super) fn unreadable(path: &Path, cause: &std::io::Error) -> Self {
        Self(Box::new(Details {
            message: format!("can't read the pipeline file {}: {cause}", path.display()),
            source_code: None,
            span: None,
            label: String::new(),
            help: Some("give its path with -c FILE, or create one with `forebay init`".into()),
            line: None,
            others: Vec::new(),
        }))
    }

    /// An error of the TOML parser or of a type's own deserializer.
    pub(super) fn from_toml(file: &FileText, cause: &toml::de::Error) -> Self {
        let message = without_value(cause.message());
        let (message, remedy) = message.split_once("; ").unwrap_or((&message, ""));
        let message = message.to_owned();
        let help = unknown_key(&message).map(|(key, known)| match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", known.join(", ")),
        });
        let help = help.or_else(|| (!remedy.is_empty()).then(|| remedy.to_owned()));
        let spot = cause.span().map(|span| ByteSpan { start: span.start, len: span.end.saturating_sub(span.start) });
        Self::at_spot(file, spot, message, "here", help)
    }

    /// An error at the value of a key; at the section if the key is missing.
    pub fn at_key(file: &FileText, key: &[&str], message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::at_spot(file, spot_of(&file.text, key), message.into(), "this", Some(help.into()))
    }

    /// An error inside the text `value` of a key; `inside` counts bytes of that text. If the file
    /// spells the text with escapes, the error points at all of it.
    pub fn inside_value(
        file: &FileText,
        key: &[&str],
        value: &str,
        inside: ByteSpan,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let spot = spot_of(&file.text, key).map(|whole| {
            let spelled = file.text.get(whole.start..whole.start + whole.len).and_then(|text| text.find(value));
            spelled.map_or(whole, |offset| ByteSpan { start: whole.start + offset + inside.start, ..inside })
        });
        Self::at_spot(file, spot, message.into(), "here", Some(help.into()))
    }

    /// An error at a known location.
    pub fn at_spot(file: &FileText, spot: Option<ByteSpan>, message: impl Into<String>, label: &str, help: Option<String>) -> Self {
        let spot = spot.map(|spot| ByteSpan { start: spot.start.min(file.text.len()), ..spot });
        Self(Box::new(Details {
            message: message.into(),
            source_code: Some(NamedSource::new(file.path.display().to_string(), masked(&file.text))),
            span: spot.map(|spot| SourceSpan::new(spot.start.into(), spot.len)),
            label: label.to_owned(),
            help,
            line: spot.map(|spot| 1 + file.text[..floor_char(&file.text, spot.start)].matches('\n').count()),
            others: Vec::new(),
        }))
    }

    /// All errors of a file as one; none when there is no error.
    pub fn several(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.others.extend(errors);
        Some(first)
    }

    /// The further errors of the same file.
    pub fn others(&self) -> &[Self] {
        &self.0.others
    }

    /// The file, if its text is known.
    pub fn file(&self) -> Option<&str> {
        self.0.source_code.as_ref().map(NamedSource::name)
    }

    /// The line, from 1, if known.
    pub fn line(&self) -> Option<usize> {
        self.0.line
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

fn floor_char(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The location of a key's value in the text, or of the innermost section on the path that exists.
pub(super) fn spot_of(text: &str, key: &[&str]) -> Option<ByteSpan> {
    let document = toml_edit::Document::parse(text).ok()?;
    let mut item = document.as_item();
    let mut found = None;
    for part in key {
        match item.get(part) {
            Some(next) => item = next,
            None => break,
        }
        found = item.span().or(found);
    }
    found.map(|span| ByteSpan { start: span.start, len: span.end - span.start })
}

/// The candidate that is most similar to `word`, if one is similar.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// serde's message `invalid type: string "x", expected …` without the text, which may be a secret.
fn without_value(message: &str) -> String {
    match (message.split_once(": string \""), message.rsplit_once("\", expected ")) {
        (Some((before, _)), Some((_, expected))) => format!("{before}: a text, expected {expected}"),
        _ => message.to_owned(),
    }
}

/// The unknown key and the known ones, from serde's message "unknown field `x`, expected one of
/// `a`, `b`".
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (key, rest) = rest.split_once('`')?;
    Some((key, rest.split('`').skip(1).step_by(2).collect()))
}
