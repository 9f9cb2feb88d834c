use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::template::Values;

const USERS: &str = r#"
[pipeline]
name = "users"

[kafka]
bootstrap = "embedded"
topic = "users_stream"

[cassandra]
contact_points = "embedded"
keyspace = "forebay"

[fetcher]
url = "https://randomuser.me/api/?results=100"
records = "/results"
every = "10s"

[producer]
key = "/login/uuid"

[consumer]
group = "users"

[transformer]
schema = "users.schema.json"
sql = "SELECT 1"

[writer]
table = "users_stream"
primary_key = ["id"]
"#;

fn parse_text(text: &str) -> Result<Pipeline, FileError> {
    parse(Path::new("dir/forebay.toml"), text.to_owned())
}

/// The error of the users file with one line put in place of another.
fn error_of(line: &str, instead: &str) -> FileError {
    assert!(USERS.contains(line), "{line} is not in the file");
    parse_text(&USERS.replace(line, instead)).expect_err("the file is wrong")
}

#[test]
fn the_defaults_match_the_documentation() {
    let p = parse_text(USERS).unwrap();
    assert_eq!(p.kafka.partitions, 4);
    assert_eq!(p.kafka.dead_letter_topic(), "users_stream.dead");
    assert_eq!(p.data_dir(), Path::new("dir/.forebay"));
    assert_eq!(p.writer.unwrap().consistency, ConsistencyLevel::LocalQuorum);
    assert_eq!(p.consumer.unwrap().batch.max_wait.0, Duration::from_millis(5));
    assert_eq!(p.api.listen, "127.0.0.1:7070");
}

/// The error of the users file with an `[api]` table.
fn api_error(api: &str) -> FileError {
    parse_text(&format!("{USERS}\n[api]\n{api}\n")).expect_err("the file is wrong")
}

#[test]
fn listening_beyond_loopback_needs_a_token_and_the_error_shows_one() {
    let error = api_error("listen = \"0.0.0.0:7070\"");
    assert!(error.to_string().contains("no token") && error.line().is_some(), "{error}");
    assert!(error.remedy().unwrap().contains("tokens = { operator = { env ="), "{:?}", error.remedy());
    let with = |api: &str| parse_text(&format!("{USERS}\n[api]\n{api}\n")).unwrap();
    with("listen = \"0.0.0.0:7070\"\ntokens = { viewer = { env = \"A\" }, admin = { file = \"b\" } }");
    assert_eq!(with("listen = \"unix:run/forebay.sock\"").api.socket(), Some("run/forebay.sock"));
}

#[test]
fn errors_in_the_api_section_have_their_line_and_remedy() {
    for (api, remedy) in [
        ("listen = \"unix:\"", "unix:forebay.sock"),
        ("hosts = [\"http://forebay\"]", "forebay:7070"),
        ("origins = [\"ops.example.org\"]", "https://ops.example.org"),
        ("mask = [\"name\"]", "\"/name\""),
        ("tokens = { operator = \"hunter2\" }", ""),
    ] {
        let error = api_error(api);
        assert!(error.remedy().unwrap_or_default().contains(remedy) && error.line().is_some(), "{api}: {error} {:?}", error.remedy());
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn the_cursor_parameter_can_not_be_a_run_parameter() {
    let records = "records = \"/results\"";
    let with = |line: &str| USERS.replace(records, &format!("{records}\n{line}"));
    assert_eq!(parse_text(&with("params = [\"results\"]")).unwrap().fetcher.unwrap().params, ["results"]);
    let cursor = "cursor = { next = \"/next\", param = \"since\" }\nparams = [\"since\"]";
    assert!(parse_text(&with(cursor)).unwrap_err().to_string().contains("carries the cursor"));
    assert!(parse_text(&with("params = [\"\"]")).is_err());
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_key() {
    let error = error_of("topic = \"users_stream\"", "topik = \"users_stream\"");
    assert_eq!(error.line(), Some(7));
    assert_eq!(error.remedy(), Some("did you mean `topic`?"));
}

#[test]
fn a_value_out_of_range_is_an_error_with_the_range() {
    let error = error_of("topic = \"users_stream\"", "topic = \"users_stream\"\npartitions = 0");
    assert_eq!(error.line(), Some(8));
    assert_eq!(error.remedy(), Some("use 1 to 10000"));
}

#[test]
fn a_pointer_without_its_slash_is_corrected() {
    let error = error_of("\"/login/uuid\"", "\"login.uuid\"");
    assert_eq!(error.remedy(), Some("a JSON pointer starts with a slash: \"/login/uuid\""));
}

#[test]
fn cursor_errors_have_their_line_and_remedy() {
    let records = "records = \"/results\"";
    let fetcher = |line: &str| parse_text(&USERS.replace(records, &format!("{records}\n{line}"))).map(|p| p.fetcher.unwrap());
    let none = fetcher("").unwrap();
    assert!(none.cursor.is_none() && none.max_pages == 100_000);
    let some = fetcher("cursor = { next = \"/info/next\", param = \"since\" }\nmax_pages = 7").unwrap();
    let cursor = some.cursor.unwrap();
    assert_eq!((cursor.next.as_str(), cursor.param.as_str(), cursor.start, some.max_pages), ("/info/next", "since", None, 7));
    assert_eq!((cursor.has_more, cursor.max_empty_pages), (None, 10));
    let more = fetcher("cursor = { next = \"/next\", param = \"p\", has_more = \"/more\", max_empty_pages = 0 }").unwrap().cursor.unwrap();
    assert_eq!((more.has_more.as_deref(), more.max_empty_pages), (Some("/more"), 0));
    let line = 1 + USERS.lines().position(|line| line == records).unwrap() + 1;
    for (text, remedy) in [
        ("cursor = { next = \"info.next\", param = \"since\" }", "starts with a slash: \"/info/next\""),
        ("cursor = { next = \"\", param = \"since\" }", "such as \"/info/next\""),
        ("cursor = { next = \"/info/next\", param = \"\" }", "such as \"since\""),
        ("cursor = { next = \"/info/next\", parm = \"since\" }", "did you mean `param`?"),
        ("cursor = { next = \"/next\", param = \"p\", has_more = \"more\" }", "starts with a slash: \"/more\""),
        ("cursor = { next = \"/next\", param = \"p\", has_more = \"\" }", "remove"),
        ("cursor = { next = \"/next\", param = \"p\", max_empty_pages = 10001 }", "use 0 to 10000"),
        ("max_pages = 0", "use 1 to 100000"),
        ("max_pages = 100001", "use 1 to 100000"),
    ] {
        let error = fetcher(text).expect_err(text);
        assert_eq!(error.line(), Some(line), "{text}: {error}");
        assert!(error.remedy().is_some_and(|said| said.contains(remedy)), "{text}: {error}: {:?}", error.remedy());
    }
}

#[test]
fn half_of_a_half_is_an_error_with_the_missing_sections() {
    let error = error_of("[writer]\ntable = \"users_stream\"\nprimary_key = [\"id\"]\n", "");
    assert!(error.to_string().contains("needs [writer]"), "{error}");
}

#[test]
fn a_pipeline_can_be_one_half() {
    let egress = USERS.split("[fetcher]").next().unwrap().to_owned() + "[consumer]" + USERS.split("[consumer]").nth(1).unwrap();
    let p = parse_text(&egress).unwrap();
    assert!(p.writes() && !p.ingests());
}

#[test]
fn a_secret_as_text_is_an_error_that_does_not_repeat_it() {
    let error = error_of("keyspace = \"forebay\"", "keyspace = \"forebay\"\nusername = \"hunter2\"\npassword = \"hunter2\"");
    assert!(error.to_string().contains("not text"), "{error}");
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_secret_is_read_when_needed_and_printed_as_a_reference() {
    let text =
        USERS.replace("keyspace = \"forebay\"", "keyspace = \"forebay\"\nusername = { env = \"PATH\" }\npassword = { file = \"no/such\" }");
    let cassandra = parse_text(&text).unwrap().cassandra.unwrap();
    assert!(cassandra.username.as_ref().unwrap().reveal(Path::new("x")).is_ok());
    assert!(cassandra.password.as_ref().unwrap().reveal(Path::new("x")).is_err());
    assert_eq!(format!("{:?}", cassandra.username.unwrap()), "{ env = \"PATH\" }");
}

/// The error that is shown for the users file with lines added before `[cassandra]` and in
/// `[fetcher]`, as text with the excerpt of the file.
fn shown_error(kafka: &str, fetcher: &str) -> (FileError, String) {
    let text = USERS.replace("[cassandra]", &format!("[kafka.properties]\n{kafka}\n[cassandra]"));
    let error = parse_text(&text.replace("every = \"10s\"", fetcher)).expect_err("the file is wrong");
    let mut shown = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.render_report(&mut shown, &error).unwrap();
    (error, shown)
}

#[test]
fn a_secret_as_text_is_an_error_with_its_key_line_and_the_spelling_of_a_reference() {
    let kafka_line = 1 + USERS.lines().position(|line| line == "[cassandra]").unwrap() + 1;
    for property in ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
        let (error, shown) = shown_error(&format!("{property:?} = \"hunter2\""), "");
        assert!(error.line() == Some(kafka_line) && error.to_string().contains(property), "{error}");
        assert!(error.remedy().unwrap().contains(&format!("{property:?} = {{ env = ")), "{error:?}");
        assert!(shown.contains(property) && !shown.contains("hunter2"), "{shown}");
    }
    for header in ["Authorization", "Proxy-Authorization", "X-Api-Key"] {
        let (error, shown) = shown_error("", &format!("headers = {{ Accept = \"application/json\", {header} = \"hunter2\" }}"));
        assert!(error.line().is_some() && error.remedy().unwrap().contains(&format!("{header:?} = {{ env = ")), "{error:?}");
        assert!(shown.contains("application/json") && !shown.contains("hunter2"), "{shown}");
    }
    for (kafka, fetcher) in [("", "headers = \"Authorization: hunter2\""), ("x = 1\n\"sasl.password\" = hunter2", "")] {
        let (error, shown) = shown_error(kafka, fetcher);
        assert!(!format!("{error} {error:?} {shown}").contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_user_in_an_address_is_an_error_that_does_not_repeat_it() {
    let url = "https://randomuser.me/api/?results=100";
    for (from, to, remedy) in [
        (url, "https://me:hunter2@randomuser.me/api/", "auth = { basic ="),
        ("\"embedded\"\ntopic", "\"me:hunter2@127.0.0.1:9092\"\ntopic", "host:port"),
    ] {
        let error = error_of(from, to);
        assert!(error.line().is_some() && error.remedy().unwrap().contains(remedy), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn what_may_reveal_a_secret_or_trusts_any_server_is_warned_of() {
    let warnings = |from: &str, to: &str| {
        assert!(USERS.contains(from));
        let warnings = parse_text(&USERS.replace(from, to)).unwrap().security_warnings();
        warnings.into_iter().map(|warning| format!("{}: {}", warning.code, warning.what)).collect::<Vec<_>>()
    };
    assert_eq!(warnings("[cassandra]", "[kafka.properties]\n\"ssl.endpoint.identification.algorithm\" = \"https\"\n[cassandra]").len(), 0);
    for (property, value) in [("enable.ssl.certificate.verification", "False"), ("ssl.endpoint.identification.algorithm", "none")] {
        let found = warnings("[cassandra]", &format!("[kafka.properties]\n{property:?} = {value:?}\n[cassandra]"));
        assert!(found.len() == 1 && found[0].starts_with("verification_off: ") && found[0].contains(property), "{found:?}");
    }
    for name in ["api_key", "appid", "key", "token", "Subscription-Key"] {
        let found = warnings("?results=100", &format!("?results=100&{name}=hunter2"));
        assert!(found.len() == 1 && found[0].starts_with("secret_in_url: ") && found[0].contains(name), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_sasl_mechanism_that_can_not_work_is_an_error_with_the_reason() {
    let error = error_of("[cassandra]", "[kafka.properties]\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n[cassandra]");
    assert!(error.to_string().contains("no HTTP client") && error.remedy().unwrap().contains("SCRAM-SHA-512"), "{error:?}");
}

#[test]
fn a_secret_file_that_others_can_read_is_an_error_with_the_command_that_closes_it() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let dir = std::env::temp_dir().join(format!("forebay-secret-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("password");
    std::fs::write(&file, "hunter2").unwrap();
    let _ = chown(&file, Some(65_534), None); // root's own files may be readable
    let text = USERS.replace("[cassandra]", "[kafka.properties]\n\"sasl.password\" = { file = \"password\" }\n[cassandra]");
    let pipeline = parse(&dir.join("forebay.toml"), text).unwrap();
    let check = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        pipeline.check_secret_files()
    };
    let error = check(0o640).unwrap_err();
    assert!(error.to_string().contains(&format!("chmod 600 {}", file.display())) && error.line().is_some(), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(check(0o600).is_ok());
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(pipeline.check_secret_files().is_ok(), "a file that is mounted later is no error");
}

#[test]
fn properties_that_the_guarantees_rely_on_are_errors() {
    let error = error_of("[cassandra]", "[kafka.properties]\n\"acks\" = \"1\"\n[cassandra]");
    assert!(error.to_string().contains("`acks` is set by Forebay"), "{error}");
}

#[test]
fn a_budget_smaller_than_a_batch_is_an_error() {
    let error = error_of("group = \"users\"", "group = \"users\"\nbudget = \"1MiB\"");
    assert!(error.to_string().contains("too small for a batch of 8.0 MiB"), "{error}");
}

#[test]
fn sizes_and_durations_without_a_unit_say_what_to_write() {
    assert!(error_of("\"10s\"", "\"ten\"").remedy().unwrap().contains("such as \"10s\""));
    assert!(error_of("[cassandra]", "[jornal]\n[cassandra]").remedy().is_some());
}

#[test]
fn names_of_topics_and_tables_follow_the_rules_of_their_servers() {
    assert!(error_of("topic = \"users_stream\"", "topic = \"users stream\"").remedy().is_some());
    assert!(error_of("table = \"users_stream\"", "table = \"us-ers\"").remedy().unwrap().contains("letters, digits"));
}

#[test]
fn a_table_is_described_in_the_words_of_cql() {
    let writer = |more: &str| parse_text(&USERS.replace("primary_key = [\"id\"]", more)).map(|pipeline| pipeline.writer.unwrap());
    let flat = writer("primary_key = [\"id\", \"at\"]").unwrap().primary_key;
    assert_eq!(
        (flat.to_vec(), flat.partition(), flat.clustering()),
        (vec!["id".to_owned(), "at".to_owned()], None, &["at".to_owned()][..])
    );
    let nested = writer("primary_key = [[\"a\", \"userId\"], \"at\"]\nclustering_order = [\"at DESC\"]").unwrap();
    assert_eq!((nested.primary_key.len(), nested.primary_key.partition()), (3, Some(2)));
    assert!(nested.clustering_order[0].descending);

    for (more, part) in [
        ("primary_key = []", "the primary key has no column"),
        ("primary_key = [\"a\", [\"b\"]]", "only the first part of a primary key can be a list"),
        ("primary_key = [[]]", "only the first part"),
        ("primary_key = [[\"a\", \"b\"], \"a\"]", "`a` occurs twice"),
        ("primary_key = [3]", "a column, or first a list"),
        ("primary_key = [\"a b\"]", "is not a valid name of a column"),
        ("primary_key = [\"a\", \"b\"]\nclustering_order = [\"b\"]", "has no order"),
        ("primary_key = [\"a\", \"b\"]\nclustering_order = [\"b down\"]", "is not an order"),
        ("primary_key = [\"a\", \"b\"]\nclustering_order = [\"a desc\"]", "`a` is not a clustering column"),
        ("primary_key = [\"a\", \"b\"]\nclustering_order = [\"b desc\", \"b asc\"]", "`b` has two orders"),
        ("primary_key = [\"a\"]\nstatic = [\"b\"]", "without clustering columns"),
        ("primary_key = [\"a\", \"b\"]\nstatic = [\"b\"]", "is part of the primary key"),
        ("primary_key = [\"a\"]\nttl = \"1500ms\"", "is not a whole number of seconds"),
        ("primary_key = [\"a\"]\nttl = \"21years\"", "is out of range"),
        ("primary_key = [\"a\"]\nttl = 3", "a time such as"),
        ("primary_key = [\"a\"]\nttl = { column = \"a\" }", "no column of the table"),
        ("primary_key = [\"a\"]\noptions = { \"GC grace\" = 1 }", "is not an option of a table"),
    ] {
        let error = writer(more).unwrap_err().to_string();
        assert!(error.contains(part), "{more}: {error}");
    }
}

#[test]
fn the_embedded_store_has_no_static_columns_options_and_time_to_live() {
    for more in ["static = [\"b\"]", "options = { gc_grace_seconds = 1 }", "ttl = \"30d\"", "ttl = { column = \"seconds\" }"] {
        let text = USERS.replace("primary_key = [\"id\"]", &format!("primary_key = [\"a\", \"c\"]\n{more}"));
        let embedded = text.replace("contact_points = [\"127.0.0.1:9042\"]", "contact_points = \"embedded\"");
        assert!(parse_text(&embedded).unwrap_err().to_string().contains("the embedded store has no"), "{more}");
    }
}

#[test]
fn nulls_are_written_unless_unset_for_the_table_or_a_column() {
    let nulls = |line: &str| parse_text(&format!("{USERS}{line}\n")).unwrap().writer.unwrap().nulls;
    assert_eq!(nulls("").of("phone"), Nulls::Write);
    assert_eq!(nulls("nulls = \"write\"").of("phone"), Nulls::Write);
    assert_eq!(nulls("nulls = \"unset\"").of("phone"), Nulls::Unset);
    for some in [nulls("nulls = { phone = \"unset\", cell = \"write\" }"), nulls("[writer.nulls]\nphone = \"unset\"\ncell = \"write\"")] {
        assert_eq!((some.of("phone"), some.of("cell"), some.of("email")), (Nulls::Unset, Nulls::Write, Nulls::Write));
    }
}

#[test]
fn a_wrong_word_for_nulls_is_an_error_with_its_line_and_the_nearest() {
    let line = USERS.lines().count() + 1;
    let error = |text: &str| parse_text(&format!("{USERS}{text}\n")).expect_err("the file is wrong");
    for text in ["nulls = \"unst\"", "nulls = { phone = \"unst\" }"] {
        let error = error(text);
        assert_eq!((error.line(), error.remedy()), (Some(line), Some("did you mean `unset`?")), "{error}");
    }
    assert_eq!(error("[writer.nulls]\ncell = \"write\"\nphone = \"skip\"").line(), Some(line + 2));
    let number = error("nulls = 3");
    assert!(number.to_string().contains("such as { phone = \"unset\" }"), "{number}");
    let key = error("nulls = { id = \"unset\" }");
    assert_eq!((key.to_string().as_str(), key.line()), ("`id` is part of the primary key, which is never null", Some(line)));
}

#[test]
fn an_open_api_beyond_loopback_is_an_error() {
    assert!(error_of("[cassandra]", "[api]\nlisten = \"0.0.0.0:7070\"\n[cassandra]").to_string().contains("not a loopback"));
    assert!(parse_text(&format!("{USERS}[api]\nlisten = \"[::1]:7070\"\n")).is_ok());
}

#[test]
fn an_error_inside_a_value_points_at_the_word() {
    let file = |literal: &str| FileText { path: "f.toml".into(), text: format!("[transformer]\nsql = {literal}\n") };
    let error = |literal: &str, value: &str| {
        let inside = ByteSpan { start: value.find("two").unwrap(), len: 3 };
        FileError::inside_value(&file(literal), &["transformer", "sql"], value, inside, "wrong", "right it")
    };
    assert_eq!(error("\"\"\"\nSELECT one,\n  two\n\"\"\"", "SELECT one,\n  two\n").line(), Some(4));
    assert_eq!(error("'SELECT two'", "SELECT two").line(), Some(2));
    assert_eq!(error("\"SELECT \\\"one\\\",\\ntwo\"", "SELECT \"one\",\ntwo").line(), Some(2));
}

#[test]
fn traces_need_an_http_url() {
    let with = |url: &str| parse_text(&format!("{USERS}\n[traces]\nurl = {url:?}\n"));
    assert_eq!(with("http://127.0.0.1:4318/v1/traces").unwrap().traces.unwrap().url.to_string(), "http://127.0.0.1:4318/v1/traces");
    for url in ["", "127.0.0.1:4318", "http://", "http://user:secret@host/"] {
        let error = with(url).expect_err(url);
        assert_eq!(error.line(), Some(USERS.lines().count() + 3), "{error:?}");
    }
}

#[test]
fn lineage_needs_either_a_url_or_a_file() {
    let with = |lines: &str| parse_text(&format!("{USERS}\n[lineage]\n{lines}\n"));
    let lineage = with("url = \"http://127.0.0.1:5000/api/v1/lineage\"\ntoken = { env = \"T\" }").unwrap().lineage.unwrap();
    assert_eq!((lineage.namespace.as_str(), lineage.file), ("forebay", None));
    assert!(with("file = \"lineage.ndjson\"").is_ok());
    let line = USERS.lines().count() + 2;
    for (lines, at, remedy) in [
        ("", 0, "or file ="),
        ("url = \"http://a/\"\nfile = \"b\"", 0, "or file ="),
        ("url = \"localhost:5000\"", 1, "the full URL"),
        ("url = \"http://user:secret@host/api\"", 1, "token ="),
        ("file = \"b\"\ntoken = { env = \"T\" }", 2, "remove"),
        ("namespace = \"\"\nfile = \"b\"", 1, "remove"),
    ] {
        let error = with(lines).expect_err(lines);
        assert_eq!(error.line(), Some(line + at), "{lines}: {error:?}");
        assert!(error.remedy().unwrap().contains(remedy), "{lines}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// The users file with other lines for the contact points of Cassandra.
fn with_cassandra(lines: &str) -> Result<Pipeline, FileError> {
    parse_text(&USERS.replace("contact_points = \"embedded\"", lines))
}

#[test]
fn a_password_without_tls_is_refused_beyond_loopback_unless_the_file_allows_it() {
    let user = "username = { env = \"U\" }\npassword = { env = \"P\" }";
    let refused = with_cassandra(&format!("contact_points = [\"127.0.0.1:9042\", \"cassandra-1:9042\"]\n{user}")).unwrap_err();
    let remedy = refused.remedy().unwrap();
    assert!(remedy.contains("[cassandra.tls]") && remedy.contains("plaintext_password = true"), "{refused}: {remedy}");
    assert_eq!(refused.line(), Some(12), "{refused}");
    for (lines, warnings) in [
        (format!("contact_points = [\"127.0.0.1:9042\", \"[::1]:9042\", \"localhost:9042\"]\n{user}"), vec![]),
        ("contact_points = [\"cassandra-1:9042\"]".to_owned(), vec![]),
        (format!("contact_points = [\"cassandra-1:9042\"]\n{user}\ntls = {{ ca = \"ca.pem\" }}"), vec![]),
        (format!("contact_points = [\"cassandra-1:9042\"]\n{user}\nplaintext_password = true"), vec!["plaintext_password"]),
        ("contact_points = [\"cassandra-1:9042\"]\ntls = { verify_hostname = false }".to_owned(), vec!["verification_off"]),
    ] {
        let found = with_cassandra(&lines).unwrap_or_else(|error| panic!("{lines}: {error}")).security_warnings();
        assert_eq!(found.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), warnings, "{lines}");
    }
}

#[test]
fn an_api_beyond_loopback_without_tls_is_warned_of() {
    let tokens = "tokens = { operator = { env = \"T\" } }";
    let tls = "tls = { certificate = \"api.pem\", key = \"api.key\" }";
    for (api, is_warned_of) in [
        ("listen = \"127.0.0.1:7070\"".to_owned(), false),
        ("listen = \"unix:forebay.sock\"".to_owned(), false),
        (format!("listen = \"0.0.0.0:7070\"\n{tokens}"), true),
        (format!("listen = \"0.0.0.0:7070\"\n{tokens}\n{tls}"), false),
        (format!("listen = \"127.0.0.1:7070\"\n{tls}"), false),
    ] {
        let found = parse_text(&format!("{USERS}\n[api]\n{api}\n")).unwrap_or_else(|error| panic!("{api}: {error}")).security_warnings();
        assert_eq!(found.iter().any(|warning| warning.code == "plaintext_api"), is_warned_of, "{api}");
        assert!(found.iter().all(|warning| warning.what.contains("read the tokens, and the records")), "{found:?}");
    }
    let error = parse_text(&format!("{USERS}\n[api]\nlisten = \"unix:forebay.sock\"\n{tls}\n")).unwrap_err();
    assert!(error.to_string().contains("a unix socket has no TLS") && error.remedy() == Some("remove tls"), "{error}");
    let error = parse_text(&format!("{USERS}\n[api]\ntls = {{ certificate = \"api.pem\" }}\n")).unwrap_err();
    assert!(error.to_string().contains("key"), "{error}");
}

#[test]
fn keys_of_a_connection_to_cassandra_that_exclude_each_other_are_errors_with_their_line() {
    for (lines, line, message) in [
        ("contact_points = \"embedded\"\ntls = { ca = \"ca.pem\" }", 11, "the embedded store has no `tls`"),
        ("contact_points = \"embedded\"\ndatacenter = \"dc1\"", 11, "the embedded store has no `datacenter`"),
        ("contact_points = [\"a:1\"]\ndatacenter_failover = true", 11, "datacenter_failover needs a datacenter"),
        ("contact_points = [\"a:1\"]\ntls = { certificate = \"c.pem\" }", 11, "certificate and key belong together"),
        ("contact_points = [\"a:1\"]\ntls = { key = \"c.key\" }", 11, "certificate and key belong together"),
        ("contact_points = [\"a:1\"]\ntls = { hostname = \"a\", verify_hostname = false }", 11, "ignores hostname"),
    ] {
        let error = with_cassandra(lines).unwrap_err();
        assert!(error.to_string().contains(message), "{lines}: {error}");
        assert_eq!(error.line(), Some(line), "{lines}: {error}");
    }
}

/// The users file with other lines in `[fetcher]`, in place of `records`.
fn with_fetcher(lines: &str) -> Result<Pipeline, FileError> {
    parse_text(&USERS.replace("records = \"/results\"", lines))
}

#[test]
fn the_records_are_at_a_pointer_or_one_object_or_columns() {
    let records = |line: &str| with_fetcher(line).unwrap().fetcher.unwrap().records;
    assert_eq!(records(""), RecordsSection::At(String::new()));
    assert_eq!(records("records = \"/data/*/orders\""), RecordsSection::At("/data/*/orders".into()));
    assert_eq!(records("records = { object = \"\" }"), RecordsSection::Object(String::new()));
    assert_eq!(records("records = { columns = \"/hourly\" }"), RecordsSection::Columns("/hourly".into()));
}

#[test]
fn what_makes_no_source_is_an_error_with_its_line_and_remedy() {
    let line = 1 + USERS.lines().position(|line| line == "records = \"/results\"").unwrap();
    let basic = "basic = { username = \"u\", password = { env = \"P\" } }";
    for (text, remedy) in [
        ("records = { column = \"/hourly\" }", "did you mean `columns`?"),
        ("records = { columns = \"hourly\" }", "starts with a slash: \"/hourly\""),
        ("records = { columns = \"/a/*\" }", "name one member"),
        ("format = \"jsonl\"", "did you mean `json`?"),
        ("delimiter = \";;\"", ""),
        ("delimiter = \"a\"", "one ASCII character"),
        ("error = \"error\"", "starts with a slash: \"/error\""),
        ("error = { at = \"\" }", "\"/error\""),
        ("error = { at = \"/e\", retri = true }", "did you mean `retry`?"),
        ("statuses = { retry = [99] }", "use 100 to 599"),
        ("statuses = { retry = [404], ignore = [404] }", "list each status once"),
        ("statuses = { fatal = [404] }", "did you mean `final`?"),
        ("rate_limit = \"10\"", "requests per period, such as \"10/s\""),
        ("rate_limit = \"1/h\"", "raise max_wait"),
        ("max_wait = \"25h\"", "use 0s to 1day"),
        ("max_attempts = 0", "use 1 to 1000"),
        ("auth = {}", "set basic, bearer or oauth2"),
        (&*format!("auth = {{ bearer = {{ env = \"T\" }}, {basic} }}"), "keep one of them"),
        ("auth = { bearer = \"hunter2\" }", "{ prefix = \"Bearer \", env = "),
        ("auth = { oauth2 = { token_url = \"token\", client_id = \"me\" } }", "the full URL"),
        ("auth = { oauth2 = { token_url = \"https://u:p@a/\", client_id = \"me\" } }", "remove it"),
        ("auth = { oauth2 = { token_url = \"https://a/\", client_id = \"me\", params = { scope = \"x\" } } }", "remove it"),
        ("tls = { certificate = \"a.pem\" }", "set both, or neither"),
    ] {
        let error = with_fetcher(text).expect_err(text);
        assert_eq!(error.line(), Some(line), "{text}: {error}");
        assert!(error.remedy().unwrap_or_default().contains(remedy), "{text}: {error}: {:?}", error.remedy());
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = with_fetcher("auth = { bearer = { env = \"T\" } }\nheaders = { authorization = { env = \"A\" } }").unwrap_err();
    assert!(error.line() == Some(line + 1) && error.to_string().contains("[fetcher.auth] sends `authorization` too"), "{error}");
    let error = with_fetcher("records = \"/a\"\nformat = \"csv\"").unwrap_err();
    assert!(error.line() == Some(line) && error.remedy().unwrap().contains("remove records"), "{error}");
    let plain = parse_text(&USERS.replace("https://randomuser.me", "http://randomuser.me").replace("every = ", "tls = {}\nevery = "));
    assert!(plain.unwrap_err().to_string().contains("not an https URL"));
}

#[test]
fn a_reference_that_can_not_be_read_is_an_error_with_its_key_line_and_variable() {
    let (unset, line) = ("FOREBAY_TEST_UNSET_VARIABLE", 1 + USERS.lines().position(|line| line == "records = \"/results\"").unwrap());
    for (text, key) in [
        (format!("headers = {{ X-Key = {{ prefix = \"k \", env = \"{unset}\" }} }}"), "fetcher.headers.X-Key"),
        (format!("auth = {{ bearer = {{ env = \"{unset}\" }} }}"), "fetcher.auth.bearer"),
        (
            format!("auth = {{ basic = {{ username = {{ env = \"{unset}\" }}, password = {{ env = \"PATH\" }} }} }}"),
            "fetcher.auth.basic.username",
        ),
        (
            format!("auth = {{ oauth2 = {{ token_url = \"https://a/\", client_id = \"me\", client_secret = {{ env = \"{unset}\" }} }} }}"),
            "fetcher.auth.oauth2.client_secret",
        ),
    ] {
        let error = with_fetcher(&text).unwrap().check_secrets().expect_err(&text);
        assert!(error.to_string().starts_with(&format!("`{key}`: the environment variable {unset} is not set")), "{error}");
        assert!(error.line() == Some(line) && error.remedy().unwrap().contains(&format!("export {unset}=")), "{error:?}");
    }
    assert!(with_fetcher("auth = { bearer = { env = \"PATH\" } }").unwrap().check_secrets().is_ok());
    let file = with_fetcher("auth = { bearer = { file = \"no/such\" } }").unwrap().check_secrets().unwrap_err();
    assert!(file.to_string().contains("no/such") && file.remedy().unwrap().contains("readable by its owner only"), "{file}");
}

#[test]
fn a_secret_on_its_way_to_a_server_without_tls_is_warned_of() {
    let warnings = |url: &str, lines: &str| {
        let text = USERS.replace("https://randomuser.me", url).replace("records = \"/results\"", lines);
        let warnings = parse_text(&text).unwrap().security_warnings();
        warnings.into_iter().map(|warning| format!("{}: {}", warning.code, warning.what)).collect::<Vec<_>>()
    };
    let bearer = "auth = { bearer = { env = \"T\" } }";
    let oauth2 = "auth = { oauth2 = { token_url = \"http://a/\", client_id = \"me\" } }";
    for (url, lines, key) in [
        ("http://randomuser.me", bearer, Some("[fetcher] url is http")),
        ("http://randomuser.me", "headers = { X-Key = { env = \"K\" } }", Some("[fetcher] url is http")),
        ("https://randomuser.me", oauth2, Some("[fetcher] auth.oauth2.token_url is http")),
        ("http://randomuser.me", "", None),
        ("https://randomuser.me", bearer, None),
        ("http://127.0.0.1:8080", bearer, None),
        ("http://[::1]:8080", bearer, None),
    ] {
        let found = warnings(url, lines);
        assert_eq!(found.len(), usize::from(key.is_some()), "{url} {lines}: {found:?}");
        assert!(key.is_none_or(|key| found[0].starts_with("plaintext_secret: ") && found[0].contains(key)), "{found:?}");
    }
}

#[test]
fn a_window_has_a_format_and_no_schedule_and_stands_in_a_request() {
    use crate::window::WindowFormat;
    let fetcher = |lines: &str| parse_text(&USERS.replace("every = \"10s\"", lines));
    let query = "query = { from = \"{{ window.start }}\" }";
    let good = fetcher(&format!("{query}\nwindow = {{ format = \"unix_ms\" }}")).unwrap().fetcher.unwrap();
    assert_eq!(RequestTemplates::of(&good).unwrap().window, Some(WindowFormat::UnixMs));
    assert!(good.check_window(None).unwrap_err().contains("forebay trigger --from"));
    let plain = fetcher(query).unwrap().fetcher.unwrap();
    assert_eq!(RequestTemplates::of(&plain).unwrap().window, Some(WindowFormat::Rfc3339));
    for (lines, says, remedy) in [
        ("window = { format = \"date\" }", "no request has a window", "{{ window.start }}"),
        (&format!("{query}\nevery = \"1h\""), "a scheduled fetch has no window", "remove `every`"),
        (&format!("{query}\nwindow = {{ format = \"iso\" }}"), "unknown variant `iso`", ""),
        ("query = { from = \"{{ window.from }}\" }", "has no known name", "{{ window.start }}"),
    ] {
        let error = fetcher(lines).unwrap_err();
        assert!(error.to_string().contains(says) && error.line().is_some(), "{lines}: {error}");
        assert!(error.remedy().unwrap_or_default().contains(remedy), "{lines}: {:?}", error.remedy());
    }
}

#[test]
fn added_fields_have_values_of_the_file_the_run_or_a_header() {
    let fetcher = |lines: &str| parse_text(&USERS.replace("every = \"10s\"", lines)).map(|pipeline| pipeline.fetcher.unwrap());
    let query = "query = { from = \"{{ window.start }}\" }\nparams = [\"day\", \"n\"]";
    let add = "add = { day = \"{{ params.day }}\", n = \"{{ params.n | json }}\", from = { value = \"{{ window.start }}\", replace = true }, \
               source = \"crm\", version = 2, test = false, region = { header = \"X-Region\" } }";
    let fields = FieldTemplate::of(&fetcher(&format!("{query}\n{add}")).unwrap()).unwrap();
    let params = BTreeMap::from([("n".to_owned(), "7".to_owned())]);
    let at = |text| crate::window::moment(text).unwrap();
    let window = crate::window::Window { start: at("2026-01-01"), end: at("2026-01-02") };
    let values =
        Values { params: &params, window: Some((window, crate::window::WindowFormat::Date)), watermark: None, cursor: None, size: None };
    let header = |name: &str| (name == "X-Region").then(|| "eu".to_owned());
    let found: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.source.value(&values, header), field.replace)).collect();
    let expected = [
        ("day", None, false),
        ("from", Some(json!("2026-01-01")), true),
        ("n", Some(json!(7)), false),
        ("region", Some(json!("eu")), false),
        ("source", Some(json!("crm")), false),
        ("test", Some(json!(false)), false),
        ("version", Some(json!(2)), false),
    ];
    assert_eq!(found, expected, "a field without a value is left out");
    for (lines, says, remedy) in [
        ("add = { day = \"{{ params.month }}\" }", "no run can set the param \"month\"", "params = [\"month\"]"),
        ("add = { day = \"{{ window.start }}\" }", "no request has a window", "url, query, headers or body"),
        ("add = { \"\" = 1 }", "has no name", "schema"),
        ("add = { region = { header = \"X Region\" } }", "is not the name of a header", "X-Region"),
        ("add = { region = { header = \"X-Region\", value = 1 } }", "no value, or two", "value and header"),
        ("add = { region = { heder = \"X-Region\" } }", "unknown field `heder`", "header"),
        ("add = { region = { replace = true } }", "no value, or two", "value and header"),
        ("add = { page = \"{{ page }}\" }\npaging = { kind = \"page\", param = \"p\" }", "is of a page", "{{ params.NAME }}"),
        ("add = { a = [1] }", "expected text, a number, true or false, {", ""),
    ] {
        let error = fetcher(lines).unwrap_err();
        assert!(error.to_string().contains(says) && error.line().is_some(), "{lines}: {error}");
        assert!(error.remedy().unwrap_or_default().contains(remedy), "{lines}: {:?}", error.remedy());
    }
    let plain = fetcher("params = [\"day\"]\nadd = { day = \"{{ params.day }}\" }").unwrap();
    assert!(RequestTemplates::of(&plain).unwrap().templated.is_empty(), "the param is still a query parameter");
}
