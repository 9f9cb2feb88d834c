//! The plan of a start: what it would do, from the file, the journal, and the state of Kafka and
//! the store. For `forebay plan`.
//!
//! Sends no request and writes nothing.
//!
//! Guarantees:
//! * The plan uses the rules of the start: the same topics, the same check of the table, the same
//!   commands to the ledger, and the same start offsets.
//!
//! Does not guarantee that the state is still the same when the pipeline starts.

use std::collections::BTreeMap;

use chrono::DateTime;
use forebay_schemas::closing_summary::HeldBack;
use forebay_schemas::event::{Event, Recorded, StartOrigin};
use forebay_schemas::offset::{Checkpoint, Offset, Partition};
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::run_plan::{
    ColumnPlan, CursorPlan, FetchPlan, GroupPlan, JournalPlan, RetentionPlan, RunPlan, SettingPlan, SqlPlan, StartPlan, Step, TablePlan,
    TopicPlan, Warning,
};
use forebay_schemas::source_read::Read;

use super::blueprint::Blueprint;
use super::options::Role;
use super::startup_commands::startup_commands;
use crate::broker::{ClusterState, Committed, TopicDescription, TopicState, WantedTopic};
use crate::consumer::{ConsumerError, preview_start};
use crate::data_dir::{is_running, journal_dir};
use crate::ledger::State;
use forebay_dataplane::store::{Store, TableDescription, TableSpec};

/// Plans a start. `before` is the fold of the journal. `kafka` and `table` are the state of the
/// servers, or why it is unknown; `table` is `None` if the pipeline does not write.
pub fn plan_start(
    blueprint: &Blueprint,
    before: &State,
    kafka: Result<ClusterState, String>,
    table: Option<Result<TableDescription, String>>,
) -> RunPlan {
    let pipeline = &blueprint.pipeline;
    let (after, events) = started(blueprint, before);
    let mut plan = RunPlan {
        pipeline: pipeline.meta.name.clone(),
        warnings: blueprint.warnings(),
        journal: journal(pipeline, before),
        ..RunPlan::default()
    };
    if before.seq == 0 {
        plan.changes.push(format!("create a journal in {}", plan.journal.folder));
    }
    match kafka {
        Ok(cluster) => {
            plan.topics = cluster.topics.iter().map(|(wanted, there)| topic(pipeline, wanted, there.as_ref())).collect();
            plan.changes.extend(plan.topics.iter().filter(|topic| topic.step == Step::Make).map(creation));
            let same_name = before.topic == pipeline.kafka.topic;
            let id = cluster.topics.first().and_then(|(_, there)| there.as_ref()?.id);
            if let Some((before, now)) = before.topic_id.zip(id).filter(|(before, now)| before != now && same_name) {
                plan.changes.push(format!(
                    "read {} from its start: it was deleted and created again, its id is {now} and was {before}; open runs fail as retryable",
                    pipeline.kafka.topic
                ));
            }
            if let Some(consumer) = &pipeline.consumer {
                plan.group = Some(group(&consumer.group, &cluster, &after, &mut plan.problems));
            }
        }
        Err(error) => plan.away.push(error),
    }
    match (table, blueprint.table.as_deref()) {
        (Some(Ok(look)), Some(spec)) => {
            let there = self::table(pipeline, spec, &look);
            if there.keyspace_step == Some(Step::Make) {
                plan.changes.push(format!("create keyspace {}, {} replicas per datacenter", spec.keyspace, spec.replication));
            }
            if there.step == Step::Make {
                let (columns, key) = (spec.columns.len(), spec.key_cql(spec.partition));
                plan.changes.push(format!("create table {} of {columns} columns, primary key ({key})", there.name));
            }
            plan.warnings.extend(look.options.iter().map(|what| Warning { code: "table_option".to_owned(), what: what.clone() }));
            plan.problems.extend(look.differences.iter().map(|(what, remedy)| format!("{what}; {remedy}")));
            plan.table = Some(there);
        }
        (Some(Err(error)), _) => plan.away.push(error),
        _ => {}
    }
    plan.sql = sql(blueprint, before, plan.group.as_ref());
    plan.changes.extend(events.iter().filter_map(|event| match event {
        Event::PipelineStarted { .. } => None,
        Event::SourceNamed { .. } if before.source.name.is_empty() => None,
        Event::TransformActivated { fingerprint, .. } => Some(match &before.sql {
            Some(sql) => format!("use the SQL {fingerprint} in place of {}", sql.fingerprint),
            None => format!("use the SQL {fingerprint}"),
        }),
        other => Some(other.to_string()),
    }));
    let resets = plan.group.iter().flat_map(|group| &group.partitions).filter(|start| start.origin == Some(StartOrigin::Reset));
    plan.changes.extend(
        resets
            .map(|start| format!("read partition {} again from its start: the group has no offset of the present topic", start.partition)),
    );
    plan.fetch = fetch(pipeline, &after);
    plan.retention = pipeline.kafka.is_embedded().then(|| {
        let retention = pipeline.kafka.retention();
        RetentionPlan { bytes: retention.bytes.0, seconds: retention.time.0.as_secs() }
    });
    plan
}

/// The state after the startup commands, and their events.
fn started(blueprint: &Blueprint, before: &State) -> (State, Vec<Event>) {
    let (mut state, mut all) = (before.clone(), Vec::new());
    for command in startup_commands(blueprint, &Role::ALL) {
        for event in state.decide(command).unwrap_or_default() {
            let recorded = Recorded::new(state.seq + 1, DateTime::UNIX_EPOCH, event);
            state.evolve(&recorded);
            all.push(recorded.event);
        }
    }
    (state, all)
}

fn journal(pipeline: &Pipeline, before: &State) -> JournalPlan {
    JournalPlan {
        folder: journal_dir(pipeline).display().to_string(),
        last: before.seq,
        running: is_running(pipeline),
        desired: before.desired.clone(),
    }
}

fn topic(pipeline: &Pipeline, wanted: &WantedTopic, there: Option<&TopicDescription>) -> TopicPlan {
    let WantedTopic { name, partitions: asked, replication, settings } = wanted;
    let is_records = *name == pipeline.kafka.topic;
    let setting = |(setting, asked): &(&str, String)| {
        let there = there.and_then(|there| there.settings.get(*setting).cloned());
        SettingPlan { name: (*setting).to_owned(), asked: asked.clone(), there }
    };
    let mut plan = TopicPlan {
        name: name.clone(),
        kind: if is_records { "records" } else { "dead_letters" }.to_owned(),
        step: Step::Make,
        partitions: *asked,
        replication: Some(*replication),
        settings: settings.iter().map(setting).collect(),
        differences: Vec::new(),
    };
    let Some(there) = there else { return plan };
    (plan.step, plan.replication) = (Step::Keep, None);
    plan.partitions = i32::try_from(there.ends.len()).unwrap_or(i32::MAX);
    if is_records && plan.partitions != *asked {
        plan.differences.push(TopicState { topic: name.clone(), partitions: plan.partitions, wanted: *asked, created: false }.to_string());
    }
    let differing = |setting: &SettingPlan| {
        let there = setting.there.as_ref().filter(|there| **there != setting.asked)?;
        Some(format!("{} is {there}; a topic made by forebay has {}", setting.name, setting.asked))
    };
    plan.differences.extend(plan.settings.iter().filter_map(differing));
    let held = there.held_back.iter().map(|(&partition, &range)| HeldBack { partition, range });
    plan.differences.extend(held.map(|held| format!("{held}, which are not read before it ends")));
    plan
}

fn creation(topic: &TopicPlan) -> String {
    let settings: String = topic.settings.iter().map(|setting| format!(", {} = {}", setting.name, setting.asked)).collect();
    format!("create topic {}: {} partitions, {} replicas{settings}", topic.name, topic.partitions, topic.replication.unwrap_or(1))
}

fn group(name: &str, cluster: &ClusterState, after: &State, problems: &mut Vec<String>) -> GroupPlan {
    let checkpoints = after.checkpoints();
    let Some((wanted, there)) = cluster.topics.first() else { return GroupPlan::default() };
    let id = there.as_ref().and_then(|there| there.id);
    let ends: BTreeMap<Partition, (Offset, Offset)> = match there {
        Some(there) => there.ends.clone(),
        None => (0..wanted.partitions).map(|partition| (partition, (Offset(0), Offset(0)))).collect(),
    };
    let mut partitions = Vec::with_capacity(ends.len());
    for (partition, (start_offset, end_offset)) in ends {
        let (committed, known): (Option<&Committed>, Option<&Checkpoint>) =
            (cluster.committed.get(&partition), checkpoints.get(&partition));
        let found = preview_start(committed.map(|it| (it.offset, it.metadata.as_str())), known.copied(), (start_offset, end_offset), id);
        if let Err(committed) = found {
            let (group, topic) = (name.to_owned(), wanted.name.clone());
            problems.push(ConsumerError::OutOfRange { group, topic, partition, committed, start_offset, end_offset }.to_string());
        }
        partitions.push(StartPlan {
            partition,
            begin: start_offset,
            end: end_offset,
            committed: committed.map(|it| it.offset),
            written: known.map(|checkpoint| checkpoint.offset),
            from: found.ok().map(|start| start.checkpoint.offset),
            origin: found.ok().map(|start| start.origin),
        });
    }
    GroupPlan { name: name.to_owned(), members: cluster.members.map(|members| members as u64), partitions }
}

fn table(pipeline: &Pipeline, spec: &TableSpec, look: &TableDescription) -> TablePlan {
    let missing = if spec.create { Step::Make } else { Step::Refuse };
    let keyspace_step = look.keyspace.map(|there| if there { Step::Keep } else { missing });
    let step = match (look.columns.is_empty(), look.differences.is_empty()) {
        (true, _) => missing,
        (false, true) => Step::Keep,
        (false, false) => Step::Refuse,
    };
    let in_cassandra = look.keyspace.is_some();
    let cql = [(keyspace_step, spec.create_keyspace_cql()), (Some(step), spec.create_table_cql())];
    let tombstones: Vec<&str> = spec.tombstones().filter(|_| in_cassandra).map(|column| column.name.as_str()).collect();
    let there = |name: &str| look.columns.iter().find(|(other, _)| other == name).map(|(_, there)| there.clone());
    let columns = spec.columns.iter().enumerate().map(|(at, column)| ColumnPlan {
        name: column.name.clone(),
        cql: column.cql.to_string(),
        there: there(&column.name),
        key: spec.is_key(at),
        tombstone: tombstones.contains(&column.name.as_str()),
    });
    let is_written = |name: &String| spec.columns.iter().any(|column| column.name == *name);
    TablePlan {
        store: Store::describe_of(pipeline),
        keyspace: spec.keyspace.clone(),
        keyspace_step,
        name: if in_cassandra { spec.name() } else { spec.table.clone() },
        step,
        cql: cql.into_iter().filter(|(step, _)| in_cassandra && *step == Some(Step::Make)).map(|(_, cql)| cql).collect(),
        columns: columns.collect(),
        untouched: look.columns.iter().map(|(name, _)| name.clone()).filter(|name| !is_written(name)).collect(),
    }
}

fn sql(blueprint: &Blueprint, before: &State, group: Option<&GroupPlan>) -> Option<SqlPlan> {
    let fingerprint = blueprint.transform.as_ref()?.fingerprint();
    let before = before.sql.as_ref().map(|sql| sql.fingerprint.clone());
    let changed = before.as_ref().is_some_and(|before| *before != fingerprint);
    let waiting: u64 = group.iter().flat_map(|group| &group.partitions).map(StartPlan::waiting).sum();
    let follows = match (&before, changed) {
        (None, _) => "it is the first SQL of this journal".to_owned(),
        (Some(_), false) => "it is already in use".to_owned(),
        (Some(_), true) => format!(
            "it applies to records that are read from now on, {waiting} offsets wait; existing rows stay as the previous SQL made them, \
             until `forebay replay --from earliest` reads their records again"
        ),
    };
    Some(SqlPlan { fingerprint, before, changed, follows })
}

fn fetch(pipeline: &Pipeline, after: &State) -> Option<FetchPlan> {
    let table = pipeline.fetcher.as_ref()?;
    let paging = table.paging();
    let cursor = paging.as_ref().and_then(|paging| {
        let known = after.cursors.position(&Read::default());
        let (value, origin) = match (known.cursor(), &paging.start) {
            (Some(value), _) => (value, "journal"),
            (None, Some(value)) => (value.as_str(), "start"),
            (None, None) => return None,
        };
        let param = paging.param.clone().unwrap_or_else(|| paging.next.carries().unwrap_or("url").to_owned());
        Some(CursorPlan { param, value: value.to_owned(), origin: origin.to_owned() })
    });
    Some(FetchPlan {
        api: table.url.to_string(),
        every: table.every.map(|every| every.to_string()),
        cursor,
        reads: if paging.is_some() { after.cursors.len() as u64 } else { 0 },
        open_runs: after.runs.unfetched().len() as u64,
    })
}

#[cfg(test)]
mod tests {
    use forebay_schemas::event::{Start, Starts};
    use forebay_schemas::offset::{Epoch, Range, WriteTimestamp};
    use forebay_schemas::topic_id::TopicId;

    use super::*;
    use forebay_dataplane::commit_metadata::CommitMetadata;

    const FILE: &str = r#"
[pipeline]
name = "users"
[kafka]
bootstrap = "127.0.0.1:9"
topic = "users"
partitions = 4
[cassandra]
contact_points = ["127.0.0.1:9"]
keyspace = "k"
create = true
[consumer]
group = "g"
[transformer]
schema = "users.schema.json"
sql = "SELECT id, name FROM users"
[writer]
table = "t"
primary_key = ["id"]
"#;
    const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"name":{"type":["string","null"]}}}"#;

    fn blueprint(folder: &tempfile::TempDir, from: &str, to: &str) -> Blueprint {
        std::fs::write(folder.path().join("users.schema.json"), SCHEMA).unwrap();
        let file = FILE.replace(from, to);
        Blueprint::new(forebay_schemas::pipeline::parse(&folder.path().join("forebay.toml"), file).unwrap()).unwrap()
    }

    fn id() -> Option<TopicId> {
        TopicId::from_bits(7)
    }

    /// An existing topic with these ends and these committed offsets.
    fn cluster(blueprint: &Blueprint, ends: &[(i64, i64)], committed: &[(Partition, Checkpoint)]) -> ClusterState {
        let [records, dead] = crate::broker::wanted_topics(&blueprint.pipeline);
        let settings = BTreeMap::from([("message.timestamp.type".to_owned(), "CreateTime".to_owned())]);
        let ends = ends.iter().map(|&(start, end)| (Offset(start), Offset(end)));
        let there = TopicDescription { id: id(), ends: (0..).zip(ends).collect(), held_back: BTreeMap::new(), settings };
        let commit = |(partition, checkpoint): &(Partition, Checkpoint)| {
            (*partition, Committed { offset: checkpoint.offset, metadata: CommitMetadata::new(checkpoint, id()).to_string() })
        };
        ClusterState {
            topics: vec![(records, Some(there)), (dead, None)],
            committed: committed.iter().map(commit).collect(),
            members: Some(0),
        }
    }

    /// The state of a journal with these checkpoints and another SQL.
    fn before(checkpoints: &[(Partition, Checkpoint)]) -> State {
        let starts: Starts =
            checkpoints.iter().map(|&(partition, checkpoint)| (partition, Start { checkpoint, origin: StartOrigin::Group })).collect();
        let mut state = State::default();
        for event in [
            Event::PipelineStarted { version: "1".into(), roles: vec![], topic: "users".into(), group: "g".into() },
            Event::TransformActivated { sql: "SELECT 1".into(), fingerprint: "0badcafe".into() },
            Event::PartitionsAssigned { starts },
        ] {
            state.evolve(&Recorded::new(state.seq + 1, DateTime::UNIX_EPOCH, event));
        }
        state
    }

    fn checkpoint(offset: i64, epoch: u32) -> Checkpoint {
        Checkpoint { offset: Offset(offset), write_clock: WriteTimestamp::from_micros(1), epoch: Epoch::new(epoch) }
    }

    #[test]
    fn partitions_start_where_the_consumer_would_start_them_or_are_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let blueprint = blueprint(&folder, "", "");
        let before = before(&[(0, checkpoint(9, 7)), (1, checkpoint(9, 7)), (2, checkpoint(9, 7))]);
        let kafka = cluster(
            &blueprint,
            &[(0, 20), (0, 20), (0, 20), (5, 20)],
            &[(0, checkpoint(4, 7)), (1, checkpoint(4, 8)), (3, checkpoint(4, 7))],
        );
        let plan = super::plan_start(
            &blueprint,
            &before,
            Ok(kafka),
            Some(Ok(TableDescription { keyspace: Some(false), ..TableDescription::default() })),
        );
        let group = plan.group.unwrap();
        let starts: Vec<_> = group.partitions.iter().map(|start| (start.from.map(Offset::value), start.origin, start.waiting())).collect();
        assert_eq!(
            starts,
            [
                (Some(9), Some(StartOrigin::Journal), 11),
                (Some(4), Some(StartOrigin::Group), 16),
                (Some(0), Some(StartOrigin::Reset), 20),
                (None, None, 0)
            ]
        );
        assert!(plan.problems[0].contains("offset 4 of users[3]") && plan.problems[0].contains("forebay replay"), "{:?}", plan.problems);
        assert_eq!(
            plan.changes,
            [
                "create topic users.dead: 1 partitions, 1 replicas, message.timestamp.type = LogAppendTime, max.message.bytes = 1114124"
                    .to_owned(),
                "create keyspace k, 1 replicas per datacenter".to_owned(),
                "create table k.t of 2 columns, primary key (id)".to_owned(),
                format!("use the SQL {} in place of 0badcafe", plan.sql.as_ref().unwrap().fingerprint),
                "read partition 2 again from its start: the group has no offset of the present topic".to_owned(),
            ]
        );
        assert!(plan.sql.unwrap().follows.contains("47 offsets wait"));
    }

    #[test]
    fn a_re_created_topic_is_read_from_its_start_and_held_back_offsets_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let blueprint = blueprint(&folder, "", "");
        let mut before = before(&[(0, checkpoint(9, 7))]);
        let known = Event::TopicIdentified { id: TopicId::from_bits(1).unwrap() };
        before.evolve(&Recorded::new(before.seq + 1, DateTime::UNIX_EPOCH, known));
        let mut kafka = cluster(&blueprint, &[(0, 20)], &[]);
        let of_before =
            Committed { offset: Offset(9), metadata: CommitMetadata::new(&checkpoint(9, 7), TopicId::from_bits(1)).to_string() };
        kafka.committed.insert(0, of_before);
        kafka.topics[0].1.as_mut().unwrap().held_back.insert(0, Range { from: Offset(20), to: Offset(23) });
        let plan = super::plan_start(&blueprint, &before, Ok(kafka), None);
        let start = &plan.group.unwrap().partitions[0];
        assert_eq!((start.from, start.origin, start.waiting()), (Some(Offset(0)), Some(StartOrigin::Reset), 20));
        assert!(plan.changes.iter().any(|change| change.contains("it was deleted and created again")), "{:?}", plan.changes);
        let differences = &plan.topics[0].differences;
        let held_back = "an open transaction at offset 20 of partition 0 holds back 3 offsets, which are not read before it ends";
        assert!(differences.iter().any(|difference| difference == held_back), "{differences:?}");
    }

    #[test]
    fn differences_are_reported_and_a_missing_table_is_refused_without_create() {
        let folder = tempfile::tempdir().unwrap();
        let blueprint = blueprint(&folder, "create = true", "create = false");
        let table = TableDescription {
            keyspace: Some(true),
            columns: vec![("id".into(), "text".into()), ("more".into(), "int".into())],
            differences: vec![("table k.t has no column name".into(), "add it".into())],
            options: vec!["gc_grace_seconds of table k.t is 7200, the pipeline file has 3600".into()],
        };
        let kafka = cluster(&blueprint, &[(0, 0)], &[]);
        let plan = super::plan_start(&blueprint, &before(&[]), Ok(kafka.clone()), Some(Ok(table)));
        assert_eq!(
            plan.topics[0].differences,
            [
                "users, 1 partitions (kafka.partitions is 4; the topic's number applies)",
                "message.timestamp.type is CreateTime; a topic made by forebay has LogAppendTime",
            ]
        );
        let option = plan.warnings.iter().find(|warning| warning.code == "table_option").unwrap();
        assert!(option.what.contains("is 7200"), "{option:?}");
        let there = plan.table.unwrap();
        assert_eq!(
            (there.step, there.keyspace_step, there.untouched.as_slice()),
            (Step::Refuse, Some(Step::Keep), &["more".to_owned()][..])
        );
        let name = &there.columns[1];
        assert!(name.tombstone && !name.key && name.there.is_none() && there.columns[0].there.as_deref() == Some("text"));
        assert_eq!((plan.problems, there.cql), (vec!["table k.t has no column name; add it".to_owned()], vec![]));
        let missing = TableDescription { keyspace: Some(false), ..TableDescription::default() };
        let there = super::plan_start(&blueprint, &before(&[]), Ok(kafka), Some(Ok(missing))).table.unwrap();
        assert_eq!((there.step, there.keyspace_step, there.cql), (Step::Refuse, Some(Step::Refuse), vec![]));
    }

    #[test]
    fn where_and_unnest_give_a_warning_and_a_plain_select_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        for (from, to, codes) in [
            ("", "", &[][..]),
            ("FROM users\"", "FROM users WHERE name <> 'x'\"", &["where_keeps_rows"]),
            ("id, name FROM", "id, unnest(string_to_array(name, ',')) AS name FROM", &["unnest_keeps_rows"]),
        ] {
            let plan = super::plan_start(&blueprint(&folder, from, to), &State::default(), Err("kafka".into()), None);
            // The warning about the topic's key comes with each of them.
            let (of_keys, of_sql): (Vec<_>, Vec<_>) = plan.warnings.iter().partition(|warning| warning.code == "topic_key_not_known");
            assert_eq!((of_keys.len(), of_sql.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>()), (1, codes.to_vec()));
            assert!(of_sql.iter().all(|warning| warning.what.contains("stay")), "{:?}", plan.warnings);
            assert!(plan.problems.is_empty(), "a warning is no problem: {:?}", plan.problems);
        }
    }

    #[test]
    fn an_unavailable_server_is_reported_and_nothing_about_it() {
        let folder = tempfile::tempdir().unwrap();
        let plan = super::plan_start(&blueprint(&folder, "", ""), &State::default(), Err("kafka".into()), Some(Err("cassandra".into())));
        assert_eq!((plan.away.as_slice(), plan.problems.len()), (&["kafka".to_owned(), "cassandra".to_owned()][..], 0));
        assert!(plan.topics.is_empty() && plan.table.is_none() && plan.group.is_none() && plan.fetch.is_none());
        assert!(plan.changes[0].starts_with("create a journal in ") && plan.changes[1].starts_with("use the SQL "), "{:?}", plan.changes);
    }
}
