//! Random statements over random records, evaluated by three independent implementations: the
//! transform, an interpreter that evaluates SQL literally and one record at a time, and DuckDB
//! without its optimizer.
//!
//! * The transform and the interpreter agree on every record: the same row, filtered out, or an
//!   error.
//! * Where DuckDB returns a value, the transform returns the same.
//! * Where DuckDB fails and the transform returns a value, the interpreter must return that value:
//!   DuckDB evaluates both sides of AND and OR, and some of its types are narrower.

mod expr;
mod known_differences;
mod record;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use serde_json::json;

use super::*;
use expr::{Dialect, Expr, Fails, Type, Value as SqlValue};
use record::{FIELDS, Record, SCHEMA, Statement};

/// How many records each statement runs over.
const RECORDS: usize = 24;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// The columns as text; `None` is NULL.
    Row(Vec<Option<String>>),
    Filtered,
    Error,
}

impl Statement {
    fn sql(&self, dialect: Dialect) -> String {
        let columns: Vec<_> = self.columns.iter().enumerate().map(|(at, column)| format!("{} AS v{at}", column.sql(dialect))).collect();
        let id = if dialect == Dialect::Forebay { "id, " } else { "" };
        // DuckDB must evaluate all of a condition whose left side is NULL.
        let evaluated = |sql: String| if dialect == Dialect::DuckDb { expr::given(&sql, "v") } else { sql };
        let filter = self.filter.iter().map(|filter| format!(" WHERE {}", evaluated(filter.sql(dialect)))).collect::<String>();
        format!("SELECT {id}{} FROM topic{filter}", columns.join(", "))
    }

    fn interpreted(&self, record: &Record) -> Fate {
        let passes = self.filter.as_ref().map_or(Ok(SqlValue::Bool(true)), |filter| filter.value(record));
        match passes {
            Ok(SqlValue::Bool(true)) => {}
            Ok(_) => return Fate::Filtered,
            Err(Fails) => return Fate::Error,
        }
        match self.columns.iter().map(|column| column.value(record)).collect::<Result<Vec<_>, _>>() {
            Ok(values) => Fate::Row(values.iter().map(text_of).collect()),
            Err(Fails) => Fate::Error,
        }
    }
}

fn text_of(value: &SqlValue) -> Option<String> {
    Some(match value {
        SqlValue::Null => return None,
        SqlValue::Int(value) | SqlValue::Time(value) => value.to_string(),
        SqlValue::Real(value) => format!("{value:?}"),
        SqlValue::Text(text) => text.clone(),
        SqlValue::Bool(value) => value.to_string(),
        SqlValue::Decimal(value, scale) => decimal_text(*value, *scale),
    })
}

/// A decimal without trailing zeros, because scales differ between databases.
fn decimal_text(mut value: i128, mut scale: i8) -> String {
    while scale > 0 && value % 10 == 0 {
        (value, scale) = (value / 10, scale - 1);
    }
    format!("{value}e-{scale}")
}

fn cell(array: &ArrayRef, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Decimal128(_, scale) => decimal_text(array.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        other => panic!("a column of {other}, which no statement has"),
    })
}

/// The fates of the records when the transform runs over them as one batch.
fn transformed(transform: &Transform, records: &[Record]) -> Vec<Fate> {
    let texts: Vec<_> = records.iter().map(|record| record.text.as_str()).collect();
    let out = transform.run(&super::texts(&texts));
    let mut fates = vec![Fate::Filtered; records.len()];
    for reject in &out.rejects {
        assert_eq!(reject.stage, crate::RejectStage::Transform, "{}: {}", texts[reject.record as usize], reject.reason.full());
        assert!(!reject.reason.full().contains("panicked"), "{}", reject.reason.full());
        fates[reject.record as usize] = Fate::Error;
    }
    for (row, origin) in out.origin.iter().enumerate() {
        assert_eq!(fates[*origin as usize], Fate::Filtered, "a record has one fate");
        fates[*origin as usize] = Fate::Row(out.rows.columns()[1..].iter().map(|column| cell(column, row)).collect());
    }
    fates
}

/// The result of comparing a statement.
enum Comparison {
    Equal,
    /// The statement does not compile.
    Rejected,
    Differs(String),
}

/// Compares the transform with the interpreter.
fn compare(seed: u64) -> Comparison {
    let (statement, records) = record::random(seed, RECORDS);
    let sql = statement.sql(Dialect::Forebay);
    let transform = match try_transform(SCHEMA, &sql) {
        Ok(transform) => transform,
        // A WHERE that no record passes is rejected, and so is a constant expression that fails.
        Err(error) => {
            let never = error.to_string().contains("WHERE is always false");
            let expected = match never {
                true => records.iter().all(|record| statement.interpreted(record) == Fate::Filtered),
                false => !error.to_string().contains("can't be planned"),
            };
            return if expected { Comparison::Rejected } else { Comparison::Differs(format!("{sql}\n  is rejected: {error}")) };
        }
    };
    let together = transformed(&transform, &records);
    for (record, together) in records.iter().zip(together) {
        let alone = transformed(&transform, std::slice::from_ref(record)).remove(0);
        let interpreted = statement.interpreted(record);
        if together != interpreted || alone != interpreted {
            return Comparison::Differs(format!(
                "{sql}\n  of {}\n  is {together:?} in a batch, {alone:?} alone, {interpreted:?} in the interpreter",
                record.text
            ));
        }
    }
    Comparison::Equal
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seeds to run: one, or a number of them from 0 on.
fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("FOREBAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FOREBAY_SEEDS").unwrap_or(default),
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "printed for a manual run")]
fn differential_statements_agree_with_the_interpreter() {
    let seeds = seeds(400);
    let (next, started) = (AtomicU64::new(seeds.start), Instant::now());
    let work = || {
        let (mut wrong, mut rejected) = (Vec::new(), 0_u64);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (wrong, rejected);
            }
            match compare(seed) {
                Comparison::Equal => {}
                Comparison::Rejected => rejected += 1,
                Comparison::Differs(what) => wrong.push((seed, what)),
            }
        }
    };
    let (mut wrong, mut rejected) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (more, also) = worker.join().expect("a worker does not panic");
            wrong.extend(more);
            rejected += also;
        }
    });
    wrong.sort();
    let count = seeds.end - seeds.start;
    eprintln!("{count} statements of {RECORDS} records each, {rejected} rejected, {:.1} s", started.elapsed().as_secs_f64());
    if let Some((seed, what)) = wrong.first() {
        let others: Vec<_> = wrong.iter().map(|(seed, _)| seed.to_string()).collect();
        panic!("{what}\nseeds {}; repeat with: make differential SEED={seed}", others.join(" "));
    }
    assert!(count < 100 || rejected * 10 < count, "{rejected} of {count} statements are rejected: too many for a meaningful result");
}

/// Runs the statements in DuckDB: one line of JSON in and one out per statement.
const ORACLE: &str = include_str!("oracle.py");

#[test]
#[allow(clippy::print_stderr, reason = "printed for a manual run")]
fn real_duckdb_gives_the_same_rows() {
    let seeds = seeds(100);
    let mut sum = Compared::default();
    for chunk in seeds.clone().collect::<Vec<_>>().chunks(CHUNK) {
        sum.compare(chunk);
    }
    let Compared { agreed, both_fail, alone, wrong } = sum;
    eprintln!("{} statements, {agreed} records agree with DuckDB, {both_fail} of them fail in both", seeds.end - seeds.start);
    let mut alone: Vec<_> = alone.into_iter().collect();
    alone.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    alone.iter().take(8).for_each(|(what, count)| eprintln!("{count} records fail in DuckDB alone: {what}"));
    if let Some((seed, what)) = wrong.first() {
        let others: std::collections::BTreeSet<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
        panic!("{what}\n{} records differ, of seeds {others:?}; repeat with: make differential SEED={seed}", wrong.len());
    }
    let expected = (seeds.end - seeds.start) * u64::try_from(RECORDS).unwrap() / 2;
    let empty = agreed < expected || both_fail < expected / 20;
    assert!(seeds.end - seeds.start < 100 || !empty, "too few values for a meaningful result: {agreed}, {both_fail}");
}

/// How many statements DuckDB receives at a time.
const CHUNK: usize = 500;

/// How the transform and DuckDB compare.
#[derive(Default)]
struct Compared {
    /// Records with the same fate, and those of them that fail.
    agreed: u64,
    both_fail: u64,
    /// Records that fail in DuckDB alone, by the beginning of the message.
    alone: HashMap<String, u64>,
    wrong: Vec<(u64, String)>,
}

impl Compared {
    fn compare(&mut self, seeds: &[u64]) {
        let cases: Vec<_> = seeds.iter().map(|seed| (*seed, record::random(*seed, RECORDS))).collect();
        let columns: Vec<_> = FIELDS.iter().map(|(name, kind)| (*name, kind.sql())).collect();
        let request = |(statement, records): &(Statement, Vec<Record>)| {
            let records: Vec<_> = records.iter().map(Record::columns).collect();
            json!({ "sql": statement.sql(Dialect::DuckDb), "columns": columns, "records": records }).to_string() + "\n"
        };
        let requests: String = cases.iter().map(|(_, case)| request(case)).collect();
        let answers = forebay_test_services::duckdb::run(ORACLE, requests.as_bytes(), 3_600);
        assert_eq!(cases.len(), answers.lines().count());
        for ((seed, (statement, records)), answer) in cases.iter().zip(answers.lines()) {
            let answer: Vec<Value> = serde_json::from_str(answer).unwrap();
            let sql = statement.sql(Dialect::Forebay);
            let Ok(transform) = try_transform(SCHEMA, &sql) else { continue };
            let kinds: Vec<_> = statement.columns.iter().map(Expr::type_of).collect();
            for ((record, ours), theirs) in records.iter().zip(transformed(&transform, records)).zip(&answer) {
                let fate = theirs_as_fate(theirs, &kinds);
                if fate == ours {
                    self.agreed += 1;
                    self.both_fail += u64::from(fate == Fate::Error);
                } else if fate == Fate::Error && ours == statement.interpreted(record) {
                    *self.alone.entry(theirs.as_str().unwrap_or_default().chars().take(60).collect()).or_default() += 1;
                } else {
                    self.wrong.push((*seed, format!("{sql}\n  of {}\n  is {ours:?}, in DuckDB {theirs}", record.text)));
                }
            }
        }
    }
}

/// Parses an answer: null for a record that is filtered out, text for an error, else the columns.
fn theirs_as_fate(answer: &Value, kinds: &[Type]) -> Fate {
    match answer {
        Value::Null => Fate::Filtered,
        Value::Array(cells) => {
            let cell = |(cell, kind): (&Value, &Type)| {
                let text = cell.as_str()?;
                Some(match kind {
                    Type::Real => format!("{:?}", text.parse::<f64>().unwrap() + 0.0),
                    Type::Decimal(..) => {
                        let (value, scale) = crate::decimal::exact(text).unwrap();
                        decimal_text(value, i8::try_from(scale).unwrap())
                    }
                    _ => text.to_owned(),
                })
            };
            Fate::Row(cells.iter().zip(kinds).map(cell).collect())
        }
        _ => Fate::Error,
    }
}
