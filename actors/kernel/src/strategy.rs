//! What a supervisor decides: which children start, stop and restart, and when it gives up. Pure:
//! events in, effects out.
//!
//! Guarantees, which are OTP's rules:
//! * Children start in order, each when the previous one is up, and stop one at a time in reverse
//!   order.
//! * A child is never started while it is up.
//! * A failure while a restart is pending joins that restart.
//! * Nothing follows [`Effect::Finish`].
//!
//! Beyond OTP:
//! * Restarts are delayed by a back-off, after collateral exits too, so no exit causes a busy loop.
//!   Collateral exits do not count against the limit.
//! * A fatal exit is never followed by a restart.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::restart_window::RestartWindow;
use super::{Backoff, Exit, LifecycleKind};

/// Which children are restarted together with a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// None.
    OneForOne,
    /// All.
    OneForAll,
    /// Those that start after it.
    RestForOne,
}

/// After which exits a child is restarted. No child is restarted after a fatal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// After every exit.
    Permanent,
    /// After every exit but [`Exit::Normal`] and an [`Exit::Shutdown`] that its supervisor did not
    /// request.
    Transient,
    /// Never, not even when its supervisor stopped it in order to restart another child.
    Temporary,
}

/// How many failures a supervisor tolerates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The restarts in any window of `within`. On one more the supervisor stops its children and
    /// fails.
    pub max_restarts: u32,
    /// The window. It should exceed the delays of `max_restarts` restarts together, or the limit is
    /// never reached.
    pub within: Duration,
    /// The delay of a restart, counted from when the last affected child has stopped.
    pub backoff: Backoff,
    /// The back-off starts over after this long without a failure.
    pub backoff_reset: Duration,
}

/// What has happened. Children are identified by their index in the start order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The child that was to be started is up.
    Started { child: usize },
    /// A child's incarnation has ended, or its start failed.
    Exited { child: usize, incarnation: u64, exit: Exit },
    /// A timer fired. Also the first event, which starts the children.
    Timer,
    /// The supervisor was requested to stop.
    StopRequested,
}

/// What the supervisor does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Start an incarnation. `Started` or `Exited` follows.
    Start { child: usize, incarnation: u64 },
    /// Stop a child, by force at its deadline. `Exited` follows.
    Stop { child: usize },
    /// Feed `Timer` after this delay.
    Wake(Duration),
    /// The supervisor ends.
    Finish(Exit),
    /// Emit an event about a child, or about the supervisor itself.
    Emit { child: Option<usize>, kind: LifecycleKind },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Starting,
    Up,
    Stopping,
    /// Down, and never restarted.
    Ended,
}

#[derive(Debug)]
struct Slot {
    name: String,
    restart: Restart,
    state: State,
    incarnation: u64,
}

/// Children to start once those of them that are up have stopped and the delay has passed.
#[derive(Debug)]
struct Pending {
    children: BTreeSet<usize>,
    delay: Duration,
    /// Set when the last one has stopped.
    until: Option<Instant>,
}

/// The state of a supervisor.
#[derive(Debug)]
pub(super) struct Supervision {
    strategy: Strategy,
    limits: Limits,
    slots: Vec<Slot>,
    pending: Option<Pending>,
    /// The exit, once the children have stopped.
    ending: Option<Exit>,
    finished: bool,
    window: RestartWindow,
    /// Restarts since the back-off last started over.
    attempt: u32,
    last_start: Instant,
}

impl Supervision {
    /// A supervisor whose children have not been started. Each is given by its name, its restart
    /// rule and the number of its last incarnation.
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
        let window = RestartWindow::new(limits.max_restarts, limits.within);
        Self { strategy, limits, slots, pending, ending: None, finished: false, window, attempt: 0, last_start: now }
    }

    /// Whether a child is down and will be restarted.
    pub(super) fn awaits_restart(&self, child: usize) -> bool {
        self.slots[child].state == State::Down && self.pending.as_ref().is_some_and(|pending| pending.children.contains(&child))
    }

    /// Processes an event. `jitter` in [0, 1) is used if a back-off starts.
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
        effects.push(Effect::Emit { child: Some(child), kind: LifecycleKind::Started { incarnation: slot.incarnation } });
        if slot.state == State::Starting {
            slot.state = State::Up;
        }
    }

    fn exited(&mut self, child: usize, incarnation: u64, exit: Exit, now: Instant, jitter: f64, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(child) else { return };
        if slot.incarnation != incarnation || matches!(slot.state, State::Down | State::Ended) {
            return;
        }
        let requested = slot.state == State::Stopping;
        let again = match slot.restart {
            Restart::Permanent => true,
            Restart::Transient => exit != Exit::Normal && (requested || exit != Exit::Shutdown),
            Restart::Temporary => false,
        };
        effects.push(Effect::Emit { child: Some(child), kind: LifecycleKind::Exited { incarnation, exit: exit.clone() } });
        if let Exit::Fatal(reason) = &exit {
            slot.state = State::Ended;
            effects.push(Effect::Emit { child: None, kind: LifecycleKind::Escalated { reason: reason.clone() } });
            self.end(exit);
        } else if again && self.ending.is_none() {
            slot.state = State::Down;
            if !requested {
                self.schedule(child, &exit, now, jitter, effects);
            }
        } else {
            slot.state = State::Ended;
            if let Some(pending) = &mut self.pending {
                pending.children.remove(&child);
            }
        }
    }

    /// Schedules the restart of a child that failed and of those affected, unless that exceeds the
    /// limit.
    fn schedule(&mut self, child: usize, exit: &Exit, now: Instant, jitter: f64, effects: &mut Vec<Effect>) {
        if !exit.is_collateral() && self.window.exceeded_by(now) {
            let (restarts, within) = (self.limits.max_restarts.saturating_add(1), self.limits.within);
            effects.push(Effect::Emit { child: None, kind: LifecycleKind::IntensityExceeded { restarts, within } });
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
        let kind = LifecycleKind::RestartScheduled { delay: left, affected: children.iter().map(name).collect() };
        effects.push(Effect::Emit { child: None, kind });
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

    /// Sets a timer again that fired too early, as it may when it runs on another clock.
    fn wake_again(&self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(until) = self.pending.as_ref().and_then(|pending| pending.until).filter(|until| now < *until) {
            effects.push(Effect::Wake(until - now));
        }
    }

    /// Ends the supervisor with `exit` once its children have stopped. A fatal exit takes
    /// precedence; otherwise the first one wins.
    fn end(&mut self, exit: Exit) {
        let fatal = |exit: &Exit| matches!(exit, Exit::Fatal(_));
        if self.ending.as_ref().is_none_or(|first| fatal(&exit) && !fatal(first)) {
            self.ending = Some(exit);
        }
        self.pending = None;
    }

    /// Takes the next step: stop one child, end, wait, or start one child.
    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let affected = |index: usize| self.ending.is_some() || self.pending.as_ref().is_some_and(|p| p.children.contains(&index));
        if (0..self.slots.len()).any(|index| affected(index) && self.slots[index].state == State::Stopping) {
            return;
        }
        let up = |index: usize| matches!(self.slots[index].state, State::Starting | State::Up);
        if let Some(child) = (0..self.slots.len()).rev().find(|index| affected(*index) && up(*index)) {
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
