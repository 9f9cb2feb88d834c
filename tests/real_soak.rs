//! A steady load for hours, to find what grows: memory, descriptors, lag, latency. Run by
//! `make soak`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test, which prints its measurements")]

mod support;

use std::time::{Duration, Instant};

use forebay_test_services::{Cassandra, CommitlogSync, Kafka};
use serde_json::{Value, json};
use support::Job;
use support::oracle::{Topic, finish};
use support::resources::{descriptors, process_bytes};
use support::source_api::EndlessApi;

/// The time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// The first part of a run, in which caches fill and threads start, is left out of the slopes.
const WARM_UP: Duration = Duration::from_secs(60);

/// What is measured, its unit, and its limits. Each may grow by `noise`, and by `per_hour` in an
/// hour.
const SERIES: [Series; 4] = [
    Series { name: "resident memory", unit: "MB", noise: 16.0, per_hour: 8.0, max: 217.0 },
    Series { name: "descriptors", unit: "", noise: 8.0, per_hour: 1.0, max: 300.0 },
    Series { name: "lag", unit: "records", noise: 500.0, per_hour: 0.0, max: 5_000.0 },
    Series { name: "latency p99", unit: "ms", noise: 500.0, per_hour: 0.0, max: 2_000.0 },
];

struct Series {
    name: &'static str,
    unit: &'static str,
    noise: f64,
    per_hour: f64,
    /// No sample may exceed it.
    max: f64,
}

/// One value of each of [`SERIES`].
type Sample = [f64; SERIES.len()];

/// The slope of the line of least squares through values at these hours; 0 for fewer than two.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if spread > 0.0 { both / spread } else { 0.0 }
}

/// A line of at most 60 bars, from 0 to the largest value.
fn plot(values: &[f64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |chunk: &[f64]| {
        let level = chunk.iter().copied().fold(0.0, f64::max) / largest * 8.0;
        BARS[(0..8).filter(|step| level >= f64::from(*step) + 0.5).count()]
    };
    values.chunks(values.len().div_ceil(60).max(1)).map(bar).collect()
}

fn sample(pid: u32, snapshot: &Value) -> Sample {
    let partitions = snapshot["partitions"].as_array().unwrap();
    let lag: i64 = partitions.iter().map(|p| p["end"].as_i64().unwrap() - p["written"].as_i64().unwrap()).sum();
    let memory = process_bytes(pid, "VmRSS") as f64 / 1e6;
    [memory, descriptors(pid) as f64, lag.max(0) as f64, snapshot["latency_ms"]["p99"].as_f64().unwrap()]
}

#[test]
#[ignore = "runs for an hour: make soak"]
fn nothing_grows_under_a_steady_load() {
    let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let duration = env("FOREBAY_DURATION").map_or(Duration::from_secs(3_600), |text| humantime::parse_duration(&text).unwrap());
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start(CommitlogSync::Batch));
    let api = EndlessApi::start(Duration::from_millis(40));
    let job = Job::new(kafka.bootstrap(), &cassandra.contact_point())
        .fetching(&api.api.url, Some("20ms"))
        .with_fetcher(EndlessApi::FETCHER)
        .with("[journal]\nsegment = \"1MiB\"\nkeep = \"4MiB\"");
    let running = job.start(&["--json"], &[]);
    running.wait_until("records flow", |s| s["totals"]["written"].as_u64() > Some(100));
    let (began, mut samples) = (Instant::now(), Vec::<(f64, Sample)>::new());
    while began.elapsed() < duration {
        std::thread::sleep(SAMPLE_INTERVAL);
        let now = sample(running.id(), &running.snapshot());
        if began.elapsed() >= WARM_UP.min(duration / 4) {
            samples.push((began.elapsed().as_secs_f64() / 3_600.0, now));
        }
    }
    let summary = running.stop_with_summary();
    finish(&job, &mut Topic::of(kafka.bootstrap(), &job));

    let hours = samples.last().unwrap().0 - samples[0].0;
    let (mut facts, mut over) = (json!({ "hours": hours, "written": summary["written"] }), Vec::new());
    for (at, Series { name, unit, noise, per_hour, max }) in SERIES.iter().enumerate() {
        let values: Vec<f64> = samples.iter().map(|(_, sample)| sample[at]).collect();
        let slope = slope(&samples.iter().map(|(hour, sample)| (*hour, sample[at])).collect::<Vec<_>>());
        let largest = values.iter().copied().fold(0.0, f64::max);
        eprintln!("{name:<16} {:>9.1} to {largest:>9.1} {unit:<8} {slope:>+9.1} per hour  {}", values[0], plot(&values));
        facts[name.replace(' ', "_")] = json!({ "first": values[0], "largest": largest, "per_hour": slope });
        if slope * hours > noise + per_hour * hours || largest > *max {
            over.push(format!("{name}: {slope:+.1} {unit} per hour, {largest:.1} at most; the limits are {per_hour} and {max}"));
        }
    }
    if let Some(file) = env("FOREBAY_RESULT") {
        std::fs::write(file, facts.to_string()).unwrap();
    }
    assert_eq!(summary["restarts"], 0, "{summary}");
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn the_slope_of_a_line_is_found_in_noise() {
    let noisy = |hour: f64, n: u32| (hour, 100.0 + 3.0 * hour + f64::from(n % 2));
    let points: Vec<_> = (0..1_000).map(|n| noisy(f64::from(n) / 100.0, n)).collect();
    assert!((slope(&points) - 3.0).abs() < 0.01, "{}", slope(&points));
    assert!(slope(&points[..1]).abs() < f64::EPSILON, "a point has no slope");
}

#[test]
fn a_plot_reaches_from_zero_to_the_largest_value() {
    assert_eq!(plot(&[0.0, 4.0, 8.0]), " ▄█");
    assert_eq!(plot(&vec![1.0; 6_000]).chars().count(), 60);
}
