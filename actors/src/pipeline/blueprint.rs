//! What a pipeline file comes to: the checked file, the planned SQL, the planned table.

use std::sync::Arc;

use forebay_schemas::pipeline::{FileError, Pipeline};
use forebay_schemas::plan::Warning;

use super::key_warnings;
use forebay_dataplane::store::{Column, TableSpec};
use forebay_dataplane::transform::Transform;

/// A pipeline that is known to make sense, before anything of it runs.
#[derive(Clone)]
pub struct Blueprint {
    /// The file.
    pub pipeline: Arc<Pipeline>,
    /// The SQL, planned; there when the pipeline writes.
    pub plan: Option<Arc<Transform>>,
    /// The table that the SQL's columns make; there when the pipeline writes.
    pub table: Option<Arc<TableSpec>>,
}

impl Blueprint {
    /// Plans the SQL against the schema and the table against the SQL.
    ///
    /// # Errors
    /// When the schema can't be read, the SQL does not plan, or its columns don't fit the table; the error points at the place.
    pub fn new(pipeline: Pipeline) -> Result<Self, FileError> {
        let (plan, table) = if pipeline.writes() {
            let plan = Transform::new(&pipeline)?;
            let table = TableSpec::plan(&pipeline, &plan.output_schema())?;
            (Some(Arc::new(plan)), Some(Arc::new(table)))
        } else {
            (None, None)
        };
        Ok(Self { pipeline: Arc::new(pipeline), plan, table })
    }

    /// What follows from the file and is easily overlooked, for `check` and `plan` to say.
    pub fn warnings(&self) -> Vec<Warning> {
        let narrow = |(column, what): (&Column, &str)| {
            let what = format!("column `{}` is {} in the SQL and `{}` in the table: {what}", column.name, column.arrow, column.cql);
            Warning { code: "narrow_column".to_owned(), what }
        };
        let keys =
            self.plan.as_deref().zip(self.table.as_deref()).and_then(|(plan, table)| key_warnings::warning(&self.pipeline, plan, table));
        let narrow = self.table.iter().flat_map(|table| table.losses().map(narrow));
        self.plan.iter().flat_map(|plan| plan.warnings()).chain(narrow).chain(keys).collect()
    }
}
