//! Compares two projections fact by fact.

use std::collections::{BTreeMap, BTreeSet};

use super::Projection;
use crate::text;

impl Projection {
    /// Every fact by its name, to compare two projections.
    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::new();
        let mut add = |name: String, value: String| drop(facts.insert(name, value));
        for (partition, progress) in &self.partitions {
            add(format!("partition {partition} written"), text::offset(progress.written));
            add(format!("partition {partition} committed"), text::offset(progress.committed));
            add(format!("partition {partition} produced"), text::offset(progress.produced));
            add(format!("partition {partition} assigned"), progress.assigned.to_string());
        }
        for view in self.actors.values() {
            add(format!("actor {}", view.path), format!("#{} {}", view.incarnation, text::actor_state(view.state)));
        }
        for run in &self.runs {
            let key = if run.key.is_empty() { run.id.to_string() } else { run.key.clone() };
            let counts = format!("{} pages, {} fetched, {} produced", run.counts.pages, run.counts.fetched, run.counts.produced);
            add(format!("run {key}#{}", run.attempt), format!("{}, {counts}", text::run_state(run.state)));
        }
        let totals = self.totals;
        let pairs = [
            ("fetched", totals.fetched),
            ("produced", totals.produced),
            ("consumed", totals.consumed),
            ("written", totals.written),
            ("rejected", totals.rejected),
            ("restarts", totals.restarts),
            ("batches", self.batches.back().map_or(0, |batch| batch.id)),
        ];
        for (name, value) in pairs {
            add(format!("total {name}"), text::count(value));
        }
        add("SQL".to_owned(), self.sql.fingerprint.clone());
        add("desired".to_owned(), format!("{:?}", self.desired.state).to_lowercase());
        facts
    }

    /// What changed from this projection to a later one: name, before, after.
    pub(crate) fn diff(&self, later: &Self) -> Vec<(String, String, String)> {
        let (before, after) = (self.facts(), later.facts());
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let value = |facts: &BTreeMap<String, String>, name: &String| facts.get(name).cloned().unwrap_or_else(|| "-".to_owned());
        let all = names.into_iter().map(|name| (name.clone(), value(&before, name), value(&after, name)));
        all.filter(|(_, before, after)| before != after).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use forebay_schemas::event::{Event, Recorded};

    use super::*;

    #[test]
    fn the_difference_of_two_projections_names_each_changed_fact() {
        let mut before = Projection::default();
        before.apply(&Recorded::new(1, DateTime::UNIX_EPOCH, Event::ChildStarted { actor: "root".to_owned(), incarnation: 1 }));
        let mut after = before.clone();
        let ended = Event::ChildExited { actor: "root".to_owned(), incarnation: 1, exit: "shutdown".to_owned() };
        after.apply(&Recorded::new(2, DateTime::UNIX_EPOCH, ended));
        assert_eq!(before.diff(&after), [("actor root".to_owned(), "#1 up".to_owned(), "#1 ENDED".to_owned())]);
        assert_eq!(after.diff(&after), []);
    }
}
