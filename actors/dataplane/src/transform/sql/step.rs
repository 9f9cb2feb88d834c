//! The steps of the SQL over a batch of columns.
//!
//! Guarantees:
//! * A step keeps the order of rows, and keeps no state between batches.
//! * Its overhead is microseconds: expressions are compiled once and evaluated directly on the
//!   columns, without DataFusion's execution engine.
//! * What the steps produce, and the work that it takes, stays within the [`sql_quota`], or the run
//!   is an error.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, MutableArrayData, RecordBatch, make_array};
use datafusion::arrow::compute::{concat_batches, filter_record_batch};
use datafusion::arrow::datatypes::{Field, SchemaRef, UInt32Type};
use datafusion::common::UnnestOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use futures_util::{FutureExt, StreamExt};

use crate::transform::record_error::SqlError;
use crate::transform::{MAX_ROWS_PER_RECORD, column_bytes, sql_quota};

/// A step of the SQL.
#[derive(Debug)]
pub(in crate::transform) enum Step {
    /// WHERE: keeps the rows for which the expression is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// SELECT: one column per expression.
    Project { exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    /// `unnest`: one row per item.
    Unnest { lists: Vec<(usize, usize)>, structs: Vec<usize>, schema: SchemaRef, options: UnnestOptions },
}

/// `Filter: …`, `Project: …`, `Unnest: …`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(predicate) => write!(f, "Filter: {predicate}"),
            Self::Project { exprs, schema } => {
                let column = |(expr, field): (&Arc<dyn PhysicalExpr>, &Arc<Field>)| format!("{expr} AS {}", field.name());
                write!(f, "Project: {}", exprs.iter().zip(schema.fields()).map(column).collect::<Vec<_>>().join(", "))
            }
            Self::Unnest { schema, .. } => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                write!(f, "Unnest: {}", names.join(", "))
            }
        }
    }
}

/// Runs the steps, which may produce `max_bytes` bytes. A panic is an error like any other, so that
/// the record at fault can be found and rejected.
pub(in crate::transform) fn run(steps: &[Step], batch: &RecordBatch, max_bytes: u64) -> Result<RecordBatch, SqlError> {
    sql_quota::reset(max_bytes);
    let all = || steps.iter().try_fold(batch.clone(), |batch, step| step.run(batch));
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|panic| Err(SqlError::Panicked(message(&*panic))))
}

/// Copies some rows of a batch. A slice would not do: a slice of a list still holds the items of
/// all rows, and an expression that evaluates every item would fail on those of a neighbour.
pub(in crate::transform) fn copy_rows(batch: &RecordBatch, from: usize, rows: usize) -> RecordBatch {
    let copy_column = |column: &ArrayRef| match column.data_type().is_nested() {
        true => {
            let data = column.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, rows);
            copy.try_extend(0, from, from + rows).expect("the rows are within the batch");
            make_array(copy.freeze())
        }
        false => column.slice(from, rows),
    };
    let columns = batch.columns().iter().map(copy_column).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("the copies have the schema of the batch")
}

/// Returns the message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".into())
}

impl Step {
    fn run(&self, batch: RecordBatch) -> Result<RecordBatch, SqlError> {
        match self {
            Self::Filter(predicate) => {
                let mask = evaluate(predicate, &batch, || "WHERE".into())?;
                let mask = mask.as_boolean_opt().ok_or_else(|| DataFusionError::Execution("WHERE is not true or false".into()))?;
                Ok(filter_record_batch(&batch, mask)?)
            }
            Self::Project { exprs, schema } => {
                let column = |(expr, field): (_, &Arc<Field>)| evaluate(expr, &batch, || format!("column `{}`", field.name()));
                let columns = exprs.iter().zip(schema.fields()).map(column).collect::<Result<_, _>>()?;
                Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
            }
            Self::Unnest { lists, structs, schema, options } => {
                check_rows(&batch, lists, options)?;
                unnest(batch, lists, structs, schema, options)
            }
        }
    }
}

/// Evaluates an expression. `location` names it for the error.
fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, location: impl Fn() -> String) -> Result<ArrayRef, SqlError> {
    let values = expr.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
    values.map_err(|error| SqlError::at(location(), error))
}

/// Runs DataFusion's `unnest`, which exists as an execution plan only.
fn unnest(
    batch: RecordBatch,
    lists: &[(usize, usize)],
    structs: &[usize],
    schema: &SchemaRef,
    options: &UnnestOptions,
) -> Result<RecordBatch, SqlError> {
    let lists = lists.iter().map(|&(index_in_input_schema, depth)| ListUnnest { index_in_input_schema, depth }).collect();
    let input_schema = batch.schema();
    let input = MemorySourceConfig::try_new_exec(&[vec![batch]], input_schema, None)?;
    let exec = UnnestExec::new(input, lists, structs.to_vec(), Arc::clone(schema), options.clone())?;
    let stream = exec.execute(0, Arc::new(TaskContext::default()))?;
    let batches = stream.collect::<Vec<_>>().now_or_never().expect("a stream over columns in memory never waits");
    match <[RecordBatch; 1]>::try_from(batches.into_iter().collect::<Result<Vec<_>, _>>()?) {
        Ok([one]) => Ok(one),
        Err(several) => Ok(concat_batches(schema, &several)?),
    }
}

/// Checks that no record becomes more than [`MAX_ROWS_PER_RECORD`] rows, and charges what `unnest`
/// produces.
///
/// This comes before the rows are produced: the columns next to the lists are repeated for each
/// item, so a record of a megabyte with a long list would take a megabyte per item.
fn check_rows(batch: &RecordBatch, lists: &[(usize, usize)], options: &UnnestOptions) -> Result<(), SqlError> {
    let record = batch.columns().last().expect("the hidden column is the last").as_primitive::<UInt32Type>().values();
    let min_rows = usize::from(options.preserve_nulls() || lists.is_empty());
    // Parallel lists give as many rows as the longest has items. Where some are unnested more than
    // once, the product is an upper bound.
    let parallel = lists.iter().all(|&(_, depth)| depth == 1);
    let rows_of = |row: usize| {
        let items = lists.iter().map(|&(list, depth)| column_bytes::count_items(batch.column(list), row, depth));
        let rows = if parallel { items.max().unwrap_or(1) } else { items.map(|items| items.max(1)).fold(1, usize::saturating_mul) };
        rows.max(min_rows)
    };
    let mut from = 0;
    for rows in record.chunk_by(PartialEq::eq) {
        let to = from + rows.len();
        if (from..to).map(rows_of).fold(0, usize::saturating_add) > MAX_ROWS_PER_RECORD {
            return Err(SqlError::TooManyRows);
        }
        from = to;
    }
    let (unnested, repeated): (Vec<_>, Vec<_>) =
        batch.columns().iter().enumerate().partition(|(at, _)| lists.iter().any(|(list, _)| list == at));
    let sum = |columns: &[(usize, &ArrayRef)]| columns.iter().map(|(_, column)| column_bytes::of_array(column)).sum::<u64>();
    // An upper bound first: the exact sum needs the size of each row.
    let max_rows = (0..batch.num_rows()).map(rows_of).max().unwrap_or(0) as u64;
    let mut bytes = sum(&unnested).saturating_add(sum(&repeated).saturating_mul(max_rows));
    if bytes > sql_quota::remaining_bytes() {
        let of_row =
            |row| repeated.iter().map(|(_, column)| column_bytes::of_row(column, row)).sum::<u64>().saturating_mul(rows_of(row) as u64);
        bytes = (0..batch.num_rows()).map(of_row).fold(sum(&unnested), u64::saturating_add);
    }
    Ok(sql_quota::charge_bytes("`unnest`", bytes)?)
}
