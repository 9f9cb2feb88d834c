//! The rows of the lists: filter, order and selection.
//!
//! The selection is an item, not a row number, so that it stays on the item while rows come and go.
//! The journal and the log have many rows, so their filters are updated per row. The other lists
//! are short, and are filtered and sorted when they are drawn.

use std::collections::VecDeque;

use forebay_schemas::event::Recorded;
use forebay_schemas::snapshot::{BatchView, Snapshot};

use super::prompt::matches_filter;
use super::{List, Model, RowId, Screen, StoredLine, severity};

/// The events that match the journal's filter.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventMatches {
    filter: String,
    seqs: VecDeque<u64>,
}

impl EventMatches {
    /// Adds an event, and drops those before `first`.
    pub(crate) fn push(&mut self, event: &Recorded, first: u64) {
        if !self.filter.is_empty() && matches_filter(&event_text(event), &self.filter) {
            self.seqs.push_back(event.seq);
        }
        while self.seqs.front().is_some_and(|&seq| seq < first) {
            self.seqs.pop_front();
        }
    }
}

/// The text of an event that a filter is matched against.
pub(crate) fn event_text(event: &Recorded) -> String {
    let run = event.event.run().map(|run| format!(" run {run}")).unwrap_or_default();
    format!("{} {} {}{run}", event.seq, event.event.kind(), event.event)
}

/// The total duration of a batch in microseconds.
pub(crate) fn batch_took(batch: &BatchView) -> u64 {
    [batch.wait_micros, batch.transform_micros, batch.write_micros].into_iter().fold(0, u64::saturating_add)
}

/// A sort key.
#[derive(PartialEq, PartialOrd)]
enum Key {
    Number(f64),
    Index(usize),
}

impl Model {
    /// The focused list.
    pub(crate) fn list(&self) -> List {
        let lists = self.screen.lists();
        lists[self.focus % lists.len()]
    }

    pub(crate) fn filter(&self, list: List) -> &str {
        &self.filters[list as usize]
    }

    pub(crate) fn sort(&self, list: List) -> super::Sort {
        self.sorts[list as usize]
    }

    /// Sets the filter of a list.
    pub(crate) fn set_filter(&mut self, list: List, filter: String) {
        if list == List::Logs {
            self.api_data.logs.set_filter(filter.clone());
        }
        if list == List::Events && self.matches.filter != filter {
            let timeline = &self.timeline;
            let all = (0..timeline.len()).filter_map(|index| timeline.get(index));
            let seqs = if filter.is_empty() {
                VecDeque::new()
            } else {
                all.filter(|event| matches_filter(&event_text(event), &filter)).map(|event| event.seq).collect()
            };
            self.matches = EventMatches { filter: filter.clone(), seqs };
        }
        self.filters[list as usize] = filter;
        self.last_rows[list as usize] = 0;
    }

    pub(crate) fn cycle_sort(&mut self, list: List) {
        let sort = &mut self.sorts[list as usize];
        sort.by = (sort.by + 1) % list.sorts().len();
        sort.reverse = false;
    }

    pub(crate) fn reverse_sort(&mut self, list: List) {
        self.sorts[list as usize].reverse ^= true;
    }

    /// The rows of a list other than events and log lines, as indexes into the snapshot, filtered
    /// and sorted.
    pub(crate) fn visible_rows(&self, list: List) -> Vec<usize> {
        let Some(snapshot) = self.shown().newest() else { return Vec::new() };
        let filter = self.filter(list);
        let len = match list {
            List::Partitions => snapshot.partitions.len(),
            List::Actors => snapshot.actors.len(),
            List::Runs => snapshot.runs.len(),
            List::Batches => snapshot.batches.len(),
            List::Nodes => snapshot.store.as_ref().map_or(0, |store| store.nodes.len()),
            List::Records => self.api_data.records.len(),
            List::DeadLetters => self.dead_letters().len(),
            List::Alerts => snapshot.alerts.len(),
            List::Events | List::Logs => 0,
        };
        let mut order: Vec<usize> =
            (0..len).filter(|&at| filter.is_empty() || matches_filter(&self.row_text(list, snapshot, at), filter)).collect();
        let sort = self.sort(list);
        if sort.by > 0 {
            let key = |at: usize| self.sort_key(list, snapshot, at, sort.by);
            order.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        }
        if sort.reverse {
            order.reverse();
        }
        order
    }

    pub(crate) fn dead_letters(&self) -> &[forebay_schemas::dead_letters::DeadLetter] {
        match &self.api_data.dead_letters {
            Some(Ok(letters)) => &letters.letters,
            _ => &[],
        }
    }

    fn row_text(&self, list: List, snapshot: &Snapshot, at: usize) -> String {
        match list {
            List::Partitions => snapshot.partitions.get(at).map_or_else(String::new, |view| {
                let state = if view.paused {
                    "paused"
                } else if view.assigned {
                    "reading"
                } else {
                    "other"
                };
                format!("p{} {} {state} lag {}", view.partition, view.partition, view.lag())
            }),
            List::Actors => snapshot.actors.get(at).map_or_else(String::new, |view| {
                format!("{} {:?} {} {}", view.path, view.state, view.note.as_deref().unwrap_or(""), view.last_exit.as_deref().unwrap_or(""))
            }),
            List::Runs => snapshot.runs.get(at).map_or_else(String::new, |run| {
                let error = run.error.as_ref().map(|error| error.message.as_str()).unwrap_or("");
                format!("{} {} {:?} {error} {:?} {:?}", run.key, run.id, run.state, run.spec.labels, run.spec.params)
            }),
            List::Batches => snapshot.batches.get(at).map_or_else(String::new, |batch| {
                let ranges: String = batch.ranges.0.iter().map(|(partition, range)| format!("p{partition} {range} ")).collect();
                let rejected = if batch.rejected > 0 { "rejected" } else { "" };
                format!("{} {ranges}{rejected}", batch.id)
            }),
            List::Nodes => snapshot.store.as_ref().and_then(|store| store.nodes.get(at)).map_or_else(String::new, |node| {
                format!("{} {} {} {}", node.address, node.datacenter, node.rack, if node.up { "up" } else { "down" })
            }),
            List::Records => self.api_data.records.get(at).map_or_else(String::new, |record| {
                format!("p{} {} {} {}", record.partition, record.offset, record.key.as_deref().unwrap_or(""), record.value)
            }),
            List::DeadLetters => self.dead_letters().get(at).map_or_else(String::new, |letter| {
                format!("{} {} {} {}", letter.stage, letter.reason, letter.record.key.as_deref().unwrap_or(""), letter.record.value)
            }),
            List::Alerts => {
                snapshot.alerts.get(at).map_or_else(String::new, |alert| format!("{} {} {}", alert.name, alert.severity, alert.summary))
            }
            List::Events | List::Logs => String::new(),
        }
    }

    fn sort_key(&self, list: List, snapshot: &Snapshot, at: usize, by: usize) -> Key {
        let down = |n: f64| Key::Number(-n);
        match (list, by) {
            (List::Partitions, 1) => down(snapshot.partitions[at].lag() as f64),
            (List::Partitions, 2) => down(snapshot.partitions[at].behind_ms as f64),
            (List::Partitions, 3) => down(self.shown().partition_rate(snapshot.partitions[at].partition).unwrap_or(-1.0)),
            (List::Actors, 1) => down(snapshot.actors[at].incarnation as f64),
            (List::Actors, 2) => down(snapshot.actors[at].mailbox as f64),
            (List::Actors, 3) => down(snapshot.actors[at].since.timestamp_millis() as f64),
            (List::Runs, 1) => {
                Key::Number(f64::from(u8::from(snapshot.runs[at].terminal)) * 10.0 + f64::from(snapshot.runs[at].state as u8))
            }
            (List::Runs, 2) => down(snapshot.runs[at].counts.produced as f64),
            (List::Batches, 1) => down(batch_took(&snapshot.batches[at]) as f64),
            (List::Batches, 2) => down(snapshot.batches[at].records as f64),
            (List::Batches, 3) => down(snapshot.batches[at].rejected as f64),
            _ => Key::Index(at),
        }
    }

    /// The number of rows of a list.
    pub(crate) fn len(&self, list: List) -> usize {
        match list {
            List::Events if self.matches.filter.is_empty() => self.timeline.len(),
            List::Events => self.matches.seqs.len(),
            List::Logs => self.api_data.logs.rows(self.until()),
            list => self.visible_rows(list).len(),
        }
    }

    /// The event in a row of the journal; the newest is in the last row.
    pub(crate) fn event_row(&self, row: usize) -> Option<&std::sync::Arc<Recorded>> {
        if self.matches.filter.is_empty() {
            return self.timeline.get(row);
        }
        self.timeline.get(self.timeline.index_of(*self.matches.seqs.get(row)?)?)
    }

    fn id_at(&self, list: List, row: usize) -> Option<RowId> {
        match list {
            List::Events => return self.event_row(row).map(|event| RowId::Event(event.seq)),
            List::Logs => return self.api_data.logs.row(row).map(StoredLine::id),
            _ => {}
        }
        let snapshot = self.shown().newest()?;
        let at = *self.visible_rows(list).get(row)?;
        self.id_of(list, snapshot, at)
    }

    fn id_of(&self, list: List, snapshot: &Snapshot, at: usize) -> Option<RowId> {
        Some(match list {
            List::Partitions => RowId::Partition(snapshot.partitions.get(at)?.partition),
            List::Actors => RowId::Actor(snapshot.actors.get(at)?.path.clone()),
            List::Runs => RowId::Run(snapshot.runs.get(at)?.id),
            List::Batches => RowId::Batch(snapshot.batches.get(at)?.id),
            List::Nodes => RowId::Node(snapshot.store.as_ref()?.nodes.get(at)?.address.clone()),
            List::Records => self.api_data.records.get(at).map(|record| RowId::Record(record.partition, record.offset))?,
            List::DeadLetters => {
                self.dead_letters().get(at).map(|letter| RowId::DeadLetter(letter.record.partition, letter.record.offset))?
            }
            List::Alerts => RowId::Alert(snapshot.alerts.get(at)?.name.clone()),
            List::Events | List::Logs => return None,
        })
    }

    fn row_of(&self, list: List, id: &RowId) -> Option<usize> {
        if let (List::Events, RowId::Event(seq)) = (list, id) {
            if self.matches.filter.is_empty() {
                return self.timeline.index_of(*seq);
            }
            return self.matches.seqs.partition_point(|have| have <= seq).checked_sub(1);
        }
        if let (List::Logs, RowId::Log(since, seq)) = (list, id) {
            return self.api_data.logs.row_of(*since, *seq);
        }
        let snapshot = self.shown().newest()?;
        self.visible_rows(list).into_iter().position(|at| self.id_of(list, snapshot, at).as_ref() == Some(id))
    }

    /// The selected row. Until a key moves it, this is the newest row, or the actor in the worst
    /// state.
    pub(crate) fn cursor(&self, list: List) -> usize {
        let len = self.len(list);
        let row = match &self.selected[list as usize] {
            Some(id) => self.row_of(list, id).unwrap_or(self.last_rows[list as usize]),
            None if list.newest_last() => len,
            None if list == List::Actors => self.worst_actor(),
            None => self.last_rows[list as usize],
        };
        row.min(len.saturating_sub(1))
    }

    /// The selected item.
    pub(crate) fn selected(&self) -> Option<RowId> {
        let list = self.list();
        self.id_at(list, self.cursor(list))
    }

    /// Selects a row.
    pub(crate) fn select(&mut self, list: List, row: usize) {
        let len = self.len(list);
        let row = row.min(len.saturating_sub(1));
        self.last_rows[list as usize] = row;
        self.selected[list as usize] = self.id_at(list, row);
        // On the newest row, the list follows new rows.
        let newest = if list.newest_last() { row + 1 == len } else { row == 0 };
        if matches!(list, List::Events | List::Logs | List::Batches | List::Records) {
            self.follow = newest;
            if newest {
                self.selected[list as usize] = None;
                self.last_rows[list as usize] = 0;
            }
        }
    }

    /// Shows a screen.
    pub(crate) fn show(&mut self, screen: Screen) {
        (self.screen, self.focus, self.scroll) = (screen, 0, 0);
        self.details.clear();
    }

    /// The first actor in the worst state.
    fn worst_actor(&self) -> usize {
        let Some(snapshot) = self.shown().newest() else { return 0 };
        let order = self.visible_rows(List::Actors);
        let rows = order.into_iter().enumerate().rev();
        rows.max_by_key(|&(_, at)| severity(snapshot.actors[at].state)).map_or(0, |(row, _)| row)
    }
}
