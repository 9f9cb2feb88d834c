//! Performs each step.

use std::time::Duration;

use forebay_schemas::offset::{Offset, Partition};
use rand::Rng;

use super::api::{KEYS, partition_of};
use super::broker::{Broker, Dating, Stored};
use super::invariants::Checked;
use super::world::{CommitRequest, Step, World};
use forebay_dataplane::commit_metadata::CommitMetadata;

impl World {
    pub(super) fn perform(&mut self, step: Step) -> Checked {
        let (env, processes) = (&mut self.env, &mut self.processes);
        match step {
            Step::Tick => {
                let long = env.rng.random_ratio(1, 10);
                env.passed += Duration::from_millis(if long { env.rng.random_range(0..400_000) } else { env.rng.random_range(0..3_000) });
            }
            Step::Pause(who) => processes[who].paused = true,
            Step::Resume(who) => return self.resume(who),
            Step::Crash(who) => {
                let process = &mut processes[who];
                process.abandon(who, env);
                process.live = None;
                let kept = env.rng.random_range(0..=process.journal.loose());
                process.journal.crash(kept);
                let last = process.journal.durable();
                env.oracle.asked.retain(|&(asked, _, seq)| asked != who || seq <= last);
                for record in &mut env.oracle.acknowledged {
                    record.report = record.report.filter(|&(of, seq)| of != who || seq <= last);
                }
            }
            Step::Start(who) => {
                self.session_ends(who);
                self.processes[who].paused = false;
                return self.processes[who].start(who, &mut self.env);
            }
            Step::RestartConsumer(who) => return processes[who].restart_consumer(who, env),
            Step::RestartFetcher(who) => return processes[who].restart_fetcher(who, env),
            Step::Sync(who) => processes[who].sync(who, env),
            Step::Request(who) => {
                let (key, attempt) = (env.rng.random_range(0..6), env.rng.random_range(1..4));
                return processes[who].request(who, env, key, attempt);
            }
            Step::Cancel(who) => return processes[who].cancel(who, env),
            Step::SetCursor(who) => return processes[who].set_cursor(who, env),
            Step::Change => {
                let now = env.now_ms();
                env.changes.change(&env.scenario.source, &mut env.api, now, &mut env.rng);
            }
            Step::Wake(who) => return processes[who].wake(who, env),
            Step::ApiAnswers(who) => return processes[who].answered(who, env),
            Step::Append(who) => processes[who].append(env),
            Step::Acks(who) => return processes[who].acked(who, env),
            Step::ProducerBreaks(who) => return processes[who].producer_breaks(who, env),
            Step::Poll(who) => processes[who].poll(env),
            Step::Cut(who) => processes[who].send(env),
            Step::Transform(who) => processes[who].transform(),
            Step::Write(who) => return processes[who].write(who, env),
            Step::RequestCommit(who) => processes[who].ask(who, env),
            Step::CommitArrives => return self.commit_arrives(),
            Step::CommitAnswered(who) => return processes[who].committed(who, env),
            Step::Rebalance => {
                let up: Vec<_> = (0..env.scenario.processes).filter(|&who| processes[who].is_up()).collect();
                if !up.is_empty() {
                    let picks: Vec<_> = env.broker.each().map(|_| up[env.rng.random_range(0..up.len())]).collect();
                    self.rebalance(|partition| picks[partition as usize]);
                }
            }
            Step::Revoked(who) => return processes[who].revoked(who, env),
            Step::SessionEnds(who) => self.session_ends(who),
            Step::Assign => return self.assign(),
            Step::LateWrite => {
                let at = env.rng.random_range(0..env.late_writes.len());
                let (_, write) = env.late_writes[at];
                if !(env.faults_enabled && env.rng.random_bool(0.3)) {
                    env.late_writes.swap_remove(at);
                }
                return env.write(write);
            }
            Step::TopicRecreated => {
                env.removable = true;
                let forget = env.rng.random_bool(0.5);
                env.broker.recreate(forget);
                env.oracle.announced.clear();
            }
            Step::CheckTopic(who) => return processes[who].check_topic(who, env),
            Step::End(who) => processes[who].end(env),
            Step::ReadRecreatedTopic(who) => {
                let assigned = processes[who].live().consumer.assigned().collect();
                processes[who].revoke(env, assigned);
            }
            Step::PositionRemoved(who) => return processes[who].restart_consumer(who, env),
            Step::OffsetsRemoved => return self.offsets_removed(),
            Step::Retention => {
                let partition = env.any_partition();
                if let Some(committed) = env.committed_now(partition) {
                    env.broker.log_mut(partition).remove_to(committed);
                }
            }
            Step::Compaction => {
                let partition = env.any_partition();
                // Where dates rise, also what was read and is not committed; see the module's own
                // words.
                let to = if env.broker.dates_rise() { Some(env.broker.log(partition).end()) } else { env.committed_now(partition) };
                env.broker.log_mut(partition).compact(to.unwrap_or_default());
            }
            Step::Transaction => {
                let partitions = env.broker.partitions();
                for content in env.api.foreign(3, &mut env.rng) {
                    let (now, roll) = (env.now_ms(), env.rng.random());
                    if let Some(partition) = content.partition(partitions, roll) {
                        env.broker.append_in_transaction(partition, content, now, roll);
                        env.note(|| format!("  [{partition}] {content:?} in a transaction"));
                    }
                }
            }
            Step::TransactionEnds => {
                let open: Vec<_> = env.broker.each().filter(|&partition| env.broker.log(partition).is_open()).collect();
                let (partition, commit) = (open[env.rng.random_range(0..open.len())], env.rng.random_bool(0.5));
                env.note(|| format!("  [{partition}] commit {commit}"));
                env.broker.log_mut(partition).close(commit);
            }
            Step::PartitionAdded => {
                let reader = env.rng.random_range(0..env.scenario.processes);
                let before = env.broker.partitions();
                env.broker.add_partition(reader);
                let unordered: Vec<u16> = (0..KEYS).filter(|&key| may_lose_its_order(&env.broker, key, before)).collect();
                env.oracle.unordered.extend(unordered);
            }
            Step::ByHand => {
                let (key, ts) = (env.rng.random_range(0..KEYS), env.now_ms() * 1_000 + env.rng.random_range(0..1_000));
                let deleted = env.rng.random_bool(0.5);
                env.note(|| format!("  row {key} at {ts}, deleted {deleted}"));
                if deleted {
                    env.store.delete(key, ts);
                } else {
                    env.store.change(key, ts);
                }
                env.oracle.by_hand.insert(key);
            }
            Step::Replay(who) => {
                env.oracle.replayed = true;
                let done = processes[who].replay(who, env, false)?;
                env.note(|| format!("  done {done}"));
            }
            Step::Fold(who) => {
                let process = &processes[who];
                if let Some(live) = &process.live {
                    let cut = env.rng.random_range(0..=process.journal.len());
                    return process.journal.check(&live.ledger, env.scenario.bytes.then_some(cut));
                }
            }
        }
        Ok(())
    }

    /// Starts a rebalance: `reader` names the process for each partition.
    pub(super) fn rebalance(&mut self, reader: impl Fn(Partition) -> usize) {
        for partition in self.env.broker.each() {
            self.env.broker.wanted[partition as usize] = reader(partition);
        }
        for (who, process) in self.processes.iter_mut().enumerate().filter(|(_, process)| process.is_up()) {
            let broker = &self.env.broker;
            let goes = |&partition: &Partition| broker.owners[partition as usize] == Some(who) && broker.wanted[partition as usize] != who;
            let partitions: Vec<_> = broker.each().filter(goes).collect();
            if !partitions.is_empty() {
                process.revoke(&mut self.env, partitions);
            }
        }
    }

    /// The group evicts a process that is down or silent.
    fn session_ends(&mut self, who: usize) {
        for owner in self.env.broker.owners.iter_mut().filter(|owner| **owner == Some(who)) {
            *owner = None;
        }
        if let Some(live) = &mut self.processes[who].live {
            live.fenced = true;
        }
    }

    fn resume(&mut self, who: usize) -> Checked {
        let process = &mut self.processes[who];
        process.paused = false;
        if let Some(live) = &mut process.live
            && std::mem::take(&mut live.fenced)
        {
            return process.lost(who, &mut self.env);
        }
        Ok(())
    }

    /// Starts a generation: processes that are up get their unowned partitions, and the others are
    /// evicted.
    fn assign(&mut self) -> Checked {
        for who in 0..self.env.scenario.processes {
            if !self.processes[who].is_up() {
                self.session_ends(who);
            }
        }
        self.next_generation();
        for who in 0..self.env.scenario.processes {
            let broker = &self.env.broker;
            let theirs = |&partition: &Partition| broker.owners[partition as usize].is_none() && broker.wanted[partition as usize] == who;
            let partitions: Vec<_> = broker.each().filter(theirs).collect();
            if self.processes[who].is_up() && !partitions.is_empty() {
                self.processes[who].assigned(who, &mut self.env, &partitions)?;
            }
        }
        Ok(())
    }

    fn next_generation(&mut self) {
        self.env.broker.generation += 1;
        for process in self.processes.iter_mut().filter(|process| process.is_up()) {
            if let Some(live) = &mut process.live {
                live.generation = self.env.broker.generation;
            }
        }
    }

    /// A commit request reaches the group's coordinator or is lost. The answer may be lost, too.
    fn commit_arrives(&mut self) -> Checked {
        let env = &mut self.env;
        let at = env.rng.random_range(0..env.commit_requests.len());
        let CommitRequest { who, incarnation, generation, commits } = env.commit_requests.swap_remove(at);
        let lost = env.faults_enabled && env.rng.random_ratio(1, 8);
        let taken = generation == env.broker.generation && !lost;
        if taken {
            for commit in &commits {
                env.broker.commit(
                    commit.partition,
                    commit.checkpoint,
                    CommitMetadata::new(&commit.checkpoint, commit.topic).to_string(),
                )?;
            }
        }
        let said = taken && !(env.faults_enabled && env.rng.random_ratio(1, 8));
        env.note(|| format!("  {commits:?} of {who}: taken {taken}, and said so {said}"));
        if let Some(live) = self.processes[who].live.as_mut().filter(|live| live.incarnation == incarnation) {
            live.answer = Some((commits, said));
        }
        Ok(())
    }

    /// Every process loses all partitions.
    fn all_lost(&mut self) -> Checked {
        for who in 0..self.env.scenario.processes {
            if self.processes[who].is_up() {
                self.processes[who].lost(who, &mut self.env)?;
            }
            self.session_ends(who);
            if self.processes[who].is_up()
                && let Some(live) = &mut self.processes[who].live
            {
                live.fenced = false;
            }
        }
        self.next_generation();
        Ok(())
    }

    fn offsets_removed(&mut self) -> Checked {
        self.env.removable = false;
        self.all_lost()?;
        self.env.broker.remove_offsets();
        // Everything is read again.
        self.env.oracle.order_is_lost();
        Ok(())
    }
}

/// Returns whether the newest record of a key may lose when a partition is added to those before,
/// so that the key moves.
///
/// It may when nothing was ever read of the partition that it leaves: that one then starts after
/// the clocks of all others. Where records are dated back and forth it also may when the partition
/// holds records that the group has not committed, whose dates are not known, and when the key
/// moves to a partition that was there before, whose clock may be behind.
fn may_lose_its_order(broker: &Broker, key: u16, before: usize) -> bool {
    let to = partition_of(key, before + 1);
    let committed = |partition| {
        broker
            .committed(partition)
            .filter(|committed| committed.metadata.is_some_and(|metadata| !metadata.is_of_another_topic(Some(broker.topic_id()))))
    };
    let is_wild = broker.dating == Dating::Wild;
    let is_unread = |(partition, offset, _): (Partition, Offset, Stored)| {
        committed(partition).is_none_or(|committed| is_wild && offset >= committed.offset)
    };
    to != partition_of(key, before) && (is_wild && to < before || broker.records_of(key).any(is_unread))
}
