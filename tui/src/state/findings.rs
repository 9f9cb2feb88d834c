//! Finds what is wrong and puts it in words, worst first. One rule per finding; no rule guesses.

use forebay_schemas::desired::{Desired, DesiredState};
use forebay_schemas::run::RunState;
use forebay_schemas::snapshot::{ActorState, ActorView, AlertView, PartitionView, Snapshot};

use super::{Link, SnapshotWindow, Trend};
use crate::text;

/// How long a restart is reported, in seconds.
const RESTART_REPORT_SECONDS: i64 = 60;
/// A rising lag is reported once writing it takes this many seconds.
const MIN_BEHIND_SECONDS: f64 = 5.0;

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether something is broken, as opposed to slow or unusual.
    pub(crate) bad: bool,
    /// What is wrong, where, and why.
    pub(crate) text: String,
}

fn bad(text: String) -> Finding {
    Finding { bad: true, text }
}

fn warn(text: String) -> Finding {
    Finding { bad: false, text }
}

/// All problems, worst first.
pub(crate) fn findings(window: &SnapshotWindow, link: &Link) -> Vec<Finding> {
    let mut found = Vec::new();
    match link {
        Link::Live => {}
        Link::Connecting(None) => found.push(warn("no snapshot of the pipeline yet".to_owned())),
        Link::Connecting(Some(why)) => found.push(bad(why.clone())),
        Link::Stale(silent, why) => {
            let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            found.push(bad(format!("everything below is {} old{why}", text::seconds(silent.as_secs_f64()))));
        }
    }
    found.extend(plain_findings(window));
    found.sort_by_key(|finding| !finding.bad);
    found
}

/// The problems of the pipeline itself, worst first.
pub(crate) fn plain_findings(window: &SnapshotWindow) -> Vec<Finding> {
    let Some(snapshot) = window.newest() else { return Vec::new() };
    let mut found: Vec<_> = snapshot.alerts.iter().map(of_alert).collect();
    found.extend(snapshot.actors.iter().filter_map(|actor| of_actor(actor, snapshot)));
    found.extend(of_desired(snapshot));
    found.extend(snapshot.partitions.iter().filter(|view| view.held_back > 0).map(|view| {
        warn(format!(
            "an open transaction at offset {} of partition {} holds back {} offsets until it ends",
            view.end,
            view.partition,
            text::count(view.held_back)
        ))
    }));
    if let Some(edge) = window.bottleneck() {
        found.push(warn(format!(
            "{} is the bottleneck: blocked {:.0} % of the time, {} of its budget in use",
            edge.name,
            window.blocked(&edge.name) * 100.0,
            text::percent(edge.used_bytes, edge.budget_bytes),
        )));
    }
    if window.lag_trend() == Trend::Rising && window.behind().is_none_or(|behind| behind > MIN_BEHIND_SECONDS) {
        let behind = window.behind().map_or("nothing is written".to_owned(), |behind| format!("{} behind", text::seconds(behind)));
        found.push(warn(format!("the lag is rising: {} records, {behind}", text::count(window.lag()))));
    }
    let risen = |name: &str, total: fn(&Snapshot) -> u64| match window.rise(total) {
        0 => None,
        rise => Some(warn(format!("{} {name} in the last seconds, {} in all", text::count(rise), text::count(total(snapshot))))),
    };
    found.extend(risen("dead letters", |snapshot| snapshot.totals.rejected).map(|letters| match snapshot.rejects.most_frequent() {
        Some(reject) => warn(format!("{}; most often, {reject}; forebay dlq shows them", letters.text)),
        None => letters,
    }));
    found.extend(risen("failed fetches", |snapshot| snapshot.totals.fetch_failures));
    found.extend(risen("write retries", |snapshot| snapshot.totals.write_retries));
    found.extend(of_records(snapshot));
    if let Some(run) = snapshot.runs.first().filter(|run| run.state == RunState::Failed) {
        let why = run.error.as_ref().map(|error| format!(" in {}: {}", error.stage, error.message)).unwrap_or_default();
        found.push(warn(format!("the newest run {} failed{why}", run.key)));
    }
    found.sort_by_key(|finding| !finding.bad);
    found
}

fn of_alert(alert: &AlertView) -> Finding {
    Finding { bad: alert.severity == "critical", text: format!("{}: {}", alert.name, alert.summary) }
}

/// Records whose order is unknown, or does not follow their own timestamps.
fn of_records(snapshot: &Snapshot) -> Vec<Finding> {
    let sum = |count: fn(&PartitionView) -> u64| snapshot.partitions.iter().map(count).sum::<u64>();
    let (unkeyed, clamped) = (sum(|view| view.unkeyed), sum(|view| view.clamped));
    let mut found = Vec::new();
    if unkeyed > 0 && snapshot.partitions.len() > 1 {
        found.push(warn(format!("{} records have no key: the order of updates to a row is unknown", text::count(unkeyed))));
    }
    if clamped > 0 {
        found.push(warn(format!("{} timestamps are before 2000 or after 2099 and are ignored", text::count(clamped))));
    }
    found
}

/// A pause is not an error, but it explains why nothing moves.
fn of_desired(snapshot: &Snapshot) -> Option<Finding> {
    let Desired { state, by, reason, .. } = &snapshot.desired;
    let word = match state {
        DesiredState::Running => return None,
        DesiredState::Paused => "paused",
        DesiredState::Drained => "drained",
    };
    Some(warn(format!("the pipeline is {word} by {by}: {reason}")))
}

fn of_actor(actor: &ActorView, snapshot: &Snapshot) -> Option<Finding> {
    let name = actor.path.rsplit('/').next().unwrap_or(&actor.path);
    let because = |why: &Option<String>| why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    match actor.state {
        ActorState::Ended => Some(bad(format!("{name} has ended{}", because(&actor.last_exit)))),
        ActorState::Stuck => Some(bad(format!("{name} makes no progress{}", because(&actor.note)))),
        ActorState::Restarting => Some(bad(format!("{name} is down, its restart is scheduled{}", because(&actor.last_exit)))),
        ActorState::Waiting => {
            Some(bad(actor.note.as_deref().map_or_else(|| format!("{name} is waiting"), |note| format!("{name}: {note}"))))
        }
        ActorState::Up => {
            let since = snapshot.at - actor.since;
            let news = actor.incarnation > 1 && since.num_seconds() < RESTART_REPORT_SECONDS;
            news.then(|| warn(format!("{name} restarted {} ago (#{}){}", text::ago(since), actor.incarnation, because(&actor.last_exit))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{self, window};
    use forebay_schemas::offset::Offset;
    use std::time::Duration;

    #[test]
    fn a_quiet_pipeline_has_no_findings() {
        assert_eq!(findings(&window([test_data::quiet()]), &Link::Live), []);
    }

    #[test]
    fn what_is_broken_comes_before_what_is_slow() {
        let found = findings(
            &window((0..20).map(|n| test_data::later(n * 500))),
            &Link::Stale(Duration::from_secs(12), Some("timed out".to_owned())),
        );
        assert_eq!(found[0].text, "everything below is 12 s old: timed out");
        assert!(found[1].text.starts_with("writer: waiting for cassandra"), "{found:?}");
        assert!(found.is_sorted_by_key(|finding| !finding.bad));
        assert!(
            found.iter().any(|finding| finding.text.starts_with("transformer -> writer is the bottleneck: blocked 80 % of the time")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|finding| finding.text.starts_with("consumer restarted 22 s ago (#2): failed: group rebalance")),
            "{found:?}"
        );
    }

    #[test]
    fn an_open_transaction_is_reported() {
        let mut snapshot = test_data::busy();
        (snapshot.partitions[0].end, snapshot.partitions[0].held_back) = (Offset(7), 3);
        let found = plain_findings(&window([snapshot]));
        let reported = "an open transaction at offset 7 of partition 0 holds back 3 offsets until it ends";
        assert!(found.iter().any(|finding| finding.text == reported), "{found:?}");
    }

    #[test]
    fn records_without_a_key_and_ignored_timestamps_are_reported() {
        let mut snapshot = test_data::quiet();
        snapshot.partitions = (0..2).map(PartitionView::unknown).collect();
        (snapshot.partitions[0].unkeyed, snapshot.partitions[1].unkeyed, snapshot.partitions[1].clamped) = (3, 4, 5);
        let found = plain_findings(&window([snapshot.clone()]));
        let reported = |text: &str| found.iter().any(|finding| finding.text.starts_with(text));
        assert!(reported("7 records have no key") && reported("5 timestamps are before 2000 or after 2099"), "{found:?}");
        snapshot.partitions.truncate(1);
        let alone = plain_findings(&window([snapshot]));
        assert!(!alone.iter().any(|finding| finding.text.contains("no key")), "in one partition the order is known: {alone:?}");
    }

    #[test]
    fn dead_letters_are_reported_while_their_number_rises() {
        let mut worse = test_data::later(500);
        worse.totals.rejected += 3;
        let found = plain_findings(&window([test_data::later(0), worse]));
        assert!(found.iter().any(|finding| finding.text == "3 dead letters in the last seconds, 15 in all"), "{found:?}");
        let mut worse = test_data::later(500);
        worse.totals.rejected += 3;
        worse.rejects.add("decode", "not JSON", 15);
        let found = plain_findings(&window([test_data::later(0), worse]));
        let text = "3 dead letters in the last seconds, 15 in all; most often, 15 at decode: not JSON; forebay dlq shows them";
        assert!(found.iter().any(|finding| finding.text == text), "{found:?}");
    }
}
