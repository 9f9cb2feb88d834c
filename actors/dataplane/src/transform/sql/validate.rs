//! Validates the SQL, and builds its errors: the location in the pipeline file, the reason, and
//! what to write instead.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Location, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_expr::utils::collect_columns;
use forebay_schemas::pipeline::{ByteSpan, FileError, Pipeline, nearest};

use super::step::Step;
use crate::transform::arrow_schema::RECORD_INDEX;
use crate::transform::record_error::describe;

const KEY: &[&str] = &["transformer", "sql"];
/// Why SQL that reads more than one record at a time is rejected.
const BATCH_DEPENDENT: &str = "returns different rows depending on where a micro-batch is cut, and a restart cuts it elsewhere";

/// Validates the SQL of a pipeline.
pub(super) struct Validator<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) sql: &'a str,
    pub(super) topic: &'a str,
}

impl Validator<'_> {
    /// Returns an error about a part of the SQL, or about the whole.
    pub(super) fn error(&self, part: Option<Range<usize>>, message: impl Into<String>, help: impl Into<String>) -> FileError {
        match part {
            Some(part) => {
                let inside = ByteSpan { start: part.start, len: part.len().max(1) };
                self.pipeline.error_inside(KEY, self.sql, inside, message, help)
            }
            None => self.pipeline.error_at(KEY, message, help),
        }
    }

    /// Returns the name of the topic as the SQL has to write it.
    pub(super) fn table_name(&self) -> String {
        let bare =
            self.topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !self.topic.starts_with(|c: char| c.is_ascii_digit());
        if bare { self.topic.to_owned() } else { format!("\"{}\"", self.topic) }
    }

    /// Returns the error for text that does not parse.
    pub(super) fn syntax_error(&self, error: &DataFusionError) -> FileError {
        let text = match error.find_root() {
            DataFusionError::SQL(error, _) => error.to_string(),
            other => other.strip_backtrace(),
        };
        let text = text.trim_start_matches("sql parser error: ");
        let (message, location) = text.split_once(" at Line: ").unwrap_or((text, ""));
        let location = location.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
        let part = location.map(|(line, column)| self.offset(Location { line, column })).map(|start| start..self.word_end(start));
        let help = match self.table_name() {
            table if table.starts_with('"') && !self.sql.contains(&table) => format!("the topic's name needs quotes in SQL: {table}"),
            table => format!("write one SELECT … FROM {table}"),
        };
        self.error(part, format!("the SQL does not parse: {}", lower(message)), help)
    }

    /// Returns the error for SQL that DataFusion can't plan.
    pub(super) fn planning_error(&self, error: &DataFusionError, unknown_table: Option<String>, schema: &SchemaRef) -> FileError {
        if let Some(table) = unknown_table {
            let part = self.find_word(table.rsplit('.').next().unwrap_or(&table));
            let help = format!("the table is the topic: FROM {}", self.table_name());
            return self.error(part, format!("there is no table `{table}`; the SQL reads the topic, one record per row"), help);
        }
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let part = span.map(|span| self.offset(span.start)..self.offset(span.end));
        match error.find_root() {
            DataFusionError::SchemaError(error, _) => self.unknown_column(error, part, schema),
            _ => {
                let message = describe(error);
                if let Some((name, near)) = unknown_function(&message) {
                    let part = part.or_else(|| self.find_word(name));
                    return self.error(part, format!("there is no function `{name}`"), format!("did you mean `{near}`?"));
                }
                let message = message.lines().next().unwrap_or_default();
                let field =
                    message.strip_prefix("Field ").or_else(|| message.strip_prefix("field ")).and_then(|rest| rest.split(' ').next());
                let part = part.or_else(|| self.find_word(field?.trim_matches(['\'', '"'])));
                self.error(part, format!("the SQL can't be planned: {}", lower(message)), self.columns(schema))
            }
        }
    }

    fn unknown_column(&self, error: &SchemaError, part: Option<Range<usize>>, schema: &Schema) -> FileError {
        let SchemaError::FieldNotFound { field, valid_fields } = error else {
            if let Some(unnest) = self.find_word("unnest") {
                let message = "next to unnest(…), a computed column can't have the name of a field";
                let help = "unnest first: SELECT CAST(a AS BIGINT) AS a, b FROM (SELECT a, unnest(bs) AS b FROM …) AS t";
                return self.error(Some(unnest), message, help);
            }
            return self.error(
                part,
                format!("the SQL can't be planned: {}", lower(&error.to_string())),
                "give each column a name of its own with AS",
            );
        };
        let part = part.or_else(|| self.find_word(&field.name));
        let known: Vec<&str> = if valid_fields.is_empty() {
            schema.fields().iter().map(|field| field.name().as_str()).collect()
        } else {
            valid_fields.iter().map(|field| field.name.as_str()).collect()
        };
        let same = known.iter().copied().find(|name| name.eq_ignore_ascii_case(&field.name));
        let help = match same.or_else(|| nearest(&field.name, known.iter().copied())) {
            Some(near) => format!("did you mean `{near}`? the columns are {}", known.join(", ")),
            None => format!("the columns are {}; text is written in single quotes", known.join(", ")),
        };
        self.error(part, format!("there is no column `{}`", field.name), help)
    }

    /// Rejects what does not treat each record by itself, or does not return the same rows each
    /// time.
    pub(super) fn check_plan(&self, plan: &LogicalPlan) -> Result<(), FileError> {
        let mut rejected = None;
        let walk = plan.apply(|node| {
            rejected = self.node(node).or_else(|| self.expressions(node));
            Ok(if rejected.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        match (rejected, walk) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(self.error(None, describe(&error), "")),
            (None, Ok(_)) => Ok(()),
        }
    }

    fn node(&self, node: &LogicalPlan) -> Option<FileError> {
        let batch_dependent = |words: &[&str], what: &str, help: &str| {
            let part = words.iter().find_map(|word| self.find_word(word));
            Some(self.error(part, format!("{what} {BATCH_DEPENDENT}"), help))
        };
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) => {
                let hidden = node.schema().fields().iter().any(|field| field.name() == RECORD_INDEX);
                hidden.then(|| {
                    self.error(
                        self.find_word(RECORD_INDEX),
                        format!("the name `{RECORD_INDEX}` is reserved"),
                        "give the column another name",
                    )
                })
            }
            LogicalPlan::TableScan(_) => None,
            LogicalPlan::Aggregate(aggregate) => {
                let functions: Vec<String> = aggregate.aggr_expr.iter().map(function_name).collect();
                let mut words: Vec<&str> = functions.iter().map(String::as_str).collect();
                words.insert(0, "GROUP");
                words.push("DISTINCT");
                batch_dependent(&words, "an aggregate", "write one row per record, and aggregate where the table is read")
            }
            LogicalPlan::Distinct(_) => {
                batch_dependent(&["DISTINCT"], "DISTINCT", "leave it out: rows with the same primary key are one row in the table")
            }
            LogicalPlan::Window(_) => batch_dependent(&["OVER"], "a window function", "use one record at a time"),
            LogicalPlan::Sort(_) => batch_dependent(&["ORDER"], "ORDER BY", "leave it out: the table's clustering columns order its rows"),
            LogicalPlan::Limit(_) => {
                batch_dependent(&["LIMIT", "OFFSET", "FETCH"], "LIMIT", "leave it out, or select the records in WHERE")
            }
            LogicalPlan::Join(_) | LogicalPlan::Subquery(_) => batch_dependent(
                &["JOIN", "INTERSECT", "EXCEPT", ","],
                "a join",
                "read only the topic; for the items of an array write unnest(…) in the SELECT",
            ),
            LogicalPlan::Union(_) => batch_dependent(&["UNION"], "UNION", "write one SELECT; CASE can distinguish kinds of records"),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
                Some(self.error(None, "the SQL reads no record", format!("write SELECT … FROM {}", self.table_name())))
            }
            LogicalPlan::RecursiveQuery(_) => batch_dependent(&["RECURSIVE"], "a recursive query", "use one record at a time"),
            other => {
                let name = other.display().to_string();
                let name = name.split([':', ' ']).next().unwrap_or_default();
                Some(self.error(None, format!("{name} is not supported"), "use SELECT, WHERE and unnest over the topic"))
            }
        }
    }

    fn expressions(&self, node: &LogicalPlan) -> Option<FileError> {
        let mut rejected = None;
        let walk = node.apply_expressions(|expr| {
            expr.apply(|expr| {
                rejected = self.expression(expr);
                Ok(if rejected.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        });
        rejected.or_else(|| walk.err().map(|error| self.error(None, describe(&error), "")))
    }

    fn expression(&self, expr: &Expr) -> Option<FileError> {
        let (name, volatility) = match expr {
            Expr::ScalarFunction(function) => (function.func.name(), function.func.signature().volatility),
            Expr::HigherOrderFunction(function) => (function.name(), function.func.signature().volatility),
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) | Expr::OuterReferenceColumn(..) => {
                let message = format!("a subquery reads other records, and {BATCH_DEPENDENT}");
                return Some(self.error(None, message, "use one record at a time; a SELECT in FROM is allowed"));
            }
            Expr::Placeholder(parameter) => {
                let message = format!("the parameter `{}` has no value", parameter.id);
                return Some(self.error(
                    self.sql.find(&parameter.id).map(|at| at..at + parameter.id.len()),
                    message,
                    "write the value itself",
                ));
            }
            _ => return None,
        };
        let clock = match volatility {
            Volatility::Immutable => return None,
            Volatility::Stable => true,
            Volatility::Volatile => false,
        };
        let words = [name, "current_timestamp", "current_date", "current_time", "now", "today"];
        let part = words.iter().take(if clock { words.len() } else { 1 }).find_map(|word| self.find_word(word));
        let message = format!("`{name}()` returns a different value each time, so writing a record again would change its row");
        let help = match clock {
            true => "use `_timestamp`, the time of the record in the topic".to_owned(),
            false => "derive the value from the record, such as md5(…) of its fields, or `_partition` and `_offset`".to_owned(),
        };
        Some(self.error(part, message, help))
    }

    /// Rejects a WHERE that reads no column and is not true: no record would ever pass it.
    pub(super) fn check_steps(&self, steps: &[Step]) -> Result<(), FileError> {
        let row = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &row).expect("a row without columns is valid");
        let never = |step: &Step| match step {
            Step::Filter(predicate) if collect_columns(predicate).is_empty() => {
                let value = predicate.evaluate(&nothing).and_then(|value| value.into_array(1));
                value.is_ok_and(|value| value.as_boolean_opt().is_some_and(|value| !value.has_true()))
            }
            _ => false,
        };
        if steps.iter().any(never) {
            return Err(self.error(
                self.find_word("WHERE"),
                "no record passes: WHERE is always false",
                "select in WHERE the records that become rows",
            ));
        }
        Ok(())
    }

    /// Returns the location of an expression's first column in the SQL.
    pub(super) fn span_of(&self, expr: &Expr) -> Option<Range<usize>> {
        let columns = expr.column_refs();
        let spans = columns.iter().filter_map(|column| column.spans.first());
        spans.map(|span| self.offset(span.start)..self.offset(span.end)).min_by_key(|span| span.start)
    }

    fn columns(&self, schema: &Schema) -> String {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        format!("the columns are {}; a field of an object is written as name['first']", names.join(", "))
    }

    /// Finds the first occurrence of a word, ignoring case.
    fn find_word(&self, word: &str) -> Option<Range<usize>> {
        let (sql, word) = (self.sql.to_ascii_lowercase(), word.to_ascii_lowercase());
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let whole = |at: usize| {
            let symbol = !word.starts_with(part);
            symbol || (!sql[..at].ends_with(part) && !sql[at + word.len()..].starts_with(part))
        };
        sql.match_indices(&word).map(|(at, _)| at).find(|at| whole(*at)).map(|at| at..at + word.len())
    }

    /// Returns the byte position of a line and column, both from 1. Columns are characters.
    fn offset(&self, location: Location) -> usize {
        let before = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
        let start: usize = self.sql.split_inclusive('\n').take(before(location.line)).map(str::len).sum();
        let line = &self.sql[start..];
        start + line.char_indices().nth(before(location.column)).map_or(line.len(), |(at, _)| at)
    }

    fn word_end(&self, start: usize) -> usize {
        let rest = &self.sql[start..];
        start + rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()).max(1).min(rest.len())
    }
}

fn function_name(expr: &Expr) -> String {
    match expr {
        Expr::Alias(alias) => function_name(&alias.expr),
        Expr::AggregateFunction(function) => function.func.name().to_owned(),
        other => other.to_string(),
    }
}

/// Returns the unknown function and the nearest known one from DataFusion's message.
fn unknown_function(message: &str) -> Option<(&str, &str)> {
    let (name, rest) =
        message.strip_prefix("Invalid function '").or_else(|| message.strip_prefix("invalid function '"))?.split_once('\'')?;
    Some((name, rest.split('\'').nth(1).unwrap_or_default()))
}

fn lower(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) if chars.as_str().starts_with(|c: char| c.is_lowercase() || c == ' ') => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
