//! Setting partitions back while they are read, which only the member of the group that reads them may do.
//!
//! Guarantee: what was read before is written and committed first, the journal has the act on the disk before Kafka hears of it, and a place that
//! is set back begins an epoch; so nothing of the time before is ever taken for one of the time after. The incarnation ends with it, and the next one
//! begins where the group says, as after a crash: there is no other way into a partition. Refused, it reads on as if nobody had asked. What is read
//! again is written with later timestamps than all that was written from the topic, and than what was deleted or changed by hand until then.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::super::offset_reset::{NotSetBack, Question, SetBack};
use super::super::state::Commit;
use super::commit::DRAIN_WITHIN;
use super::{End, Loop, STEP};
use crate::failpoint::point;
use forebay_dataplane::write_clock::{replay_clock, replay_clocks};
use forebay_schemas::event::{Checkpoints, Event, Offsets};
use forebay_schemas::offset::{Checkpoint, Epoch, Partition, WriteTimestamp};

/// How long the journal may take to have the act on the disk.
const KEPT_WITHIN: Duration = Duration::from_secs(10);

impl Loop<'_> {
    /// Answers whoever asks for partitions to be set back. True when this incarnation is done.
    pub(super) fn asked_back(&mut self) -> Result<bool, End> {
        // Between an assignment and where it starts nobody knows yet what is read here.
        if self.unanswered.is_some() {
            return Ok(false);
        }
        let Some(Question { set_back, answer }) = self.params.desk.take() else { return Ok(false) };
        let end = self.set_back(&set_back)?;
        let done = matches!(end, Ok(1..) | Err(NotSetBack::Unsure(_)));
        // Who asked may have gone.
        let _ = answer.send(end);
        Ok(done)
    }

    fn set_back(&mut self, SetBack { to, by, reason }: &SetBack) -> Result<Result<usize, NotSetBack>, End> {
        let partitions: Vec<Partition> = to.keys().copied().collect();
        let elsewhere: Vec<_> = partitions.iter().copied().filter(|partition| !self.state.is_assigned(*partition)).collect();
        if !elsewhere.is_empty() {
            return Ok(Err(NotSetBack::Elsewhere(elsewhere)));
        }
        self.send()?;
        self.drain(&partitions, Some(self.now() + DRAIN_WITHIN))?;
        self.commit_last(&partitions)?;
        if self.state.flies_of(&partitions) || !self.state.unconfirmed(&partitions).is_empty() {
            return Ok(Err(NotSetBack::InFlight));
        }
        let mut again = BTreeMap::new();
        for (&partition, &offset) in to {
            match self.client.ends(partition) {
                Ok((begin, _)) if begin > offset => return Ok(Err(NotSetBack::Removed { partition, begin })),
                Ok((_, end)) if self.state.written(partition).is_some_and(|before| offset < before.offset) => {
                    again.insert(partition, end - offset);
                }
                Ok(_) => {}
                Err(error) => return Ok(Err(NotSetBack::Unanswered(error.to_string()))),
            }
        }
        let largest = match self.client.largest_clock(&partitions, &self.params.ledger.checkpoints()) {
            Ok(largest) => largest.max(self.state.latest_clock()),
            Err(error) => return Ok(Err(NotSetBack::Unanswered(error.to_string()))),
        };
        let clocks = replay_clocks(replay_clock(largest, self.params.clock.wall()), &again);
        let epoch = Epoch::new(rand::random());
        let (mut from, mut checkpoints) = (Offsets::default(), Checkpoints::default());
        for (partition, clock) in clocks {
            from.0.extend(self.state.written(partition).map(|before| (partition, before.offset)));
            checkpoints.0.insert(partition, Checkpoint { offset: to[&partition], write_clock: WriteTimestamp::from_micros(clock), epoch });
        }
        if checkpoints.0.is_empty() {
            return Ok(Ok(0));
        }
        let reset = Event::OffsetsReset { by: by.clone(), reason: reason.clone(), from, to: checkpoints.clone() };
        if let Err(refused) = self.keep(reset)? {
            return Ok(Err(refused));
        }
        Ok(self.begin_again(&checkpoints).map(|()| checkpoints.0.len()))
    }

    /// Has the journal keep an event, and waits until it is on the disk.
    fn keep(&mut self, event: Event) -> Result<Result<(), NotSetBack>, End> {
        let ledger = &self.params.ledger;
        ledger.saw(event);
        let (upto, deadline) = (ledger.last_event(), self.now() + KEPT_WITHIN);
        loop {
            match self.params.ledger.is_durable(upto) {
                Ok(true) => return Ok(Ok(())),
                Ok(false) if self.now() < deadline => {}
                Ok(false) => return Ok(Err(NotSetBack::Journal(format!("the journal is not on the disk in {KEPT_WITHIN:?}")))),
                Err(failed) => return Ok(Err(NotSetBack::Journal(failed.to_string()))),
            }
            self.look_around()?;
            thread::sleep(STEP);
        }
    }

    /// Commits the places, after which this incarnation reads none of their partitions any more.
    fn begin_again(&mut self, checkpoints: &Checkpoints) -> Result<(), NotSetBack> {
        point("consumer::before_set_back");
        let topic = self.state.topic();
        let commits: Vec<_> = checkpoints.0.iter().map(|(&partition, &checkpoint)| Commit { partition, checkpoint, topic }).collect();
        let partitions: Vec<_> = checkpoints.0.keys().copied().collect();
        let end = self.client.commit(&commits).map_err(|error| NotSetBack::Unsure(error.to_string()));
        if end.is_ok() {
            for (&partition, checkpoint) in &checkpoints.0 {
                self.params.telemetry.partition(partition, |view| (view.written, view.committed) = (checkpoint.offset, checkpoint.offset));
            }
            tracing::info!(topic = self.params.topic, ?partitions, "set back; reading begins again");
        }
        self.state.revoke(&partitions);
        self.gone(&partitions);
        end
    }
}
