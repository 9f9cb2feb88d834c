//! Whether a refusal whose words do not settle it is the row's: decided by what the server does with a row that it is known to take.
//!
//! Pure; [`write`](super::write) asks the server. Guarantee: a row is at fault only when a node refuses it between two moments at which the
//! same node takes the row that is known to be good, and no node takes it. So a rule for all writes, whatever its words, also one that begins
//! or ends while nodes are asked, never makes a row a dead letter. Not guaranteed: that a rule for some rows alone (those of one replica), in
//! words that are not known, is told from a fault of the row.

use crate::store::error::StoreError;

/// Of a micro-batch of more rows, of which the server takes none, it is not believed that all are at fault.
pub(super) const WHOLE: usize = 16;
/// The most nodes that are asked about one row.
pub(super) const NODES: usize = 3;

/// A row that was refused in words that do not settle whose fault it is.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Its index in the batch.
    pub(super) row: u32,
    /// Whether the server names a limit of values.
    pub(super) of_values: bool,
    /// What the server says.
    pub(super) error: StoreError,
}

/// Parts the doubts that are settled from those that the server has to be asked about. Settled are those by a limit of values, where other
/// rows of the batch pass; and where no row is `known` to be good that they can be compared with, up to [`WHOLE`] of them.
pub(super) fn settled(doubts: Vec<Doubt>, written: u64, known: bool) -> (Vec<Doubt>, Vec<Doubt>) {
    let believed = written > 0 || (!known && doubts.len() <= WHOLE);
    doubts.into_iter().partition(|doubt| doubt.of_values && believed)
}

/// What to ask a node for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// To write the row that is known to be good, again.
    Good(usize),
    /// To write the row in doubt.
    Doubtful(usize),
}

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Refused,
    /// It did not answer, or has trouble of its own.
    Trouble,
}

/// Whose a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The row's.
    Row,
    /// Nobody's: the row is written now.
    Written,
    /// Not the row's: no node takes the good row either.
    NotTheRow,
    /// Not known: the nodes that were asked have trouble of their own.
    Unclear,
}

/// The questions about one row, node after node.
#[derive(Debug)]
pub(super) struct Trial {
    nodes: usize,
    ask: Ask,
    /// Whether the node takes the good row, and then refused the doubtful one.
    refused_here: bool,
    proven: bool,
    unclear: bool,
    written: bool,
}

impl Trial {
    /// A trial by this number of nodes.
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes, ask: Ask::Good(0), refused_here: false, proven: false, unclear: nodes == 0, written: false }
    }

    /// What to ask for next, or what has come out.
    pub(super) fn next(&self) -> Result<Ask, Finding> {
        let (Ask::Good(node) | Ask::Doubtful(node)) = self.ask;
        match self {
            Self { written: true, .. } => Err(Finding::Written),
            _ if node < self.nodes => Ok(self.ask),
            Self { proven: true, .. } => Err(Finding::Row),
            Self { unclear: true, .. } => Err(Finding::Unclear),
            _ => Err(Finding::NotTheRow),
        }
    }

    /// Takes the answer to what was asked for.
    pub(super) fn answer(&mut self, answer: Answer) {
        match (self.ask, answer) {
            (Ask::Good(node), Answer::Taken) if !self.refused_here => self.ask = Ask::Doubtful(node),
            (Ask::Good(node), Answer::Taken) => {
                self.proven = true;
                self.on(node);
            }
            (Ask::Doubtful(_), Answer::Taken) => self.written = true,
            (Ask::Doubtful(node), Answer::Refused) => {
                self.refused_here = true;
                self.ask = Ask::Good(node);
            }
            (Ask::Good(node), Answer::Refused) => self.on(node),
            (Ask::Good(node) | Ask::Doubtful(node), Answer::Trouble) => {
                self.unclear = true;
                self.on(node);
            }
        }
    }

    fn on(&mut self, node: usize) {
        (self.ask, self.refused_here) = (Ask::Good(node + 1), false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A node: whether it is away, whether it refuses the row in doubt, and from which question of the trial to which a rule refuses all writes.
    #[derive(Debug, Clone)]
    struct Node {
        away: bool,
        refuses_the_row: bool,
        rule_from: usize,
        rule_to: usize,
    }

    /// The finding, and how many questions it took.
    fn finding(nodes: &[Node]) -> (Finding, usize) {
        let mut trial = Trial::new(nodes.len());
        for question in 0.. {
            let ask = match trial.next() {
                Ok(ask) => ask,
                Err(finding) => return (finding, question),
            };
            let (Ask::Good(at) | Ask::Doubtful(at)) = ask;
            let node = &nodes[at];
            let refused = (node.rule_from..node.rule_to).contains(&question) || (matches!(ask, Ask::Doubtful(_)) && node.refuses_the_row);
            trial.answer(match (node.away, refused) {
                (true, _) => Answer::Trouble,
                (false, true) => Answer::Refused,
                (false, false) => Answer::Taken,
            });
        }
        unreachable!("a trial ends")
    }

    fn node(away: bool, refuses_the_row: bool, (rule_from, rule_to): (usize, usize)) -> Node {
        Node { away, refuses_the_row, rule_from, rule_to }
    }

    const NEVER: (usize, usize) = (0, 0);
    const ALWAYS: (usize, usize) = (0, usize::MAX);

    fn doubts(count: u32, of_values: bool) -> Vec<Doubt> {
        let error = || StoreError::Refused { server: "s".into(), what: "no".into() };
        (0..count).map(|row| Doubt { row, of_values, error: error() }).collect()
    }

    #[test]
    fn a_row_that_is_refused_beside_a_good_row_that_is_taken_is_at_fault() {
        assert_eq!(finding(&[node(false, true, NEVER)]), (Finding::Row, 3));
        assert_eq!(finding(&[node(true, true, NEVER), node(false, true, NEVER)]).0, Finding::Row, "a node that is away proves nothing");
        assert_eq!(finding(&[node(false, true, ALWAYS), node(false, true, NEVER)]).0, Finding::Row, "nor one with a rule of its own");
    }

    #[test]
    fn a_row_that_is_refused_where_the_good_row_is_refused_too_is_not_at_fault() {
        assert_eq!(finding(&[node(false, false, ALWAYS)]), (Finding::NotTheRow, 1));
        assert_eq!(finding(&vec![node(false, true, ALWAYS); 3]).0, Finding::NotTheRow);
        assert_eq!(finding(&[node(true, true, NEVER)]).0, Finding::Unclear);
        assert_eq!(finding(&[]).0, Finding::Unclear, "nobody was asked");
    }

    #[test]
    fn a_row_that_one_node_takes_is_written() {
        assert_eq!(finding(&[node(false, true, NEVER), node(false, false, NEVER)]).0, Finding::Written);
    }

    #[test]
    fn limits_of_values_are_believed_of_rows_and_not_of_all_rows_of_a_batch() {
        let settled_of =
            |count: usize, of_values, written, known| settled(doubts(u32::try_from(count).unwrap(), of_values), written, known).0.len();
        assert_eq!(settled_of(WHOLE, true, 0, false), WHOLE);
        assert_eq!(settled_of(WHOLE + 1, true, 0, false), 0, "a whole batch");
        assert_eq!(settled_of(WHOLE + 1, true, 1, true), WHOLE + 1, "one row of it passed");
        assert_eq!(settled_of(1, true, 0, true), 0, "there is a row to hold it against");
        assert_eq!(settled_of(1, false, 1_000, true), 0, "words that are not known");
    }

    proptest! {
        #[test]
        fn a_good_row_is_never_at_fault_whatever_rule_begins_or_ends_in_the_midst(
            nodes in prop::collection::vec((any::<bool>(), 0_usize..9, prop::option::of(0_usize..9)), 0..=NODES),
        ) {
            // A rule that begins at any question and stays, or one that was there and ends at any question.
            let nodes: Vec<Node> = nodes
                .into_iter()
                .map(|(away, from, until)| node(away, false, until.map_or((from, usize::MAX), |until| (0, until))))
                .collect();
            let (finding, questions) = finding(&nodes);
            prop_assert_ne!(finding, Finding::Row);
            prop_assert!(questions <= 3 * NODES);
        }

        #[test]
        fn a_row_that_every_node_refuses_is_at_fault_as_soon_as_one_node_takes_the_good_row(
            away in prop::collection::vec(any::<bool>(), 0..NODES),
            at in 0_usize..NODES,
        ) {
            let mut nodes: Vec<Node> = away.into_iter().map(|away| node(away, true, if away { NEVER } else { ALWAYS })).collect();
            nodes.insert(at.min(nodes.len()), node(false, true, NEVER));
            prop_assert_eq!(finding(&nodes).0, Finding::Row);
        }
    }
}
