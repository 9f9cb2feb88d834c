//! Checks with Prometheus's own tools: the parsers of its Python client, and promtool.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, output_with_input};
use crate::{Result, cache, must};

const CLIENT: &str = "prometheus_client==0.26.0\n";

/// Prints every sample as a line of JSON: its type, name, labels and value.
const PARSE: &str = r#"
import json, sys
from prometheus_client import openmetrics, parser
import prometheus_client.openmetrics.parser
parse = {"prometheus": parser, "openmetrics": prometheus_client.openmetrics.parser}[sys.argv[1]]
for family in parse.text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        print(json.dumps([family.type, sample.name, sample.labels, sample.value]))
"#;

/// Parses a response of `/metrics` in the format `prometheus` or `openmetrics`. Each line of the
/// result is a sample: type, name, labels and value, as JSON.
///
/// # Panics
/// If the parser rejects it, or Python is missing.
#[track_caller]
pub fn parse(format: &str, text: &str) -> Vec<String> {
    let parsed = cache::venv("prometheus-client-0.26.0", CLIENT).and_then(|venv| {
        let mut python = Command::new(venv.join("bin/python"));
        python.args(["-c", PARSE, format]);
        output_with_input(&mut python, 60, text.as_bytes())
    });
    must(parsed).lines().map(str::to_owned).collect()
}

/// Runs `promtool check metrics`: the parser of Prometheus, and its rules for names.
///
/// # Panics
/// If it finds something, or promtool is missing.
#[track_caller]
pub fn check_metrics(text: &str) {
    must(promtool().and_then(|tool| output_with_input(Command::new(tool).args(["check", "metrics"]), 60, text.as_bytes())));
}

/// Runs `promtool check rules`.
///
/// # Panics
/// If it finds something, or promtool is missing.
#[track_caller]
pub fn check_rules(file: &Path) -> String {
    must(promtool().and_then(|tool| output(Command::new(tool).args(["check", "rules"]).arg(file), 60)))
}

/// Runs `promtool test rules`: whether rules fire on series as the file says.
///
/// # Panics
/// If they do not, or promtool is missing.
#[track_caller]
pub fn test_rules(file: &Path) {
    must(promtool().and_then(|tool| output(Command::new(tool).args(["test", "rules"]).arg(file), 60)));
}

/// Returns the promtool on the path, or the one extracted from Debian's package. The package is not
/// installed, because it starts a server.
fn promtool() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join("promtool")).find(|file| file.is_file()) {
        return Ok(found);
    }
    let folder = cache::cached("promtool", "prometheus, as apt-get downloads it", |folder| {
        let remedy = "remedy: apt-get update, or put promtool (https://prometheus.io/download) on the path";
        let mut fetch = Command::new("sh");
        fetch.args(["-c", "cd \"$1\" && exec apt-get download --quiet prometheus", "sh"]).arg(folder);
        output(&mut fetch, 600).map_err(|error| format!("{error}\n{remedy}"))?;
        let package = std::fs::read_dir(folder).ok().into_iter().flatten().flatten().map(|entry| entry.path());
        let package =
            package.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).ok_or("apt-get downloaded nothing")?;
        output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.join("package")), 120).map(|_| ())
    })?;
    Ok(folder.join("package/usr/bin/promtool"))
}
