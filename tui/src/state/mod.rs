//! What the view knows: a fold over looks, events, answers and keys.
//!
//! Guarantee: pure; the same looks, events, keys and moments give the same model. It has no terminal, no clock (moments are passed in), no
//! input or output (what it wants done it leaves as an [`Effect`]) and bounded memory: a window of looks, five minutes of samples, 50,000
//! events, 2,000 log lines. Not guaranteed: that rates mean anything across a restart of the process; they begin anew.

mod act;
mod findings;
mod folded;
mod history;
mod lists;
pub(crate) mod logs;
pub(crate) mod operate;
pub(crate) mod prompt;
mod samples;
mod screen;
mod stages;
pub(crate) mod timeline;
mod travel;
pub(crate) mod world;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use forebay_schemas::api::{BatchTrace, DeadLetters, Logs, Plan, PlanRequest, RecordView, Records, Role, WhoAmI};
use forebay_schemas::event::Recorded;
use forebay_schemas::snapshot::{ActorState, Snapshot};

pub(crate) use act::Action;
pub(crate) use findings::{Finding, findings, plain_findings};
pub(crate) use folded::{Folded, Pressure, Trend, downstream, progress};
pub(crate) use history::{Point, span};
pub(crate) use lists::batch_took;
pub(crate) use logs::{Break, Held, LogBook};
use operate::{Dialog, Order, Permission, Planned};
use prompt::Prompt;
use samples::Samples;
pub(crate) use screen::{List, RowId, Screen};
pub(crate) use stages::{Stage, stages};
use timeline::Timeline;
pub(crate) use travel::{Then, blank, way_of};
use world::World;

/// A source that has said nothing for so long is stale: four looks missed.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// The most records that are held.
const MOST_RECORDS: usize = 500;

/// Where what is shown comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Kind {
    /// A running process.
    #[default]
    Process,
    /// A folder of events, whether somebody writes it or not.
    Folder,
    /// A recording, so many times as fast as it was.
    Recording(f64),
}

/// Something new.
#[derive(Debug)]
pub(crate) enum Update {
    /// A look at the pipeline.
    Look(Arc<Snapshot>),
    /// Events, in sequence.
    Events(Vec<Arc<Recorded>>),
    /// The events begin anew: it is another journal.
    Anew,
    /// The source failed; it is asked again.
    Trouble(String),
    /// An answer of the API.
    Answer(Answer),
    /// A recording is over.
    Over,
}

/// What is asked of the API.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    WhoAmI,
    Batch(u64),
    Records,
    Letters,
    /// Those after a line.
    Logs(u64),
    /// Of a pipeline.
    Plan(String, PlanRequest),
    /// Something that changes the pipeline; it has passed the gate.
    Order(Order),
}

/// What the API answered.
#[derive(Debug)]
pub(crate) enum Answer {
    WhoAmI(Result<WhoAmI, String>),
    Batch(u64, Result<Box<BatchTrace>, String>),
    Records(Result<Records, String>),
    Letters(Result<Box<DeadLetters>, String>),
    Logs(Result<Logs, String>),
    Plan(Result<Box<Plan>, String>),
    /// What came of an operation, in a line.
    Order(Result<String, String>),
}

/// What is to be done outside the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Ask(Question),
    /// To the clipboard of the terminal.
    Copy(String),
    /// A file, and what it is to hold.
    Save(String, String),
    Redraw,
    Theme(String),
    /// Look at once, not after the pause of a failing source.
    Reconnect,
    Mouse(bool),
}

/// How fresh the newest look is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// There was no look yet; why, if the source said.
    Connecting(Option<String>),
    Live,
    /// The newest look is so old; why, if the source said.
    Stale(Duration, Option<String>),
}

/// What the API answered, as far as it is shown.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) trace: Option<(u64, Result<Box<BatchTrace>, String>)>,
    /// Newest first.
    pub(crate) records: VecDeque<RecordView>,
    pub(crate) records_trouble: Option<String>,
    pub(crate) letters: Option<Result<Box<DeadLetters>, String>>,
    /// The dead letters of the pipeline when they were asked for.
    letters_of: u64,
    pub(crate) logs: LogBook,
    /// Whether a look came since records were asked for: they are asked for once a look at most.
    records_due: bool,
    /// Whether records, letters were asked for and did not come yet.
    records_asked: bool,
    letters_asked: bool,
}

/// A line that is said once, until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) good: bool,
}

/// How the rows of a list are put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    pub(crate) by: usize,
    pub(crate) reverse: bool,
}

/// Everything the view draws from.
#[derive(Debug, Default)]
pub(crate) struct Model {
    kind: Kind,
    /// Whether there is an API to ask.
    asks: bool,
    seen: Folded,
    samples: Samples,
    timeline: Timeline,
    then: Option<Box<Then>>,
    heard: Option<Instant>,
    trouble: Option<String>,
    over: bool,
    operate: bool,
    /// Whether what is answered is recorded, so that log lines are read on every screen.
    pub(crate) recorded: bool,
    role: Option<Role>,
    pub(crate) answers: Answers,

    pub(crate) screen: Screen,
    focus: usize,
    selected: [Option<RowId>; List::COUNT],
    /// Where the selected row was, for when it goes.
    places: [usize; List::COUNT],
    sorts: [Sort; List::COUNT],
    filters: [String; List::COUNT],
    matches: lists::Matches,
    pub(crate) follow: bool,
    pub(crate) pages: Vec<RowId>,
    pub(crate) scroll: usize,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) dialog: Option<Dialog>,
    pub(crate) help: Option<usize>,
    pub(crate) said: Option<Said>,
    pub(crate) marker: Option<u64>,
    mouse: bool,
    effects: Vec<Effect>,
    pub(crate) quit: bool,
}

impl Model {
    /// Of a source; `asks` when there is an API to ask, `operate` when whoever looks wants to change things.
    pub(crate) fn new(kind: Kind, asks: bool, operate: bool) -> Self {
        let mut model = Self { kind, asks, operate, follow: true, ..Self::default() };
        if asks && operate {
            model.effects.push(Effect::Ask(Question::WhoAmI));
        }
        model
    }

    /// Something came.
    pub(crate) fn update(&mut self, update: Update, now: Instant) {
        match update {
            Update::Look(look) => self.look(look, now),
            Update::Events(events) => self.events(&events, now),
            Update::Anew => {
                self.timeline = Timeline::default();
                self.matches = lists::Matches::default();
                self.marker = None;
                // What was answered was of the pipeline before; what is asked for is still to come.
                let Answers { letters_of, records_asked, letters_asked, .. } = self.answers;
                self.answers = Answers { letters_of, records_asked, letters_asked, ..Answers::default() };
                if self.kind == Kind::Folder {
                    self.seen = Folded::default();
                }
            }
            Update::Trouble(why) => self.trouble = Some(why),
            Update::Answer(answer) => self.answer(answer),
            Update::Over => self.over = true,
        }
        self.wants();
    }

    fn look(&mut self, look: Arc<Snapshot>, now: Instant) {
        self.samples.add(&look);
        self.seen.fold(look);
        (self.heard, self.trouble) = (Some(now), None);
        self.answers.logs.looked();
        self.answers.records_due = true;
    }

    fn events(&mut self, events: &[Arc<Recorded>], now: Instant) {
        let follows = self.follow && self.then.is_none();
        for event in events {
            if self.timeline.push(Arc::clone(event)) {
                let first = self.timeline.get(0).map_or(0, |first| first.seq);
                self.matches.saw(event, first);
                if self.kind == Kind::Folder {
                    self.look_at_head(false);
                }
            }
        }
        if self.kind == Kind::Folder {
            self.look_at_head(true);
            (self.heard, self.trouble) = (Some(now), None);
        }
        if follows {
            self.selected[List::Events as usize] = None;
        }
    }

    /// Where there are only events, looks are made of them: one a second of their time, and one after the last.
    fn look_at_head(&mut self, last: bool) {
        let head = self.timeline.head();
        let Some(at) = head.at else { return };
        let due = self.seen.newest().is_none_or(|newest| (at - newest.at).num_milliseconds().abs() >= 1_000);
        if due || last {
            let look = Arc::new(head.over(&blank(self.seen.newest(), head), head));
            self.samples.add(&look);
            self.seen.fold(look);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::WhoAmI(Ok(who)) => self.role = Some(who.role),
            Answer::WhoAmI(Err(why)) => self.say_bad(format!("the API did not say what you may do: {why}")),
            Answer::Batch(id, trace) => self.answers.trace = Some((id, trace)),
            Answer::Records(records) => {
                self.answers.records_asked = false;
                match records {
                    Ok(records) => self.answers.take_records(records),
                    Err(why) => self.answers.records_trouble = Some(why),
                }
            }
            Answer::Letters(letters) => {
                self.answers.letters_asked = false;
                self.answers.letters = Some(letters);
            }
            Answer::Logs(logs) => self.answers.logs.answered(logs),
            Answer::Plan(plan) => {
                if let Some(dialog) = &mut self.dialog {
                    dialog.planned = plan.map_or_else(Planned::Failed, |plan| Planned::Ready(*plan));
                }
            }
            Answer::Order(Ok(done)) => self.say(done),
            Answer::Order(Err(why)) => self.say_bad(why),
        }
    }

    /// Asks the API for what the screen needs and has not.
    pub(crate) fn wants(&mut self) {
        if !self.asks {
            return;
        }
        let page = self.pages.last().cloned();
        let mut asked = Vec::new();
        if let Some(RowId::Batch(id)) = page
            && self.answers.trace.as_ref().is_none_or(|(of, _)| *of != id)
        {
            // Its place is taken at once, so that it is asked for once.
            self.answers.trace = Some((id, Err("asked for".to_owned())));
            asked.push(Question::Batch(id));
        }
        let answers = &mut self.answers;
        let first = answers.records.is_empty() && answers.records_trouble.is_none();
        let news = first || (self.follow && self.then.is_none());
        if self.screen == Screen::Records && answers.records_due && !answers.records_asked && news {
            (answers.records_due, answers.records_asked) = (false, true);
            asked.push(Question::Records);
        }
        // Those that are there stay until newer ones come.
        let rejected = self.seen.newest().map_or(0, |look| look.totals.rejected);
        let wanted = answers.letters.is_none() || answers.letters_of != rejected;
        if self.screen == Screen::Letters && wanted && !answers.letters_asked {
            (answers.letters_asked, answers.letters_of) = (true, rejected);
            asked.push(Question::Letters);
        }
        if (self.screen == Screen::Logs || self.recorded)
            && let Some(after) = answers.logs.wants()
        {
            asked.push(Question::Logs(after));
        }
        self.effects.extend(asked.into_iter().map(Effect::Ask));
    }

    /// What is to be done, taken.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(crate) fn say(&mut self, text: String) {
        self.said = Some(Said { text, good: true });
    }

    pub(crate) fn say_bad(&mut self, text: String) {
        self.said = Some(Said { text, good: false });
    }

    /// How fresh the newest look is.
    pub(crate) fn link(&self, now: Instant) -> Link {
        let Some(heard) = self.heard else { return Link::Connecting(self.trouble.clone()) };
        let silent = now.saturating_duration_since(heard);
        let lives = silent < STALE_AFTER || self.kind != Kind::Process;
        if lives { Link::Live } else { Link::Stale(silent, self.trouble.clone()) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a recording is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether there is an API to ask.
    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// Whether the view was started to operate, and the role that the API said.
    pub(crate) fn permission(&self) -> Permission {
        Permission { operate: self.operate, role: self.role, live: self.then.is_none() && self.kind == Kind::Process }
    }

    /// What is on the screen: the newest looks, or those of the moment that was gone back to.
    pub(crate) fn shown(&self) -> &Folded {
        self.then.as_ref().map_or(&self.seen, |then| &then.folded)
    }

    /// The newest looks, whatever is shown.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.seen.newest()
    }

    /// The world at what is shown.
    pub(crate) fn world(&self) -> &World {
        self.then.as_ref().map_or_else(|| self.timeline.head(), |then| &then.world)
    }

    /// The moment that was gone back to; none when what is shown is now.
    pub(crate) fn then(&self) -> Option<&Then> {
        self.then.as_deref()
    }

    /// Whether the numbers that no event holds are those of the moment that is shown.
    pub(crate) fn measured(&self) -> bool {
        self.kind != Kind::Folder && self.then.as_ref().is_none_or(|then| then.measured)
    }

    /// The log lines up to there are those of what is shown; none when it is now.
    pub(crate) fn until(&self) -> Option<DateTime<Utc>> {
        self.then.as_ref().map(|then| then.until)
    }

    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// How many minutes of history are drawn.
    pub(crate) fn minutes(&self) -> i64 {
        self.shown().history().span() / 60
    }

    /// The looks, one a second, up to what is shown.
    pub(crate) fn sampled(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        let upto = self.then.as_ref().map(|then| then.at);
        self.samples.iter().filter(move |look| upto.is_none_or(|upto| look.at <= upto))
    }
}

impl Answers {
    fn take_records(&mut self, records: Records) {
        self.records_trouble = None;
        for record in records.records {
            let place = (record.partition, record.offset);
            if !self.records.iter().any(|have| (have.partition, have.offset) == place) {
                self.records.push_front(record);
            }
        }
        self.records.make_contiguous().sort_by_key(|record| std::cmp::Reverse((record.timestamp_ms, record.offset, record.partition)));
        self.records.truncate(MOST_RECORDS);
    }
}

/// How bad a state is; 0 is well.
pub(crate) fn badness(state: ActorState) -> u8 {
    match state {
        ActorState::Up => 0,
        ActorState::Waiting => 1,
        ActorState::Stuck => 2,
        ActorState::Restarting => 3,
        ActorState::Ended => 4,
    }
}
