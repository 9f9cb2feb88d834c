//! Lowers an analysed plan to steps.

use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use super::step::Step;
use super::{charged_expr, checked_expr};

/// The steps of a plan, as far as it is lowered.
pub(super) struct Lowering<'a> {
    state: &'a SessionState,
    /// The columns of the scan, and their indices in the source.
    pub(super) scan: Option<(SchemaRef, Vec<usize>)>,
    pub(super) steps: Vec<Step>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(state: &'a SessionState) -> Self {
        Self { state, scan: None, steps: Vec::new() }
    }

    /// Appends the steps of a plan, those of its input first. Returns the columns that they
    /// produce.
    pub(super) fn lower(&mut self, plan: &LogicalPlan) -> Result<SchemaRef> {
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
        let physical = create_physical_expr(expr, input, self.state.execution_props(), &PhysicalPlanningContext::default())?;
        checked_expr::check(charged_expr::charge(physical, input.as_arrow())?, input.as_arrow())
    }
}
