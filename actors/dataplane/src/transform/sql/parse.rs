//! Parses the SQL and resolves its names: one table, and DataFusion's functions.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    self, ExcludeSelectItem, Ident, ObjectName, Query, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use forebay_schemas::pipeline::FileError;

use super::validate::Validator;
use crate::transform::arrow_schema::SystemColumn;

/// Parses the text as one SELECT, in which `*` stands for the fields of the record.
pub(super) fn parse(validator: &Validator<'_>) -> Result<ast::Statement, FileError> {
    let parser = DFParserBuilder::new(validator.sql).build().and_then(|mut parser| parser.parse_statements());
    let mut statements = parser.map_err(|error| validator.syntax_error(&error))?;
    let statement = statements.pop_front();
    if !statements.is_empty() {
        return Err(validator.error(None, "there is more than one statement", "write one SELECT"));
    }
    match statement {
        Some(Statement::Statement(statement)) if matches!(*statement, ast::Statement::Query(_)) => {
            let mut statement = *statement;
            let _ = statement.visit(&mut HideSystemColumns(validator.topic));
            Ok(statement)
        }
        _ => Err(validator.error(
            None,
            "the SQL is not a SELECT",
            format!("write SELECT … FROM {}; the writer creates and fills the table", validator.table_name()),
        )),
    }
}

/// Excludes the system columns from `*`.
struct HideSystemColumns<'a>(&'a str);

impl VisitorMut for HideSystemColumns<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
        let [from] = select.from.as_slice() else { return ControlFlow::Continue(()) };
        if !matches!(&from.relation, TableFactor::Table { name, .. } if unquoted(name) == self.0) || !from.joins.is_empty() {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item {
                let mut hidden: Vec<_> = SystemColumn::VISIBLE.iter().map(|column| ObjectName::from(Ident::new(column.name()))).collect();
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

/// Returns a name of several parts without its quotes.
fn unquoted(name: &ObjectName) -> String {
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect();
    parts.join(".")
}

/// The topic as a table. It provides columns only; filters remain steps of the plan.
#[derive(Debug)]
pub(super) struct TopicTable(pub(super) SchemaRef);

impl TableSource for TopicTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// Resolves the names in the SQL: the topic is the one table, and the functions are DataFusion's.
pub(super) struct TopicNames<'a> {
    state: &'a SessionState,
    topic: &'a str,
    schema: SchemaRef,
    /// A table that the SQL names and that does not exist.
    unknown: RefCell<Option<String>>,
}

impl<'a> TopicNames<'a> {
    pub(super) fn new(state: &'a SessionState, topic: &'a str, schema: SchemaRef) -> Self {
        Self { state, topic, schema, unknown: RefCell::default() }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the unknown table that the SQL named, if it did.
    pub(super) fn unknown_table(&self) -> Option<String> {
        self.unknown.take()
    }
}

impl ContextProvider for TopicNames<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let name = name.to_string();
        if name == self.topic {
            return Ok(Arc::new(TopicTable(Arc::clone(&self.schema))));
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
