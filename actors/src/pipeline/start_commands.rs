//! The ledger at the start of a process.

use forebay_schemas::pipeline::Pipeline;

use super::blueprint::Blueprint;
use super::options::Role;
use crate::data_dir::journal_dir;
use crate::failpoint::journal_is_off;
use crate::journal::{RealDisk, Settings};
use crate::ledger::{Command, Ledger, LedgerError};
use crate::operations::cursor::source_of;
use forebay_kernel::SharedClock;

/// The ledger of a pipeline whose data directory is locked.
pub(super) fn open_ledger(pipeline: &Pipeline, clock: SharedClock) -> Result<Ledger, LedgerError> {
    if journal_is_off() {
        return Ok(Ledger::in_memory(clock));
    }
    let settings =
        Settings { pipeline: pipeline.meta.name.clone(), segment_bytes: pipeline.journal.segment.0, keep_bytes: pipeline.journal.keep.0 };
    let ledger = Ledger::open(&journal_dir(pipeline), RealDisk, settings, clock)?;
    let process = ledger.state().process;
    if process.starts > 0 && process.stopped.is_none() {
        tracing::info!("the process before this one did not stop in order; what it had not written is read again");
    }
    Ok(ledger)
}

/// Tells the ledger of this process.
pub(super) fn begin(ledger: &Ledger, blueprint: &Blueprint, roles: &[Role]) {
    for command in startup_commands(blueprint, roles) {
        if let Err(error) = ledger.submit(command) {
            tracing::error!(%error, "the ledger rejected the start of the process");
        }
    }
}

/// What the ledger is told when a process begins.
pub(super) fn startup_commands(blueprint: &Blueprint, roles: &[Role]) -> Vec<Command> {
    let pipeline = &blueprint.pipeline;
    let mut commands = vec![Command::StartProcess {
        version: env!("CARGO_PKG_VERSION").into(),
        roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
        topic: pipeline.kafka.topic.clone(),
        group: pipeline.consumer.as_ref().map(|consumer| consumer.group.clone()).unwrap_or_default(),
    }];
    commands.extend(source_of(pipeline).map(|source| Command::NameSource { source }));
    if let (Some(plan), Some(table)) = (&blueprint.plan, &pipeline.transformer) {
        commands.push(Command::ActivateSql { sql: table.sql.clone(), fingerprint: plan.fingerprint() });
    }
    commands
}
