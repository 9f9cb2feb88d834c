//! What a column of the SELECT is made of, as far as that tells apart what the record's field tells apart.
//!
//! Guarantee: where it names a field, or the record's key, two records with other values there give other values in the column: it is the field itself,
//! renamed, cast to a text, bytes or a whole number, or written in hexadecimal or base64. Not guaranteed: that a column of which it names nothing
//! does not tell them apart.

use crate::transform::schema::Origin;
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// What a column is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// A field of the record, as a JSON pointer.
    Field(String),
    /// The record's key in the topic.
    Key,
}

/// What each column of a plan is made of; none where that is not one field.
pub(super) fn follow(plan: &LogicalPlan) -> Vec<Option<ColumnSource>> {
    let columns = plan.schema().fields().len();
    (0..columns)
        .map(|at| {
            let path = column(plan, at)?;
            Some(match path.as_slice() {
                [key] if key == Origin::Key.name() => ColumnSource::Key,
                [other, ..] if Origin::VISIBLE.iter().any(|origin| origin.name() == other) => return None,
                path => ColumnSource::Field(path.iter().map(|name| format!("/{}", forebay_schemas::json_pointer::escape(name))).collect()),
            })
        })
        .collect()
}

/// The path of the source that a plan's column is.
fn column(plan: &LogicalPlan, at: usize) -> Option<Vec<String>> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(vec![scan.projected_schema.fields().get(at)?.name().clone()]),
        LogicalPlan::Filter(filter) => column(&filter.input, at),
        LogicalPlan::SubqueryAlias(alias) => column(&alias.input, at),
        LogicalPlan::Projection(projection) => expression(projection.expr.get(at)?, &projection.input),
        LogicalPlan::Unnest(unnest) => {
            let from = *unnest.dependency_indices.get(at)?;
            let taken_apart = unnest.list_type_columns.iter().any(|(list, _)| *list == from) || unnest.struct_type_columns.contains(&from);
            if taken_apart { None } else { column(&unnest.input, from) }
        }
        _ => None,
    }
}

fn expression(expr: &Expr, input: &LogicalPlan) -> Option<Vec<String>> {
    match expr {
        Expr::Alias(alias) => expression(&alias.expr, input),
        Expr::Column(name) => column(input, input.schema().maybe_index_of_column(name)?),
        Expr::Cast(cast) if keeps_apart(cast.field.data_type()) => expression(&cast.expr, input),
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

/// Whether a cast to a type gives other values for other values, of the types that a key has.
fn keeps_apart(to: &DataType) -> bool {
    to.is_integer() || matches!(to, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView)
}
