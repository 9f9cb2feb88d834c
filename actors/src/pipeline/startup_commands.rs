//! Opens the ledger, and tells it what starts: the commands that a start submits.

use forebay_schemas::pipeline::Pipeline;

use super::blueprint::Blueprint;
use super::options::Role;
use crate::data_dir::journal_dir;
use crate::failpoint::journal_is_off;
use crate::journal::{RealDisk, Settings};
use crate::ledger::{Command, Ledger, LedgerError};
use crate::operations::cursor::source_of;
use forebay_kernel::SharedClock;

/// Opens the ledger of a pipeline. The caller has locked the data directory.
pub(super) fn open_ledger(pipeline: &Pipeline, clock: SharedClock) -> Result<Ledger, LedgerError> {
    if journal_is_off() {
        return Ok(Ledger::in_memory(clock));
    }
    let settings =
        Settings { pipeline: pipeline.meta.name.clone(), segment_bytes: pipeline.journal.segment.0, keep_bytes: pipeline.journal.keep.0 };
    let ledger = Ledger::open(&journal_dir(pipeline), RealDisk, settings, clock)?;
    let process = ledger.state().process;
    if process.starts > 0 && process.stopped.is_none() {
        tracing::info!("previous process did not shut down cleanly; unwritten records will be read again");
    }
    Ok(ledger)
}

/// Submits the startup commands.
pub(super) fn submit_startup_commands(ledger: &Ledger, blueprint: &Blueprint, roles: &[Role]) {
    for command in startup_commands(blueprint, roles) {
        if let Err(error) = ledger.submit(command) {
            tracing::error!(%error, "the ledger rejected the start of the process");
        }
    }
}

/// The commands that a start submits to the ledger.
pub(super) fn startup_commands(blueprint: &Blueprint, roles: &[Role]) -> Vec<Command> {
    let pipeline = &blueprint.pipeline;
    let mut commands = vec![Command::StartProcess {
        version: env!("CARGO_PKG_VERSION").into(),
        roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
        topic: pipeline.kafka.topic.clone(),
        group: pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()).unwrap_or_default(),
    }];
    commands.extend(source_of(pipeline).map(|source| Command::NameSource { source }));
    if let (Some(transform), Some(table)) = (&blueprint.transform, &pipeline.transformer) {
        commands.push(Command::ActivateSql { sql: table.sql.clone(), fingerprint: transform.fingerprint() });
    }
    commands
}
