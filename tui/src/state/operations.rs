//! What changes the pipeline, and the one gate that all of it passes.
//!
//! Guarantee: [`permit`] is asked for every operation, both when a dialog opens and when it is sent, and refuses all of them unless the view
//! was started to operate and the API says that the caller may. No screen has a way around it: [`Dialog::send`] is the only maker of a
//! request that changes something.

use forebay_schemas::api::{DesiredState, Plan, PlanRequest, ReplayFrom, Role};
use forebay_schemas::offset::Ranges;
use uuid::Uuid;

use super::line_editor::LineEditor;

/// The longest reason that the API takes, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// Something that changes the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    State(DesiredState),
    Restart(String),
    Cancel(Uuid),
    Redrive(Option<Ranges>),
    Replay(ReplayFrom),
}

impl Operation {
    /// What it is, as a person says it.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::State(DesiredState::Running) => "resume the pipeline".to_owned(),
            Self::State(DesiredState::Paused) => "pause the pipeline".to_owned(),
            Self::State(DesiredState::Drained) => "drain the pipeline".to_owned(),
            Self::Restart(actor) => format!("restart {actor}"),
            Self::Cancel(run) => format!("call off run {run}"),
            Self::Redrive(_) => "redrive dead letters".to_owned(),
            Self::Replay(_) => "read records again".to_owned(),
        }
    }

    /// What it does, where no plan of the API says it.
    pub(crate) fn effects(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::State(DesiredState::Running) => &["fetches and reads go on where they stopped"],
            Self::State(DesiredState::Paused) => &[
                "no page is fetched and no record read until it is resumed",
                "what is in flight is written and committed",
                "the lag grows meanwhile",
            ],
            Self::State(DesiredState::Drained) => &["no page is fetched until it is resumed", "what the topic holds is written"],
            Self::Restart(_) => {
                &["this incarnation ends; its supervisor starts the next one", "what it had in flight is read again: no row is lost"]
            }
            Self::Cancel(_) => &["no further page of the run is fetched", "what it has produced is written all the same"],
            Self::Redrive(_) | Self::Replay(_) => &[],
        };
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    /// The role that it takes.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::State(_) | Self::Cancel(_) => Role::Operator,
            Self::Restart(_) | Self::Redrive(_) | Self::Replay(_) => Role::Admin,
        }
    }

    /// What the API is asked to plan for it; none when it does without.
    pub(crate) fn plan(&self) -> Option<PlanRequest> {
        match self {
            Self::Redrive(letters) => Some(PlanRequest::Redrive { letters: letters.clone() }),
            Self::Replay(from) => Some(PlanRequest::Replay { from: from.clone() }),
            Self::State(_) | Self::Restart(_) | Self::Cancel(_) => None,
        }
    }

    /// Whether the pipeline's name is to be typed: what it does can't be taken back by doing the opposite.
    pub(crate) fn needs_confirmation(&self) -> bool {
        matches!(self, Self::Redrive(_) | Self::Replay(_) | Self::Cancel(_))
    }
}

/// What whoever looks may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permission {
    /// Whether the view was started with `--operate`.
    pub(crate) operate: bool,
    /// What the API says that the caller may do; none when it did not say, or there is none.
    pub(crate) role: Option<Role>,
    /// Whether what is shown is now: nobody operates a recording or a moment ago.
    pub(crate) live: bool,
}

/// The gate.
///
/// # Errors
/// Why not, and what to do.
pub(crate) fn permit(operation: &Operation, permission: Permission) -> Result<(), String> {
    let what = operation.title();
    if !permission.operate {
        return Err(format!("can't {what}: this view only looks; start it with --operate"));
    }
    let Some(role) = permission.role else {
        return Err(format!("can't {what}: the API did not say what you may do"));
    };
    if role < operation.role() {
        return Err(format!("can't {what}: it takes the role {:?}, and yours is {role:?}", operation.role()).to_lowercase());
    }
    if !permission.live {
        return Err(format!("can't {what}: what is shown is not live; \\ goes back"));
    }
    Ok(())
}

/// How far the plan of a dialog is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PlanStatus {
    /// There is none to be had; the operation says itself what it does.
    NotNeeded,
    /// The API was asked.
    Requested,
    Ready(Plan),
    Failed(String),
}

/// A question to the API that changes something; only [`Dialog::send`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfirmedOperation {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    pub(crate) operation: Operation,
    pub(crate) reason: String,
    /// Identifier and hash of the plan.
    pub(crate) plan: Option<(Uuid, String)>,
    _gate: (),
}

/// Shows what would be done, and asks why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dialog {
    pub(crate) operation: Operation,
    pub(crate) plan: PlanStatus,
    pub(crate) reason: LineEditor,
    /// The pipeline's name as typed; used where the operation is needs_confirmation.
    pub(crate) name: LineEditor,
    /// Whether the name is being typed, not the reason.
    pub(crate) name_focused: bool,
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// Why it was not sent.
    pub(crate) error: Option<String>,
}

impl Dialog {
    /// # Errors
    /// The gate's.
    pub(crate) fn open(operation: Operation, pipeline: &str, permission: Permission) -> Result<Self, String> {
        permit(&operation, permission)?;
        let plan = if operation.plan().is_some() { PlanStatus::Requested } else { PlanStatus::NotNeeded };
        Ok(Self {
            operation,
            plan,
            reason: LineEditor::default(),
            name: LineEditor::default(),
            name_focused: false,
            pipeline: pipeline.to_owned(),
            error: None,
        })
    }

    /// The line that is being typed.
    pub(crate) fn line(&mut self) -> &mut LineEditor {
        if self.name_focused { &mut self.name } else { &mut self.reason }
    }

    /// The order, if all is said that has to be.
    ///
    /// # Errors
    /// What is missing, or the gate's.
    pub(crate) fn send(&self, permission: Permission) -> Result<ConfirmedOperation, String> {
        permit(&self.operation, permission)?;
        let reason = self.reason.text().trim().to_owned();
        if reason.is_empty() {
            return Err("say why: the reason is kept in the journal".to_owned());
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(format!("the reason is {} bytes long, {MAX_REASON_BYTES} are the most", reason.len()));
        }
        if self.operation.needs_confirmation() && self.name.text().trim() != self.pipeline {
            return Err(format!("type the pipeline's name, {}, to say that you mean it", self.pipeline));
        }
        let plan = match &self.plan {
            PlanStatus::NotNeeded => None,
            PlanStatus::Ready(plan) => Some((plan.id, plan.hash.clone())),
            PlanStatus::Requested => return Err("the plan is not there yet".to_owned()),
            PlanStatus::Failed(why) => return Err(format!("there is no plan: {why}")),
        };
        Ok(ConfirmedOperation { pipeline: self.pipeline.clone(), operation: self.operation.clone(), reason, plan, _gate: () })
    }
}

#[cfg(test)]
pub(crate) fn every_operation() -> Vec<Operation> {
    vec![
        Operation::State(DesiredState::Running),
        Operation::State(DesiredState::Paused),
        Operation::State(DesiredState::Drained),
        Operation::Restart("root/egress/writer".to_owned()),
        Operation::Cancel(Uuid::nil()),
        Operation::Redrive(None),
        Operation::Replay(ReplayFrom::Begin),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Permission {
        Permission { operate: true, role: Some(Role::Admin), live: true }
    }

    #[test]
    fn whoever_only_looks_changes_nothing() {
        for operation in every_operation() {
            for permission in [
                Permission { operate: false, ..all() },
                Permission { role: None, ..all() },
                Permission { role: Some(Role::Viewer), ..all() },
                Permission { live: false, ..all() },
                Permission::default(),
            ] {
                assert!(permit(&operation, permission).is_err(), "{operation:?} {permission:?}");
                assert!(Dialog::open(operation.clone(), "users", permission).is_err());
                let mut dialog = Dialog::open(operation.clone(), "users", all()).unwrap();
                dialog.plan = PlanStatus::NotNeeded;
                dialog.reason = LineEditor::of("because");
                dialog.name = LineEditor::of("users");
                assert!(dialog.send(all()).is_ok(), "{operation:?}");
                assert!(dialog.send(permission).is_err(), "a permission that is gone meanwhile");
            }
        }
    }

    #[test]
    fn an_operator_may_pause_and_call_off_and_only_an_admin_the_rest() {
        let operator = Permission { role: Some(Role::Operator), ..all() };
        let may: Vec<bool> = every_operation().iter().map(|operation| permit(operation, operator).is_ok()).collect();
        assert_eq!(may, [true, true, true, false, true, false, false]);
        assert!(every_operation().iter().all(|operation| permit(operation, all()).is_ok()));
    }

    #[test]
    fn nothing_is_sent_without_a_reason_and_what_is_dangerous_not_without_the_name() {
        for operation in every_operation() {
            let mut dialog = Dialog::open(operation.clone(), "users", all()).unwrap();
            dialog.plan = PlanStatus::NotNeeded;
            dialog.name = LineEditor::of("users");
            assert!(dialog.send(all()).unwrap_err().contains("say why"));
            dialog.reason = LineEditor::of("because");
            dialog.name = LineEditor::of("user");
            assert_eq!(dialog.send(all()).is_err(), operation.needs_confirmation(), "{operation:?}");
        }
        let dialog = Dialog {
            reason: LineEditor::of("r"),
            name: LineEditor::of("users"),
            ..Dialog::open(Operation::Redrive(None), "users", all()).unwrap()
        };
        assert!(dialog.send(all()).unwrap_err().contains("not there yet"), "no plan, no order");
    }
}
