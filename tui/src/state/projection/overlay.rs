//! Overlays a projection on a snapshot of another time.

use std::collections::{BTreeMap, BTreeSet};

use forebay_schemas::offset::{Offset, Partition};
use forebay_schemas::snapshot::{ActorView, PartitionView, Snapshot};

use super::{Path, Projection};

impl Projection {
    /// Overlays these events on a snapshot of another time. Everything that events decide comes
    /// from the events, the rest from the snapshot. `now` is the projection at the newest event:
    /// what is unknown there has not changed since.
    pub(crate) fn overlay(&self, snapshot: &Snapshot, now: &Self) -> Snapshot {
        let mut shown = snapshot.clone();
        shown.seq = self.seq;
        shown.at = self.at.unwrap_or(shown.at);
        shown.started_at = self.started_at.or(now.started_at).unwrap_or(shown.started_at).min(shown.at);
        if !self.topic.is_empty() {
            shown.topic.clone_from(&self.topic);
        }
        if !self.version.is_empty() {
            (shown.version, shown.roles) = (self.version.clone(), self.roles.clone());
        }
        if self.is_complete() {
            shown.totals = self.totals;
        }
        shown.desired =
            if self.desired.since.is_some() || now.desired.since.is_some() { self.desired.clone() } else { snapshot.desired.clone() };
        shown.runs = self.runs.iter().rev().cloned().collect();
        shown.batches = self.batches.iter().rev().cloned().collect();
        shown.partitions = self.overlay_partitions(snapshot, now);
        shown.actors = self.overlay_actors(snapshot, now);
        shown
    }

    fn overlay_partitions(&self, snapshot: &Snapshot, now: &Self) -> Vec<PartitionView> {
        let mut all: BTreeMap<Partition, PartitionView> = snapshot.partitions.iter().map(|view| (view.partition, *view)).collect();
        for &partition in self.partitions.keys() {
            all.entry(partition).or_insert_with(|| PartitionView::unknown(partition));
        }
        for (partition, view) in &mut all {
            let (then, known_now) = (self.partitions.get(partition), now.partitions.get(partition));
            match then {
                None if known_now.is_none() => {}
                None => {
                    let unknown = Offset::UNKNOWN;
                    (view.end, view.written, view.committed, view.assigned) = (unknown, unknown, unknown, false);
                }
                Some(progress) => {
                    (view.written, view.committed, view.assigned) = (progress.written, progress.committed, progress.assigned);
                    view.end = progress.produced.max(progress.written).max(progress.committed);
                }
            }
            (view.paused, view.behind_ms) = (false, -1);
        }
        all.into_values().collect()
    }

    fn overlay_actors(&self, snapshot: &Snapshot, now: &Self) -> Vec<ActorView> {
        let mut all = Vec::with_capacity(snapshot.actors.len());
        let mut seen = BTreeSet::new();
        for view in &snapshot.actors {
            let path = Path::new(&view.path);
            let mut view = view.clone();
            match self.actors.get(&path) {
                Some(then) => view = then.clone(),
                // The actor started later, or nothing happened to it in between.
                None if !now.actors.contains_key(&path) => {}
                None if self.is_complete() => continue,
                None => {
                    view.note = Some("unknown at this event".to_owned());
                    (view.last_exit, view.since) = (None, self.at.unwrap_or(view.since));
                    (view.incarnation, view.restarts, view.mailbox) = (0, 0, 0);
                }
            }
            seen.insert(path);
            all.push(view);
        }
        // Actors that no longer exist come after their siblings.
        for (path, view) in self.actors.iter().filter(|(path, _)| !seen.contains(path)) {
            let parent = &path.0[..path.0.len().saturating_sub(1)];
            let sibling = all.iter().rposition(|other| !parent.is_empty() && Path::new(&other.path).0.starts_with(parent));
            all.insert(sibling.map_or(all.len(), |sibling| sibling + 1), view.clone());
        }
        all
    }
}
