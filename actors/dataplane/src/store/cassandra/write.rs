//! One micro-batch of rows on its way into the table.
//!
//! Guarantee: each row is written, refused or unwritten when it ends; a row is refused only when the server's words settle that it is the
//! row's fault, or [`proof`] shows it. Rows that the server refuses for another reason are unwritten, with what to wait for. The row that is
//! known to be good is written again with the values and the timestamp that it has in the table, which changes nothing there; in a table
//! with a default time to live the time of that row begins again. Not guaranteed: that a request reported as failed had no effect.

use std::ops::Range;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use scylla::client::session::Session;
use scylla::cluster::Node;
use scylla::errors::ExecutionError;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::{MutexGuard, SemaphorePermit};

use super::fault::{self, Fault};
use super::proof::{self, Answer, Ask, Doubt, Finding, Trial};
use super::request::{self, Kept, Part};
use super::{BATCH_BYTES, Inner, Table, batch_of, groups, words};
use crate::store::WriteEnd;
use crate::store::cells::Value;
use crate::store::error::{Reason, StoreError};
use crate::store::rows::{Refusal, RowSet};
use forebay_schemas::failure::{Class, Classified};

/// The largest row that is kept as one known to be good, bytes.
const KEPT_MOST: u32 = 16 << 10;

/// How a request ended.
pub(super) enum Sent {
    /// All its rows are in the table; `one` is one of them.
    Written { rows: u64, one: Option<u32> },
    /// Its halves may pass.
    Halves(Range<usize>, Range<usize>),
    /// The row will never be taken.
    Refused(Refusal),
    /// It is refused, and it is not known whether that is its rows' fault.
    Doubtful { range: Range<usize>, of_values: bool, error: StoreError },
    /// It was not written; what follows is the error's class.
    Failed(Range<usize>, StoreError),
}

/// What becomes of a request of several rows that is refused in words that do not settle whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// It is left as it is.
    Leave,
    /// It goes on in halves.
    Halve,
}

/// A micro-batch under way.
struct Course<'a> {
    session: Arc<Session>,
    table: &'a Table,
    rows: RowSet,
    moved: &'a (dyn Fn() + Send + Sync),
    end: WriteEnd,
    unwritten: Vec<Range<usize>>,
    trouble: Option<StoreError>,
    doubtful: Vec<(Range<usize>, bool, StoreError)>,
    /// A row that was written.
    sample: Option<u32>,
}

/// What came out of asking about rows in doubt.
#[derive(Default)]
struct Proved {
    written: u64,
    refused: Vec<Refusal>,
    /// Rows to try again, and why.
    unwritten: Option<(Vec<u32>, StoreError)>,
}

impl Inner {
    pub(super) async fn write(&self, rows: &RowSet, moved: &(dyn Fn() + Send + Sync)) -> Result<WriteEnd, StoreError> {
        let table = self.table.read().clone();
        let Some(table) = table else {
            return Err(StoreError::Broken { server: self.server.clone(), what: "the table was not prepared".to_owned() });
        };
        // The turn is given up as soon as all requests are on their way: the next batch may follow while these are answered.
        let turn = self.turn.lock().await;
        if let Err(trouble) = self.find_again().await {
            return Ok(WriteEnd { unwritten: Some((rows.clone(), trouble)), ..WriteEnd::default() });
        }
        let session = self.session();
        let mut groups = groups(&session, &self.keyspace, &table, rows);
        let group = groups.as_mut().map(|group| group as &mut dyn FnMut(u32) -> u32);
        let (rows, ranges) = request::plan(rows, group, self.batch_rows, BATCH_BYTES);
        let mut course = Course {
            session,
            table: &table,
            rows,
            moved,
            end: WriteEnd::default(),
            unwritten: Vec::new(),
            trouble: None,
            doubtful: Vec::new(),
            sample: None,
        };
        self.send_all(&mut course, ranges, Whole::Leave, Some(turn)).await?;
        self.halve_doubtful(&mut course).await?;
        self.prove_doubtful(&mut course).await?;
        Ok(self.ended(course))
    }

    /// Sends requests and takes their answers, until all are answered or there is trouble; what is left then is unwritten.
    async fn send_all(
        &self,
        course: &mut Course<'_>,
        mut left: Vec<Range<usize>>,
        whole: Whole,
        mut turn: Option<MutexGuard<'_, ()>>,
    ) -> Result<(), StoreError> {
        left.reverse();
        let (session, table, rows) = (Arc::clone(&course.session), course.table, course.rows.clone());
        let mut flying = FuturesUnordered::new();
        loop {
            if course.trouble.is_none()
                && flying.len() < self.in_flight
                && let Some(range) = left.pop()
            {
                let part = Part { rows: rows.clone(), range };
                tokio::select! {
                    biased;
                    permit = self.slots.acquire() => flying.push(self.send(&session, table, part, whole, permit.ok())),
                    Some(sent) = flying.next() => {
                        left.push(part.range);
                        course.take(sent, &mut left)?;
                    }
                }
                continue;
            }
            if left.is_empty() || course.trouble.is_some() {
                turn = None;
            }
            match flying.next().await {
                Some(sent) => course.take(sent, &mut left)?,
                None => break,
            }
        }
        drop(turn);
        course.unwritten.extend(left);
        Ok(())
    }

    /// Sends one request.
    pub(super) async fn send(
        &self,
        session: &Session,
        table: &Table,
        part: Part,
        whole: Whole,
        permit: Option<SemaphorePermit<'_>>,
    ) -> Sent {
        let (range, count) = (part.range.clone(), part.len());
        let result = if count == 1 {
            session.execute_unpaged(&table.insert, &part).await.map(|_| ())
        } else if count == table.full.statements.len() {
            session.batch(&table.full, &part).await.map(|_| ())
        } else {
            session.batch(&batch_of(&table.insert, count), &part).await.map(|_| ())
        };
        drop(permit);
        let fault = match result {
            Ok(()) => return Sent::Written { rows: count as u64, one: part.rows().first().copied() },
            Err(error) => self.fault(&error),
        };
        let of_values = matches!(fault, Fault::Value(_));
        let halves = || {
            let (first, second) = part.halves();
            // What the server says may quote a value.
            tracing::debug!(rows = count, "a batch is refused and goes on in halves");
            Sent::Halves(first, second)
        };
        match (fault, part.rows()) {
            (Fault::TooLarge(error) | Fault::Row(error), [row]) => Sent::Refused(Refusal { row: *row, reason: error.of_row() }),
            (Fault::TooLarge(_) | Fault::Row(_), _) => halves(),
            (Fault::Value(_) | Fault::Unknown(_), [_, _, ..]) if whole == Whole::Halve => halves(),
            (Fault::Value(error) | Fault::Unknown(error), _) => Sent::Doubtful { range, of_values, error },
            (Fault::Other(error), _) => Sent::Failed(range, error),
        }
    }

    fn fault(&self, error: &ExecutionError) -> Fault {
        if matches!(error, ExecutionError::ConnectionPoolError(_)) {
            self.lost.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        fault::of_execution(&self.server, error)
    }

    /// Halves what was refused as a whole, until each row in doubt stands alone; not where the server refuses a row that it took before, too.
    async fn halve_doubtful(&self, course: &mut Course<'_>) -> Result<(), StoreError> {
        if course.trouble.is_some() || course.doubtful.iter().all(|(range, ..)| range.len() <= 1) {
            return Ok(());
        }
        let good = self.good(course);
        let refused = match &good {
            Some(good) => self.refuses(course, good).await,
            None => Ok(false),
        };
        match refused {
            Ok(false) => {}
            Ok(true) => {
                course.trouble = course.doubtful.first().map(|(.., error)| self.not_the_rows(course, error));
                return Ok(());
            }
            Err(trouble) => {
                course.trouble = Some(trouble);
                return Ok(());
            }
        }
        let (alone, whole): (Vec<_>, Vec<_>) = std::mem::take(&mut course.doubtful).into_iter().partition(|(range, ..)| range.len() <= 1);
        course.doubtful = alone;
        let ranges = whole.into_iter().map(|(range, ..)| range).collect();
        self.send_all(course, ranges, Whole::Halve, None).await
    }

    /// Whether all nodes that are asked refuse a row that was taken before.
    async fn refuses(&self, course: &Course<'_>, good: &Kept) -> Result<bool, StoreError> {
        let mut trouble = None;
        for node in nodes(&course.session) {
            let (answer, error) = self.ask(course, &insert_by(&course.session, course.table, &node), good).await?;
            match answer {
                Answer::Taken => return Ok(false),
                Answer::Refused => {}
                Answer::Trouble => trouble = error,
            }
        }
        trouble.map_or(Ok(true), Err)
    }

    /// Finds out whose fault it is that rows were refused in words that do not say it.
    async fn prove_doubtful(&self, course: &mut Course<'_>) -> Result<(), StoreError> {
        let doubtful = std::mem::take(&mut course.doubtful);
        if course.trouble.is_some() {
            course.unwritten.extend(doubtful.into_iter().map(|(range, ..)| range));
            return Ok(());
        }
        let doubts: Vec<Doubt> = doubtful
            .into_iter()
            .flat_map(|(range, of_values, error)| course.rows.rows().get(range.start).map(|&row| Doubt { row, of_values, error }))
            .collect();
        let good = self.good(course);
        let (settled, doubts) = proof::settled(doubts, course.end.written, good.is_some());
        course.end.rejected.extend(settled.iter().map(refusal));
        if doubts.is_empty() {
            return Ok(());
        }
        let proved = match good {
            Some(good) => self.prove(course, &good, doubts).await?,
            None => {
                let trouble = doubts.first().map(|doubt| self.nothing_known(course, &doubt.error));
                Proved { unwritten: trouble.map(|trouble| (doubts.iter().map(|doubt| doubt.row).collect(), trouble)), ..Proved::default() }
            }
        };
        course.end.written += proved.written;
        course.end.statements += proved.written;
        course.end.rejected.extend(proved.refused);
        if let Some((rows, trouble)) = proved.unwritten {
            let places = |row: &u32| course.rows.rows().iter().position(|other| other == row);
            course.unwritten.extend(rows.iter().filter_map(places).map(|at| at..at + 1));
            course.trouble = Some(trouble);
        }
        Ok(())
    }

    /// Asks the server about one row after the other, each beside the good one.
    async fn prove(&self, course: &Course<'_>, good: &Kept, doubts: Vec<Doubt>) -> Result<Proved, StoreError> {
        let mut proved = Proved::default();
        let mut values_proven = false;
        let mut doubts = doubts.into_iter();
        while let Some(doubt) = doubts.next() {
            if doubt.of_values && values_proven {
                proved.refused.push(refusal(&doubt));
                continue;
            }
            let (finding, trouble) = self.finding(course, good, doubt.row).await?;
            let trouble = match finding {
                Finding::Row => {
                    values_proven |= doubt.of_values;
                    proved.refused.push(refusal(&doubt));
                    continue;
                }
                Finding::Written => {
                    proved.written += 1;
                    continue;
                }
                Finding::NotTheRow => self.not_the_rows(course, &doubt.error),
                Finding::Unclear => trouble.unwrap_or_else(|| self.no_node()),
            };
            let left = std::iter::once(doubt.row).chain(doubts.map(|doubt| doubt.row)).collect();
            proved.unwritten = Some((left, trouble));
            break;
        }
        Ok(proved)
    }

    async fn finding(&self, course: &Course<'_>, good: &Kept, row: u32) -> Result<(Finding, Option<StoreError>), StoreError> {
        let nodes = nodes(&course.session);
        let inserts: Vec<PreparedStatement> = nodes.iter().map(|node| insert_by(&course.session, course.table, node)).collect();
        let mut trial = Trial::new(inserts.len());
        let mut trouble = None;
        loop {
            let (answer, error) = match trial.next() {
                Ok(Ask::Good(node)) => self.ask(course, &inserts[node], good).await?,
                Ok(Ask::Doubtful(node)) => {
                    let at = course.rows.rows().iter().position(|other| *other == row).unwrap_or_default();
                    self.ask(course, &inserts[node], &Part { rows: course.rows.clone(), range: at..at + 1 }).await?
                }
                Err(finding) => return Ok((finding, trouble)),
            };
            trouble = trouble.or(error);
            trial.answer(answer);
        }
    }

    /// Has one node write one row. What makes the pipeline stop is an error.
    async fn ask(
        &self,
        course: &Course<'_>,
        insert: &PreparedStatement,
        row: &(impl SerializeRow + Sync),
    ) -> Result<(Answer, Option<StoreError>), StoreError> {
        let permit = self.slots.acquire().await;
        let result = course.session.execute_unpaged(insert, row).await;
        drop(permit);
        (course.moved)();
        match result.map_err(|error| self.fault(&error)) {
            Ok(_) => Ok((Answer::Taken, None)),
            Err(Fault::TooLarge(_) | Fault::Row(_) | Fault::Value(_) | Fault::Unknown(_)) => Ok((Answer::Refused, None)),
            Err(Fault::Other(error)) if error.class() == Class::Fatal => Err(error),
            Err(Fault::Other(error)) => Ok((Answer::Trouble, Some(error))),
        }
    }

    /// A row that the server is known to take: one of this micro-batch, or the last of an earlier one.
    fn good(&self, course: &Course<'_>) -> Option<Kept> {
        let here = course.sample.and_then(|row| Kept::of(&course.rows, row));
        here.or_else(|| self.good.read().clone())
    }

    fn ended(&self, course: Course<'_>) -> WriteEnd {
        let Course { rows, mut end, unwritten, trouble, sample, .. } = course;
        let small = sample.filter(|&row| rows.size(row) <= KEPT_MOST);
        if let Some(good) = small.and_then(|row| Kept::of(&rows, row)) {
            *self.good.write() = Some(good);
        }
        if let Some(trouble) = trouble {
            let mut still: Vec<u32> = unwritten.into_iter().flat_map(|range| rows.rows()[range].to_vec()).collect();
            still.sort_unstable();
            end.unwritten = Some((rows.only(still), trouble));
        }
        end
    }

    fn waiting(&self, what: String) -> StoreError {
        StoreError::Unavailable { server: self.server.clone(), what, reason: Reason::Policy }
    }

    fn not_the_rows(&self, course: &Course<'_>, error: &StoreError) -> StoreError {
        let said = course.masked(error);
        self.waiting(format!("it refuses a row that it took before, so it is not the rows, and none is set aside: {said}"))
    }

    fn nothing_known(&self, course: &Course<'_>, error: &StoreError) -> StoreError {
        let said = course.masked(error);
        let none = "it has taken no row since this process started";
        self.waiting(format!("{none}, so these may not be at fault, and none is set aside: {said}"))
    }

    fn no_node(&self) -> StoreError {
        StoreError::Unavailable { server: self.server.clone(), what: "no node is connected".to_owned(), reason: Reason::Connection }
    }
}

impl Course<'_> {
    fn take(&mut self, sent: Sent, left: &mut Vec<Range<usize>>) -> Result<(), StoreError> {
        (self.moved)();
        match sent {
            Sent::Written { rows, one } => {
                self.end.written += rows;
                self.end.statements += 1;
                self.sample = one.or(self.sample);
            }
            Sent::Halves(first, second) => left.extend([second, first]),
            Sent::Refused(refusal) => self.end.rejected.push(refusal),
            Sent::Doubtful { range, of_values, error } => self.doubtful.push((range, of_values, error)),
            Sent::Failed(range, error) => match error.class() {
                Class::Fatal => return Err(error),
                _ => {
                    self.unwritten.push(range);
                    self.trouble.get_or_insert(error);
                }
            },
        }
        Ok(())
    }

    /// What the server said, without values of the rows.
    fn masked(&self, error: &StoreError) -> String {
        let StoreError::Refused { what, .. } = error else { return error.to_string() };
        let cells = self.rows.rows().iter().flat_map(|&row| self.rows.cells(row));
        words::masked(what, cells.filter_map(|cell| if let Value::Text(text) = cell { Some(text) } else { None }))
    }
}

fn refusal(doubt: &Doubt) -> Refusal {
    Refusal { row: doubt.row, reason: doubt.error.of_row() }
}

/// Nodes to ask about a row.
fn nodes(session: &Session) -> Vec<Arc<Node>> {
    session.get_cluster_state().get_nodes_info().iter().filter(|node| node.is_connected()).take(proof::NODES).cloned().collect()
}

/// The INSERT, by this node alone.
fn insert_by(session: &Session, table: &Table, node: &Arc<Node>) -> PreparedStatement {
    let policy = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(Arc::clone(node)), None);
    let profile = session.get_default_execution_profile_handle().pointee_to_builder().load_balancing_policy(policy).build();
    let mut insert = table.insert.clone();
    insert.set_execution_profile_handle(Some(profile.into_handle()));
    insert
}
