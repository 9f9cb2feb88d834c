//! A checked pipeline file, with its compiled SQL and its planned table.

use std::sync::Arc;

use forebay_schemas::pipeline::{FileError, Pipeline};
use forebay_schemas::run_plan::Warning;

use super::key_warnings;
use crate::broker::check_properties;
use forebay_dataplane::store::{Column, Store, TableSpec};
use forebay_dataplane::tls_client;
use forebay_dataplane::transform::Transform;

/// A valid pipeline, before any of it runs.
#[derive(Clone)]
pub struct Blueprint {
    /// The file.
    pub pipeline: Arc<Pipeline>,
    /// The compiled SQL, if the pipeline writes.
    pub transform: Option<Arc<Transform>>,
    /// The table of the SQL's columns, if the pipeline writes.
    pub table: Option<Arc<TableSpec>>,
}

impl Blueprint {
    /// Compiles the SQL against the schema, checks the table against the SQL, and reads the
    /// certificates.
    ///
    /// # Errors
    /// When others can read a secret file, a property of Kafka does not exist or has a wrong value,
    /// the schema can't be read, the SQL does not compile, its columns don't fit the table, or a
    /// certificate or key can't be used. The error points at the location in the file.
    pub fn new(pipeline: Pipeline) -> Result<Self, FileError> {
        pipeline.check_secret_files()?;
        check_properties(&pipeline)?;
        Store::check_tls(&pipeline)?;
        crate::api::check_files(&pipeline)?;
        if let Some(tls) = pipeline.fetcher.as_ref().and_then(|fetcher| fetcher.tls.as_ref()) {
            tls_client::source_config(&pipeline, tls)?;
        }
        let (transform, table) = if pipeline.writes() {
            let transform = Transform::new(&pipeline)?;
            let table = TableSpec::plan(&pipeline, &transform.output_schema())?;
            (Some(Arc::new(transform)), Some(Arc::new(table)))
        } else {
            (None, None)
        };
        Ok(Self { pipeline: Arc::new(pipeline), transform, table })
    }

    /// Consequences of the file that are easy to overlook, for `check` and `plan`.
    pub fn warnings(&self) -> Vec<Warning> {
        let narrow = |(column, what): (&Column, &str)| {
            let what = format!("column `{}` is {} in the SQL and `{}` in the table: {what}", column.name, column.arrow, column.cql);
            Warning { code: "narrow_column".to_owned(), what }
        };
        let keys = self.transform.as_deref().zip(self.table.as_deref()).into_iter().flat_map(|(transform, table)| {
            let of_rows = key_warnings::warning(&self.pipeline, transform, table);
            of_rows.into_iter().chain(key_warnings::of_statics(&self.pipeline, transform, table))
        });
        let narrow = self.table.iter().flat_map(|table| table.losses().map(narrow));
        let in_cells = |column: &&Column| column.cql.is_in_cells() && self.pipeline.cassandra.iter().any(|section| !section.is_embedded());
        let in_cells = self.table.iter().flat_map(|table| table.columns.iter().filter(in_cells)).map(|column| Warning {
            code: "collection_in_cells".to_owned(),
            what: format!(
                "column `{}` is `{}`: each row that is written deletes the older elements first, with a tombstone; `frozen<{2}>` needs none",
                column.name, column.cql, column.cql
            ),
        });
        self.transform
            .iter()
            .flat_map(|transform| transform.warnings())
            .chain(narrow)
            .chain(in_cells)
            .chain(keys)
            .chain(self.pipeline.security_warnings())
            .collect()
    }
}
