//! Compiles the text of the SQL to steps over columns.
//!
//! Guarantees:
//! * SQL that compiles is one SELECT from the topic that treats each record by itself and returns
//!   the same rows each time. Other SQL is an error with its location in the pipeline file and a
//!   remedy.
//! * Names are case-sensitive, because names in JSON are.
//! * Expressions are evaluated as written: no rule of DataFusion's optimizer rewrites them.
//!
//! The hidden column [`RECORD_INDEX`] says which record a row came from. The SQL is planned without
//! it, so the SQL can neither see nor lose it. Then every node of the plan is made to pass it on.
//!
//! ```text
//!  text ─parse─▶ plan ─validate─▶ analyze ─exact_numbers─▶ lower (charged_expr, checked_expr) ─▶ steps
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Fields, SchemaRef};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias, TableSource, Unnest};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use forebay_schemas::pipeline::{FileError, Pipeline};

use super::arrow_schema::{RECORD_INDEX, SystemColumn, table, with_digits};
use super::limits::MAX_SQL_BYTES;
use crate::cql_type::CqlType;
use crate::digits_column::digits_column;

pub(crate) mod cast;
mod charged_expr;
mod checked_expr;
mod column_source;
mod cost;
mod cost_arguments;
mod exact_numbers;
pub(super) mod function_cost;
mod lower;
mod parse;
mod precision_loss;
mod regex_cost;
pub(super) mod step;
mod validate;
mod value_cost;

pub use column_source::ColumnSource;
use lower::Lowering;
use parse::{TopicNames, TopicTable};
use step::Step;
use validate::Validator;

/// Compiled SQL.
#[derive(Debug)]
pub(super) struct Program {
    /// The fields of a record as they are decoded, with the digits columns of exact numbers.
    pub(super) record: Fields,
    /// Where each column of the scan comes from. The last is the hidden column.
    pub(super) scan_columns: Vec<ScanColumn>,
    /// The columns of the scan.
    pub(super) scan: SchemaRef,
    pub(super) steps: Vec<Step>,
    /// The columns that the steps produce: those of the SELECT, then the hidden one.
    pub(super) result: SchemaRef,
    /// The columns of the SELECT.
    pub(super) output: SchemaRef,
    /// Where a value can lose digits, with the location in the file.
    pub(super) precision_losses: Vec<FileError>,
    /// For each column of the SELECT the field or key that it is a copy of, if it is.
    pub(super) column_sources: Vec<Option<ColumnSource>>,
}

/// Where a column of the scan comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum ScanColumn {
    /// A field of the record, by index.
    Field(usize),
    /// A system column.
    System(SystemColumn),
}

/// Compiles the SQL of a pipeline whose records have these fields.
pub(super) fn compile(pipeline: &Pipeline, sql: &str, record: &Fields) -> Result<Program, FileError> {
    let topic = pipeline.kafka.topic.as_str();
    let validator = Validator { pipeline, sql, topic };
    let state = state();

    let statement = parse::parse(&validator)?;
    let names = TopicNames::new(&state, topic, table(record, &SystemColumn::VISIBLE));
    let options =
        ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false).with_collect_spans(true);
    let plan = SqlToRel::new_with_options(&names, options)
        .sql_statement_to_plan(statement)
        .map_err(|error| validator.planning_error(&error, names.unknown_table(), names.schema()))?;
    validator.check_plan(&plan)?;
    let column_sources = column_source::column_sources(&plan);

    let failed = |error: DataFusionError| validator.planning_error(&error, None, names.schema());
    let declared = pipeline.writer.iter().flat_map(|writer| &writer.columns);
    let decimals: BTreeSet<&str> =
        declared.filter(|(_, cql)| CqlType::parse(cql) == Ok(CqlType::Decimal)).map(|(name, _)| name.as_str()).collect();
    let mut fields = record.clone();
    let mut analyzed = analyze(&plan, &fields, &state).map_err(failed)?;
    let exact = exact_numbers::find(&analyzed, &decimals).map_err(failed)?;
    if !exact.is_empty() {
        fields = with_digits(record, &exact);
        analyzed = analyze(&plan, &fields, &state).map_err(failed)?;
    }
    let precision_losses = precision_loss::find(&analyzed, &validator);
    let plan = exact_numbers::apply(analyzed, &decimals).map_err(failed)?;

    let mut lowering = Lowering::new(&state);
    let result = lowering.lower(&plan).map_err(failed)?;
    validator.check_steps(&lowering.steps)?;
    let (scan, columns) = lowering.scan.expect("a valid plan has one scan");
    let source = |at: usize| if at < fields.len() { ScanColumn::Field(at) } else { ScanColumn::System(SYSTEM_COLUMNS[at - fields.len()]) };
    let output = result.project(&(0..result.fields().len() - 1).collect::<Vec<_>>()).expect("the hidden column is the last");
    let program = Program {
        scan_columns: columns.into_iter().map(source).collect(),
        record: fields.clone(),
        scan,
        steps: lowering.steps,
        result,
        output: output.into(),
        precision_losses,
        column_sources,
    };
    step::run(&program.steps, &RecordBatch::new_empty(Arc::clone(&program.scan)), MAX_SQL_BYTES)
        .map_err(|error| validator.error(None, error.to_string(), ""))?;
    Ok(program)
}

/// The system columns of the plan, the hidden one last.
const SYSTEM_COLUMNS: [SystemColumn; SystemColumn::VISIBLE.len() + 1] = {
    let [a, b, c, d, e, f] = SystemColumn::VISIBLE;
    [a, b, c, d, e, f, SystemColumn::RecordIndex]
};

/// Returns the plan over these fields, with the hidden column, with types coerced, and with
/// functions that stand for CASE or CAST replaced.
///
/// No rule of DataFusion's optimizer runs: some drop records, take other branches of CASE than the
/// SQL says, or evaluate what a branch guards.
fn analyze(plan: &LogicalPlan, fields: &Fields, state: &SessionState) -> Result<LogicalPlan> {
    let mut names = BTreeSet::from([RECORD_INDEX.to_owned()]);
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Column(column) = expr {
                    names.extend([column.name.clone(), digits_column(&column.name)]);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let schema = table(fields, &SYSTEM_COLUMNS);
    let used = schema.fields().iter().enumerate().filter(|(_, field)| names.contains(field.name())).map(|(at, _)| at).collect();
    let carried = carry(plan, &Scan { source: Arc::new(TopicTable(schema)), used }, true)?;
    let analyzed = state.analyzer().execute_and_check(carried, state.config_options(), |_, _| {})?;
    replace_shorthands(analyzed, state)
}

/// Functions that stand for CASE or CAST. DataFusion evaluates them only in that form.
const SHORTHANDS: &[&str] = &["coalesce", "nvl", "ifnull", "nvl2", "arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// Replaces the [`SHORTHANDS`] in a plan.
fn replace_shorthands(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let Some(schema) = node.inputs().first().map(|input| Arc::clone(input.schema())) else { return Ok(Transformed::no(node)) };
        let context = SimplifyContext::builder().with_schema(schema).with_config_options(Arc::clone(state.config_options())).build();
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(function) if SHORTHANDS.contains(&function.func.name()) => {
                    match function.func.simplify(function.args, &context)? {
                        ExprSimplifyResult::Simplified(expr) => Ok(Transformed::yes(expr)),
                        ExprSimplifyResult::Original(args) => {
                            Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction::new_udf(function.func, args))))
                        }
                    }
                }
                expr => Ok(Transformed::no(expr)),
            })
        })
    })?;
    Ok(plan.data)
}

/// Returns DataFusion's functions and rules, set up for one batch at a time on one thread.
fn state() -> SessionState {
    let config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
}

/// The scan that replaces the table that the SQL sees.
struct Scan {
    source: Arc<dyn TableSource>,
    /// The indices of the columns that are used.
    used: Vec<usize>,
}

/// Returns the same plan over another scan. Every node passes on the hidden column, as its last,
/// and every node but the `top` one also the digits columns.
fn carry(plan: &LogicalPlan, scan: &Scan, top: bool) -> Result<LogicalPlan> {
    let input = |plan: &Arc<LogicalPlan>| carry(plan, scan, false).map(Arc::new);
    match plan {
        LogicalPlan::TableScan(table) => {
            LogicalPlanBuilder::scan(table.table_name.clone(), Arc::clone(&scan.source), Some(scan.used.clone()))?.build()
        }
        LogicalPlan::Filter(filter) => Ok(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), input(&filter.input)?)?)),
        LogicalPlan::SubqueryAlias(alias) => {
            Ok(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(input(&alias.input)?, alias.alias.clone())?))
        }
        LogicalPlan::Projection(projection) => {
            let input = input(&projection.input)?;
            let mut exprs = projection.expr.clone();
            let digits = projection.expr.iter().filter(|_| !top).filter_map(|expr| {
                let digits = exact_numbers::digits_of(expr, input.schema())?;
                match expr {
                    Expr::Column(_) => Some(digits),
                    named => Some(digits.alias(digits_column(&named.qualified_name().1))),
                }
            });
            exprs.extend(digits);
            exprs.push(Expr::Column(Column::from(input.schema().qualified_field_with_unqualified_name(RECORD_INDEX)?)));
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
        }
        LogicalPlan::Unnest(unnest) => {
            Ok(LogicalPlan::Unnest(Unnest::try_new(input(&unnest.input)?, unnest.exec_columns.clone(), unnest.options.clone())?))
        }
        other => Err(DataFusionError::NotImplemented(format!("{} is not supported", other.display()))),
    }
}
