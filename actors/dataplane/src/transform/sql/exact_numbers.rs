//! Casts JSON numbers to decimals or integers by their digits, with no double in between.
//!
//! Guarantee: when a field of type `number` is cast to a DECIMAL or an integer, or selected into a
//! column that the pipeline file declares `decimal`, the digits in the record are cast. The decoder
//! then writes the field twice: as the double that other expressions use, and as text into its
//! digits column (see [`with_digits`](crate::transform::arrow_schema::with_digits)). The cast may
//! be applied to `coalesce`, `nvl` or CASE of such fields. The field may come from a SELECT in
//! FROM, from an object, or from an object in an array.
//!
//! Does not cover numbers that an expression computes, nor numbers that are themselves items of an
//! array; [`precision_loss`](super::precision_loss) reports those.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Case, Cast, Expr, ExprSchemable, LogicalPlan, TryCast};

use crate::digits_column::digits_column;
use crate::transform::arrow_schema::ExactNumbers;

/// Finds the numbers that a plan casts by their digits. The plan has CASE in place of functions
/// that choose. `decimals` are the columns of its result that the pipeline file declares `decimal`.
pub(super) fn find(plan: &LogicalPlan, decimals: &BTreeSet<&str>) -> Result<ExactNumbers> {
    let mut found = ExactNumbers::default();
    plan.apply(|node| {
        let Some(input) = node.inputs().first().copied() else { return Ok(TreeNodeRecursion::Continue) };
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some((inner, to, _)) = cast_of(expr)
                    && by_digits(to)
                {
                    add(inner, input, &mut found);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    if let LogicalPlan::Projection(top) = plan {
        for (expr, field) in top.expr.iter().zip(top.schema.fields()) {
            if decimals.contains(field.name().as_str()) && *field.data_type() == DataType::Float64 {
                add(expr, &top.input, &mut found);
            }
        }
    }
    Ok(found)
}

/// Returns the operand and type of a cast, and whether it is a TRY_CAST.
pub(super) fn cast_of(expr: &Expr) -> Option<(&Expr, &DataType, bool)> {
    match expr {
        Expr::Cast(Cast { expr, field }) => Some((expr, field.data_type(), false)),
        Expr::TryCast(TryCast { expr, field }) => Some((expr, field.data_type(), true)),
        _ => None,
    }
}

/// Returns whether a cast to this type uses digits.
fn by_digits(to: &DataType) -> bool {
    matches!(to, DataType::Decimal128(..)) || to.is_integer()
}

/// Returns the call that reads a field of an object as the last step of a path, and the name of the
/// field.
fn last_step(expr: &Expr) -> Option<(&ScalarFunction, &str)> {
    let Expr::ScalarFunction(function) = expr else { return None };
    let Some(Expr::Literal(name, _)) = function.args.last() else { return None };
    (function.func.name() == "get_field").then_some((function, name.try_as_str().flatten()?))
}

/// Iterates over the results of a CASE.
fn results(case: &Case) -> impl Iterator<Item = &Expr> {
    case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref())
}

/// Adds the numbers that an expression chooses from.
fn add(expr: &Expr, input: &LogicalPlan, found: &mut ExactNumbers) {
    match expr {
        Expr::Alias(alias) => add(&alias.expr, input, found),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Utf8 => add(expr, input, found),
        Expr::Column(column) => add_column(column, input, found),
        Expr::Case(case) => results(case).for_each(|result| add(result, input, found)),
        _ => {
            if let Some((_, name)) = last_step(expr)
                && expr.get_type(input.schema()).is_ok_and(|found| found == DataType::Float64)
            {
                found.members.insert(name.to_owned());
            }
        }
    }
}

/// Follows a column down to the field that it comes from, and adds that.
fn add_column(column: &Column, plan: &LogicalPlan, found: &mut ExactNumbers) {
    let Some(at) = plan.schema().maybe_index_of_column(column) else { return };
    if *plan.schema().field(at).data_type() != DataType::Float64 {
        return;
    }
    let below =
        |plan: &LogicalPlan, at: usize, found: &mut ExactNumbers| add_column(&Column::from(plan.schema().qualified_field(at)), plan, found);
    match plan {
        LogicalPlan::TableScan(_) => {
            found.columns.insert(column.name.clone());
        }
        LogicalPlan::Projection(projection) => add(&projection.expr[at], &projection.input, found),
        LogicalPlan::Filter(filter) => below(&filter.input, at, found),
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input, at, found),
        LogicalPlan::Unnest(unnest) => {
            if let Some(from) = unnest.dependency_indices.get(at) {
                below(&unnest.input, *from, found);
            }
        }
        _ => {}
    }
}

/// Returns the digits column of a field, if this schema has it.
pub(super) fn digits_of(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    match expr {
        Expr::Alias(alias) => digits_of(&alias.expr, schema),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Utf8 => digits_of(expr, schema),
        Expr::Column(column) => {
            let digits = Column::new(column.relation.clone(), digits_column(&column.name));
            schema.has_column(&digits).then_some(Expr::Column(digits))
        }
        _ => {
            let (function, name) = last_step(expr)?;
            let mut args = function.args.clone();
            *args.last_mut()? = Expr::Literal(ScalarValue::from(digits_column(name)), None);
            let digits = Expr::ScalarFunction(ScalarFunction::new_udf(function.func.clone(), args));
            digits.get_type(schema).is_ok().then_some(digits)
        }
    }
}

/// Returns a cast of this expression that uses digits where there are any; `None` when there are
/// none at all.
pub(super) fn exact_cast(expr: &Expr, to: &DataType, safe: bool, schema: &DFSchema) -> Option<Expr> {
    let cast = |expr: Expr, to: &DataType| match safe {
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
        true => Expr::TryCast(TryCast::new(Box::new(expr), to.clone())),
    };
    if !by_digits(to) {
        return None;
    }
    if let Some(digits) = digits_of(expr, schema) {
        // Text with a fraction is no integer, but a rounded decimal is.
        let source = if to.is_integer() { cast(digits, &DataType::Decimal128(38, 0)) } else { digits };
        return Some(cast(source, to));
    }
    let found = std::cell::Cell::new(false);
    let choice = |expr: &Expr| {
        let exact = exact_cast(expr, to, safe, schema);
        found.set(found.get() || exact.is_some());
        exact.unwrap_or_else(|| cast(expr.clone(), to))
    };
    let chosen = match expr {
        Expr::Alias(alias) => return exact_cast(&alias.expr, to, safe, schema),
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(when, then)| (when.clone(), Box::new(choice(then)))).collect();
            let rest = case.else_expr.as_deref().map(|rest| Box::new(choice(rest)));
            Expr::Case(Case::new(case.expr.clone(), branches, rest))
        }
        _ => return None,
    };
    found.get().then_some(chosen)
}

/// Returns the plan with every cast that can use digits using them, and every column declared
/// `decimal` replaced by its digits. The schemas in the plan stay as they are.
pub(super) fn apply(plan: LogicalPlan, decimals: &BTreeSet<&str>) -> Result<LogicalPlan> {
    let plan = plan.transform_up(|node| {
        let Some(schema) = node.inputs().first().map(|input| std::sync::Arc::clone(input.schema())) else {
            return Ok(Transformed::no(node));
        };
        node.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let digits = cast_of(&expr).and_then(|(inner, to, safe)| exact_cast(inner, to, safe, &schema));
                Ok(digits.map_or_else(|| Transformed::no(expr), Transformed::yes))
            })
        })
    })?;
    let LogicalPlan::Projection(mut top) = plan.data else { return Ok(plan.data) };
    for (expr, field) in top.expr.iter_mut().zip(top.schema.fields()) {
        if decimals.contains(field.name().as_str())
            && *field.data_type() == DataType::Float64
            && let Some(digits) = digits_of(expr, top.input.schema())
        {
            *expr = digits;
        }
    }
    Ok(LogicalPlan::Projection(top))
}
