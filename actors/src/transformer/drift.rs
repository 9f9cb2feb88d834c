//! Reports the fields of records that the schema does not have.
//!
//! Guarantees:
//! * Each field is logged once a process, and is in one event of the journal; 100 fields at most.
//! * What is reported are names and JSON types, never values.
//! * A batch whose fields are known, or have all been seen at the positions of the record before,
//!   costs nothing for it.
//!
//! Does not guarantee that a field is reported which only an object has that the schema leaves out
//! as a whole: that object is the field.

use std::sync::Arc;

use forebay_dataplane::{NewField, RawBatch};
use forebay_schemas::drift::{DriftedField, MAX_DRIFTED_CHARS};
use forebay_schemas::pipeline::DriftPolicy;

use crate::ledger::{Command, Ledger};
use crate::telemetry::Telemetry;

/// Reports fields that the schema does not have.
#[derive(Clone)]
pub(crate) struct DriftReporter {
    policy: DriftPolicy,
    ledger: Arc<Ledger>,
    telemetry: Arc<Telemetry>,
}

impl DriftReporter {
    /// A reporter by the policy of a pipeline.
    pub(crate) fn new(policy: DriftPolicy, ledger: Arc<Ledger>, telemetry: Arc<Telemetry>) -> Self {
        Self { policy, ledger, telemetry }
    }

    /// Reports fields of records of a batch.
    pub(super) fn report(&self, fields: &[NewField], raw: &RawBatch) {
        if fields.is_empty() || self.policy == DriftPolicy::Ignore {
            return;
        }
        let drifted = |NewField { field, kind, record }: &NewField| {
            let record = raw.records.get(*record as usize)?;
            let field = field.to_string().chars().take(MAX_DRIFTED_CHARS).collect();
            Some(DriftedField { field, kind: (*kind).to_owned(), partition: record.partition, offset: record.offset })
        };
        let new = self.telemetry.drifted(fields.iter().filter_map(drifted).collect());
        if new.is_empty() {
            return;
        }
        let names: Vec<_> = new.iter().map(ToString::to_string).collect();
        let then = match self.policy {
            DriftPolicy::Reject => "records with them are dead letters",
            _ => "they are left out",
        };
        tracing::warn!(
            fields = names.join("; "),
            "records have fields that the schema does not have; {then}; `forebay schema diff` compares"
        );
        // Only a command that the state refuses fails; this one is never refused.
        let _ = self.ledger.submit(Command::SeeFields { fields: new });
    }
}
