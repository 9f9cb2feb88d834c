//! Decides whether a refused row is at fault when the server's message does not say so.
//!
//! A trial writes the suspect row and a control row, which the server accepted before, to the same
//! node. This module is pure; [`write`](super::write) sends the writes.
//!
//! Guarantees:
//! * A row is at fault only if a node refuses it between two moments at which that node accepts the
//!   control row, and no node accepts the suspect row.
//! * A rule for all writes therefore never makes a row a dead letter, whatever its message, even if
//!   it starts or ends during a trial.
//!
//! Does not distinguish a rule for some rows only, such as those of one replica, from a fault of
//! the row if the message is unknown.

use crate::store::error::StoreError;

/// If the server accepts no row of a larger micro-batch, Forebay does not conclude that all its
/// rows are at fault.
pub(super) const MAX_BELIEVED_ROWS: usize = 16;
/// A trial of one row writes to at most this many nodes.
pub(super) const MAX_NODES: usize = 3;

/// A row that was refused with a message that does not say whether the row is at fault.
#[derive(Debug)]
pub(super) struct SuspectRow {
    /// Its index in the batch.
    pub(super) row: u32,
    /// Whether the message names a limit for values.
    pub(super) is_value_limit: bool,
    /// The server's message.
    pub(super) error: StoreError,
}

/// Separates the rows that are at fault by a value limit from those that need a trial.
///
/// A value limit is believed if another row of the batch was `written`. If no control row is
/// `known`, it is also believed for up to [`MAX_BELIEVED_ROWS`] rows.
pub(super) fn settle_by_value_limit(suspect_rows: Vec<SuspectRow>, written: u64, known: bool) -> (Vec<SuspectRow>, Vec<SuspectRow>) {
    let believed = written > 0 || (!known && suspect_rows.len() <= MAX_BELIEVED_ROWS);
    suspect_rows.into_iter().partition(|suspect| suspect.is_value_limit && believed)
}

/// The next write of a trial, with the index of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Write the control row again.
    Control(usize),
    /// Write the suspect row.
    Suspect(usize),
}

/// The answer of a node to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused,
    /// No answer, or an error that is unrelated to the row.
    Failed,
}

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The row is at fault.
    AtFault,
    /// A node accepted the row, so it is written now.
    Written,
    /// The row is not at fault: no node accepts the control row either.
    NotAtFault,
    /// Unknown: the nodes failed for other reasons.
    Undecided,
}

/// The trial of one row, node after node.
#[derive(Debug)]
pub(super) struct RowTrial {
    nodes: usize,
    step: Step,
    /// Whether the current node accepted the control row and then refused the suspect row.
    refused_here: bool,
    proven: bool,
    unclear: bool,
    written: bool,
}

impl RowTrial {
    /// A trial on this number of nodes.
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes, step: Step::Control(0), refused_here: false, proven: false, unclear: nodes == 0, written: false }
    }

    /// Returns the next step, or the verdict.
    pub(super) fn next(&self) -> Result<Step, Verdict> {
        let (Step::Control(node) | Step::Suspect(node)) = self.step;
        match self {
            Self { written: true, .. } => Err(Verdict::Written),
            _ if node < self.nodes => Ok(self.step),
            Self { proven: true, .. } => Err(Verdict::AtFault),
            Self { unclear: true, .. } => Err(Verdict::Undecided),
            _ => Err(Verdict::NotAtFault),
        }
    }

    /// Records the answer to the current step.
    pub(super) fn answer(&mut self, answer: Answer) {
        match (self.step, answer) {
            (Step::Control(node), Answer::Accepted) if !self.refused_here => self.step = Step::Suspect(node),
            (Step::Control(node), Answer::Accepted) => {
                self.proven = true;
                self.next_node(node);
            }
            (Step::Suspect(_), Answer::Accepted) => self.written = true,
            (Step::Suspect(node), Answer::Refused) => {
                self.refused_here = true;
                self.step = Step::Control(node);
            }
            (Step::Control(node), Answer::Refused) => self.next_node(node),
            (Step::Control(node) | Step::Suspect(node), Answer::Failed) => {
                self.unclear = true;
                self.next_node(node);
            }
        }
    }

    fn next_node(&mut self, node: usize) {
        (self.step, self.refused_here) = (Step::Control(node + 1), false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A node: whether it is unreachable, whether it refuses the suspect row, and the range of
    /// steps during which a rule refuses all writes.
    #[derive(Debug, Clone)]
    struct Node {
        unreachable: bool,
        refuses_the_row: bool,
        rule_from: usize,
        rule_to: usize,
    }

    /// The verdict, and the number of steps it took.
    fn verdict(nodes: &[Node]) -> (Verdict, usize) {
        let mut trial = RowTrial::new(nodes.len());
        for number in 0.. {
            let step = match trial.next() {
                Ok(step) => step,
                Err(verdict) => return (verdict, number),
            };
            let (Step::Control(at) | Step::Suspect(at)) = step;
            let node = &nodes[at];
            let refused = (node.rule_from..node.rule_to).contains(&number) || (matches!(step, Step::Suspect(_)) && node.refuses_the_row);
            trial.answer(match (node.unreachable, refused) {
                (true, _) => Answer::Failed,
                (false, true) => Answer::Refused,
                (false, false) => Answer::Accepted,
            });
        }
        unreachable!("a trial ends")
    }

    fn node(unreachable: bool, refuses_the_row: bool, (rule_from, rule_to): (usize, usize)) -> Node {
        Node { unreachable, refuses_the_row, rule_from, rule_to }
    }

    const NEVER: (usize, usize) = (0, 0);
    const ALWAYS: (usize, usize) = (0, usize::MAX);

    fn suspect_rows(count: u32, is_value_limit: bool) -> Vec<SuspectRow> {
        let error = || StoreError::Refused { server: "s".into(), message: "no".into() };
        (0..count).map(|row| SuspectRow { row, is_value_limit, error: error() }).collect()
    }

    #[test]
    fn a_row_refused_where_the_control_row_is_accepted_is_at_fault() {
        assert_eq!(verdict(&[node(false, true, NEVER)]), (Verdict::AtFault, 3));
        assert_eq!(verdict(&[node(true, true, NEVER), node(false, true, NEVER)]).0, Verdict::AtFault, "an unreachable node proves nothing");
        assert_eq!(
            verdict(&[node(false, true, ALWAYS), node(false, true, NEVER)]).0,
            Verdict::AtFault,
            "a node with its own rule proves nothing"
        );
    }

    #[test]
    fn a_row_refused_where_the_control_row_is_refused_too_is_not_at_fault() {
        assert_eq!(verdict(&[node(false, false, ALWAYS)]), (Verdict::NotAtFault, 1));
        assert_eq!(verdict(&vec![node(false, true, ALWAYS); 3]).0, Verdict::NotAtFault);
        assert_eq!(verdict(&[node(true, true, NEVER)]).0, Verdict::Undecided);
        assert_eq!(verdict(&[]).0, Verdict::Undecided, "no node");
    }

    #[test]
    fn a_row_that_one_node_accepts_is_written() {
        assert_eq!(verdict(&[node(false, true, NEVER), node(false, false, NEVER)]).0, Verdict::Written);
    }

    #[test]
    fn value_limits_are_believed_for_some_rows_but_not_for_a_whole_batch() {
        let settled_of = |count: usize, is_value_limit, written, known| {
            settle_by_value_limit(suspect_rows(u32::try_from(count).unwrap(), is_value_limit), written, known).0.len()
        };
        assert_eq!(settled_of(MAX_BELIEVED_ROWS, true, 0, false), MAX_BELIEVED_ROWS);
        assert_eq!(settled_of(MAX_BELIEVED_ROWS + 1, true, 0, false), 0, "a whole batch");
        assert_eq!(settled_of(MAX_BELIEVED_ROWS + 1, true, 1, true), MAX_BELIEVED_ROWS + 1, "one row was accepted");
        assert_eq!(settled_of(1, true, 0, true), 0, "a control row is known");
        assert_eq!(settled_of(1, false, 1_000, true), 0, "an unknown message");
    }

    proptest! {
        #[test]
        fn a_good_row_is_never_at_fault_even_if_a_rule_starts_or_ends_during_the_trial(
            nodes in prop::collection::vec((any::<bool>(), 0_usize..9, prop::option::of(0_usize..9)), 0..=MAX_NODES),
        ) {
            // A rule that starts at any step and stays, or one that ends at any step.
            let nodes: Vec<Node> = nodes
                .into_iter()
                .map(|(unreachable, from, until)| node(unreachable, false, until.map_or((from, usize::MAX), |until| (0, until))))
                .collect();
            let (verdict, steps) = verdict(&nodes);
            prop_assert_ne!(verdict, Verdict::AtFault);
            prop_assert!(steps <= 3 * MAX_NODES);
        }

        #[test]
        fn a_row_refused_by_all_nodes_is_at_fault_once_one_accepts_the_control_row(
            unreachable in prop::collection::vec(any::<bool>(), 0..MAX_NODES),
            at in 0_usize..MAX_NODES,
        ) {
            let mut nodes: Vec<Node> = unreachable.into_iter().map(|unreachable| node(unreachable, true, if unreachable { NEVER } else { ALWAYS })).collect();
            nodes.insert(at.min(nodes.len()), node(false, true, NEVER));
            prop_assert_eq!(verdict(&nodes).0, Verdict::AtFault);
        }
    }
}
