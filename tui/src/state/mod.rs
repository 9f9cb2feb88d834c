//! What the view knows: a fold over looks and keys.
//!
//! Guarantee: pure; the same looks, keys and moments give the same model. It has no terminal, no clock (moments are passed in) and
//! bounded memory: a window of looks and five minutes of history. Not guaranteed: that rates mean anything across a restart of the
//! process; they begin anew.

mod findings;
mod folded;
mod history;

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_schemas::snapshot::{ActorState, Snapshot};

pub(crate) use findings::{Finding, findings, plain_findings};
pub(crate) use folded::{Folded, Pressure, Trend, downstream, progress};
pub(crate) use history::Point;

/// A source that has said nothing for so long is stale: four looks missed.
const STALE_AFTER: Duration = Duration::from_secs(2);

/// The panels that have rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Panel {
    Partitions,
    Actors,
    Batches,
    Runs,
}

impl Panel {
    pub(crate) const ALL: [Self; 4] = [Self::Partitions, Self::Actors, Self::Batches, Self::Runs];

    pub(crate) fn name(self) -> &'static str {
        ["partitions", "actors", "batches", "runs"][self as usize]
    }

    fn step(self, by: usize) -> Self {
        Self::ALL[(self as usize + by) % Self::ALL.len()]
    }

    /// How many rows it has.
    pub(crate) fn len(self, snapshot: &Snapshot) -> usize {
        match self {
            Self::Partitions => snapshot.partitions.len(),
            Self::Actors => snapshot.actors.len(),
            Self::Batches => snapshot.batches.len(),
            Self::Runs => snapshot.runs.len(),
        }
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Quit,
    Help,
    Back,
    NextPanel,
    PreviousPanel,
    Focus(Panel),
    /// So many rows on, or back.
    Move(isize),
    First,
    Last,
    Freeze,
    Redraw,
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

/// Everything the view draws from.
#[derive(Debug, Default)]
pub(crate) struct Model {
    seen: Folded,
    frozen: Option<Folded>,
    heard: Option<Instant>,
    trouble: Option<String>,
    focus: Option<Panel>,
    cursors: [Option<usize>; Panel::ALL.len()],
    pub(crate) help: bool,
    pub(crate) quit: bool,
}

impl Model {
    /// A look came.
    pub(crate) fn look(&mut self, snapshot: Arc<Snapshot>, now: Instant) {
        self.seen.fold(snapshot);
        self.heard = Some(now);
        self.trouble = None;
    }

    /// The source failed.
    pub(crate) fn trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// How fresh the newest look is.
    pub(crate) fn link(&self, now: Instant) -> Link {
        let Some(heard) = self.heard else { return Link::Connecting(self.trouble.clone()) };
        let silent = now.saturating_duration_since(heard);
        if silent < STALE_AFTER { Link::Live } else { Link::Stale(silent, self.trouble.clone()) }
    }

    /// What is on the screen: the newest looks, or those at which the view was frozen.
    pub(crate) fn shown(&self) -> &Folded {
        self.frozen.as_ref().unwrap_or(&self.seen)
    }

    /// How far the pipeline has gone on since the view was frozen; none when it is not.
    pub(crate) fn frozen_for(&self) -> Option<chrono::TimeDelta> {
        Some(self.seen.newest()?.at - self.frozen.as_ref()?.newest()?.at)
    }

    /// The panel that keys act on.
    pub(crate) fn focus(&self) -> Panel {
        self.focus.unwrap_or(Panel::Actors)
    }

    /// The row that keys act on, inside what the panel now has. Until a key moves it, it is the first, or the actor worst off.
    pub(crate) fn cursor(&self, panel: Panel) -> usize {
        let Some(look) = self.shown().newest() else { return 0 };
        let resting = || if panel == Panel::Actors { worst_actor(look) } else { 0 };
        self.cursors[panel as usize].unwrap_or_else(resting).min(panel.len(look).saturating_sub(1))
    }

    /// Does what a key asks for.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Quit => self.quit = true,
            Action::Help => self.help = !self.help,
            Action::Back => self.help = false,
            Action::NextPanel => self.focus = Some(self.focus().step(1)),
            Action::PreviousPanel => self.focus = Some(self.focus().step(Panel::ALL.len() - 1)),
            Action::Focus(panel) => self.focus = Some(panel),
            Action::Move(by) => self.cursors[self.focus() as usize] = Some(self.cursor(self.focus()).saturating_add_signed(by)),
            Action::First => self.cursors[self.focus() as usize] = Some(0),
            Action::Last => self.cursors[self.focus() as usize] = Some(usize::MAX),
            Action::Freeze if self.frozen.is_some() => self.frozen = None,
            Action::Freeze if self.seen.newest().is_some() => self.frozen = Some(self.seen.clone()),
            Action::Freeze | Action::Redraw => {}
        }
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

/// The first of the actors that are worst off.
fn worst_actor(look: &Snapshot) -> usize {
    let actors = look.actors.iter().enumerate().rev();
    actors.max_by_key(|(_, actor)| badness(actor.state)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn model(now: Instant) -> Model {
        let mut model = Model::default();
        model.look(Arc::new(fixture::busy()), now);
        model
    }

    #[test]
    fn a_model_is_connecting_then_live_then_stale_then_live_again() {
        let now = Instant::now();
        let mut model = Model::default();
        assert_eq!(model.link(now), Link::Connecting(None));
        model.trouble("refused".to_owned());
        assert_eq!(model.link(now), Link::Connecting(Some("refused".to_owned())));
        model.look(Arc::new(fixture::busy()), now);
        assert_eq!(model.link(now + Duration::from_millis(1_999)), Link::Live);
        model.trouble("timed out".to_owned());
        let later = now + Duration::from_secs(12);
        assert_eq!(model.link(later), Link::Stale(Duration::from_secs(12), Some("timed out".to_owned())));
        model.look(Arc::new(fixture::busy()), later);
        assert_eq!(model.link(later), Link::Live);
    }

    #[test]
    fn a_frozen_view_shows_its_moment_while_looks_go_on() {
        let now = Instant::now();
        let mut model = model(now);
        model.act(Action::Freeze);
        model.look(Arc::new(fixture::later(30_000)), now);
        assert_eq!(model.shown().newest().unwrap().at, fixture::busy().at);
        assert_eq!(model.frozen_for().unwrap().num_seconds(), 30);
        model.act(Action::Freeze);
        assert_eq!(model.shown().newest().unwrap().at, fixture::later(30_000).at);
        assert_eq!(model.frozen_for(), None);
    }

    #[test]
    fn there_is_nothing_to_freeze_before_the_first_look() {
        let mut model = Model::default();
        model.act(Action::Freeze);
        assert_eq!(model.frozen_for(), None);
        assert!(model.frozen.is_none());
    }

    #[test]
    fn the_cursor_stays_inside_the_rows() {
        let mut model = model(Instant::now());
        model.act(Action::Focus(Panel::Partitions));
        model.act(Action::Move(-1));
        assert_eq!(model.cursor(Panel::Partitions), 0);
        model.act(Action::Last);
        assert_eq!(model.cursor(Panel::Partitions), 3);
        model.act(Action::Move(1));
        model.act(Action::Move(-1));
        assert_eq!(model.cursor(Panel::Partitions), 2);
        model.act(Action::First);
        assert_eq!(model.cursor(Panel::Partitions), 0);
    }

    #[test]
    fn each_panel_keeps_its_own_cursor() {
        let mut model = model(Instant::now());
        model.act(Action::Focus(Panel::Partitions));
        model.act(Action::Move(2));
        model.act(Action::NextPanel);
        assert_eq!(model.focus(), Panel::Actors);
        assert_eq!(model.cursor(Panel::Actors), 8, "the writer, which waits");
        model.act(Action::PreviousPanel);
        assert_eq!(model.cursor(Panel::Partitions), 2);
        model.act(Action::PreviousPanel);
        assert_eq!(model.focus(), Panel::Runs);
    }
}
