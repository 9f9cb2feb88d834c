//! The command line: wrong arguments, wrong files, and its messages. Needs no server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use serde_json::{Value, json};
use support::source_api::{Answer, TestApi};
use support::{Job, forebay, output, plan, stderr};

#[test]
fn init_writes_files_that_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let init = || {
        let mut command = forebay();
        command.arg("init").current_dir(dir.path());
        output(command)
    };
    assert!(init().status.success());
    let again = init();
    assert_eq!(again.status.code(), Some(2), "existing files are kept");
    assert!(stderr(&again).contains("--force"), "{}", stderr(&again));
    let mut command = forebay();
    command.args(["check", "--json"]).current_dir(dir.path());
    let end = output(command);
    assert!(end.status.success(), "{}", stderr(&end));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["columns"]["id"], &answer["columns"]["dob"]), (&true.into(), &"uuid".into(), &"timestamp".into()));
}

#[test]
fn an_error_in_the_pipeline_file_has_its_line_and_the_nearest_key() {
    let job = Job::new("embedded", "embedded").with("[supervisor]\nmax_restart = 3");
    let end = job.forebay(&["check"]);
    assert_eq!(end.status.code(), Some(2));
    let stderr = stderr(&end);
    assert!(
        stderr.contains("forebay.toml") && stderr.contains("max_restart = 3") && stderr.contains("did you mean `max_restarts`"),
        "{stderr}"
    );
}

#[test]
fn check_reports_each_unknown_kafka_property_and_wrong_value_with_its_line() {
    let properties = "[kafka.properties]\n\"scurity.protocol\" = \"ssl\"\n\"linger.ms\" = \"fast\"";
    let job = Job::new("embedded", "embedded").with(properties);
    let end = job.forebay(&["check", "--json"]);
    assert_eq!(end.status.code(), Some(2), "{}", stderr(&end));
    let error = &serde_json::from_slice::<Value>(&end.stdout).unwrap()["error"];
    let (first, second) = (error, &error["others"][0]);
    assert!(first["message"].as_str().unwrap().starts_with("\"fast\" is no value of `linger.ms`: "), "{error}");
    assert_eq!(second["help"], "did you mean `security.protocol`?", "{error}");
    assert!(first["line"].as_u64() > second["line"].as_u64(), "{error}");
}

#[test]
fn check_reads_the_certificates_of_cassandra_and_shows_the_key_of_an_unusable_one() {
    let job = Job::new("embedded", "127.0.0.1:9042").with_cassandra("tls = { ca = \"ca.pem\" }");
    for (text, message) in [(None, "can't read"), (Some("not PEM"), "has no certificate in PEM")] {
        text.iter().for_each(|text| std::fs::write(job.dir().join("ca.pem"), text).unwrap());
        let end = job.forebay(&["check", "--json"]);
        assert_eq!(end.status.code(), Some(2), "{}", stderr(&end));
        let error = &serde_json::from_slice::<Value>(&end.stdout).unwrap()["error"];
        let (says, help) = (error["message"].as_str().unwrap(), error["help"].as_str().unwrap());
        assert!(says.contains(message) && says.contains("ca.pem") && help.contains("-----BEGIN CERTIFICATE-----"), "{error}");
        assert_eq!(error["line"], 11, "{error}");
    }
}

#[test]
fn a_sql_error_is_shown_at_its_position() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("gender", "gendr");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "-c"]).arg(path);
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    assert!(stderr(&end).contains("gendr") && stderr(&end).contains("gender"), "{}", stderr(&end));
}

#[test]
fn check_and_plan_warn_that_where_keeps_rows() {
    let job = Job::new("embedded", "embedded").with_sql("FROM users_stream", "FROM users_stream\nWHERE gender = 'female'");
    let end = job.forebay(&["check"]);
    assert!(end.status.success() && stderr(&end).contains("warning: WHERE filters records out but deletes no rows"), "{}", stderr(&end));
    let warnings = |job: &Job| {
        let answer: Value = serde_json::from_slice(&job.forebay(&["check", "--json"]).stdout).unwrap();
        answer["warnings"].clone()
    };
    assert_eq!(warnings(&job)[0]["code"], "where_keeps_rows");
    let (code, shown) = plan(&job, &[]);
    assert_eq!((code, &shown["warnings"]), (0, &warnings(&job)));
    let text = job.forebay(&["plan"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("warning: WHERE filters records out"), "{}", String::from_utf8_lossy(&text));
    let plain = warnings(&Job::new("embedded", "embedded"));
    assert_eq!((plain.as_array().unwrap().len(), &plain[0]["code"]), (1, &"topic_key_not_known".into()), "other producers fill the topic");
}

#[test]
fn check_and_plan_warn_if_the_topic_key_does_not_decide_the_row() {
    let job = Job::new("embedded", "embedded").fetching("http://127.0.0.1:9/", None);
    let codes = || {
        let answer: Value = serde_json::from_slice(&job.forebay(&["check", "--json"]).stdout).unwrap();
        answer["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(codes(), [] as [&str; 0], "the producer's key is the primary key");
    let job = job.with_sql("login['uuid']", "lower(login['uuid'])");
    let end = job.forebay(&["check"]);
    assert!(stderr(&end).contains("[producer] key is /login/uuid, and id is no field of its own"), "{}", stderr(&end));
    let (code, plan) = plan(&job, &[]);
    assert_eq!((code, &plan["warnings"][0]["code"]), (0, &"primary_key_not_of_topic_key".into()), "{plan}");
}

#[test]
fn check_warns_where_a_value_can_lose_digits() {
    let third = ", CAST(CAST(location['street']['number'] AS DOUBLE) / 3 AS DECIMAL(9,2)) AS third\nFROM users_stream";
    let job = Job::new("embedded", "embedded").with_sql("FROM users_stream", third);
    let end = job.forebay(&["check"]);
    assert!(end.status.success() && stderr(&end).contains("column `third`: a double becomes Decimal128(9, 2)"), "{}", stderr(&end));
    let answer: Value = serde_json::from_slice(&job.forebay(&["check", "--json"]).stdout).unwrap();
    assert_eq!(answer["warnings"][0]["code"], "loses_digits");
    let what = answer["warnings"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("line ") && what.contains("by its digits"), "{what}");
}

#[test]
fn a_primary_key_column_missing_from_the_select_is_named() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path).unwrap().replace("primary_key = [\"id\"]", "primary_key = [\"user_id\"]");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "--json", "-c"]).arg(path);
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("user_id") && answer["error"]["line"].is_number(), "{answer}");
}

#[test]
fn a_missing_pipeline_file_is_reported_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = forebay();
    command.arg("run").current_dir(dir.path());
    let end = output(command);
    assert_eq!(end.status.code(), Some(2));
    assert!(stderr(&end).contains("forebay init"), "{}", stderr(&end));
}

#[test]
fn commands_without_a_running_pipeline_say_how_to_start_one() {
    let commands: [&[&str]; 11] = [
        &["status"],
        &["trigger"],
        &["runs"],
        &["topics"],
        &["actors"],
        &["dlq"],
        &["tap"],
        &["logs"],
        &["logs", "--follow", "--json"],
        &["pause", "--reason", "x"],
        &["dlq", "redrive"],
    ];
    for command in commands {
        let mut command_line = forebay();
        command_line.args(command).args(["--url", "http://127.0.0.1:9"]);
        let end = output(command_line);
        assert_eq!(end.status.code(), Some(3));
        let text = format!("{}{}", stderr(&end), String::from_utf8_lossy(&end.stdout));
        assert!(text.contains("forebay run"), "{text}");
    }
}

/// An answer with log lines of the process that started at `since`.
fn logs(since: &str, seqs: std::ops::Range<u64>, lost: u64) -> Answer {
    let line = |seq: u64| {
        let message = format!("line {seq} of {since}");
        serde_json::json!({
            "seq": seq, "timestamp": "2026-11-24T10:31:07.412345Z", "level": "WARN", "target": "forebay_actors::writer", "message": message,
            "error": "no answer\u{1b}[2J", "actor": "root/egress/writer",
        })
    };
    let since = format!("2026-11-24T08:00:0{since}Z");
    let (upto, lines) = (seqs.end - 1, seqs.map(line).collect::<Vec<_>>());
    Answer::ok(serde_json::json!({ "lines": lines, "upto": upto, "lost": lost, "since": since }).to_string())
}

#[test]
fn followed_log_lines_are_printed_once_and_gaps_are_reported() {
    let api = TestApi::start(|n| match n {
        0 => logs("1", 1..3, 0),
        1 => logs("1", 9..10, 6),
        2 => logs("2", 10..10, 0),
        3 => logs("2", 1..2, 0),
        _ => Answer::unavailable(),
    });
    let mut command = forebay();
    command.args(["logs", "--follow", "--level", "warn", "--tail", "2", "--url", &api.url]);
    let end = output(command);
    let lines = String::from_utf8(end.stdout.clone()).unwrap();
    let shown: Vec<&str> = lines.lines().filter_map(|line| line.split("  ").nth(2)).map(str::trim).collect();
    assert_eq!(shown, ["line 1 of 1", "line 2 of 1", "line 9 of 1", "line 1 of 2"], "{lines}");
    assert!(lines.starts_with("2026-11-24T10:31:07.412Z  WARN   line 1 of 1  error=\"no answer\\u001b[2J\"  actor=root/egress/writer\n"));
    assert!(stderr(&end).contains("6 lines are missing here") && stderr(&end).contains("the process was restarted"), "{}", stderr(&end));
    assert_eq!(end.status.code(), Some(3), "it ends when the pipeline stops answering");
    let asked = api.asked();
    assert_eq!(asked[0], "/v1/logs?level=warn&limit=2");
    assert_eq!(asked[1], "/v1/logs?after=2&level=warn&limit=1000&wait=20000ms");
    assert_eq!(asked[2], "/v1/logs?after=9&level=warn&limit=1000&wait=20000ms");
    assert_eq!(asked[3], "/v1/logs?after=0&level=warn&limit=1000");
    assert_eq!(asked[4], "/v1/logs?after=1&level=warn&limit=1000&wait=20000ms");
}

#[test]
fn former_names_of_flags_still_work_and_are_hidden() {
    let run = |args: &[&str]| {
        let mut command = forebay();
        command.args(args);
        output(command)
    };
    let end = run(&["logs", "--limit", "1", "--url", "http://127.0.0.1:9"]);
    assert_eq!(end.status.code(), Some(3), "{}", stderr(&end));
    let help = run(&["logs", "--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("--limit"));
}

#[test]
fn doctor_reports_what_is_missing_and_exits_with_3() {
    let job = Job::new("127.0.0.1:9", "127.0.0.1:9").fetching("http://127.0.0.1:9/", None);
    let end = job.forebay(&["doctor", "--timeout", "3s", "--json"]);
    assert_eq!(end.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
    let missing: Vec<&str> =
        answer["findings"].as_array().unwrap().iter().filter(|f| f["ok"] == false).map(|f| f["what"].as_str().unwrap()).collect();
    assert_eq!(missing.len(), 3, "{answer:#}");
    assert!(missing[0].starts_with("Kafka") && missing[1].starts_with("Cassandra") && missing[2].starts_with("API"));
}

#[test]
fn doctor_succeeds_with_an_embedded_broker_and_store() {
    let end = Job::new("embedded", "embedded").forebay(&["doctor"]);
    assert!(end.status.success(), "{}", stderr(&end));
}

#[test]
fn doctor_fetches_a_page_and_transforms_it_into_rows() {
    let api = TestApi::requiring_header("authorization: Bearer of-the-file", |_| Answer::users(0, 3));
    let secrets = tempfile::tempdir().unwrap();
    let token = secrets.path().join("token");
    support::write_secret(&token, "Bearer of-the-file");
    let headers = format!("headers = {{ Authorization = {{ file = {token:?} }} }}");
    let found = |job: &Job, key: &str| {
        let end = job.forebay(&["doctor", "--json"]);
        let answer: Value = serde_json::from_slice(&end.stdout).unwrap();
        let finding = answer["findings"].as_array().unwrap().iter().find(|f| f["what"].as_str().unwrap().starts_with(key)).unwrap().clone();
        (end.status.code().unwrap(), finding["says"].as_str().unwrap().to_owned())
    };
    let job = || Job::new("embedded", "embedded").fetching(&api.url, None);
    let says = "answers 3 records, which give 3 rows; the schema does not have /cell, /id, /nat and 12 more";
    assert_eq!(found(&job().with_fetcher(&headers), "API http"), (0, says.to_owned()));
    let (code, says) = found(&job(), "API http");
    assert!(code == 3 && says.contains("401") && says.contains("[fetcher]"), "{says}");

    let nowhere = TestApi::start(|_| Answer::ok("{\"items\":[]}".to_owned()));
    let (code, says) = found(&Job::new("embedded", "embedded").fetching(&nowhere.url, None), "API http");
    assert!(code == 3 && says.contains("fetcher.records = \"/results\" finds nothing"), "{says}");

    let keyless = TestApi::start(|_| Answer::ok("{\"results\":[{\"id\":1},{\"id\":2}]}".to_owned()));
    let (code, says) = found(&Job::new("embedded", "embedded").fetching(&keyless.url, None), "API http");
    assert!(code == 3 && says.contains("2 records, and each would be a dead letter") && says.contains("no key"), "{says}");

    let half = TestApi::start(|n| Answer::ok(format!("{{\"results\":[{},{{\"id\":{n}}}]}}", support::user(1, 1))));
    let (code, says) = found(&Job::new("embedded", "embedded").fetching(&half.url, None), "API http");
    assert!(code == 0 && says.contains("2 records, which give 1 rows; 1 would be dead letters"), "{says}");
}

#[test]
fn check_and_doctor_hide_secrets_in_urls() {
    let job = Job::new("embedded", "embedded").fetching("http://127.0.0.1:9/weather?q=Lyon&appid=SECRETKEY123", None);
    for args in [&["check"][..], &["check", "--json"], &["doctor", "--timeout", "3s"], &["doctor", "--timeout", "3s", "--json"]] {
        let end = job.forebay(args);
        let all = format!("{}{}", String::from_utf8_lossy(&end.stdout), stderr(&end));
        assert!(!all.contains("SECRETKEY123"), "{args:?}: {all}");
    }
}

#[test]
fn retention_needs_the_embedded_broker_and_has_bounds() {
    let check = |kafka: &str, retention: &str| {
        let end = Job::new(kafka, "embedded").with(&format!("[kafka.retention]\n{retention}")).forebay(&["check"]);
        (end.status.code().unwrap(), stderr(&end))
    };
    assert_eq!(check("embedded", "bytes = \"200MiB\"\ntime = \"1h\"").0, 0);
    for (kafka, retention, says) in [
        ("127.0.0.1:9092", "bytes = \"200MiB\"", "applies to the embedded broker"),
        ("embedded", "bytes = \"1MiB\"", "use 16.0 MiB to"),
        ("embedded", "time = \"1s\"", "use 1m to"),
    ] {
        let (code, stderr) = check(kafka, retention);
        assert!(code == 2 && stderr.contains(says), "{stderr}");
    }
}

#[test]
fn plan_names_unreachable_servers_with_remedies_and_exits_with_3() {
    let job = Job::new("127.0.0.1:9", "127.0.0.1:9").fetching("http://127.0.0.1:9/", Some("10s"));
    let (code, plan) = plan(&job, &["--timeout", "4s"]);
    assert_eq!(code, 3);
    let away: Vec<&str> = plan["away"].as_array().unwrap().iter().map(|away| away.as_str().unwrap()).collect();
    assert!(away[0].starts_with("Kafka 127.0.0.1:9: ") && away[0].contains("bootstrap"), "{plan:#}");
    assert!(away[1].starts_with("Cassandra 127.0.0.1:9: ") && away[1].contains("[cassandra] contact_points"), "{plan:#}");
    assert_eq!(away.len(), 2);
    assert_eq!(
        (&plan["fetch"]["api"], &plan["fetch"]["every"]),
        (&"http://127.0.0.1:9/".into(), &"10s".into()),
        "what is known is reported"
    );
    assert!(!job.dir().join(".forebay").exists(), "nothing is created");
    let end = job.forebay(&["plan", "--timeout", "4s"]);
    assert_eq!(end.status.code(), Some(3));
    assert!(stderr(&end).contains("2 servers did not answer"), "{}", stderr(&end));
    let wrong = Job::new("embedded", "embedded").with("[nonsense]").forebay(&["plan", "--json"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn an_embedded_plan_shows_both_runs_and_changed_sql_and_creates_nothing() {
    let api = TestApi::start(|n| Answer::users_and_next(n * 10, n * 10 + 10, n + 1));
    let cursor = "cursor = { next = \"/info/next\", param = \"since\", start = \"0\" }\nmax_pages = 1";
    let job = Job::new("embedded", "embedded").fetching(&api.url, Some("1h")).with_fetcher(cursor);
    job.write();
    let files = || {
        let mut files: Vec<_> = walk(job.dir()).into_iter().filter(|path| !path.ends_with("api.port")).collect();
        files.sort();
        files
    };
    let before = files();
    let (code, first) = plan(&job, &[]);
    assert_eq!((code, files()), (0, before), "nothing is created");
    let changes = |plan: &Value| plan["changes"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let all = changes(&first);
    for change in
        ["create a journal in", &format!("create topic {}: 4 partitions", job.topic), "create table users_stream of 12", "use the SQL"]
    {
        assert!(all.iter().any(|it| it.starts_with(change)), "{change} in {all:#?}");
    }
    assert_eq!((&first["topics"][1]["kind"], &first["topics"][1]["partitions"]), (&"dead_letters".into(), &1.into()));
    assert_eq!((&first["fetch"]["cursor"]["value"], &first["fetch"]["cursor"]["origin"]), (&"0".into(), &"start".into()));
    assert_eq!((&first["group"]["partitions"][3]["from"], &first["group"]["partitions"][3]["origin"]), (&0.into(), &"begin".into()));
    assert!(!api.asked().iter().any(|path| path.contains("since")), "the API gets no request");

    let fetched = job.forebay(&["run", "--until-idle", "--json"]);
    let stdout = String::from_utf8_lossy(&fetched.stdout);
    assert!(fetched.status.code() == Some(7) && stdout.contains("\"written\":10,"), "the source has more pages than max_pages: {stdout}");
    let after = files();
    let (code, next) = plan(&job, &[]);
    assert_eq!((code, changes(&next)), (0, vec![]), "{next:#}");
    assert!(files().iter().all(|file| after.contains(file)), "nothing is created: {:#?} of {after:#?}", files());
    let starts = next["group"]["partitions"].as_array().unwrap();
    assert!(starts.iter().all(|start| start["from"] == start["end"] && start["origin"] == "group"), "{next:#}");
    assert_eq!(starts.iter().map(|start| start["end"].as_i64().unwrap()).sum::<i64>(), 10);
    assert_eq!((&next["fetch"]["cursor"]["value"], &next["fetch"]["cursor"]["origin"]), (&"1".into(), &"journal".into()));
    assert_eq!((&next["sql"]["changed"], &next["table"]["step"]), (&false.into(), &"keep".into()));
    let text = String::from_utf8(job.forebay(&["plan"]).stdout).unwrap();
    assert!(text.contains("nothing to change") && text.contains("continues with since=1"), "{text}");

    let job = job.with_sql("gender,", "gender, nat,");
    let (code, other) = plan(&job, &[]);
    assert_eq!(
        (code, &other["sql"]["changed"], &other["sql"]["before"]),
        (2, &Value::Null, &Value::Null),
        "the schema has no nat: {other}"
    );
    let job = job.with_sql("gender,", "gender AS sex,");
    let (code, other) = plan(&job, &[]);
    assert_eq!((code, &other["sql"]["changed"], &other["sql"]["before"]), (1, &true.into(), &next["sql"]["fingerprint"]));
    assert!(other["problems"][0].as_str().unwrap().contains("no column sex") && other["table"]["step"] == "refuse", "{other:#}");
    assert_eq!(other["table"]["untouched"], serde_json::json!(["gender"]));
    assert!(changes(&other)[0].contains("in place of"), "{other:#}");
    let running = job.with_sql("gender,", "upper(gender) AS gender,");
    let started = running.start(&[], &[]);
    // The topic grows no more, so that its end offsets and the group's commits belong together.
    started.wait_until("the first fetch is written", |s| s["totals"]["written"] == 10);
    let (code, live) = plan(&running, &[]);
    assert_eq!(
        (code, &live["topics"][0]["step"], &live["sql"]["changed"]),
        (0, &"keep".into(), &false.into()),
        "while a process runs: {live:#}"
    );
    assert_eq!((&live["journal"]["running"], &next["journal"]["running"]), (&true.into(), &false.into()));
    assert!(started.stop().success());
}

/// All files under a directory.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn an_inferred_schema_accepts_its_records_and_a_diff_names_those_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = forebay();
        command.args(args).current_dir(dir.path());
        output(command)
    };
    assert!(run(&["init"]).status.success());
    let records = "{\"id\": 1, \"at\": \"2026-11-30T10:00:00Z\", \"tags\": [], \"code\": 1.5}\n{\"id\": 2, \"at\": null, \"tags\": [], \"code\": \"x\"}\n";
    std::fs::write(dir.path().join("orders.ndjson"), records).unwrap();
    let end = run(&["schema", "infer", "orders.ndjson", "--json"]);
    let inferred: Value = serde_json::from_slice(&end.stdout).unwrap();
    assert_eq!(
        inferred,
        json!({
            "schema": {
                "type": "object",
                "required": ["id", "at", "code"],
                "properties": {
                    "id": { "type": "integer" },
                    "at": { "type": ["string", "null"], "format": "date-time" },
                    "code": { "type": ["number", "string"] },
                },
                "$comment": "Inferred from 2 records of orders.ndjson.",
            },
            "records": 2,
            "not_objects": 0,
            "cut": false,
            "left_out": [{ "field": "/tags", "reason": "its arrays are empty; the type of their items is unknown" }],
            "as_text": [{ "field": "/code", "reason": "because it has several types: a number with a fraction in 1, text in 1" }],
        })
    );

    let end = run(&["schema", "infer", "orders.ndjson"]);
    std::fs::write(dir.path().join("users.schema.json"), &end.stdout).unwrap();
    assert!(stderr(&end).contains("left out: /tags: its arrays are empty"), "{}", stderr(&end));
    let end = run(&["schema", "diff", "orders.ndjson"]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert_eq!(String::from_utf8_lossy(&end.stdout), "? /tags is not in the schema: an array in 2\n");

    std::fs::write(dir.path().join("page.json"), r#"{"data": [{"id": "1", "at": null}, {"id": 2}]}"#).unwrap();
    let end = run(&["schema", "diff", "page.json", "--records", "/data"]);
    assert_eq!(end.status.code(), Some(1));
    let differences = "! /id must be an integer of 64 bits, and is not in 1\n! /at is required, and absent in 1 of 2\n\
                       ! /code is required, and absent in 2 of 2\n";
    assert_eq!(String::from_utf8_lossy(&end.stdout), differences);
    let end = run(&["schema", "infer", "page.json", "--records", "/items"]);
    assert_eq!(end.status.code(), Some(2));
    assert!(stderr(&end).contains("page.json, value 1 has nothing at \"/items\""), "{}", stderr(&end));
    let end = run(&["schema", "infer", "orders.ndjson", "--limit", "1"]);
    assert!(stderr(&end).contains("1 records of orders.ndjson; there are more"), "{}", stderr(&end));
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        "demo", "run", "check", "doctor", "plan", "trigger", "runs", "pause", "drain", "resume", "status", "monitor", "topics", "actors",
        "dlq", "tap", "logs", "query", "init", "schema",
    ] {
        let mut command_line = forebay();
        command_line.args([command, "--help"]);
        let end = output(command_line);
        assert!(end.status.success());
        assert!(String::from_utf8_lossy(&end.stdout).contains("Examples:"), "{command}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let job = Job::new("embedded", "embedded");
    let path = job.write();
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("[kafka]", "[kafka.properties]\n\"sasl.username\" = { env = \"FOREBAY_CANARY\" }\n[kafka]");
    std::fs::write(&path, text).unwrap();
    let mut command = forebay();
    command.args(["check", "-c"]).arg(path).env("FOREBAY_CANARY", "hunter2").env("FOREBAY_LOG", "trace");
    let end = output(command);
    let all = format!("{}{}", stderr(&end), String::from_utf8_lossy(&end.stdout));
    assert!(!all.contains("hunter2"), "{all}");
}
