//! What keys do.
//!
//! Guarantee: a key changes the model at once and waits for nothing; what takes time is left as an [`Effect`]. Nothing here changes the
//! pipeline: an operation opens a dialog, and only what the dialog sends is asked of the API.

use forebay_schemas::api::DesiredState;
use forebay_schemas::snapshot::Snapshot;
use serde_json::{Value, json};

use super::operate::{Dialog, Operation};
use super::prompt::{self, Known, Line, Prompt, Stroke};
use super::travel::way_of;
use super::{Effect, Held, List, Model, Question, RowId, Screen};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    Help,
    Back,
    Enter,
    NextPanel,
    PreviousPanel,
    Show(Screen),
    /// So many rows on, or back.
    Move(isize),
    First,
    Last,
    Freeze,
    /// So many events on, or back.
    Step(isize),
    /// To the next batch, or the one before.
    StepBatch(bool),
    /// So many seconds on, or back.
    StepSeconds(i64),
    Live,
    /// To the moment of the selected row.
    Travel,
    Mark,
    ToMark,
    Filter,
    Palette,
    Sort,
    Reverse,
    Follow,
    Level,
    Copy,
    Export,
    Reconnect,
    Redraw,
    Mouse,
    Pause,
    Drain,
    Restart,
    Cancel,
    Redrive,
    Replay,
}

impl Model {
    /// Does what a key asks for.
    pub(crate) fn act(&mut self, action: Action) {
        self.said = None;
        if self.help.is_some() && self.act_on_help(action) {
            return;
        }
        let list = self.list();
        match action {
            Action::Quit => self.quit = true,
            Action::Help => self.help = Some(0),
            Action::Back => self.back(),
            Action::Enter => self.enter(),
            Action::NextPanel => self.panel(1),
            Action::PreviousPanel => self.panel(-1),
            Action::Show(screen) => self.show(screen),
            Action::Move(by) => self.move_by(by),
            Action::First => self.move_to(0),
            Action::Last => self.move_to(usize::MAX),
            Action::Freeze if self.then.is_some() => self.live(),
            Action::Freeze => self.freeze(),
            Action::Step(by) => self.step(by),
            Action::StepBatch(forward) => self.step_batch(forward),
            Action::StepSeconds(seconds) => self.step_seconds(seconds),
            Action::Live => {
                self.live();
                (self.selected[List::Events as usize], self.selected[List::Logs as usize]) = (None, None);
            }
            Action::Travel => self.travel(),
            Action::Mark => {
                self.marker = Some(self.then.as_ref().map_or(self.timeline.head().seq, |then| then.seq));
                self.say(format!(
                    "event {} is marked; ' goes back to it, and an event's page shows what changed since",
                    self.marker.unwrap_or(0)
                ));
            }
            Action::ToMark => match self.marker {
                Some(seq) => self.go_to(seq),
                None => self.say_bad("no event is marked; m marks one".to_owned()),
            },
            Action::Filter => self.prompt = Some(Prompt::Filter(Line::of(self.filter(list)))),
            Action::Palette => self.prompt = Some(Prompt::Palette(Line::default(), None)),
            Action::Sort => self.cycle_sort(list),
            Action::Reverse => self.reverse_sort(list),
            Action::Follow => {
                self.follow = !self.follow;
                if self.follow {
                    self.selected[list as usize] = None;
                    self.places[list as usize] = 0;
                } else {
                    self.selected[list as usize] = self.selected();
                }
            }
            Action::Level => self.answers.logs.cycle_level(),
            Action::Copy => match self.text_of_selected() {
                Some(text) => {
                    self.effects.push(Effect::Copy(text));
                    self.say("copied, where the terminal lets it (OSC 52)".to_owned());
                }
                None => self.say_bad("nothing is selected".to_owned()),
            },
            Action::Export => self.export(None),
            Action::Reconnect => self.effects.push(Effect::Reconnect),
            Action::Redraw => self.effects.push(Effect::Redraw),
            Action::Mouse => {
                self.mouse = !self.mouse;
                self.effects.push(Effect::Mouse(self.mouse));
                self.say(format!(
                    "the mouse is {}",
                    if self.mouse { "on: its wheel moves; % gives it back to the terminal" } else { "the terminal's" }
                ));
            }
            Action::Pause => {
                let running = self.seen.newest().is_none_or(|look| look.desired.state == DesiredState::Running);
                self.operate(Operation::State(if running { DesiredState::Paused } else { DesiredState::Running }));
            }
            Action::Drain => self.operate(Operation::State(DesiredState::Drained)),
            Action::Restart => match self.subject() {
                Some(RowId::Actor(path)) => self.operate(Operation::Restart(path)),
                _ => self.say_bad("select an actor first: 5".to_owned()),
            },
            Action::Cancel => match self.subject() {
                Some(RowId::Run(id)) => self.operate(Operation::Cancel(id)),
                _ => self.say_bad("select a run first: 6".to_owned()),
            },
            Action::Redrive => self.operate(Operation::Redrive(self.letter_ranges())),
            Action::Replay => self.prompt = Some(Prompt::Palette(Line::of("replay "), None)),
        }
        self.wants();
    }

    /// Keys while the help is shown; whether they are done with.
    fn act_on_help(&mut self, action: Action) -> bool {
        let Some(scroll) = self.help else { return false };
        match action {
            Action::Help | Action::Back | Action::Enter => self.help = None,
            Action::Move(by) => self.help = Some(scroll.saturating_add_signed(by).min(200)),
            Action::First => self.help = Some(0),
            Action::Quit | Action::Redraw => return false,
            _ => {
                self.help = None;
                return false;
            }
        }
        true
    }

    fn back(&mut self) {
        self.scroll = 0;
        if self.pages.pop().is_none() && !self.filter(self.list()).is_empty() {
            self.set_filter(self.list(), String::new());
        }
    }

    fn panel(&mut self, by: isize) {
        let lists = self.screen.lists().len();
        if lists > 1 {
            self.focus = self.focus.checked_add_signed(by).unwrap_or(lists - 1) % lists;
            return;
        }
        let at = Screen::ALL.iter().position(|screen| *screen == self.screen).unwrap_or(0);
        self.show(Screen::ALL[at.checked_add_signed(by).unwrap_or(Screen::ALL.len() - 1) % Screen::ALL.len()]);
    }

    fn move_by(&mut self, by: isize) {
        if self.pages.is_empty() {
            let list = self.list();
            self.select(list, self.cursor(list).saturating_add_signed(by));
        } else {
            self.scroll = self.scroll.saturating_add_signed(by).min(10_000);
        }
    }

    fn move_to(&mut self, row: usize) {
        if self.pages.is_empty() {
            self.select(self.list(), row);
        } else {
            self.scroll = row.min(10_000);
        }
    }

    /// Opens what is selected; from a page, what it leads to.
    fn enter(&mut self) {
        let next = match self.pages.last() {
            None => self.selected(),
            Some(RowId::Event(seq)) => {
                self.timeline.index_of(*seq).and_then(|index| self.timeline.get(index)).and_then(|event| leads_to(&event.event))
            }
            Some(RowId::Record(partition, offset)) => {
                way_of(&self.timeline, *partition, *offset).batch.and_then(|event| leads_to(&event.event))
            }
            Some(RowId::Letter(partition, offset)) => {
                let letter = self.letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (*partition, *offset));
                letter.and_then(|letter| letter.origin).map(|(partition, offset)| RowId::Record(partition, offset))
            }
            Some(RowId::Log(since, seq)) => self.answers.logs.find(*since, *seq).and_then(Held::leads_to),
            Some(_) => None,
        };
        if let Some(next) = next {
            self.open(next);
        }
    }

    /// Opens a page.
    pub(crate) fn open(&mut self, page: RowId) {
        self.scroll = 0;
        if self.pages.last() != Some(&page) && self.pages.len() < 32 {
            self.pages.push(page);
        }
    }

    /// What keys that need one thing act on: the page, or the selected row.
    pub(crate) fn subject(&self) -> Option<RowId> {
        self.pages.last().cloned().or_else(|| self.selected())
    }

    /// To the moment of what is selected.
    fn travel(&mut self) {
        use forebay_schemas::event::Event;
        let last = self.timeline.len();
        let newest = |timeline: &super::Timeline, wanted: &dyn Fn(&Event) -> bool| timeline.find(last, false, wanted);
        let place = match self.subject() {
            Some(RowId::Event(seq)) => self.timeline.index_of(seq),
            Some(RowId::Batch(id)) => newest(&self.timeline, &|event| matches!(event, Event::BatchWritten { batch, .. } if *batch == id)),
            Some(RowId::Run(id)) => newest(&self.timeline, &|event| event.run() == Some(id)),
            Some(RowId::Actor(path)) => newest(
                &self.timeline,
                &|event| matches!(event, Event::ChildExited { actor, .. } | Event::ChildStarted { actor, .. } | Event::ChildStuck { actor, .. } if *actor == path),
            ),
            Some(RowId::Record(partition, offset)) => {
                let way = way_of(&self.timeline, partition, offset);
                way.batch.or(way.page).and_then(|event| self.timeline.index_of(event.seq))
            }
            Some(RowId::Alert(name)) => {
                let since =
                    self.shown().newest().and_then(|look| look.alerts.iter().find(|alert| alert.name == name)).map(|alert| alert.since);
                since.and_then(|since| self.timeline.index_at(since))
            }
            Some(RowId::Log(since, seq)) => self.answers.logs.find(since, seq).and_then(|held| self.timeline.index_at(held.line.timestamp)),
            _ => None,
        };
        match place {
            Some(place) => self.go(place),
            None => self.say_bad("no event of it is held".to_owned()),
        }
    }

    fn letter_ranges(&self) -> Option<forebay_schemas::offset::Ranges> {
        let Some(RowId::Letter(partition, offset)) = self.pages.last() else { return None };
        let mut ranges = forebay_schemas::offset::Ranges::default();
        ranges.add(*partition, forebay_schemas::offset::Range { from: *offset, to: offset.saturating_add(1) });
        Some(ranges)
    }

    /// Opens the dialog of an operation, if the gate lets it.
    pub(crate) fn operate(&mut self, operation: Operation) {
        let pipeline = self.seen.newest().map(|look| look.pipeline.clone()).unwrap_or_default();
        match Dialog::open(operation, &pipeline, self.permission()) {
            Ok(dialog) => {
                if let Some(request) = dialog.operation.plan() {
                    self.effects.push(Effect::Ask(Question::Plan(dialog.pipeline.clone(), request)));
                }
                self.dialog = Some(dialog);
            }
            Err(why) => self.say_bad(why),
        }
    }

    /// Whether keys are typed into a line.
    pub(crate) fn types(&self) -> bool {
        self.prompt.is_some() || self.dialog.is_some()
    }

    /// A key for the line that is being typed.
    pub(crate) fn stroke(&mut self, stroke: Stroke) {
        self.said = None;
        if self.dialog.is_some() {
            self.stroke_dialog(stroke);
        } else {
            self.stroke_prompt(stroke);
        }
        self.wants();
    }

    fn stroke_dialog(&mut self, stroke: Stroke) {
        let permission = self.permission();
        let Some(dialog) = &mut self.dialog else { return };
        dialog.trouble = None;
        match stroke {
            Stroke::Escape => self.dialog = None,
            Stroke::Tab | Stroke::BackTab | Stroke::Up | Stroke::Down if dialog.operation.dangerous() => dialog.at_name = !dialog.at_name,
            Stroke::Enter if dialog.operation.dangerous() && !dialog.at_name => dialog.at_name = true,
            Stroke::Enter => match dialog.send(permission) {
                Ok(order) => {
                    self.effects.push(Effect::Ask(Question::Order(order)));
                    self.dialog = None;
                }
                Err(why) => dialog.trouble = Some(why),
            },
            stroke => dialog.line().stroke(stroke),
        }
    }

    fn stroke_prompt(&mut self, stroke: Stroke) {
        match (self.prompt.take(), stroke) {
            (None, _) => {}
            (Some(Prompt::Filter(_)), Stroke::Escape) => self.set_filter(self.list(), String::new()),
            (Some(Prompt::Palette(..)), Stroke::Escape) | (Some(Prompt::Filter(_)), Stroke::Enter) => {}
            (Some(Prompt::Filter(mut line)), stroke) => {
                line.stroke(stroke);
                // Rows are filtered as one types.
                self.set_filter(self.list(), line.text());
                self.prompt = Some(Prompt::Filter(line));
            }
            (Some(Prompt::Palette(line, chosen)), Stroke::Tab | Stroke::Down | Stroke::BackTab | Stroke::Up) => {
                let offers = prompt::complete(&line.text(), &self.known());
                let forward = matches!(stroke, Stroke::Tab | Stroke::Down);
                let chosen = match (chosen, offers.len()) {
                    (_, 0) => None,
                    (None, len) => Some(if forward { 0 } else { len - 1 }),
                    (Some(at), len) => Some((at + if forward { 1 } else { len - 1 }) % len),
                };
                // With one candidate there is nothing to choose.
                let line = if offers.len() == 1 { Line::of(&offers[0].0) } else { line };
                self.prompt = Some(Prompt::Palette(line, chosen.filter(|_| offers.len() > 1)));
            }
            (Some(Prompt::Palette(line, chosen)), Stroke::Enter) => {
                let known = self.known();
                let offered = chosen.and_then(|at| prompt::complete(&line.text(), &known).into_iter().nth(at)).map(|(text, _)| text);
                let text = offered.unwrap_or_else(|| line.text());
                match prompt::parse(&text, &known) {
                    Ok(None) => {}
                    Ok(Some(order)) => self.command(order),
                    Err(why) => {
                        self.say_bad(why);
                        self.prompt = Some(Prompt::Palette(Line::of(&text), None));
                    }
                }
            }
            (Some(Prompt::Palette(mut line, _)), stroke) => {
                line.stroke(stroke);
                self.prompt = Some(Prompt::Palette(line, None));
            }
        }
    }

    /// What the palette may complete.
    pub(crate) fn known(&self) -> Known {
        let Some(look) = self.shown().newest() else { return Known::default() };
        Known {
            actors: look.actors.iter().map(|actor| actor.path.clone()).collect(),
            runs: look.runs.iter().map(|run| (run.key.clone(), run.id)).collect(),
            batches: look.batches.iter().map(|batch| batch.id).collect(),
            partitions: look.partitions.iter().map(|view| view.partition).collect(),
        }
    }

    fn command(&mut self, order: prompt::Order) {
        match order {
            prompt::Order::Screen(screen) => self.show(screen),
            prompt::Order::Page(page) => self.open(page),
            prompt::Order::Event(seq) => self.go_to(seq),
            prompt::Order::At(time) => {
                let day = self.seen.newest().map(|look| look.at.date_naive());
                match day.and_then(|day| self.timeline.index_at(day.and_time(time).and_utc())) {
                    Some(index) => self.go(index),
                    None => self.say_bad("there are no events to go back to".to_owned()),
                }
            }
            prompt::Order::Live => self.live(),
            prompt::Order::Freeze => self.freeze(),
            prompt::Order::Filter(filter) => self.set_filter(self.list(), filter),
            prompt::Order::Theme(theme) => self.effects.push(Effect::Theme(theme)),
            prompt::Order::Export(file) => self.export(file),
            prompt::Order::Help => self.help = Some(0),
            prompt::Order::Quit => self.quit = true,
            prompt::Order::Operate(operation) => self.operate(operation),
        }
    }

    /// What is selected, as JSON.
    pub(crate) fn selected_json(&self) -> Option<Value> {
        let look = self.shown().newest()?;
        let events = |index: Option<usize>| {
            index.and_then(|index| self.timeline.get(index)).and_then(|event| serde_json::to_value(event.as_ref()).ok())
        };
        match self.subject()? {
            RowId::Partition(partition) => to_json(look.partitions.iter().find(|view| view.partition == partition)?),
            RowId::Actor(path) => to_json(look.actors.iter().find(|view| view.path == path)?),
            RowId::Run(id) => to_json(look.runs.iter().find(|run| run.id == id)?),
            RowId::Batch(id) => match &self.answers.trace {
                Some((of, Ok(trace))) if *of == id => to_json(trace),
                _ => to_json(look.batches.iter().find(|batch| batch.id == id)?),
            },
            RowId::Node(address) => to_json(look.store.as_ref()?.nodes.iter().find(|node| node.address == address)?),
            RowId::Record(partition, offset) => {
                to_json(self.answers.records.iter().find(|record| (record.partition, record.offset) == (partition, offset))?)
            }
            RowId::Letter(partition, offset) => {
                to_json(self.letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (partition, offset))?)
            }
            RowId::Event(seq) => events(self.timeline.index_of(seq)),
            RowId::Log(since, seq) => to_json(&self.answers.logs.find(since, seq)?.line),
            RowId::Alert(name) => to_json(look.alerts.iter().find(|alert| alert.name == name)?),
        }
    }

    /// What `c` copies: the identifier of what is selected, or all of it where that says more.
    fn text_of_selected(&self) -> Option<String> {
        Some(match self.subject()? {
            RowId::Actor(path) => path,
            RowId::Run(id) => id.to_string(),
            RowId::Node(address) => address,
            _ => self.selected_json()?.to_string(),
        })
    }

    /// Writes what is selected, and where it stands.
    fn export(&mut self, file: Option<String>) {
        let Some(selected) = self.selected_json() else { return self.say_bad("nothing is selected".to_owned()) };
        let look: Option<&Snapshot> = self.shown().newest();
        let seq = self.then.as_ref().map_or(self.timeline.head().seq, |then| then.seq);
        let title = self.subject().map(|id| id.title()).unwrap_or_default();
        let whole = json!({
            "pipeline": look.map(|look| look.pipeline.clone()),
            "at": self.then.as_ref().map_or_else(|| look.map(|look| look.at), |then| Some(then.at)),
            "seq": seq,
            "what": title,
            "selection": selected,
        });
        let name = file.unwrap_or_else(|| {
            let plain: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            format!("forebay-{plain}-at-{seq}.json")
        });
        self.effects.push(Effect::Save(name, format!("{whole:#}\n")));
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}

/// The page that an event leads to.
fn leads_to(event: &forebay_schemas::event::Event) -> Option<RowId> {
    use forebay_schemas::event::Event;
    match event {
        Event::BatchWritten { batch, .. } => Some(RowId::Batch(*batch)),
        Event::ChildStarted { actor, .. }
        | Event::ChildExited { actor, .. }
        | Event::ChildStuck { actor, .. }
        | Event::RestartScheduled { actor, .. } => Some(RowId::Actor(actor.clone())),
        event => event.run().map(RowId::Run),
    }
}
