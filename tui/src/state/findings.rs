//! What is wrong, worst first, in words. A rule each; no rule guesses.

use forebay_schemas::api::{Desired, DesiredState};
use forebay_schemas::run::RunState;
use forebay_schemas::snapshot::{ActorState, ActorView, AlertView, PartitionView, Snapshot};

use super::{Link, SnapshotWindow, Trend};
use crate::text;

/// A restart counts as news for so many seconds.
const NEWS_SECONDS: i64 = 60;
/// A lag that rises is worth a word once it takes so many seconds to write.
const BEHIND_SECONDS: f64 = 5.0;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether something does not work, as opposed to working badly.
    pub(crate) bad: bool,
    /// What, where and why.
    pub(crate) text: String,
}

fn bad(text: String) -> Finding {
    Finding { bad: true, text }
}

fn warn(text: String) -> Finding {
    Finding { bad: false, text }
}

/// What is wrong, worst first.
pub(crate) fn findings(window: &SnapshotWindow, link: &Link) -> Vec<Finding> {
    let mut found = Vec::new();
    match link {
        Link::Live => {}
        Link::Connecting(None) => found.push(warn("no snapshot at the pipeline yet".to_owned())),
        Link::Connecting(Some(why)) => found.push(bad(why.clone())),
        Link::Stale(silent, why) => {
            let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            found.push(bad(format!("all below is {} old{why}", text::seconds(silent.as_secs_f64()))));
        }
    }
    found.extend(plain_findings(window));
    found.sort_by_key(|finding| !finding.bad);
    found
}

/// What is wrong with the pipeline itself, worst first.
pub(crate) fn plain_findings(window: &SnapshotWindow) -> Vec<Finding> {
    let Some(snapshot) = window.newest() else { return Vec::new() };
    let mut found: Vec<_> = snapshot.alerts.iter().map(of_alert).collect();
    found.extend(snapshot.actors.iter().filter_map(|actor| of_actor(actor, snapshot)));
    found.extend(of_desired(snapshot));
    found.extend(snapshot.partitions.iter().filter(|view| view.held_back > 0).map(|view| {
        warn(format!(
            "an open transaction at offset {} of partition {} holds back {} offsets, which are not read before it ends",
            view.end,
            view.partition,
            text::count(view.held_back)
        ))
    }));
    if let Some(edge) = window.bottleneck() {
        found.push(warn(format!(
            "{} holds the rest: blocked {:.0} % of the time, {} of its budget in use",
            edge.name,
            window.blocked(&edge.name) * 100.0,
            text::percent(edge.used_bytes, edge.budget_bytes),
        )));
    }
    if window.lag_trend() == Trend::Rising && window.behind().is_none_or(|behind| behind > BEHIND_SECONDS) {
        let behind = window.behind().map_or("nothing is written".to_owned(), |behind| format!("{} behind", text::seconds(behind)));
        found.push(warn(format!("the lag rises: {} records, {behind}", text::count(window.lag()))));
    }
    let risen = |name: &str, total: fn(&Snapshot) -> u64| match window.rise(total) {
        0 => None,
        rise => Some(warn(format!("{} {name} in the last seconds, {} in all", text::count(rise), text::count(total(snapshot))))),
    };
    found.extend(risen("dead letters", |snapshot| snapshot.totals.rejected).map(|letters| match snapshot.rejects.most_frequent() {
        Some(most) => warn(format!("{}; most often, {most}; forebay dlq shows them", letters.text)),
        None => letters,
    }));
    found.extend(risen("failed fetches", |snapshot| snapshot.totals.fetch_failures));
    found.extend(risen("writes made again", |snapshot| snapshot.totals.write_retries));
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

/// Records whose order is not known, or is not by their own timestamps.
fn of_records(snapshot: &Snapshot) -> Vec<Finding> {
    let sum = |count: fn(&PartitionView) -> u64| snapshot.partitions.iter().map(count).sum::<u64>();
    let (unkeyed, clamped) = (sum(|view| view.unkeyed), sum(|view| view.clamped));
    let mut found = Vec::new();
    if unkeyed > 0 && snapshot.partitions.len() > 1 {
        found.push(warn(format!("{} records have no key: which record of a row is the newest is not known", text::count(unkeyed))));
    }
    if clamped > 0 {
        found.push(warn(format!("{} timestamps lie before the year 2000 or after 2099 and count as none", text::count(clamped))));
    }
    found
}

/// A pipeline that somebody holds is no fault, but whoever wonders why nothing moves is to see it.
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
        ActorState::Waiting => Some(bad(actor.note.as_deref().map_or_else(|| format!("{name} waits"), |note| format!("{name}: {note}")))),
        ActorState::Up => {
            let since = snapshot.at - actor.since;
            let news = actor.incarnation > 1 && since.num_seconds() < NEWS_SECONDS;
            news.then(|| warn(format!("{name} restarted {} ago (#{}){}", text::ago(since), actor.incarnation, because(&actor.last_exit))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{self, window};
    use std::time::Duration;

    #[test]
    fn a_quiet_pipeline_has_nothing_wrong() {
        assert_eq!(findings(&window([test_data::quiet()]), &Link::Live), []);
    }

    #[test]
    fn what_does_not_work_comes_before_what_works_badly() {
        let found = findings(
            &window((0..20).map(|n| test_data::later(n * 500))),
            &Link::Stale(Duration::from_secs(12), Some("timed out".to_owned())),
        );
        assert_eq!(found[0].text, "all below is 12 s old: timed out");
        assert!(found[1].text.starts_with("writer: waiting for cassandra"), "{found:?}");
        assert!(found.is_sorted_by_key(|finding| !finding.bad));
        assert!(
            found.iter().any(|finding| finding.text.starts_with("transformer -> writer holds the rest: blocked 80 % of the time")),
            "{found:?}"
        );
        assert!(
            found.iter().any(|finding| finding.text.starts_with("consumer restarted 22 s ago (#2): failed: group rebalance")),
            "{found:?}"
        );
    }

    #[test]
    fn what_an_open_transaction_holds_back_is_told() {
        let mut snapshot = test_data::busy();
        (snapshot.partitions[0].end, snapshot.partitions[0].held_back) = (7, 3);
        let found = plain_findings(&window([snapshot]));
        let told = "an open transaction at offset 7 of partition 0 holds back 3 offsets, which are not read before it ends";
        assert!(found.iter().any(|finding| finding.text == told), "{found:?}");
    }

    #[test]
    fn records_without_a_key_and_timestamps_that_are_not_believed_are_told_with_their_count() {
        let mut snapshot = test_data::quiet();
        snapshot.partitions = (0..2).map(PartitionView::unknown).collect();
        (snapshot.partitions[0].unkeyed, snapshot.partitions[1].unkeyed, snapshot.partitions[1].clamped) = (3, 4, 5);
        let found = plain_findings(&window([snapshot.clone()]));
        let told = |text: &str| found.iter().any(|finding| finding.text.starts_with(text));
        assert!(told("7 records have no key") && told("5 timestamps lie before the year 2000 or after 2099"), "{found:?}");
        snapshot.partitions.truncate(1);
        let alone = plain_findings(&window([snapshot]));
        assert!(!alone.iter().any(|finding| finding.text.contains("no key")), "in one partition the order is known: {alone:?}");
    }

    #[test]
    fn dead_letters_are_news_while_they_come() {
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
