//! From the text of the SQL to steps over columns.
//!
//! Guarantee: what passes here is one SELECT from the topic that treats each record by itself and gives the same rows each time; what
//! does not is refused with its place in the pipeline file and what to do instead. Names are taken as they are written, since those of
//! JSON are told apart by case. Expressions are evaluated as they are written: no rule of DataFusion's optimiser rewrites them.
//!
//! The hidden column [`ROW`] says which record a row came from. The SQL is planned without it, so that it can neither see nor lose it;
//! then each part of the plan is made to pass it on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    AggregateUDF, Expr, Filter, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, Projection, ScalarUDF, SubqueryAlias, TableSource, Unnest,
    WindowUDF,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{
    self, ExcludeSelectItem, Ident, ObjectName, Query, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use forebay_schemas::pipeline::{FileError, Pipeline};

use super::limits::SQL_BYTES;
use super::schema::{Origin, ROW, table, twin, with_digits};
use super::step::{self, Step};
use crate::store::CqlType;

mod bounded;
pub(crate) mod cast;
mod checked;
mod cost;
mod digits;
mod follow;
mod losses;
mod pattern;
mod refuse;

pub(super) use digits::Wanted;
pub use follow::ColumnSource;
use refuse::Refusals;

/// The SQL, ready to run.
#[derive(Debug)]
pub(super) struct Program {
    /// The record's fields as they are decoded, with the twins of numbers whose digits are wanted.
    pub(super) record: Fields,
    /// What to scan; the last is the hidden column.
    pub(super) sources: Vec<Source>,
    /// The scan's columns.
    pub(super) scan: SchemaRef,
    pub(super) steps: Vec<Step>,
    /// What the steps give: the columns of the SELECT, then the hidden one.
    pub(super) result: SchemaRef,
    /// The columns of the SELECT.
    pub(super) output: SchemaRef,
    /// Where a value can lose digits on its way, each at its place in the file.
    pub(super) losses: Vec<FileError>,
    /// What each of them is made of; none where that is not one field.
    pub(super) column_sources: Vec<Option<ColumnSource>>,
}

/// Where a column of the scan comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// A field of the record, by its index.
    Field(usize),
    /// A column beside them.
    Origin(Origin),
}

/// Plans the SQL of a pipeline, whose records have these fields.
pub(super) fn compile(pipeline: &Pipeline, sql: &str, record: &Fields) -> Result<Program, FileError> {
    let topic = pipeline.kafka.topic.as_str();
    let refusals = Refusals { pipeline, sql, topic };
    let state = state();

    let statement = parse(&refusals)?;
    let tables = Tables { state: &state, topic, schema: table(record, &Origin::VISIBLE), unknown: RefCell::default() };
    let options =
        ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false).with_collect_spans(true);
    let plan = SqlToRel::new_with_options(&tables, options)
        .sql_statement_to_plan(statement)
        .map_err(|error| refusals.planning(&error, tables.unknown.take(), &tables.schema))?;
    refusals.check(&plan)?;
    let column_sources = follow::follow(&plan);

    let failed = |error: DataFusionError| refusals.planning(&error, None, &tables.schema);
    let declared = pipeline.writer.iter().flat_map(|writer| &writer.columns);
    let decimals: BTreeSet<&str> =
        declared.filter(|(_, cql)| CqlType::parse(cql) == Ok(CqlType::Decimal)).map(|(name, _)| name.as_str()).collect();
    let mut fields = record.clone();
    let mut analyzed = analyze(&plan, &fields, &state).map_err(failed)?;
    let wanted = digits::wanted(&analyzed, &decimals).map_err(failed)?;
    if !wanted.is_empty() {
        fields = with_digits(record, &wanted);
        analyzed = analyze(&plan, &fields, &state).map_err(failed)?;
    }
    let losses = losses::find(&analyzed, &refusals);
    let plan = digits::apply(analyzed, &decimals).map_err(failed)?;

    let mut lowering = Lowering { state: &state, scan: None, steps: Vec::new() };
    let result = lowering.lower(&plan).map_err(failed)?;
    refusals.check_steps(&lowering.steps)?;
    let (scan, columns) = lowering.scan.expect("a plan that was checked has one scan");
    let source = |at: usize| if at < fields.len() { Source::Field(at) } else { Source::Origin(ORIGINS[at - fields.len()]) };
    let output = result.project(&(0..result.fields().len() - 1).collect::<Vec<_>>()).expect("the hidden column is the last");
    let program = Program {
        sources: columns.into_iter().map(source).collect(),
        record: fields.clone(),
        scan,
        steps: lowering.steps,
        result,
        output: output.into(),
        losses,
        column_sources,
    };
    step::run(&program.steps, &RecordBatch::new_empty(Arc::clone(&program.scan)), SQL_BYTES)
        .map_err(|error| refusals.at(None, error.to_string(), ""))?;
    Ok(program)
}

/// The columns beside the record's fields, as the plan has them.
const ORIGINS: [Origin; Origin::VISIBLE.len() + 1] = {
    let [a, b, c, d, e] = Origin::VISIBLE;
    [a, b, c, d, e, Origin::Row]
};

/// The plan over these fields, with the hidden column, with types brought together where an operation asks for it, and with functions that
/// stand for CASE or CAST replaced by them. Nothing else is rewritten: no rule of DataFusion's optimiser is run, since there are some that drop records, take other branches of CASE than the SQL
/// says, or evaluate what a branch guards.
fn analyze(plan: &LogicalPlan, fields: &Fields, state: &SessionState) -> Result<LogicalPlan> {
    let mut names = BTreeSet::from([ROW.to_owned()]);
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Column(column) = expr {
                    names.extend([column.name.clone(), twin(&column.name)]);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let schema = table(fields, &ORIGINS);
    let used = schema.fields().iter().enumerate().filter(|(_, field)| names.contains(field.name())).map(|(at, _)| at).collect();
    let carried = carry(plan, &Scan { source: Arc::new(Topic(schema)), used }, true)?;
    let analyzed = state.analyzer().execute_and_check(carried, state.config_options(), |_, _| {})?;
    choose(analyzed, state)
}

/// Functions that DataFusion evaluates as what they stand for, CASE or CAST, and not by themselves.
const STAND_FOR: &[&str] = &["coalesce", "nvl", "ifnull", "nvl2", "arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// The plan with [`STAND_FOR`] replaced.
fn choose(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let Some(schema) = node.inputs().first().map(|input| Arc::clone(input.schema())) else { return Ok(Transformed::no(node)) };
        let context = SimplifyContext::builder().with_schema(schema).with_config_options(Arc::clone(state.config_options())).build();
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::ScalarFunction(function) if STAND_FOR.contains(&function.func.name()) => {
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

/// The functions and rules of DataFusion; for one batch at a time, on one thread.
fn state() -> SessionState {
    let config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
}

/// The one SELECT of the text, in which `*` means the record's own fields.
fn parse(refusals: &Refusals<'_>) -> Result<ast::Statement, FileError> {
    let parser = DFParserBuilder::new(refusals.sql).build().and_then(|mut parser| parser.parse_statements());
    let mut statements = parser.map_err(|error| refusals.syntax(&error))?;
    let statement = statements.pop_front();
    if !statements.is_empty() {
        return Err(refusals.at(None, "there is more than one statement", "write one SELECT"));
    }
    match statement {
        Some(Statement::Statement(statement)) if matches!(*statement, ast::Statement::Query(_)) => {
            let mut statement = *statement;
            let _ = statement.visit(&mut HideOrigins(refusals.topic));
            Ok(statement)
        }
        _ => Err(refusals.at(
            None,
            "the SQL is not a SELECT",
            format!("write SELECT … FROM {}; the writer makes and fills the table", refusals.table()),
        )),
    }
}

/// Lets `*` leave out the columns that are not the record's own, as system columns are left out elsewhere.
struct HideOrigins<'a>(&'a str);

impl VisitorMut for HideOrigins<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
        let [from] = select.from.as_slice() else { return ControlFlow::Continue(()) };
        if !matches!(&from.relation, TableFactor::Table { name, .. } if plain(name) == self.0) || !from.joins.is_empty() {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item {
                let mut hidden: Vec<_> = Origin::VISIBLE.iter().map(|origin| ObjectName::from(Ident::new(origin.name()))).collect();
                match options.opt_exclude.take() {
                    None => {}
                    Some(ExcludeSelectItem::Single(name)) => hidden.push(name),
                    Some(ExcludeSelectItem::Multiple(names)) => hidden.extend(names),
                }
                options.opt_exclude = Some(ExcludeSelectItem::Multiple(hidden));
            }
        }
        ControlFlow::Continue(())
    }
}

/// A name of several parts without its quotes.
fn plain(name: &ObjectName) -> String {
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect();
    parts.join(".")
}

/// The topic as a table. It is asked for columns only; filters stay steps of the plan.
#[derive(Debug)]
struct Topic(SchemaRef);

impl TableSource for Topic {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// What names mean in the SQL: one table, and DataFusion's functions.
struct Tables<'a> {
    state: &'a SessionState,
    topic: &'a str,
    schema: SchemaRef,
    /// A table that the SQL names and that is not there.
    unknown: RefCell<Option<String>>,
}

impl ContextProvider for Tables<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let name = name.to_string();
        if name == self.topic {
            return Ok(Arc::new(Topic(Arc::clone(&self.schema))));
        }
        let error = DataFusionError::Plan(format!("there is no table `{name}`"));
        self.unknown.replace(Some(name));
        Err(error)
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        None
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// What to read instead of the table that the SQL sees.
struct Scan {
    source: Arc<dyn TableSource>,
    /// The columns that are used.
    used: Vec<usize>,
}

/// The same plan over a source that has the hidden column, which each part passes on as its last, and twins of numbers, which each part
/// but the `top` one passes on beside them.
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
            let twins = projection.expr.iter().filter(|_| !top).filter_map(|expr| {
                let digits = digits::twin_of(expr, input.schema())?;
                match expr {
                    Expr::Column(_) => Some(digits),
                    named => Some(digits.alias(twin(&named.qualified_name().1))),
                }
            });
            exprs.extend(twins);
            exprs.push(Expr::Column(Column::from(input.schema().qualified_field_with_unqualified_name(ROW)?)));
            Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
        }
        LogicalPlan::Unnest(unnest) => {
            Ok(LogicalPlan::Unnest(Unnest::try_new(input(&unnest.input)?, unnest.exec_columns.clone(), unnest.options.clone())?))
        }
        other => Err(DataFusionError::NotImplemented(format!("{} is not supported", other.display()))),
    }
}

/// From an analysed plan to steps.
struct Lowering<'a> {
    state: &'a SessionState,
    /// The scan's columns, and their indices in the source.
    scan: Option<(SchemaRef, Vec<usize>)>,
    steps: Vec<Step>,
}

impl Lowering<'_> {
    /// Appends the plan's steps, its input's first, and says what columns they give.
    fn lower(&mut self, plan: &LogicalPlan) -> Result<SchemaRef> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
                let all = || (0..scan.source.schema().fields().len()).collect();
                let columns = scan.projection.clone().unwrap_or_else(all);
                let schema = Arc::clone(scan.projected_schema.inner());
                self.scan = Some((Arc::clone(&schema), columns));
                Ok(schema)
            }
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::Filter(filter) => {
                let schema = self.lower(&filter.input)?;
                let predicate = self.expression(&filter.predicate, filter.input.schema())?;
                self.steps.push(Step::Filter(predicate));
                Ok(schema)
            }
            LogicalPlan::Projection(projection) => {
                let input = self.lower(&projection.input)?;
                let expression = |expr: &Expr| self.expression(expr, projection.input.schema());
                let exprs = projection.expr.iter().map(expression).collect::<Result<Vec<_>>>()?;
                let field =
                    |(expr, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| Ok(field.as_ref().clone().with_data_type(expr.data_type(&input)?));
                let fields = exprs.iter().zip(projection.schema.fields()).map(field).collect::<Result<Fields>>()?;
                let schema = Arc::new(Schema::new(fields));
                self.steps.push(Step::Project { exprs, schema: Arc::clone(&schema) });
                Ok(schema)
            }
            LogicalPlan::Unnest(unnest) => {
                self.lower(&unnest.input)?;
                let schema = Arc::clone(unnest.schema.inner());
                self.steps.push(Step::Unnest {
                    lists: unnest.list_type_columns.iter().map(|(at, list)| (*at, list.depth)).collect(),
                    structs: unnest.struct_type_columns.clone(),
                    schema: Arc::clone(&schema),
                    options: unnest.options.clone(),
                });
                Ok(schema)
            }
            other => Err(DataFusionError::NotImplemented(format!("{} is not supported", other.display()))),
        }
    }

    fn expression(&self, expr: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let made = create_physical_expr(expr, input, self.state.execution_props(), &PhysicalPlanningContext::default())?;
        checked::checked(bounded::bounded(made, input.as_arrow())?, input.as_arrow())
    }
}
