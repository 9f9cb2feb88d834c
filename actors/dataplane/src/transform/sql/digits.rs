//! JSON numbers that become decimals or integers by their digits, without a double in between.
//!
//! Guarantee: where a field of the type `number` is cast to a DECIMAL or an integer, or selected into a column that the pipeline file
//! calls `decimal`, the digits of the record are what is cast. The field is then decoded twice: as the double that it is everywhere else,
//! and beside it as text (its twin, see [`super::super::schema::with_digits`]). The cast may stand over `coalesce`, `nvl` or CASE of such
//! fields, and the field may come through a SELECT in FROM, out of an object, or out of an object in an array. Not guaranteed: numbers
//! that an expression computes, and numbers that are themselves the items of an array; [`super::losses`] says so of each.

use std::collections::BTreeSet;

use crate::transform::schema::twin;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Case, Cast, Expr, ExprSchemable, LogicalPlan, TryCast};

/// Fields of the type `number` whose digits are wanted, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::transform) struct Wanted {
    /// Fields of the record itself.
    pub(in crate::transform) columns: BTreeSet<String>,
    /// Fields of objects in it.
    pub(in crate::transform) members: BTreeSet<String>,
}

impl Wanted {
    pub(in crate::transform) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.members.is_empty()
    }
}

/// What a plan wants, in which functions that choose are CASE; `decimals` are the columns of its result that the pipeline file calls `decimal`.
pub(super) fn wanted(plan: &LogicalPlan, decimals: &BTreeSet<&str>) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    plan.apply(|node| {
        let Some(input) = node.inputs().first().copied() else { return Ok(TreeNodeRecursion::Continue) };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some((inner, to, _)) = cast_of(expr)
                    && by_digits(to)
                {
                    want(inner, input, &mut wanted);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if let LogicalPlan::Projection(top) = plan {
        for (expr, field) in top.expr.iter().zip(top.schema.fields()) {
            if decimals.contains(field.name().as_str()) && *field.data_type() == DataType::Float64 {
                want(expr, &top.input, &mut wanted);
            }
        }
    }
    Ok(wanted)
}

/// A cast: of what, to what, and whether it is a TRY_CAST.
pub(super) fn cast_of(expr: &Expr) -> Option<(&Expr, &DataType, bool)> {
    match expr {
        Expr::Cast(Cast { expr, field }) => Some((expr, field.data_type(), false)),
        Expr::TryCast(TryCast { expr, field }) => Some((expr, field.data_type(), true)),
        _ => None,
    }
}

/// Whether a cast to this type is made by digits.
fn by_digits(to: &DataType) -> bool {
    matches!(to, DataType::Decimal128(..)) || to.is_integer()
}

/// The name of a field that is taken out of an object as the last step of a path, and what it is taken out of.
fn last_step(expr: &Expr) -> Option<(&ScalarFunction, &str)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let Some(Expr::Literal(name, _)) = function.args.last() else { return None };
    (function.func.name() == "get_field").then_some((function, name.try_as_str().flatten()?))
}

/// The results of a CASE.
fn results(case: &Case) -> impl Iterator<Item = &Expr> {
    case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref())
}

fn want(expr: &Expr, input: &LogicalPlan, wanted: &mut Wanted) {
    match expr {
        Expr::Alias(alias) => want(&alias.expr, input, wanted),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Utf8 => want(expr, input, wanted),
        Expr::Column(column) => want_column(column, input, wanted),
        Expr::Case(case) => results(case).for_each(|result| want(result, input, wanted)),
        _ => {
            if let Some((_, name)) = last_step(expr)
                && expr.get_type(input.schema()).is_ok_and(|found| found == DataType::Float64)
            {
                wanted.members.insert(name.to_owned());
            }
        }
    }
}

/// Follows a column down to where it comes from.
fn want_column(column: &Column, plan: &LogicalPlan, wanted: &mut Wanted) {
    let Some(at) = plan.schema().maybe_index_of_column(column) else { return };
    if *plan.schema().field(at).data_type() != DataType::Float64 {
        return;
    }
    let below =
        |plan: &LogicalPlan, at: usize, wanted: &mut Wanted| want_column(&Column::from(plan.schema().qualified_field(at)), plan, wanted);
    match plan {
        LogicalPlan::TableScan(_) => {
            wanted.columns.insert(column.name.clone());
        }
        LogicalPlan::Projection(projection) => want(&projection.expr[at], &projection.input, wanted),
        LogicalPlan::Filter(filter) => below(&filter.input, at, wanted),
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input, at, wanted),
        LogicalPlan::Unnest(unnest) => {
            if let Some(from) = unnest.dependency_indices.get(at) {
                below(&unnest.input, *from, wanted);
            }
        }
        _ => {}
    }
}

/// The digits of a field that has a twin in this schema.
pub(super) fn twin_of(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match expr {
        Expr::Alias(alias) => twin_of(&alias.expr, schema),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Utf8 => twin_of(expr, schema),
        Expr::Column(column) => {
            let beside = Column::new(column.relation.clone(), twin(&column.name));
            schema.has_column(&beside).then_some(Expr::Column(beside))
        }
        _ => {
            let (function, name) = last_step(expr)?;
            let mut args = function.args.clone();
            *args.last_mut()? = Expr::Literal(ScalarValue::from(twin(name)), None);
            let beside = Expr::ScalarFunction(ScalarFunction::new_udf(function.func.clone(), args));
            beside.get_type(schema).is_ok().then_some(beside)
        }
    }
}

/// A cast of this expression that is made by digits, as far as there are any; none when there are none at all.
pub(super) fn exact(expr: &Expr, to: &DataType, safe: bool, schema: &DFSchema) -> Option<Expr> {
    let cast = |expr: Expr, to: &DataType| match safe {
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
        true => Expr::TryCast(TryCast::new(Box::new(expr), to.clone())),
    };
    if !by_digits(to) {
        return None;
    }
    if let Some(digits) = twin_of(expr, schema) {
        // Text is no integer when it has a fraction; the whole of a decimal is.
        let whole = if to.is_integer() { cast(digits, &DataType::Decimal128(38, 0)) } else { digits };
        return Some(cast(whole, to));
    }
    let found = std::cell::Cell::new(false);
    let choice = |expr: &Expr| {
        let exact = exact(expr, to, safe, schema);
        found.set(found.get() || exact.is_some());
        exact.unwrap_or_else(|| cast(expr.clone(), to))
    };
    let chosen = match expr {
        Expr::Alias(alias) => return exact(&alias.expr, to, safe, schema),
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(when, then)| (when.clone(), Box::new(choice(then)))).collect();
            let rest = case.else_expr.as_deref().map(|rest| Box::new(choice(rest)));
            Expr::Case(Case::new(case.expr.clone(), branches, rest))
        }
        _ => return None,
    };
    found.get().then_some(chosen)
}

/// The plan with each cast that can be made by digits made so, and each column that is to be `decimal` given as its digits. The plan's
/// own schemas are left as they are.
pub(super) fn apply(plan: LogicalPlan, decimals: &BTreeSet<&str>) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let Some(schema) = node.inputs().first().map(|input| std::sync::Arc::clone(input.schema())) else {
            return Ok(Transformed::no(node));
        };
        node.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let digits = cast_of(&expr).and_then(|(inner, to, safe)| exact(inner, to, safe, &schema));
                Ok(digits.map_or_else(|| Transformed::no(expr), Transformed::yes))
            })
        })
    })?;
    let LogicalPlan::Projection(mut top) = plan.data else { return Ok(plan.data) };
    for (expr, field) in top.expr.iter_mut().zip(top.schema.fields()) {
        if decimals.contains(field.name().as_str())
            && *field.data_type() == DataType::Float64
            && let Some(digits) = twin_of(expr, top.input.schema())
        {
            *expr = digits;
        }
    }
    Ok(LogicalPlan::Projection(top))
}
