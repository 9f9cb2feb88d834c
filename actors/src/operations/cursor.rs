//! CursorChange the cursor of a read by hand: where its next fetch begins.
//!
//! Guarantee: nothing moves but by an act that says who and why, which is in the journal before it is answered. A fetch of the read that is
//! under way goes on where it is and does not undo the act: it moves the cursor again only when it comes to the very page that the cursor
//! was set to. Not guaranteed: that pages between the old place and a later one are ever read; that is what setting a cursor ahead means.

use std::collections::BTreeMap;

use chrono::DateTime;
use forebay_schemas::event::Recorded;

use forebay_schemas::pipeline::{CursorSection, Pipeline};
use forebay_schemas::read::{MAX_CURSOR_BYTES, Position, Read, quote_cursor};
use forebay_schemas::run::RunSpec;
use reqwest::Url;
use uuid::Uuid;

use crate::data_dir::journal_dir;
use crate::journal::JournalError;
use crate::ledger::{Command, Cursors, LedgerError, Rejection, fold};

/// What is to become of the cursor of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorChange {
    /// The read.
    pub read: Read,
    /// Where it is.
    pub from: Position,
    /// Where it is to be.
    pub to: Position,
    /// What its first page is asked for with.
    start: Option<String>,
}

/// Why a cursor can't be set.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The source has none.
    #[error("the pipeline file has no [fetcher] cursor, so its source has no reads with one")]
    NoCursors,
    /// No fetch can be of that read.
    #[error("{0}")]
    Params(String),
    /// The cursor can't be one.
    #[error("the cursor has {0} bytes, and one has 1 to {MAX_CURSOR_BYTES}")]
    Length(usize),
    /// The ledger does not take it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The journal can't be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl CursorChange {
    /// What setting the cursor of the read with these params would do, where cursors are as they are. Nothing is done.
    ///
    /// # Errors
    /// When the source has no cursors, or it is none that a fetch of it can have.
    pub fn plan(pipeline: &Pipeline, cursors: &Cursors, params: &BTreeMap<String, String>, to: Position) -> Result<Self, CursorError> {
        let table = table(pipeline).ok_or(CursorError::NoCursors)?;
        let spec = RunSpec { params: params.clone(), ..RunSpec::default() };
        spec.check().map_err(|error| CursorError::Params(error.to_string()))?;
        let allowed = pipeline.fetcher.as_ref().map(|fetcher| fetcher.params.as_slice()).unwrap_or_default();
        if let Some(param) = params.keys().find(|param| !allowed.contains(param)) {
            let allowed = if allowed.is_empty() { "[fetcher] params names none".to_owned() } else { allowed.join(", ") };
            return Err(CursorError::Params(format!("no run can set {param:?}, so there is no such read; these can be set: {allowed}")));
        }
        if let Some(length) = to.cursor().map(str::len).filter(|length| !(1..=MAX_CURSOR_BYTES).contains(length)) {
            return Err(CursorError::Length(length));
        }
        let read = Read::of(params);
        Ok(Self { from: cursors.position(&read), read, to, start: table.start.clone() })
    }

    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        self.from != self.to
    }

    /// What it does, a line each, for a person.
    pub fn effects(&self) -> Vec<String> {
        let Self { read, from, to, start } = self;
        if !self.changes() {
            return vec![format!("nothing: the read of {read} is at {from} already")];
        }
        let next = match (to, start) {
            (Position::Begin, Some(start)) => format!("its next fetch asks for the first page, with {}", quote_cursor(start)),
            (Position::Begin, None) => "its next fetch asks for the first page, without a cursor".to_owned(),
            (Position::Cursor(_), _) => format!("its next fetch goes on at {to}; what lies before that and was not read stays unread"),
        };
        vec![
            format!("the read of {read}: from {from} to {to}"),
            next,
            "a fetch of it that is under way goes on where it is, and leaves the cursor there".to_owned(),
        ]
    }
}

/// The name space of the names of sources.
const SOURCE_NAMESPACE: Uuid = Uuid::from_u128(0x3b7e_9a02_54c1_4f1d_8e6a_90d7_21c5_bf38);

/// What the source is by which its cursors are kept, if it gives any: its address with the query that the file has, and how it gives
/// cursors. A hash, for there may be a secret in it; who may ask (user, password) is no part of it.
pub(crate) fn source_of(pipeline: &Pipeline) -> Option<String> {
    let (address, table) = (&pipeline.fetcher.as_ref()?.url, table(pipeline)?);
    let address = match Url::parse(address) {
        Ok(mut url) => {
            url.set_fragment(None);
            let _ = (url.set_username(""), url.set_password(None));
            url.to_string()
        }
        Err(_) => address.clone(),
    };
    Some(Uuid::new_v5(&SOURCE_NAMESPACE, format!("{address}\n{}\n{}", table.next, table.param).as_bytes()).simple().to_string())
}

/// Where each read of the file's source is, by the journal of a pipeline that does not run.
///
/// # Errors
/// When the journal can't be read.
pub fn kept(pipeline: &Pipeline) -> Result<Cursors, LedgerError> {
    let mut state = fold(&journal_dir(pipeline), u64::MAX)?;
    // As the next start would find it.
    let named = source_of(pipeline).map(|source| state.decide(Command::NameSource { source }));
    for event in named.transpose().ok().flatten().unwrap_or_default() {
        state.evolve(&Recorded::new(state.seq + 1, DateTime::UNIX_EPOCH, event));
    }
    Ok(state.cursors)
}

fn table(pipeline: &Pipeline) -> Option<&CursorSection> {
    pipeline.fetcher.as_ref()?.cursor.as_ref()
}

#[cfg(test)]
mod tests {
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
    fn a_source_is_its_address_and_how_it_gives_cursors_and_not_who_asks() {
        let source = |url, next| source_of(&pipeline(url, next)).unwrap();
        let one = source("http://api.example/users?limit=10", "/next");
        assert_eq!(one, source("http://me:secret@api.example/users?limit=10#top", "/next"));
        for other in [source("http://api.example/users?limit=20", "/next"), source("http://api.example/users?limit=10", "/info/next")] {
            assert_ne!(one, other);
        }
        assert!(!one.contains("api"), "{one}");
    }

    #[test]
    fn what_setting_a_cursor_would_do_is_said_and_what_no_run_can_read_is_refused() {
        let pipeline = pipeline("http://api.example/", "/next");
        let params = |name: &str| BTreeMap::from([(name.to_owned(), "1".to_owned())]);
        let plan = |params, to: Option<&str>| CursorChange::plan(&pipeline, &Cursors::default(), &params, Position::of(to));
        let set = plan(params("day"), Some("300")).unwrap();
        assert!(set.changes() && set.effects()[0] == "the read of day=1: from the start to cursor \"300\"", "{set:?}");
        let nothing = plan(params("day"), None).unwrap();
        assert!(!nothing.changes() && nothing.effects() == ["nothing: the read of day=1 is at the start already"], "{nothing:?}");
        assert!(matches!(plan(params("nat"), None), Err(CursorError::Params(_))));
        assert!(matches!(plan(params("day"), Some("")), Err(CursorError::Length(0))));
    }
}
