//! Where a value can lose digits on its way through the SQL.
//!
//! Guarantee: a cast between types of which the second does not hold every value of the first is named, with its place, unless the
//! values go there by their digits. Not guaranteed: that digits are lost; that depends on the records.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use forebay_schemas::pipeline::FileError;

use super::digits::{cast_of, exact};
use super::refuse::Refusals;

/// A double holds so many decimal digits of any number.
const DIGITS_OF_DOUBLE: u8 = 15;

/// The losses of an analysed plan, in the order of its parts.
pub(super) fn find(plan: &LogicalPlan, refusals: &Refusals<'_>) -> Vec<FileError> {
    let mut losses = Vec::new();
    let mut seen = BTreeSet::new();
    let walk = plan.apply(|node| {
        let Some(input) = node.inputs().first().copied() else { return Ok(TreeNodeRecursion::Continue) };
        let schema = input.schema();
        node.apply_expressions(|whole| {
            let place = match (node, whole) {
                (LogicalPlan::Filter(_), _) => "WHERE".to_owned(),
                (_, Expr::Alias(alias)) => format!("column `{}`", alias.name),
                _ => "the SELECT".to_owned(),
            };
            whole.apply(|expr| {
                let Some((inner, to, safe)) = cast_of(expr) else { return Ok(TreeNodeRecursion::Continue) };
                let Ok(from) = inner.get_type(schema) else { return Ok(TreeNodeRecursion::Continue) };
                if !matches!(inner, Expr::Literal(..))
                    && exact(inner, to, safe, schema).is_none()
                    && let Some((what, help)) = loss(&from, to)
                {
                    let message = format!("{place}: {what}");
                    let at = refusals.place(inner);
                    if seen.insert((message.clone(), at.clone().map(|at| at.start))) {
                        losses.push(refusals.at(at, message, help));
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walk.expect("looking at a plan does not fail");
    losses
}

/// What is lost between two types, and what to write instead.
fn loss(from: &DataType, to: &DataType) -> Option<(String, &'static str)> {
    use DataType::{Decimal128, Decimal256, Float16, Float32, Float64, Utf8, Utf8View};
    const BY_DIGITS: &str =
        "cast each field before it is computed with, as in CAST(amount AS DECIMAL(38, 9)) * 2: a field is cast by its digits";
    match (from, to) {
        (Float16 | Float32 | Float64, Decimal128(..) | Decimal256(..)) => {
            Some((format!("a double becomes {to}: it holds {DIGITS_OF_DOUBLE} to 17 digits, the others are lost before"), BY_DIGITS))
        }
        (Float32 | Float64, integer) if integer.is_integer() => {
            Some((format!("a double becomes {to}: it is rounded, and beyond 2^53 a double does not hold every integer"), BY_DIGITS))
        }
        (Float64, Float16 | Float32) => {
            Some(("a double becomes a float of 32 bits, which holds 6 to 9 digits".into(), "leave it a DOUBLE"))
        }
        (Float32 | Float64, Utf8 | Utf8View) => {
            let what = "a double becomes text: its shortest form, of at most 17 digits and not as the record has it";
            Some((
                what.to_owned(),
                "make the field a string in the schema and the source, or cast it to a DECIMAL first, which is done by its digits",
            ))
        }
        (Decimal128(digits, _) | Decimal256(digits, _), Float16 | Float32 | Float64) if *digits > DIGITS_OF_DOUBLE => {
            Some((format!("{from} becomes a double, which holds {DIGITS_OF_DOUBLE} to 17 digits"), "compute with decimals on both sides"))
        }
        (Decimal128(_, before) | Decimal256(_, before), Decimal128(_, after) | Decimal256(_, after)) if before > after => Some((
            format!("{from} becomes {to}: digits after the point are rounded off"),
            "give the second type the scale of the first, or round once, at the end",
        )),
        _ => None,
    }
}
