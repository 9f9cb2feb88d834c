//! `docker-compose.yml` and `Dockerfile` refer to existing files only, and use the servers and the
//! pipeline of the other tests.
//!
//! Does not pull images or run containers: that needs a container engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_test_services::{Airflow, Cassandra, Kafka};
use serde::Deserialize;

/// The used part of a compose file. An unknown key is a mistake, or these tests must be extended.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compose {
    #[serde(rename = "name")]
    _name: String,
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: String,
    build: Option<Build>,
    healthcheck: Option<HealthCheck>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(rename = "restart")]
    _restart: String,
    #[serde(rename = "stop_grace_period", default)]
    _stop_grace_period: Option<String>,
    #[serde(default)]
    cap_drop: Vec<String>,
    #[serde(default)]
    security_opt: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    context: PathBuf,
    dockerfile: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthCheck {
    test: Vec<String>,
    #[serde(rename = "interval")]
    _interval: String,
    #[serde(rename = "timeout")]
    _timeout: String,
    #[serde(rename = "retries")]
    _retries: u32,
    #[serde(rename = "start_period")]
    _start_period: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dependency {
    condition: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

fn compose() -> Compose {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap_or_else(|error| panic!("docker-compose.yml: {error}"))
}

fn table(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn forebay_has_no_capabilities_and_can_gain_none() {
    let compose = compose();
    let forebay = &compose.services["forebay"];
    assert_eq!((forebay.cap_drop.join(" "), forebay.security_opt.join(" ")), ("ALL".into(), "no-new-privileges:true".into()));
}

#[test]
fn every_image_has_the_tag_of_the_tested_version() {
    let compose = compose();
    for (name, service) in &compose.services {
        let (_, tag) = service.image.split_once(':').unwrap_or_else(|| panic!("{name}: {} has no tag", service.image));
        assert_ne!(tag, "latest", "{name}");
        assert_ne!(tag, "", "{name}");
    }
    assert_eq!(compose.services["kafka"].image, format!("apache/kafka:{}", Kafka::VERSION));
    assert_eq!(compose.services["cassandra"].image, format!("cassandra:{}", Cassandra::VERSION));
    assert_eq!(compose.services["forebay"].image, format!("forebay:{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(compose.services["airflow"].image, format!("forebay-airflow:{}", env!("CARGO_PKG_VERSION")));
    assert!(read("airflow/Dockerfile").contains(&format!("\nFROM apache/airflow:{}\n", Airflow::VERSION)));
}

#[test]
fn every_build_context_has_a_dockerfile() {
    for (name, service) in compose().services {
        let Some(build) = service.build else { continue };
        let context = root().join(build.context);
        assert!(context.is_dir(), "{name}: {} is not a directory", context.display());
        assert!(context.join(&build.dockerfile).is_file(), "{name}: no {}", build.dockerfile.display());
    }
}

#[test]
fn every_mount_is_an_existing_path_or_a_declared_volume() {
    let compose = compose();
    let mut used = Vec::new();
    for (name, service) in &compose.services {
        for mount in &service.volumes {
            let (source, target) = mount.split_once(':').unwrap_or_else(|| panic!("{name}: {mount} has no target"));
            assert!(target.starts_with('/'), "{name}: {mount}");
            if source.starts_with(['.', '/']) {
                assert!(root().join(source).exists(), "{name}: {source} does not exist");
            } else {
                assert!(compose.volumes.contains_key(source), "{name}: the volume {source} is not declared");
                used.push(source.to_owned());
            }
        }
    }
    used.sort();
    assert_eq!(used, compose.volumes.keys().cloned().collect::<Vec<_>>(), "each volume is used once");
}

#[test]
fn dependent_services_wait_for_a_health_check() {
    let compose = compose();
    for (name, service) in &compose.services {
        for (other, dependency) in &service.depends_on {
            let other = compose.services.get(other).unwrap_or_else(|| panic!("{name} depends on {other}, which is not there"));
            assert_eq!(dependency.condition, "service_healthy", "{name}");
            let check = other.healthcheck.as_ref().unwrap_or_else(|| panic!("{name} waits for what has no health check"));
            assert!(check.test.len() > 1 && check.test[0] == "CMD", "{name}: {:?}", check.test);
        }
    }
    assert!(compose.services["forebay"].depends_on.keys().eq(["cassandra", "kafka"]));
}

#[test]
fn ports_are_published_on_loopback_only() {
    for (name, service) in compose().services {
        for port in service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn kafka_advertises_the_addresses_that_clients_use() {
    let compose = compose();
    let kafka = &compose.services["kafka"];
    let advertised = &kafka.environment["KAFKA_ADVERTISED_LISTENERS"];
    let pipeline = table("examples/users/compose.toml");
    let bootstrap = pipeline["kafka"]["bootstrap"].as_str().unwrap();
    assert!(advertised.split(',').any(|listener| listener == format!("INTERNAL://{bootstrap}")), "{advertised} lacks {bootstrap}");
    assert!(advertised.contains("EXTERNAL://localhost:9092") && kafka.ports.iter().any(|port| port == "127.0.0.1:9092:9092"));
    let server = pipeline["cassandra"]["contact_points"][0].as_str().unwrap();
    assert!(server.strip_suffix(":9042").is_some_and(|host| compose.services.contains_key(host)), "{server} is not a service");
}

#[test]
fn everything_the_dockerfile_copies_exists_and_is_not_ignored() {
    for context in ["", "airflow/"] {
        let mut checked = 0;
        for line in read(&format!("{context}Dockerfile")).lines().filter_map(|line| line.strip_prefix("COPY ")) {
            let words: Vec<_> = line.split_whitespace().collect();
            if words[0].starts_with("--from=") {
                continue; // from an earlier stage, not from the tree
            }
            for source in words.iter().take(words.len() - 1).filter(|word| !word.starts_with("--")) {
                assert!(root().join(context).join(source).exists(), "COPY {line}: {source} does not exist");
                checked += 1;
            }
        }
        assert!(checked > 0, "{context}Dockerfile");
    }
    let kept = read(".dockerignore");
    let kept: Vec<_> = kept.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in &kept {
        assert!(root().join(path).exists(), ".dockerignore keeps {path}, which does not exist");
    }
    let manifest = table("Cargo.toml");
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let top = member.as_str().unwrap().split('/').next().unwrap();
        assert!(kept.contains(&top), "the build needs {top}, which .dockerignore leaves out");
    }
}

#[test]
fn the_compose_pipeline_differs_from_the_example_only_in_addresses() {
    let places = [
        ("pipeline", "data_dir"),
        ("kafka", "bootstrap"),
        ("cassandra", "contact_points"),
        ("cassandra", "create"),
        ("api", "listen"),
        ("api", "tokens"),
        ("api", "hosts"),
    ];
    let strip = |path| {
        let mut file = table(path);
        for (section, key) in places {
            file[section].as_table_mut().unwrap().remove(key);
        }
        file
    };
    assert_eq!(strip("examples/users/compose.toml"), strip("examples/users/forebay.toml"));
}

#[test]
fn the_compose_pipeline_file_passes_check() {
    let compose = compose();
    let forebay = &compose.services["forebay"];
    assert_eq!(forebay.command, ["run", "-c", "/etc/forebay/compose.toml"]);
    assert!(forebay.volumes.iter().any(|mount| mount == "./examples/users:/etc/forebay:ro"));
    let data = table("examples/users/compose.toml")["pipeline"]["data_dir"].as_str().unwrap().to_owned();
    assert!(forebay.volumes.iter().any(|mount| mount.ends_with(&format!(":{data}"))), "{data} is not a volume");

    let mut check = Command::new(env!("CARGO_BIN_EXE_forebay"));
    check.args(["check", "-c"]).arg(root().join("examples/users/compose.toml"));
    // Compose sets them; `check` refuses references to variables that are not set.
    for token in ["FOREBAY_OPERATOR_TOKEN", "FOREBAY_ADMIN_TOKEN"] {
        check.env(token, "a-token-of-the-test");
    }
    let check = check.output().unwrap();
    assert!(check.status.success(), "{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
}

#[test]
fn airflow_has_the_addresses_it_needs_and_an_operator_token() {
    let compose = compose();
    let (airflow, forebay) = (&compose.services["airflow"], &compose.services["forebay"]);
    let pipeline = table("examples/users/compose.toml");
    let connection = |name: &str| -> serde_json::Value { serde_json::from_str(&airflow.environment[name]).unwrap() };

    let to = connection("AIRFLOW_CONN_FOREBAY_DEFAULT");
    let address = format!("{}:{}", to["host"].as_str().unwrap(), to["port"]);
    assert!(pipeline["api"]["hosts"].as_array().unwrap().iter().any(|host| host.as_str() == Some(&address)), "{address} is not served");
    assert_eq!(pipeline["api"]["listen"].as_str(), Some("0.0.0.0:7070"));
    let token = pipeline["api"]["tokens"]["operator"]["env"].as_str().unwrap();
    assert_eq!(to["password"].as_str().unwrap(), forebay.environment[token]);
    assert!(forebay.ports.iter().any(|port| port == "127.0.0.1:7070:7070"));
    assert_eq!(to["extra"]["link"], "http://localhost:7070", "the address from this machine");
    let admin = pipeline["api"]["tokens"]["admin"]["env"].as_str().unwrap();
    assert_eq!(forebay.environment["FOREBAY_TOKEN"], forebay.environment[admin], "processes in the container are admin");

    let to = connection("AIRFLOW_CONN_CASSANDRA_DEFAULT");
    let address = format!("{}:{}", to["host"].as_str().unwrap(), to["port"]);
    assert_eq!(pipeline["cassandra"]["contact_points"][0].as_str(), Some(&*address));
    let (keyspace, name) = (pipeline["cassandra"]["keyspace"].as_str().unwrap(), pipeline["writer"]["table"].as_str().unwrap());
    assert_eq!(airflow.environment["FOREBAY_TABLE"], format!("cassandra://{address}/{keyspace}/{name}"));
    assert!(airflow.ports.iter().any(|port| port == "127.0.0.1:8080:8080"));
    assert!(airflow.volumes.iter().any(|mount| mount == "./airflow/dags:/opt/airflow/dags:ro"));
    assert!(
        read("airflow/dags/real_time_pipeline.py")
            .contains(&format!("pipeline\": Param(\"{}\"", pipeline["pipeline"]["name"].as_str().unwrap()))
    );
}
