//! What a supervisor decides: which children start, stop and start again, and when it gives up. Pure: events in, effects out.
//!
//! Guarantee: OTP's rules. Children start in order, the next when the one before is up, and stop one after the other in the reverse order; a child
//! is never started while it is up; nothing follows [`Effect::Finish`]. A failure while a restart is pending joins it. Collateral exits don't
//! count for the limit, but wait the back-off like all others, so no exit makes it spin. Beyond OTP there are the back-off, and that a fatal
//! exit is never answered by a restart.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::intensity::Intensity;
use super::{Backoff, Exit, What};

/// Who is restarted beside the child that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Nobody.
    OneForOne,
    /// All others.
    OneForAll,
    /// All that were started after it.
    RestForOne,
}

/// After which exits a child is started again. No child is after a fatal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// After every exit.
    Permanent,
    /// After every exit but [`Exit::Normal`] and a [`Exit::Shutdown`] of its own.
    Transient,
    /// Never, not even when its supervisor has stopped it for another's sake.
    Temporary,
}

/// How patient a supervisor is with its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many restarts it makes in any window of `within`; at one more it stops its children and fails.
    pub max_restarts: u32,
    /// The window. It should be longer than the delays of so many restarts together, or the limit is never met.
    pub within: Duration,
    /// How long a restart waits, counted from the last affected child's stop.
    pub backoff: Backoff,
    /// After this long without a failure the back-off begins anew.
    pub backoff_reset: Duration,
}

/// What has happened. Children are named by their place in the start order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The child that was to start is up.
    Started { child: usize },
    /// A child's incarnation has ended, or its start failed.
    Exited { child: usize, incarnation: u64, exit: Exit },
    /// Time has passed. Also the first event, which starts the children.
    Timer,
    /// The supervisor is asked to stop.
    StopRequested,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Start an incarnation; answered by `Started` or `Exited`.
    Start { child: usize, incarnation: u64 },
    /// Ask a child to stop, and see to it that it does by its deadline; answered by `Exited`.
    Stop { child: usize },
    /// Bring `Timer` after so long.
    Wake(Duration),
    /// The supervisor ends.
    Finish(Exit),
    /// Something for the witness, about a child or the supervisor itself.
    Tell { child: Option<usize>, what: What },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Starting,
    Up,
    Stopping,
    /// Down, never to be started again.
    Ended,
}

#[derive(Debug)]
struct Slot {
    name: String,
    restart: Restart,
    state: State,
    incarnation: u64,
}

/// Children that are to be started (again), once those of them that are up have stopped and the delay has passed.
#[derive(Debug)]
struct Pending {
    children: BTreeSet<usize>,
    delay: Duration,
    /// Set when the last has stopped.
    until: Option<Instant>,
}

/// The state of a supervisor.
#[derive(Debug)]
pub(super) struct Supervision {
    strategy: Strategy,
    limits: Limits,
    slots: Vec<Slot>,
    pending: Option<Pending>,
    /// The exit that waits for the children to stop.
    ending: Option<Exit>,
    finished: bool,
    intensity: Intensity,
    /// Restarts since the last time of health.
    attempt: u32,
    last_start: Instant,
}

impl Supervision {
    /// A supervisor of children that are not started yet, each given by its name, its kind and the last incarnation it has had.
    pub(super) fn new(
        strategy: Strategy,
        limits: Limits,
        children: impl IntoIterator<Item = (String, Restart, u64)>,
        now: Instant,
    ) -> Self {
        let slot = |(name, restart, incarnation)| Slot { name, restart, state: State::Down, incarnation };
        let slots: Vec<_> = children.into_iter().map(slot).collect();
        let all = (0..slots.len()).collect::<BTreeSet<_>>();
        let pending = (!all.is_empty()).then_some(Pending { children: all, delay: Duration::ZERO, until: Some(now) });
        let intensity = Intensity::new(limits.max_restarts, limits.within);
        Self { strategy, limits, slots, pending, ending: None, finished: false, intensity, attempt: 0, last_start: now }
    }

    /// Whether a child is down now and will be started again.
    pub(super) fn awaits_restart(&self, child: usize) -> bool {
        self.slots[child].state == State::Down && self.pending.as_ref().is_some_and(|pending| pending.children.contains(&child))
    }

    /// Takes an event in, and says what is to be done. `jitter` in [0, 1) is used when a back-off begins.
    pub(super) fn step(&mut self, event: Event, now: Instant, jitter: f64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.finished {
            return effects;
        }
        match event {
            Event::Started { child } => self.started(child, &mut effects),
            Event::Exited { child, incarnation, exit } => self.exited(child, incarnation, exit, now, jitter, &mut effects),
            Event::Timer => self.wake_again(now, &mut effects),
            Event::StopRequested => self.end(Exit::Shutdown),
        }
        self.advance(now, &mut effects);
        effects
    }

    fn started(&mut self, child: usize, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        effects.push(Effect::Tell { child: Some(child), what: What::Started { incarnation: slot.incarnation } });
        if slot.state == State::Starting {
            slot.state = State::Up;
        }
    }

    fn exited(&mut self, child: usize, incarnation: u64, exit: Exit, now: Instant, jitter: f64, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if slot.incarnation != incarnation || matches!(slot.state, State::Down | State::Ended) {
            return;
        }
        let asked = slot.state == State::Stopping;
        let again = match slot.restart {
            Restart::Permanent => true,
            Restart::Transient => exit != Exit::Normal && (asked || exit != Exit::Shutdown),
            Restart::Temporary => false,
        };
        effects.push(Effect::Tell { child: Some(child), what: What::Exited { incarnation, exit: exit.clone() } });
        if let Exit::Fatal(reason) = &exit {
            slot.state = State::Ended;
            effects.push(Effect::Tell { child: None, what: What::Escalated { reason: reason.clone() } });
            self.end(exit);
        } else if again && self.ending.is_none() {
            slot.state = State::Down;
            if !asked {
                self.schedule(child, &exit, now, jitter, effects);
            }
        } else {
            slot.state = State::Ended;
            if let Some(pending) = &mut self.pending {
                pending.children.remove(&child);
            }
        }
    }

    /// A child has failed by itself: it and those affected are to be started again, unless that were once too often.
    fn schedule(&mut self, child: usize, exit: &Exit, now: Instant, jitter: f64, effects: &mut Vec<Effect>) {
        if !exit.is_collateral() && self.intensity.exceeds(now) {
            let (restarts, within) = (self.limits.max_restarts.saturating_add(1), self.limits.within);
            effects.push(Effect::Tell { child: None, what: What::IntensityExceeded { restarts, within } });
            let name = &self.slots[child].name;
            self.end(Exit::Failed(format!(
                "restart intensity exceeded: {restarts} restarts within {within:?}, the last of {name}: {exit}"
            )));
            return;
        }
        let affected = match self.strategy {
            Strategy::OneForOne => child..child + 1,
            Strategy::OneForAll => 0..self.slots.len(),
            Strategy::RestForOne => child..self.slots.len(),
        };
        let before = self.pending.take();
        let mut children: BTreeSet<_> = affected.filter(|index| self.slots[*index].state != State::Ended).collect();
        let (delay, until) = match &before {
            Some(pending) if pending.until.is_none_or(|until| now < until) => (pending.delay, pending.until),
            _ => (self.next_delay(now, jitter), None),
        };
        children.extend(before.iter().flat_map(|pending| &pending.children));
        let name = |index: &usize| self.slots[*index].name.clone();
        let left = until.map_or(delay, |until| until.saturating_duration_since(now));
        let what = What::RestartScheduled { delay: left, affected: children.iter().map(name).collect() };
        effects.push(Effect::Tell { child: None, what });
        self.pending = Some(Pending { children, delay, until });
    }

    fn next_delay(&mut self, now: Instant, jitter: f64) -> Duration {
        if now.saturating_duration_since(self.last_start) >= self.limits.backoff_reset {
            self.attempt = 0;
        }
        let delay = self.limits.backoff.delay(self.attempt, jitter);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    /// A timer that came too early, by another clock than this one, is set again.
    fn wake_again(&self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(until) = self.pending.as_ref().and_then(|pending| pending.until).filter(|until| now < *until) {
            effects.push(Effect::Wake(until - now));
        }
    }

    /// The supervisor will end with `exit` when its children have stopped. A fatal exit takes precedence over another, else the first holds.
    fn end(&mut self, exit: Exit) {
        let fatal = |exit: &Exit| matches!(exit, Exit::Fatal(_));
        if self.ending.as_ref().is_none_or(|first| fatal(&exit) && !fatal(first)) {
            self.ending = Some(exit);
        }
        self.pending = None;
    }

    /// The next that can be done: stop one child, end, wait, or start one child.
    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let concerned = |index: usize| self.ending.is_some() || self.pending.as_ref().is_some_and(|p| p.children.contains(&index));
        if (0..self.slots.len()).any(|index| concerned(index) && self.slots[index].state == State::Stopping) {
            return;
        }
        let up = |index: usize| matches!(self.slots[index].state, State::Starting | State::Up);
        if let Some(child) = (0..self.slots.len()).rev().find(|index| concerned(*index) && up(*index)) {
            self.slots[child].state = State::Stopping;
            effects.push(Effect::Stop { child });
            return;
        }
        if let Some(exit) = self.ending.take() {
            return self.finish(exit, effects);
        }
        if self.slots.iter().all(|slot| slot.state == State::Ended) {
            return self.finish(Exit::Normal, effects);
        }
        let Some(pending) = &mut self.pending else { return };
        let until = *pending.until.get_or_insert_with(|| {
            effects.push(Effect::Wake(pending.delay));
            now + pending.delay
        });
        if now < until || self.slots.iter().any(|slot| slot.state == State::Starting) {
            return;
        }
        let next = pending.children.pop_first();
        if pending.children.is_empty() {
            self.pending = None;
        }
        if let Some(child) = next {
            let slot = &mut self.slots[child];
            slot.state = State::Starting;
            slot.incarnation += 1;
            self.last_start = now;
            effects.push(Effect::Start { child, incarnation: slot.incarnation });
        }
    }

    fn finish(&mut self, exit: Exit, effects: &mut Vec<Effect>) {
        self.finished = true;
        effects.push(Effect::Finish(exit));
    }
}
