//! Setting the cursor of a read by hand: where its next fetch starts.
//!
//! Guarantees:
//! * A cursor changes only by an operation with an originator and a reason, which is durable in the
//!   journal before the response.
//! * A fetch of the read in progress continues and does not undo the change: it moves the cursor
//!   again only when it reaches the page that the cursor was set to.
//!
//! Does not guarantee that pages between the old position and a later one are read: setting a
//! cursor ahead skips them.

use chrono::DateTime;
use forebay_schemas::event::Recorded;

use forebay_schemas::pipeline::{Body, FetcherSection, Method, NextPage, Paging, Pipeline, Place, QueryValue, WindowSection};
use forebay_schemas::run::RunSpec;
use forebay_schemas::source_read::{MAX_CURSOR_BYTES, Position, Read, ReadParams, quote_cursor};
use uuid::Uuid;

use crate::data_dir::journal_dir;
use crate::journal::JournalError;
use crate::ledger::{Command, Cursors, LedgerError, Rejection, Watermarks, fold};

/// A planned change of the cursor of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorChange {
    /// The read.
    pub read: Read,
    /// The present position.
    pub from: Position,
    /// The new position.
    pub to: Position,
    /// The cursor of its first page, from the file.
    start: Option<String>,
}

/// Why a cursor can't be set.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The source has no cursors.
    #[error("the pipeline file has no [fetcher.paging], so its reads have no cursor")]
    NoCursors,
    /// No run can have these params.
    #[error("{0}")]
    Params(String),
    /// The cursor is empty or too long.
    #[error("the cursor has {0} bytes; a cursor has 1 to {MAX_CURSOR_BYTES}")]
    Length(usize),
    /// The cursor is not of the kind of the source's paging.
    #[error("{0}")]
    Kind(String),
    /// The ledger rejects it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl CursorChange {
    /// Plans to set the cursor of the read with these params. Changes nothing.
    ///
    /// # Errors
    /// When the source has no cursors, no run can have these params, or the cursor is invalid.
    pub fn plan(pipeline: &Pipeline, cursors: &Cursors, params: &ReadParams, to: Position) -> Result<Self, CursorError> {
        let paging = paging(pipeline).ok_or(CursorError::NoCursors)?;
        let ReadParams { values, window, .. } = params;
        let spec = RunSpec { params: values.clone(), window: *window, ..RunSpec::default() };
        spec.check().map_err(|error| CursorError::Params(error.to_string()))?;
        let section = pipeline.fetcher.as_ref().ok_or(CursorError::NoCursors)?;
        section.check_window(*window).map_err(CursorError::Params)?;
        let allowed = section.params.as_slice();
        if let Some(param) = values.keys().find(|param| !allowed.contains(param)) {
            let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            return Err(CursorError::Params(format!(
                "no run can set {param:?}, so there is no such read; [fetcher] params allows: {allowed}"
            )));
        }
        if let Some(length) = to.cursor().map(str::len).filter(|length| !(1..=MAX_CURSOR_BYTES).contains(length)) {
            return Err(CursorError::Length(length));
        }
        if let Some(cursor) = to.cursor().filter(|cursor| paging.next.is_counted() && cursor.parse::<u64>().is_err()) {
            let what = paging.next.carries().unwrap_or("page");
            return Err(CursorError::Kind(format!(
                "the pages of this source are counted, and {} is no {what}; write a number",
                quote_cursor(cursor)
            )));
        }
        let read = Read::in_window(values, *window);
        Ok(Self { from: cursors.position(&read), read, to, start: paging.start })
    }

    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        self.from != self.to
    }

    /// Its effects, one line each, for display.
    pub fn effects(&self) -> Vec<String> {
        let Self { read, from, to, start } = self;
        if !self.changes() {
            return vec![format!("nothing: the read of {read} is at {from} already")];
        }
        let next = match (to, start) {
            (Position::Begin, Some(start)) => format!("its next fetch requests the first page, with {}", quote_cursor(start)),
            (Position::Begin, None) => "its next fetch requests the first page, without a cursor".to_owned(),
            (Position::Cursor(_), _) => format!("its next fetch continues at {to}; unread pages before that are skipped"),
        };
        vec![
            format!("the read of {read}: from {from} to {to}"),
            next,
            "a fetch of it in progress continues, and leaves the cursor as set".to_owned(),
        ]
    }
}

/// The UUID namespace of sources.
const SOURCE_NAMESPACE: Uuid = Uuid::from_u128(0x3b7e_9a02_54c1_4f1d_8e6a_90d7_21c5_bf38);

/// The identity of a source that is read in pages or by a watermark: a hash of its URL with the
/// file's query, of the rest of its request, of how it paginates, and of the field with the
/// watermark. The hash hides secrets.
pub(crate) fn source_of(pipeline: &Pipeline) -> Option<String> {
    let section = pipeline.fetcher.as_ref()?;
    let (paging, incremental) = (section.paging(), section.incremental.as_ref());
    if paging.is_none() && incremental.is_none() && !section.conditional {
        return None;
    }
    let mut address = section.url.reveal().clone();
    address.set_fragment(None);
    let paging = paging.as_ref().map(identity).unwrap_or_default();
    let incremental = incremental.map(|section| format!("\nincremental {} {}", section.field, section.format.as_str())).unwrap_or_default();
    let text = format!("{address}\n{paging}{incremental}{}", request_identity(section));
    Some(Uuid::new_v5(&SOURCE_NAMESPACE, text.as_bytes()).simple().to_string())
}

/// The identity of what `[fetcher]` requests, however it paginates. The hash hides secrets.
pub(crate) fn requested_source(section: &FetcherSection) -> String {
    let mut address = section.url.reveal().clone();
    address.set_fragment(None);
    let text = format!("{address}\n{}{}", section.records.pointer(), request_identity(section));
    Uuid::new_v5(&SOURCE_NAMESPACE, text.as_bytes()).simple().to_string()
}

/// How a source paginates, as far as positions of another way mean nothing to it. A cursor in the
/// body that is sent as a parameter has the text of the versions that knew nothing else.
fn identity(paging: &Paging) -> String {
    let param = paging.param.as_deref().unwrap_or_default();
    let size = paging.size.map(|size| size.to_string()).unwrap_or_default();
    match &paging.next {
        NextPage::Cursor(Place::Body(next)) => format!("{next}\n{param}"),
        NextPage::Cursor(Place::Header(place)) => format!("header {}\n{param}", place.header),
        NextPage::Url(next) => format!("next_url\n{next}"),
        NextPage::Link => "link".to_owned(),
        NextPage::Page { start, step } => format!("page\n{param}\n{start}\n{step}\n{size}"),
        NextPage::Offset => format!("offset\n{param}"),
        NextPage::LastRecord(last) => format!("last_record\n{last}\n{param}"),
    }
}

/// What a request has besides its URL, apart from its headers and its secrets.
fn request_identity(section: &FetcherSection) -> String {
    let query: String = section
        .query
        .iter()
        .map(|(name, value)| match value {
            QueryValue::Secret(_) => format!("\nquery {name:?} is secret"),
            value => format!("\nquery {name:?} {value:?}"),
        })
        .collect();
    let body = match &section.body {
        Some(Body::Text(text)) => format!("\nbody {text}"),
        Some(Body::Table(table)) => format!("\nbody {table}"),
        None => String::new(),
    };
    let method = if section.method == Method::Get { "" } else { "\nPOST" };
    let window = section.window.filter(|window| *window != WindowSection::default());
    let window = window.map(|window| format!("\nwindow {}", window.format.as_str())).unwrap_or_default();
    format!("{query}{method}{body}{window}")
}

/// The cursors and the watermarks in the journal of a pipeline that does not run.
///
/// # Errors
/// When the journal can't be read.
pub fn kept(pipeline: &Pipeline) -> Result<(Cursors, Watermarks), LedgerError> {
    let mut state = fold(&journal_dir(pipeline), u64::MAX)?;
    // As the next start would have them.
    let named = source_of(pipeline).map(|source| state.decide(Command::NameSource { source }));
    for event in named.transpose().ok().flatten().unwrap_or_default() {
        state.evolve(&Recorded::new(state.seq + 1, DateTime::UNIX_EPOCH, event));
    }
    Ok((state.cursors, state.watermarks))
}

fn paging(pipeline: &Pipeline) -> Option<Paging> {
    pipeline.fetcher.as_ref()?.paging()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn pipeline(url: &str, next: &str) -> Pipeline {
        let text = format!(
            "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[fetcher]\nurl = \"{url}\"\nparams = [\"day\"]\n\
             cursor = {{ next = \"{next}\", param = \"since\", start = \"0\" }}\n[producer]\nkey = \"/id\"\n"
        );
        forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap()
    }

    #[test]
    fn a_source_is_its_url_and_cursor_location_as_a_hash() {
        let source = |url, next| source_of(&pipeline(url, next)).unwrap();
        let one = source("http://api.example/users?limit=10", "/next");
        assert_eq!(one, source("http://api.example/users?limit=10#top", "/next"));
        for other in [source("http://api.example/users?limit=20", "/next"), source("http://api.example/users?limit=10", "/info/next")] {
            assert_ne!(one, other);
        }
        assert!(!one.contains("api"), "{one}");
    }

    #[test]
    fn a_source_is_also_its_request_and_its_kind_of_paging_and_the_older_spelling_is_the_same() {
        let source = |lines: &str| {
            let text = format!(
                "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[producer]\nkey = \"/id\"\n[fetcher]\n\
                 url = \"http://api.example/users?limit=10\"\n{lines}\n"
            );
            source_of(&forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap_or_else(|error| panic!("{lines}: {error}")))
        };
        let old = source("cursor = { next = \"/next\", param = \"since\", start = \"0\" }").unwrap();
        assert_eq!(old, "a4739d901c325f3a87d8f2e072029674", "the identity of versions that knew nothing else");
        let new = "paging = { kind = \"cursor\", next = \"/next\", param = \"since\" }";
        assert_eq!(source(new).unwrap(), old);
        let others = [
            "paging = { kind = \"page\", param = \"since\" }",
            "paging = { kind = \"offset\", param = \"since\" }",
            "paging = { kind = \"link\" }",
            "paging = { kind = \"next_url\", next = \"/next\" }",
            "paging = { kind = \"last_record\", last = \"/next\", param = \"since\" }",
        ];
        let mut all: Vec<_> = others.iter().map(|lines| source(lines).unwrap()).collect();
        all.push(source(&format!("query = {{ q = \"x\" }}\n{new}")).unwrap());
        all.push(source(&format!("method = \"POST\"\nbody = {{ q = \"x\" }}\n{new}")).unwrap());
        let windows = "query = { day = \"{{ window.start }}\" }";
        all.push(source(&format!("{windows}\n{new}")).unwrap());
        all.push(source(&format!("{windows}\nwindow = {{ format = \"date\" }}\n{new}")).unwrap());
        all.push(old);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10);
        assert_eq!(source(""), None);
        let secret = |variable: &str| source(&format!("query = {{ key = {{ env = \"{variable}\" }} }}\n{new}")).unwrap();
        assert_eq!(secret("A"), secret("B"), "another key is the same source");
    }

    #[test]
    fn a_counted_page_is_set_to_a_number_only() {
        let text = "[pipeline]\nname = \"users\"\n[kafka]\nbootstrap = \"embedded\"\ntopic = \"t\"\n[producer]\nkey = \"/id\"\n[fetcher]\n\
                    url = \"http://api.example/\"\npaging = { kind = \"page\", param = \"p\" }\n";
        let pipeline = forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text.to_owned()).unwrap();
        let plan = |to: &str| CursorChange::plan(&pipeline, &Cursors::default(), &ReadParams::default(), Position::of(Some(to)));
        assert!(plan("7").is_ok());
        assert!(matches!(plan("seven"), Err(CursorError::Kind(why)) if why.contains("write a number")));
    }

    #[test]
    fn effects_are_described_and_a_read_of_no_run_is_rejected() {
        let pipeline = pipeline("http://api.example/", "/next");
        let params = |name: &str| ReadParams::from(BTreeMap::from([(name.to_owned(), "1".to_owned())]));
        let plan = |params: ReadParams, to: Option<&str>| CursorChange::plan(&pipeline, &Cursors::default(), &params, Position::of(to));
        let set = plan(params("day"), Some("300")).unwrap();
        assert!(set.changes() && set.effects()[0] == "the read of day=1: from the start to cursor \"300\"", "{set:?}");
        let nothing = plan(params("day"), None).unwrap();
        assert!(!nothing.changes() && nothing.effects() == ["nothing: the read of day=1 is at the start already"], "{nothing:?}");
        assert!(matches!(plan(params("nat"), None), Err(CursorError::Params(_))));
        assert!(matches!(plan(params("day"), Some("")), Err(CursorError::Length(0))));
    }
}
