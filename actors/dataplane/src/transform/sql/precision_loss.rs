//! Finds where a value can lose digits in the SQL.
//!
//! Guarantee: every cast to a type that does not hold all values of the source type is reported
//! with its location, unless the cast uses the digits of the record (see
//! [`exact_numbers`](super::exact_numbers)).
//!
//! Does not guarantee that digits are lost; that depends on the records.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use forebay_schemas::pipeline::FileError;

use super::exact_numbers::{cast_of, exact_cast};
use super::validate::Validator;

/// The number of decimal digits that a double always holds.
const DOUBLE_DIGITS: u8 = 15;

/// Returns the losses of an analysed plan, in the order of its nodes.
pub(super) fn find(plan: &LogicalPlan, validator: &Validator<'_>) -> Vec<FileError> {
    let mut losses = Vec::new();
    let mut seen = BTreeSet::new();
    let walk = plan.apply(|node| {
        let Some(input) = node.inputs().first().copied() else { return Ok(TreeNodeRecursion::Continue) };
        let schema = input.schema();
        node.apply_expressions(|whole| {
            let location = match (node, whole) {
                (LogicalPlan::Filter(_), _) => "WHERE".to_owned(),
                (_, Expr::Alias(alias)) => format!("column `{}`", alias.name),
                _ => "the SELECT".to_owned(),
            };
            whole.apply(|expr| {
                let Some((inner, to, safe)) = cast_of(expr) else { return Ok(TreeNodeRecursion::Continue) };
                let Ok(from) = inner.get_type(schema) else { return Ok(TreeNodeRecursion::Continue) };
                if !matches!(inner, Expr::Literal(..))
                    && exact_cast(inner, to, safe, schema).is_none()
                    && let Some((what, help)) = loss(&from, to)
                {
                    let message = format!("{location}: {what}");
                    let span = validator.span_of(inner);
                    if seen.insert((message.clone(), span.clone().map(|span| span.start))) {
                        losses.push(validator.error(span, message, help));
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walk.expect("visiting a plan does not fail");
    losses
}

/// Returns what a cast between two types loses, and what to write instead.
fn loss(from: &DataType, to: &DataType) -> Option<(String, &'static str)> {
    use DataType::{Decimal128, Decimal256, Float16, Float32, Float64, Utf8, Utf8View};
    const BY_DIGITS: &str =
        "cast each field before computing with it, as in CAST(amount AS DECIMAL(38, 9)) * 2: a field is cast by its digits";
    match (from, to) {
        (Float16 | Float32 | Float64, Decimal128(..) | Decimal256(..)) => Some((
            format!("a double becomes {to}: it holds {DOUBLE_DIGITS} to 17 digits, further digits are lost before the cast"),
            BY_DIGITS,
        )),
        (Float32 | Float64, integer) if integer.is_integer() => {
            Some((format!("a double becomes {to}: it is rounded, and above 2^53 a double does not hold every integer"), BY_DIGITS))
        }
        (Float64, Float16 | Float32) => {
            Some(("a double becomes a float of 32 bits, which holds 6 to 9 digits".into(), "leave it a DOUBLE"))
        }
        (Float32 | Float64, Utf8 | Utf8View) => {
            let what = "a double becomes text: its shortest form, with at most 17 digits, and not as the record has it";
            Some((
                what.to_owned(),
                "make the field a string in the schema and the source, or cast it to a DECIMAL first, which uses its digits",
            ))
        }
        (Decimal128(digits, _) | Decimal256(digits, _), Float16 | Float32 | Float64) if *digits > DOUBLE_DIGITS => {
            Some((format!("{from} becomes a double, which holds {DOUBLE_DIGITS} to 17 digits"), "compute with decimals on both sides"))
        }
        (Decimal128(_, before) | Decimal256(_, before), Decimal128(_, after) | Decimal256(_, after)) if before > after => Some((
            format!("{from} becomes {to}: digits after the point are rounded off"),
            "give the second type the scale of the first, or round once, at the end",
        )),
        _ => None,
    }
}
