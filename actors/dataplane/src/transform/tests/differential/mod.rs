//! Random statements over random records, by three that do not know of each other: the plan, an interpreter that reads SQL plainly and one
//! record at a time, and DuckDB without its optimiser.
//!
//! Each record has the same fate from the plan and from the interpreter: the same row, filtered out, or an error. Where DuckDB gives a
//! value, it is that of the plan. Where DuckDB gives an error and the plan a value, the interpreter must give that value too: DuckDB
//! evaluates both sides of AND and OR, and its types are narrower in places.

mod expr;
mod pinned;
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

/// How many records each statement is run over.
const RECORDS: usize = 24;

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Its columns, as text; none is NULL.
    Row(Vec<Option<String>>),
    Filtered,
    Error,
}

impl Statement {
    fn sql(&self, dialect: Dialect) -> String {
        let columns: Vec<_> = self.columns.iter().enumerate().map(|(at, column)| format!("{} AS v{at}", column.sql(dialect))).collect();
        let id = if dialect == Dialect::Forebay { "id, " } else { "" };
        // A condition that is NULL by its left side is evaluated whole.
        let whole = |sql: String| if dialect == Dialect::DuckDb { expr::given(&sql, "v") } else { sql };
        let filter = self.filter.iter().map(|filter| format!(" WHERE {}", whole(filter.sql(dialect)))).collect::<String>();
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

/// A decimal without zeros at its end: scales differ between databases, values do not.
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
        other => panic!("a column of {other}, which no statement makes"),
    })
}

/// What the plan makes of the records, as one batch.
fn planned(plan: &Transform, records: &[Record]) -> Vec<Fate> {
    let texts: Vec<_> = records.iter().map(|record| record.text.as_str()).collect();
    let out = plan.run(&super::texts(&texts));
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

/// What came of a statement.
enum Tried {
    Alike,
    /// There is no plan.
    Refused,
    Differs(String),
}

/// Compares the plan with the interpreter.
fn compare(seed: u64) -> Tried {
    let (statement, records) = record::random(seed, RECORDS);
    let sql = statement.sql(Dialect::Forebay);
    let plan = match try_plan(SCHEMA, &sql) {
        Ok(plan) => plan,
        // A WHERE that no record passes is refused, and a constant that has no value.
        Err(error) => {
            let never = error.to_string().contains("WHERE is always false");
            let right = match never {
                true => records.iter().all(|record| statement.interpreted(record) == Fate::Filtered),
                false => !error.to_string().contains("can't be planned"),
            };
            return if right { Tried::Refused } else { Tried::Differs(format!("{sql}\n  is refused: {error}")) };
        }
    };
    let together = planned(&plan, &records);
    for (record, together) in records.iter().zip(together) {
        let alone = planned(&plan, std::slice::from_ref(record)).remove(0);
        let plain = statement.interpreted(record);
        if together != plain || alone != plain {
            return Tried::Differs(format!(
                "{sql}\n  of {}\n  is {together:?} in a batch, {alone:?} alone, {plain:?} when read plainly",
                record.text
            ));
        }
    }
    Tried::Alike
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seeds to try: one, or so many from the first one on.
fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("FOREBAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FOREBAY_SEEDS").unwrap_or(default),
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "said to whoever runs it by hand")]
fn differential_statements_give_what_their_plain_reading_gives() {
    let seeds = seeds(400);
    let (next, begun) = (AtomicU64::new(seeds.start), Instant::now());
    let work = || {
        let (mut wrong, mut refused) = (Vec::new(), 0_u64);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (wrong, refused);
            }
            match compare(seed) {
                Tried::Alike => {}
                Tried::Refused => refused += 1,
                Tried::Differs(what) => wrong.push((seed, what)),
            }
        }
    };
    let (mut wrong, mut refused) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (more, also) = worker.join().expect("a worker does not panic");
            wrong.extend(more);
            refused += also;
        }
    });
    wrong.sort();
    let count = seeds.end - seeds.start;
    eprintln!("{count} statements of {RECORDS} records each, {refused} refused, {:.1} s", begun.elapsed().as_secs_f64());
    if let Some((seed, what)) = wrong.first() {
        let others: Vec<_> = wrong.iter().map(|(seed, _)| seed.to_string()).collect();
        panic!("{what}\nseeds {}; repeat with: make differential SEED={seed}", others.join(" "));
    }
    assert!(count < 100 || refused * 10 < count, "{refused} of {count} statements are refused: too many to mean anything");
}

/// Runs the statements in DuckDB: a line of JSON in for each, a line out.
const ORACLE: &str = include_str!("oracle.py");

#[test]
#[allow(clippy::print_stderr, reason = "said to whoever runs it by hand")]
fn real_duckdb_gives_the_same_rows() {
    let seeds = seeds(100);
    let mut sum = Compared::default();
    for chunk in seeds.clone().collect::<Vec<_>>().chunks(CHUNK) {
        sum.compare(chunk);
    }
    let Compared { agreed, both_fail, alone, wrong } = sum;
    eprintln!("{} statements, {agreed} records alike in DuckDB, of which {both_fail} have no value", seeds.end - seeds.start);
    let mut alone: Vec<_> = alone.into_iter().collect();
    alone.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    alone.iter().take(8).for_each(|(what, count)| eprintln!("{count} records have no value in DuckDB alone: {what}"));
    if let Some((seed, what)) = wrong.first() {
        let others: std::collections::BTreeSet<u64> = wrong.iter().map(|(seed, _)| *seed).collect();
        panic!("{what}\n{} records differ, of seeds {others:?}; repeat with: make differential SEED={seed}", wrong.len());
    }
    let least = (seeds.end - seeds.start) * u64::try_from(RECORDS).unwrap() / 2;
    let empty = agreed < least || both_fail < least / 20;
    assert!(seeds.end - seeds.start < 100 || !empty, "the statements are too empty to mean anything: {agreed}, {both_fail}");
}

/// How many statements are given to DuckDB at a time.
const CHUNK: usize = 500;

/// How the plan and DuckDB compare.
#[derive(Default)]
struct Compared {
    /// Records that have the same fate, and those of them that have no value.
    agreed: u64,
    both_fail: u64,
    /// Records that have no value in DuckDB alone, by the beginning of what it says.
    alone: HashMap<String, u64>,
    wrong: Vec<(u64, String)>,
}

impl Compared {
    fn compare(&mut self, seeds: &[u64]) {
        let cases: Vec<_> = seeds.iter().map(|seed| (*seed, record::random(*seed, RECORDS))).collect();
        let columns: Vec<_> = FIELDS.iter().map(|(name, kind)| (*name, kind.sql())).collect();
        let ask = |(statement, records): &(Statement, Vec<Record>)| {
            let records: Vec<_> = records.iter().map(Record::columns).collect();
            json!({ "sql": statement.sql(Dialect::DuckDb), "columns": columns, "records": records }).to_string() + "\n"
        };
        let asked: String = cases.iter().map(|(_, case)| ask(case)).collect();
        let answers = forebay_test_services::duckdb::run(ORACLE, asked.as_bytes(), 3_600);
        assert_eq!(cases.len(), answers.lines().count());
        for ((seed, (statement, records)), answer) in cases.iter().zip(answers.lines()) {
            let answer: Vec<Value> = serde_json::from_str(answer).unwrap();
            let sql = statement.sql(Dialect::Forebay);
            let Ok(plan) = try_plan(SCHEMA, &sql) else { continue };
            let kinds: Vec<_> = statement.columns.iter().map(Expr::type_of).collect();
            for ((record, ours), theirs) in records.iter().zip(planned(&plan, records)).zip(&answer) {
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

/// An answer: null for a record that is filtered out, a text for an error, else the columns.
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
