//! What key presses and commands do.
//!
//! Guarantees:
//! * An action changes the model at once. Slow work is left as an [`Effect`].
//! * Nothing here changes the pipeline. An operation opens a dialog, and only the confirmed dialog
//!   becomes an API request.

use forebay_schemas::desired::DesiredState;
use forebay_schemas::snapshot::Snapshot;
use serde_json::{Value, json};

use super::line_editor::{EditKey, LineEditor};
use super::operation_dialog::{Dialog, Operation};
use super::prompt::{self, KnownNames, Prompt};
use super::time_travel::record_path;
use super::{ApiRequest, Effect, List, Model, RowId, Screen, StoredLine};

/// What a key press does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    Help,
    Back,
    Enter,
    NextPanel,
    PreviousPanel,
    Show(Screen),
    /// Moves by this many rows.
    Move(isize),
    First,
    Last,
    Freeze,
    /// Moves by this many events.
    Step(isize),
    /// Moves to the next batch, or to the previous one.
    StepBatch(bool),
    /// Moves by this many seconds.
    StepSeconds(i64),
    Live,
    /// Goes to the moment of the selected row.
    GoToSelected,
    Mark,
    GoToMark,
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
    /// Performs an action.
    pub(crate) fn perform(&mut self, action: Action) {
        self.message = None;
        if self.help.is_some() && self.perform_on_help(action) {
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
            Action::Freeze if self.frozen.is_some() => self.go_live(),
            Action::Freeze => self.freeze(),
            Action::Step(by) => self.step(by),
            Action::StepBatch(forward) => self.step_batch(forward),
            Action::StepSeconds(seconds) => self.step_seconds(seconds),
            Action::Live => {
                self.go_live();
                (self.selected[List::Events as usize], self.selected[List::Logs as usize]) = (None, None);
            }
            Action::GoToSelected => self.go_to_selected(),
            Action::Mark => {
                self.marker = Some(self.frozen.as_ref().map_or(self.timeline.head().seq, |frozen| frozen.seq));
                self.show_info(format!(
                    "event {} is marked; ' returns to it, and event details show what changed since",
                    self.marker.unwrap_or(0)
                ));
            }
            Action::GoToMark => match self.marker {
                Some(seq) => self.go_to_seq(seq),
                None => self.show_error("no event is marked; m marks the current one".to_owned()),
            },
            Action::Filter => self.prompt = Some(Prompt::Filter(LineEditor::new(self.filter(list)))),
            Action::Palette => self.prompt = Some(Prompt::Palette(LineEditor::default(), None)),
            Action::Sort => self.cycle_sort(list),
            Action::Reverse => self.reverse_sort(list),
            Action::Follow => {
                self.follow = !self.follow;
                if self.follow {
                    self.selected[list as usize] = None;
                    self.last_rows[list as usize] = 0;
                } else {
                    self.selected[list as usize] = self.selected();
                }
            }
            Action::Level => self.api_data.logs.cycle_level(),
            Action::Copy => match self.text_of_selected() {
                Some(text) => {
                    self.effects.push(Effect::Copy(text));
                    self.show_info("copied, if the terminal supports OSC 52".to_owned());
                }
                None => self.show_error("nothing is selected".to_owned()),
            },
            Action::Export => self.export(None),
            Action::Reconnect => self.effects.push(Effect::Reconnect),
            Action::Redraw => self.effects.push(Effect::Redraw),
            Action::Mouse => {
                self.mouse = !self.mouse;
                self.effects.push(Effect::Mouse(self.mouse));
                let state = if self.mouse {
                    "the mouse wheel scrolls; % gives the mouse back to the terminal"
                } else {
                    "the mouse belongs to the terminal"
                };
                self.show_info(state.to_owned());
            }
            Action::Pause => {
                let running = self.live_window.newest().is_none_or(|snapshot| snapshot.desired.state == DesiredState::Running);
                self.operate(Operation::State(if running { DesiredState::Paused } else { DesiredState::Running }));
            }
            Action::Drain => self.operate(Operation::State(DesiredState::Drained)),
            Action::Restart => match self.subject() {
                Some(RowId::Actor(path)) => self.operate(Operation::Restart(path)),
                _ => self.show_error("select an actor first (5)".to_owned()),
            },
            Action::Cancel => match self.subject() {
                Some(RowId::Run(id)) => self.operate(Operation::Cancel(id)),
                _ => self.show_error("select a run first (6)".to_owned()),
            },
            Action::Redrive => self.operate(Operation::Redrive(self.dead_letter_range())),
            Action::Replay => self.prompt = Some(Prompt::Palette(LineEditor::new("replay "), None)),
        }
        self.request_missing_data();
    }

    /// Handles a key while the help is shown. Returns whether it was consumed.
    fn perform_on_help(&mut self, action: Action) -> bool {
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
        if self.details.pop().is_none() && !self.filter(self.list()).is_empty() {
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
        if self.details.is_empty() {
            let list = self.list();
            self.select(list, self.cursor(list).saturating_add_signed(by));
        } else {
            self.scroll = self.scroll.saturating_add_signed(by).min(10_000);
        }
    }

    fn move_to(&mut self, row: usize) {
        if self.details.is_empty() {
            self.select(self.list(), row);
        } else {
            self.scroll = row.min(10_000);
        }
    }

    /// Opens the selected row; in a detail view, what it links to.
    fn enter(&mut self) {
        let next = match self.details.last() {
            None => self.selected(),
            Some(RowId::Event(seq)) => {
                self.timeline.index_of(*seq).and_then(|index| self.timeline.get(index)).and_then(|event| linked_detail(&event.event))
            }
            Some(RowId::Record(partition, offset)) => {
                record_path(&self.timeline, *partition, *offset).batch.and_then(|event| linked_detail(&event.event))
            }
            Some(RowId::DeadLetter(partition, offset)) => {
                let letter =
                    self.dead_letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (*partition, *offset));
                letter.and_then(|letter| letter.origin).map(|(partition, offset)| RowId::Record(partition, offset))
            }
            Some(RowId::Log(since, seq)) => self.api_data.logs.find(*since, *seq).and_then(StoredLine::linked_detail),
            Some(_) => None,
        };
        if let Some(next) = next {
            self.open(next);
        }
    }

    /// Opens a detail view.
    pub(crate) fn open(&mut self, page: RowId) {
        self.scroll = 0;
        if self.details.last() != Some(&page) && self.details.len() < 32 {
            self.details.push(page);
        }
    }

    /// What an action applies to: the open detail view, or the selected row.
    pub(crate) fn subject(&self) -> Option<RowId> {
        self.details.last().cloned().or_else(|| self.selected())
    }

    /// Goes to the moment of the selected row.
    fn go_to_selected(&mut self) {
        use forebay_schemas::event::Event;
        let last = self.timeline.len();
        let newest = |timeline: &super::Timeline, wanted: &dyn Fn(&Event) -> bool| timeline.find(last, false, wanted);
        let index = match self.subject() {
            Some(RowId::Event(seq)) => self.timeline.index_of(seq),
            Some(RowId::Batch(id)) => newest(&self.timeline, &|event| matches!(event, Event::BatchWritten { batch, .. } if *batch == id)),
            Some(RowId::Run(id)) => newest(&self.timeline, &|event| event.run() == Some(id)),
            Some(RowId::Actor(path)) => newest(
                &self.timeline,
                &|event| matches!(event, Event::ChildExited { actor, .. } | Event::ChildStarted { actor, .. } | Event::ChildStuck { actor, .. } if *actor == path),
            ),
            Some(RowId::Record(partition, offset)) => {
                let path = record_path(&self.timeline, partition, offset);
                path.batch.or(path.page).and_then(|event| self.timeline.index_of(event.seq))
            }
            Some(RowId::Alert(name)) => {
                let since = self
                    .shown()
                    .newest()
                    .and_then(|snapshot| snapshot.alerts.iter().find(|alert| alert.name == name))
                    .map(|alert| alert.since);
                since.and_then(|since| self.timeline.index_at(since))
            }
            Some(RowId::Log(since, seq)) => {
                self.api_data.logs.find(since, seq).and_then(|stored| self.timeline.index_at(stored.line.timestamp))
            }
            _ => None,
        };
        match index {
            Some(index) => self.go_to_index(index),
            None => self.show_error("no event about it in memory".to_owned()),
        }
    }

    fn dead_letter_range(&self) -> Option<forebay_schemas::offset::Ranges> {
        let Some(RowId::DeadLetter(partition, offset)) = self.details.last() else { return None };
        let mut ranges = forebay_schemas::offset::Ranges::default();
        ranges.add(*partition, forebay_schemas::offset::Range::of(*offset));
        Some(ranges)
    }

    /// Opens the dialog of an operation, if it is permitted.
    pub(crate) fn operate(&mut self, operation: Operation) {
        let pipeline = self.live_window.newest().map(|snapshot| snapshot.pipeline.clone()).unwrap_or_default();
        match Dialog::open(operation, &pipeline, self.permission()) {
            Ok(dialog) => {
                if let Some(request) = dialog.operation.plan() {
                    self.effects.push(Effect::Request(ApiRequest::Plan(dialog.pipeline.clone(), request)));
                }
                self.dialog = Some(dialog);
            }
            Err(why) => self.show_error(why),
        }
    }

    /// Whether keys are typed into a line.
    pub(crate) fn is_typing(&self) -> bool {
        self.prompt.is_some() || self.dialog.is_some()
    }

    /// Handles a key while a line is being typed.
    pub(crate) fn press(&mut self, key: EditKey) {
        self.message = None;
        if self.dialog.is_some() {
            self.press_in_dialog(key);
        } else {
            self.press_in_prompt(key);
        }
        self.request_missing_data();
    }

    fn press_in_dialog(&mut self, key: EditKey) {
        let permission = self.permission();
        let Some(dialog) = &mut self.dialog else { return };
        dialog.error = None;
        match key {
            EditKey::Escape => self.dialog = None,
            EditKey::Tab | EditKey::BackTab | EditKey::Up | EditKey::Down if dialog.operation.needs_confirmation() => {
                dialog.name_focused = !dialog.name_focused;
            }
            EditKey::Enter if dialog.operation.needs_confirmation() && !dialog.name_focused => dialog.name_focused = true,
            EditKey::Enter => match dialog.send(permission) {
                Ok(order) => {
                    self.effects.push(Effect::Request(ApiRequest::Operate(order)));
                    self.dialog = None;
                }
                Err(why) => dialog.error = Some(why),
            },
            key => dialog.line().press(key),
        }
    }

    fn press_in_prompt(&mut self, key: EditKey) {
        match (self.prompt.take(), key) {
            (None, _) => {}
            (Some(Prompt::Filter(_)), EditKey::Escape) => self.set_filter(self.list(), String::new()),
            (Some(Prompt::Palette(..)), EditKey::Escape) | (Some(Prompt::Filter(_)), EditKey::Enter) => {}
            (Some(Prompt::Filter(mut line)), key) => {
                line.press(key);
                // Filter while typing.
                self.set_filter(self.list(), line.text());
                self.prompt = Some(Prompt::Filter(line));
            }
            (Some(Prompt::Palette(line, chosen)), EditKey::Tab | EditKey::Down | EditKey::BackTab | EditKey::Up) => {
                let completions = prompt::complete(&line.text(), &self.known_names());
                let forward = matches!(key, EditKey::Tab | EditKey::Down);
                let chosen = match (chosen, completions.len()) {
                    (_, 0) => None,
                    (None, len) => Some(if forward { 0 } else { len - 1 }),
                    (Some(at), len) => Some((at + if forward { 1 } else { len - 1 }) % len),
                };
                // A single completion is applied at once.
                let line = if completions.len() == 1 { LineEditor::new(&completions[0].0) } else { line };
                self.prompt = Some(Prompt::Palette(line, chosen.filter(|_| completions.len() > 1)));
            }
            (Some(Prompt::Palette(line, chosen)), EditKey::Enter) => {
                let known = self.known_names();
                let offered = chosen.and_then(|at| prompt::complete(&line.text(), &known).into_iter().nth(at)).map(|(text, _)| text);
                let text = offered.unwrap_or_else(|| line.text());
                match prompt::parse(&text, &known) {
                    Ok(None) => {}
                    Ok(Some(command)) => self.run_command(command),
                    Err(why) => {
                        self.show_error(why);
                        self.prompt = Some(Prompt::Palette(LineEditor::new(&text), None));
                    }
                }
            }
            (Some(Prompt::Palette(mut line, _)), key) => {
                line.press(key);
                self.prompt = Some(Prompt::Palette(line, None));
            }
        }
    }

    /// The names that the palette completes.
    pub(crate) fn known_names(&self) -> KnownNames {
        let Some(snapshot) = self.shown().newest() else { return KnownNames::default() };
        KnownNames {
            actors: snapshot.actors.iter().map(|actor| actor.path.clone()).collect(),
            runs: snapshot.runs.iter().map(|run| (run.key.clone(), run.id)).collect(),
            batches: snapshot.batches.iter().map(|batch| batch.id).collect(),
            partitions: snapshot.partitions.iter().map(|view| view.partition).collect(),
        }
    }

    fn run_command(&mut self, command: prompt::Command) {
        match command {
            prompt::Command::Screen(screen) => self.show(screen),
            prompt::Command::Open(id) => self.open(id),
            prompt::Command::Event(seq) => self.go_to_seq(seq),
            prompt::Command::At(time) => {
                let day = self.live_window.newest().map(|snapshot| snapshot.at.date_naive());
                match day.and_then(|day| self.timeline.index_at(day.and_time(time).and_utc())) {
                    Some(index) => self.go_to_index(index),
                    None => self.show_error("no events to go back to".to_owned()),
                }
            }
            prompt::Command::Live => self.go_live(),
            prompt::Command::Freeze => self.freeze(),
            prompt::Command::Filter(filter) => self.set_filter(self.list(), filter),
            prompt::Command::Theme(theme) => self.effects.push(Effect::Theme(theme)),
            prompt::Command::Export(file) => self.export(file),
            prompt::Command::Help => self.help = Some(0),
            prompt::Command::Quit => self.quit = true,
            prompt::Command::Operate(operation) => self.operate(operation),
        }
    }

    /// The selected item as JSON.
    pub(crate) fn selected_json(&self) -> Option<Value> {
        let snapshot = self.shown().newest()?;
        let events = |index: Option<usize>| {
            index.and_then(|index| self.timeline.get(index)).and_then(|event| serde_json::to_value(event.as_ref()).ok())
        };
        match self.subject()? {
            RowId::Partition(partition) => to_json(snapshot.partitions.iter().find(|view| view.partition == partition)?),
            RowId::Actor(path) => to_json(snapshot.actors.iter().find(|view| view.path == path)?),
            RowId::Run(id) => to_json(snapshot.runs.iter().find(|run| run.id == id)?),
            RowId::Batch(id) => match &self.api_data.trace {
                Some((of, Ok(trace))) if *of == id => to_json(trace),
                _ => to_json(snapshot.batches.iter().find(|batch| batch.id == id)?),
            },
            RowId::Node(address) => to_json(snapshot.store.as_ref()?.nodes.iter().find(|node| node.address == address)?),
            RowId::Record(partition, offset) => {
                to_json(self.api_data.records.iter().find(|record| (record.partition, record.offset) == (partition, offset))?)
            }
            RowId::DeadLetter(partition, offset) => {
                to_json(self.dead_letters().iter().find(|letter| (letter.record.partition, letter.record.offset) == (partition, offset))?)
            }
            RowId::Event(seq) => events(self.timeline.index_of(seq)),
            RowId::Log(since, seq) => to_json(&self.api_data.logs.find(since, seq)?.line),
            RowId::Alert(name) => to_json(snapshot.alerts.iter().find(|alert| alert.name == name)?),
        }
    }

    /// What `c` copies: the identifier of the selected item if it has one, else its JSON.
    fn text_of_selected(&self) -> Option<String> {
        Some(match self.subject()? {
            RowId::Actor(path) => path,
            RowId::Run(id) => id.to_string(),
            RowId::Node(address) => address,
            _ => self.selected_json()?.to_string(),
        })
    }

    /// Exports the selected item and its position in the journal.
    fn export(&mut self, file: Option<String>) {
        let Some(selected) = self.selected_json() else { return self.show_error("nothing is selected".to_owned()) };
        let snapshot: Option<&Snapshot> = self.shown().newest();
        let seq = self.frozen.as_ref().map_or(self.timeline.head().seq, |frozen| frozen.seq);
        let title = self.subject().map(|id| id.title()).unwrap_or_default();
        let export = json!({
            "pipeline": snapshot.map(|snapshot| snapshot.pipeline.clone()),
            "at": self.frozen.as_ref().map_or_else(|| snapshot.map(|snapshot| snapshot.at), |frozen| Some(frozen.at)),
            "seq": seq,
            "what": title,
            "selection": selected,
        });
        let name = file.unwrap_or_else(|| {
            let plain: String = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            format!("forebay-{plain}-at-{seq}.json")
        });
        self.effects.push(Effect::Save(name, format!("{export:#}\n")));
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}

/// The detail view that an event links to.
fn linked_detail(event: &forebay_schemas::event::Event) -> Option<RowId> {
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
