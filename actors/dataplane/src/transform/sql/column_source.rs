//! Which field of the record a column of the SELECT copies.
//!
//! Guarantee: when a column has a source, two records with different values there have different
//! values in the column. The column is the field itself, renamed, cast to text, bytes or an
//! integer, or encoded in hexadecimal or base64.
//!
//! Does not guarantee to find the source of every such column.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, LogicalPlan};
use forebay_schemas::json_pointer;

use crate::transform::arrow_schema::SystemColumn;

/// The source of a column: different values there give different values in the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// A field of the record, as a JSON pointer.
    Field(String),
    /// The key of the record in the topic.
    Key,
}

/// Returns the source of each column of a plan.
pub(super) fn column_sources(plan: &LogicalPlan) -> Vec<Option<ColumnSource>> {
    let columns = plan.schema().fields().len();
    (0..columns)
        .map(|at| {
            let path = column(plan, at)?;
            Some(match path.as_slice() {
                [key] if key == SystemColumn::Key.name() => ColumnSource::Key,
                [other, ..] if SystemColumn::VISIBLE.iter().any(|column| column.name() == other) => return None,
                path => ColumnSource::Field(path.iter().map(|name| format!("/{}", json_pointer::escape(name))).collect()),
            })
        })
        .collect()
}

/// Returns the path to the source of a plan's column.
fn column(plan: &LogicalPlan, at: usize) -> Option<Vec<String>> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(vec![scan.projected_schema.fields().get(at)?.name().clone()]),
        LogicalPlan::Filter(filter) => column(&filter.input, at),
        LogicalPlan::SubqueryAlias(alias) => column(&alias.input, at),
        LogicalPlan::Projection(projection) => expression(projection.expr.get(at)?, &projection.input),
        LogicalPlan::Unnest(unnest) => {
            let from = *unnest.dependency_indices.get(at)?;
            let is_unnested = unnest.list_type_columns.iter().any(|(list, _)| *list == from) || unnest.struct_type_columns.contains(&from);
            if is_unnested { None } else { column(&unnest.input, from) }
        }
        _ => None,
    }
}

fn expression(expr: &Expr, input: &LogicalPlan) -> Option<Vec<String>> {
    match expr {
        Expr::Alias(alias) => expression(&alias.expr, input),
        Expr::Column(name) => column(input, input.schema().maybe_index_of_column(name)?),
        Expr::Cast(cast) if is_injective(cast.field.data_type()) => expression(&cast.expr, input),
        Expr::ScalarFunction(call) => {
            let (first, rest) = call.args.split_first()?;
            match call.func.name() {
                "get_field" => {
                    let mut path = expression(first, input)?;
                    for name in rest {
                        let Expr::Literal(name, _) = name else { return None };
                        path.push(name.try_as_str()??.to_owned());
                    }
                    Some(path)
                }
                "encode" => expression(first, input),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns whether a cast to this type gives different results for different values of the types
/// that a key can have.
fn is_injective(to: &DataType) -> bool {
    to.is_integer() || matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView)
}
