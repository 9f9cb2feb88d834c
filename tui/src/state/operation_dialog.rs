//! Operations that change the pipeline, and the permission check in front of them.
//!
//! Guarantees:
//! * [`permit`] checks every operation twice: when its dialog opens and when it is sent. It refuses
//!   all unless the monitor was started with `--operate` and the API grants the role.
//! * [`Dialog::send`] is the only constructor of a [`ConfirmedOperation`], so no screen can bypass
//!   the check.

use forebay_schemas::api::{ChangePlan, PlanRequest, ReplayFrom, Role};
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::desired::DesiredState;
use forebay_schemas::offset::Ranges;
use uuid::Uuid;

use super::line_editor::LineEditor;

/// The maximum length of a reason that the API accepts, in bytes.
const MAX_REASON_BYTES: usize = 500;

/// An operation that changes the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    State(DesiredState),
    Restart(String),
    Cancel(Uuid),
    Redrive(Option<Ranges>),
    Replay(ReplayFrom),
}

impl Operation {
    /// A short description.
    pub(crate) fn title(&self) -> String {
        match self {
            Self::State(DesiredState::Running) => "resume the pipeline".to_owned(),
            Self::State(DesiredState::Paused) => "pause the pipeline".to_owned(),
            Self::State(DesiredState::Drained) => "drain the pipeline".to_owned(),
            Self::Restart(actor) => format!("restart {actor}"),
            Self::Cancel(run) => format!("cancel run {run}"),
            Self::Redrive(_) => "redrive dead letters".to_owned(),
            Self::Replay(_) => "replay records".to_owned(),
        }
    }

    /// The effects, for operations that the API does not plan.
    pub(crate) fn effects(&self) -> Vec<String> {
        let lines: &[&str] = match self {
            Self::State(DesiredState::Running) => &["fetching and reading continue where they stopped"],
            Self::State(DesiredState::Paused) => &[
                "no page is fetched and no record is read until the pipeline is resumed",
                "records in flight are written and committed",
                "the lag grows meanwhile",
            ],
            Self::State(DesiredState::Drained) => {
                &["no page is fetched until the pipeline is resumed", "the records in the topic are written"]
            }
            Self::Restart(_) => {
                &["this incarnation ends and the supervisor starts the next one", "records in flight are read again; no row is lost"]
            }
            Self::Cancel(_) => &["no further page of the run is fetched", "records already produced are still written"],
            Self::Redrive(_) | Self::Replay(_) => &[],
        };
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    /// The required role.
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::State(_) | Self::Cancel(_) => Role::Operator,
            Self::Restart(_) | Self::Redrive(_) | Self::Replay(_) => Role::Admin,
        }
    }

    /// The plan to request from the API, if the operation needs one.
    pub(crate) fn plan(&self) -> Option<PlanRequest> {
        match self {
            Self::Redrive(letters) => Some(PlanRequest::Redrive { letters: letters.clone(), only: DeadLetterFilter::default() }),
            Self::Replay(from) => Some(PlanRequest::Replay { from: from.clone() }),
            Self::State(_) | Self::Restart(_) | Self::Cancel(_) => None,
        }
    }

    /// Whether the user has to type the pipeline's name, because the operation cannot be undone.
    pub(crate) fn needs_confirmation(&self) -> bool {
        matches!(self, Self::Redrive(_) | Self::Replay(_) | Self::Cancel(_))
    }
}

/// What the user may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permission {
    /// Whether the monitor was started with `--operate`.
    pub(crate) operate: bool,
    /// The user's role according to the API; `None` if it is unknown.
    pub(crate) role: Option<Role>,
    /// Whether the view is live. Recordings and earlier moments cannot be operated.
    pub(crate) live: bool,
}

/// Checks whether an operation is permitted.
///
/// # Errors
/// The reason of the refusal, and the remedy.
pub(crate) fn permit(operation: &Operation, permission: Permission) -> Result<(), String> {
    let what = operation.title();
    if !permission.operate {
        return Err(format!("can't {what}: the monitor is read-only; start it with --operate"));
    }
    let Some(role) = permission.role else {
        return Err(format!("can't {what}: the API did not say what you may do"));
    };
    if role < operation.role() {
        return Err(format!("can't {what}: it requires the role {:?}, and yours is {role:?}", operation.role()).to_lowercase());
    }
    if !permission.live {
        return Err(format!("can't {what}: the view is not live; \\ returns to live"));
    }
    Ok(())
}

/// The state of the plan in a dialog.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PlanStatus {
    /// The operation has no plan.
    NotNeeded,
    /// The plan was requested.
    Requested,
    Ready(ChangePlan),
    Failed(String),
}

/// A permitted operation with a reason. Only [`Dialog::send`] creates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfirmedOperation {
    /// The pipeline's name.
    pub(crate) pipeline: String,
    pub(crate) operation: Operation,
    pub(crate) reason: String,
    /// The identifier and hash of the plan.
    pub(crate) plan: Option<(Uuid, String)>,
    _gate: (),
}

/// Shows the effects of an operation and asks for the reason.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dialog {
    pub(crate) operation: Operation,
    pub(crate) plan: PlanStatus,
    pub(crate) reason: LineEditor,
    /// The pipeline's name as typed, for operations that need confirmation.
    pub(crate) name: LineEditor,
    /// Whether the name is being typed, instead of the reason.
    pub(crate) name_focused: bool,
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// Why the operation was not sent.
    pub(crate) error: Option<String>,
}

impl Dialog {
    /// Opens the dialog of an operation.
    ///
    /// # Errors
    /// The operation is not permitted.
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

    /// Confirms the operation.
    ///
    /// # Errors
    /// An input or the plan is missing, or the operation is no longer permitted.
    pub(crate) fn send(&self, permission: Permission) -> Result<ConfirmedOperation, String> {
        permit(&self.operation, permission)?;
        let reason = self.reason.text().trim().to_owned();
        if reason.is_empty() {
            return Err("enter a reason; it is recorded in the journal".to_owned());
        }
        if reason.len() > MAX_REASON_BYTES {
            return Err(format!("the reason is {} bytes long; the limit is {MAX_REASON_BYTES}", reason.len()));
        }
        if self.operation.needs_confirmation() && self.name.text().trim() != self.pipeline {
            return Err(format!("type the pipeline's name, {}, to confirm", self.pipeline));
        }
        let plan = match &self.plan {
            PlanStatus::NotNeeded => None,
            PlanStatus::Ready(plan) => Some((plan.id, plan.hash.clone())),
            PlanStatus::Requested => return Err("the plan is not ready yet".to_owned()),
            PlanStatus::Failed(why) => return Err(format!("no plan: {why}")),
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
        Operation::Replay(ReplayFrom::Earliest),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Permission {
        Permission { operate: true, role: Some(Role::Admin), live: true }
    }

    #[test]
    fn without_permission_nothing_opens_and_nothing_is_sent() {
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
                dialog.reason = LineEditor::new("because");
                dialog.name = LineEditor::new("users");
                assert!(dialog.send(all()).is_ok(), "{operation:?}");
                assert!(dialog.send(permission).is_err(), "a permission that was revoked meanwhile");
            }
        }
    }

    #[test]
    fn an_operator_may_pause_and_cancel_and_an_admin_may_do_the_rest() {
        let operator = Permission { role: Some(Role::Operator), ..all() };
        let may: Vec<bool> = every_operation().iter().map(|operation| permit(operation, operator).is_ok()).collect();
        assert_eq!(may, [true, true, true, false, true, false, false]);
        assert!(every_operation().iter().all(|operation| permit(operation, all()).is_ok()));
    }

    #[test]
    fn a_reason_is_required_and_sometimes_the_name_of_the_pipeline() {
        for operation in every_operation() {
            let mut dialog = Dialog::open(operation.clone(), "users", all()).unwrap();
            dialog.plan = PlanStatus::NotNeeded;
            dialog.name = LineEditor::new("users");
            assert!(dialog.send(all()).unwrap_err().contains("enter a reason"));
            dialog.reason = LineEditor::new("because");
            dialog.name = LineEditor::new("user");
            assert_eq!(dialog.send(all()).is_err(), operation.needs_confirmation(), "{operation:?}");
        }
        let dialog = Dialog {
            reason: LineEditor::new("r"),
            name: LineEditor::new("users"),
            ..Dialog::open(Operation::Redrive(None), "users", all()).unwrap()
        };
        assert!(dialog.send(all()).unwrap_err().contains("not ready yet"), "no plan, no operation");
    }
}
