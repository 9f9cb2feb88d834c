//! The SQL as steps over a batch of columns.
//!
//! Guarantee: a step keeps the order of rows, keeps no state between batches, and costs microseconds beside the work on the rows
//! themselves: expressions are compiled once and evaluated straight on the columns, without DataFusion's execution machinery. What the steps make of
//! a batch, and the work of it, is within the limits of the [`meter`], or an error.

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

use super::error::TransformError;
use super::{MAX_ROWS_PER_RECORD, meter, sizes};

/// One step of the SQL.
#[derive(Debug)]
pub(super) enum Step {
    /// WHERE: keeps the rows for which it is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// SELECT: a column an expression.
    Project { exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    /// `unnest`: a row an item.
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

/// Runs the steps on records of which they may make so many bytes. A panic in them is an error like any other, so that the record at fault can be found and set aside.
pub(super) fn run(steps: &[Step], batch: &RecordBatch, most: u64) -> Result<RecordBatch, TransformError> {
    meter::reset(most);
    let all = || steps.iter().try_fold(batch.clone(), |batch, step| step.run(batch));
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|panic| Err(TransformError::Panicked(message(&*panic))))
}

/// Some rows of a batch, by themselves: a slice of a list still holds the items of all rows, and an expression that looks at every item
/// would fail on those of a neighbour.
pub(super) fn part(batch: &RecordBatch, from: usize, rows: usize) -> RecordBatch {
    let own = |column: &ArrayRef| match column.data_type().is_nested() {
        true => {
            let data = column.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, rows);
            copy.try_extend(0, from, from + rows).expect("a part is no larger than the whole");
            make_array(copy.freeze())
        }
        false => column.slice(from, rows),
    };
    let columns = batch.columns().iter().map(own).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("a part of a batch has its schema")
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".into())
}

impl Step {
    fn run(&self, batch: RecordBatch) -> Result<RecordBatch, TransformError> {
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

/// The values of an expression; `place` names it for the error.
fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, place: impl Fn() -> String) -> Result<ArrayRef, TransformError> {
    let values = expr.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
    values.map_err(|cause| TransformError::at(place(), cause))
}

/// DataFusion's own `unnest`, which is to be had as an execution plan only.
fn unnest(
    batch: RecordBatch,
    lists: &[(usize, usize)],
    structs: &[usize],
    schema: &SchemaRef,
    options: &UnnestOptions,
) -> Result<RecordBatch, TransformError> {
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

/// No record may become more rows than [`MAX_ROWS_PER_RECORD`]. This is looked at before the rows are made: a record of a megabyte with a long list
/// would be a megabyte for each of its items. What stands beside the lists is there for each item, and is charged for.
fn check_rows(batch: &RecordBatch, lists: &[(usize, usize)], options: &UnnestOptions) -> Result<(), TransformError> {
    let record = batch.columns().last().expect("the hidden column is always the last").as_primitive::<UInt32Type>().values();
    let least = usize::from(options.preserve_nulls() || lists.is_empty());
    // Lists side by side give as many rows as the longest has items; where some are unnested more than once, at most the product of all.
    let side_by_side = lists.iter().all(|&(_, depth)| depth == 1);
    let rows_of = |row: usize| {
        let items = lists.iter().map(|&(list, depth)| sizes::items(batch.column(list), row, depth));
        let rows = if side_by_side { items.max().unwrap_or(1) } else { items.map(|items| items.max(1)).fold(1, usize::saturating_mul) };
        rows.max(least)
    };
    let mut from = 0;
    for rows in record.chunk_by(PartialEq::eq) {
        let to = from + rows.len();
        if (from..to).map(rows_of).fold(0, usize::saturating_add) > MAX_ROWS_PER_RECORD {
            return Err(TransformError::TooManyRows);
        }
        from = to;
    }
    let (unnested, beside): (Vec<_>, Vec<_>) =
        batch.columns().iter().enumerate().partition(|(at, _)| lists.iter().any(|(list, _)| list == at));
    let sum = |columns: &[(usize, &ArrayRef)]| columns.iter().map(|(_, column)| sizes::of_array(column)).sum::<u64>();
    // Exactly only where it matters, since that looks at each value.
    let most = (0..batch.num_rows()).map(rows_of).max().unwrap_or(0) as u64;
    let mut bytes = sum(&unnested).saturating_add(sum(&beside).saturating_mul(most));
    if bytes > meter::room() {
        let of_row = |row| beside.iter().map(|(_, column)| sizes::of_row(column, row)).sum::<u64>().saturating_mul(rows_of(row) as u64);
        bytes = (0..batch.num_rows()).map(of_row).fold(sum(&unnested), u64::saturating_add);
    }
    Ok(meter::charge_bytes("`unnest`", bytes)?)
}
