//! Models of APIs that give only what is new: records with a mark that says when they changed, and
//! one answer with validators.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::DateTime;
use forebay_schemas::pipeline::{HumanDuration, IncrementalSection, OverlapValue};
use forebay_schemas::source_read::Validators;
use forebay_schemas::watermark::{Mark, MarkFormat};
use rand::Rng;
use rand::rngs::StdRng;

use super::api::{Api, Content, READS};

/// The records of each read; the key of each is its number.
const RECORDS: u16 = 8;
/// The overlap, where there is one, in milliseconds.
const OVERLAP_MS: i64 = 3_000;

/// How an API gives its records.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In one page, any records.
    Page,
    /// In pages, each with the cursor of the next one.
    Cursors,
    /// As `Cursors`, from a mark on.
    Incremental(IncrementalSection),
    /// In one page, or it says that nothing has changed.
    Conditional,
}

impl Source {
    /// An incremental one. `roll` is random.
    pub(super) fn incremental(roll: u64) -> Self {
        let overlap = if roll.is_multiple_of(4) { 0 } else { OVERLAP_MS.unsigned_abs() };
        let param_format = if (roll / 12).is_multiple_of(2) { MarkFormat::Unix } else { MarkFormat::UnixMs };
        Self::Incremental(IncrementalSection {
            field: "/at".to_owned(),
            param: Some("since".to_owned()),
            start: None,
            overlap: Some(OverlapValue::Time(HumanDuration(Duration::from_millis(overlap)))),
            format: MarkFormat::UnixMs,
            param_format: Some(param_format),
        })
    }

    pub(super) fn is_incremental(&self) -> bool {
        matches!(self, Self::Incremental(_))
    }

    /// Whether it has the cursors of the API in `api`.
    pub(super) fn has_cursors(&self) -> bool {
        matches!(self, Self::Cursors)
    }

    /// Whether it gives only what is new.
    pub(super) fn changes(&self) -> bool {
        matches!(self, Self::Incremental(_) | Self::Conditional)
    }
}

/// The order in which an API gives its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Rising,
    Falling,
    ById,
}

/// The version of a record that the API shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version {
    pub(super) content: Content,
    id: u16,
    /// When it changed, as it says, in milliseconds.
    mark: i64,
    /// Since when it is shown.
    pub(super) shown: i64,
}

impl Version {
    pub(super) fn mark(&self) -> Mark {
        Mark::Time(DateTime::from_timestamp_millis(self.mark).expect("a time of these years is a date"))
    }
}

/// A cursor of the incremental API: what was asked, and the last record before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) asked: String,
    after: (i64, u16),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.asked, self.after.0, self.after.1)
    }
}

impl Cursor {
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split('/');
        let mut part = || parts.next().expect("a cursor of this API has three parts");
        let asked = part().to_owned();
        let mut number = || part().parse::<i64>().expect("a cursor of this API has two numbers");
        Self { asked, after: (number(), number() as u16) }
    }
}

/// The records of an incremental API, and the answers of a conditional one.
#[derive(Debug)]
pub(super) struct Changes {
    order: Order,
    /// By how much a version may say that it changed before it is shown; 0 where there is no
    /// overlap.
    late: i64,
    /// Whether marks are whole seconds.
    is_coarse: bool,
    records: [BTreeMap<u16, Version>; READS],
    answers: [Answers; READS],
    /// Whether answers have a `Last-Modified` in place of an `ETag`.
    has_times: bool,
}

/// The answers that a conditional read has had.
#[derive(Debug)]
struct Answers {
    all: Vec<Vec<Content>>,
    /// The number of the one that it has now.
    current: usize,
    /// Since when, in milliseconds.
    since: i64,
}

impl Changes {
    /// `roll` is random.
    pub(super) fn new(source: &Source, roll: u64) -> Self {
        let order = [Order::Rising, Order::Falling, Order::ById][(roll / 4 % 3) as usize];
        let has_overlap = matches!(source, Source::Incremental(IncrementalSection { overlap: Some(OverlapValue::Time(overlap)), .. }) if !overlap.0.is_zero());
        let late = if has_overlap { OVERLAP_MS - 1_000 } else { 0 };
        Self {
            order,
            late,
            is_coarse: has_overlap && roll.is_multiple_of(2),
            records: Default::default(),
            answers: std::array::from_fn(|_| Answers { all: vec![Vec::new()], current: 0, since: 0 }),
            has_times: roll.is_multiple_of(2),
        }
    }

    /// Some records of a read change, or are new.
    pub(super) fn change(&mut self, source: &Source, api: &mut Api, now: i64, rng: &mut StdRng) {
        let read = rng.random_range(0..READS);
        if !source.is_incremental() {
            return self.answers[read].change(api, now, rng);
        }
        // Some time ago, or in the future.
        let mark = if rng.random_ratio(1, 10) { now + rng.random_range(1..600_000) } else { now - rng.random_range(0..=self.late) };
        let mark = if self.is_coarse { mark - mark.rem_euclid(1_000) } else { mark };
        for _ in 0..rng.random_range(1..=3) {
            let id = rng.random_range(0..RECORDS);
            self.records[read].insert(id, Version { content: api.record(id, rng), id, mark, shown: now });
        }
    }

    fn key(&self, version: &Version) -> (i64, u16) {
        match self.order {
            Order::Rising => (version.mark, version.id),
            Order::Falling => (-version.mark, version.id),
            Order::ById => (0, version.id),
        }
    }

    /// The page of a read at a cursor, of the records from `asked` on, and the cursor of the next
    /// one.
    pub(super) fn page(
        &self,
        read: usize,
        asked: Option<&str>,
        cursor: Option<&Cursor>,
        format: MarkFormat,
        most: usize,
    ) -> (Vec<Version>, Option<Cursor>) {
        let from = asked.map(|asked| format.read(asked).expect("a request asks from a time"));
        let mut found: Vec<_> = self.records[read]
            .values()
            .filter(|version| from.is_none_or(|from| version.mark() >= from))
            .map(|version| (self.key(version), *version))
            .collect();
        found.retain(|(key, _)| cursor.is_none_or(|cursor| *key > cursor.after));
        found.sort_unstable_by_key(|(key, _)| *key);
        let has_more = found.len() > most;
        found.truncate(most);
        let next =
            found.last().filter(|_| has_more).map(|(after, _)| Cursor { asked: asked.unwrap_or_default().to_owned(), after: *after });
        (found.into_iter().map(|(_, version)| version).collect(), next)
    }

    /// The records of a read as they are now.
    pub(super) fn current(&self, read: usize) -> impl Iterator<Item = &Version> {
        self.records[read].values()
    }

    /// The answer of a read as it is now.
    pub(super) fn answer(&self, read: usize) -> &[Content] {
        let Answers { all, current, .. } = &self.answers[read];
        &all[*current]
    }

    /// What that answer says of itself in its headers: its `ETag`, or its `Last-Modified`, and its
    /// `Date`.
    pub(super) fn headers(&self, read: usize, now: i64) -> (Option<String>, Option<String>, String) {
        let Answers { current, since, .. } = &self.answers[read];
        let modified = self.has_times.then(|| http_date(*since));
        ((!self.has_times).then(|| current.to_string()), modified, http_date(now))
    }

    /// Whether that answer has not changed since one with these validators.
    pub(super) fn is_unchanged(&self, read: usize, known: &Validators) -> bool {
        let (etag, last_modified, _) = self.headers(read, 0);
        *known == Validators { etag, last_modified }
    }
}

impl Answers {
    /// Another answer, perhaps one that it had before, which then has the same `ETag`.
    fn change(&mut self, api: &mut Api, now: i64, rng: &mut StdRng) {
        self.since = now;
        let last = self.all.len() - 1;
        if last > 1 && rng.random_ratio(3, 4) {
            self.current = if self.current == last { last - 1 } else { last };
            return;
        }
        let mut records = self.all[self.current].clone();
        // One record changes with each answer, and another one does too.
        for id in [0, rng.random_range(1..RECORDS)] {
            records.retain(|record| record.key != Some(id));
            records.push(api.record(id, rng));
        }
        self.current = self.all.len();
        self.all.push(records);
    }
}

fn http_date(ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(ms).expect("a time of these years is a date");
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
