//! Expressions that charge what they produce, and the steps they take, to the [`sql_quota`].
//!
//! Guarantees:
//! * The value of every node of variable width is charged. When it can be more than a few times as
//!   large as the arguments, it is charged before it is produced. So no function or operator
//!   exceeds the limits of memory and time by more than that.
//! * A record that exceeds a limit alone is a reject. Records that exceed it together are run
//!   apart, so what becomes of a record does not depend on its neighbours.
//!
//! Does not charge values of fixed width. Their number is bounded by the length of the SQL.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, LikeExpr, Literal, TryCastExpr};
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr, ScalarFunctionExpr};

use super::function_cost::{self, CostClass};
use super::{regex_cost, value_cost};
use crate::transform::{column_bytes, sql_quota};

/// The size up to which a constant of the SQL is not charged.
const MAX_FREE_CONSTANT_BYTES: u64 = 1 << 10;
/// The steps that LIKE takes per byte of the text and byte of the pattern.
const LIKE_STEPS: u64 = 4;

type Node = Arc<dyn PhysicalExpr>;

/// Returns the same expression with its nodes charged.
///
/// # Errors
/// When it calls a function whose cost is unknown.
pub(super) fn charge(expr: Node, input: &Schema) -> Result<Node> {
    Ok(expr.transform_up(|node| charge_node(node, input).map(Transformed::yes))?.data)
}

/// Charges a node whose children are charged already.
fn charge_node(node: Node, input: &Schema) -> Result<Node> {
    if let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() {
        let class = function_cost::class_of(call.fun().name()).ok_or_else(|| unknown(call.fun().name()))?;
        if class == CostClass::Free {
            return Ok(node);
        }
        let function = ScalarUDF::new_from_impl(ChargedFunction { inner: Arc::new(call.fun().clone()), class });
        let (args, field) = (call.args().to_vec(), call.return_field(input)?);
        return Ok(Arc::new(ScalarFunctionExpr::new(
            call.name(),
            Arc::new(function),
            args,
            field,
            Arc::new(call.config_options().clone()),
        )));
    }
    if let Some(call) = node.downcast_ref::<HigherOrderFunctionExpr>() {
        return Err(unknown(call.name()));
    }
    if let Some(literal) = node.downcast_ref::<Literal>() {
        let long = column_bytes::of_array(&literal.value().to_array()?) > MAX_FREE_CONSTANT_BYTES;
        return Ok(if long { ChargedExpr::on(node, Charge::Result("a constant".into())) } else { node });
    }
    if let Some(like) = node.downcast_ref::<LikeExpr>() {
        let (text, pattern) = (Arc::clone(like.expr()), Arc::clone(like.pattern()));
        return charge_match(node, text, pattern, Matcher::Like);
    }
    if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        match binary.op() {
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
                return charge_match(node, left, right, Matcher::Regex);
            }
            Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch => {
                return charge_match(node, left, right, Matcher::Like);
            }
            _ => {}
        }
    }
    let cast = node.downcast_ref::<CastExpr>().map(CastExpr::cast_type);
    if let Some(to) =
        cast.or_else(|| node.downcast_ref::<TryCastExpr>().map(TryCastExpr::cast_type)).filter(|to| column_bytes::is_variable_width(to))
    {
        let from = node.children().into_iter().map(|child| ChargedExpr::on(Arc::clone(child), Charge::Cast(to.clone()))).collect();
        return Ok(ChargedExpr::on(Arc::clone(&node).with_new_children(from)?, Charge::Result("a cast".into())));
    }
    if node.children().is_empty() || !node.data_type(input).is_ok_and(|data_type| column_bytes::is_variable_width(&data_type)) {
        return Ok(node);
    }
    let what = node.downcast_ref::<BinaryExpr>().map_or_else(|| "an expression".into(), |binary| format!("`{}`", binary.op()));
    Ok(ChargedExpr::on(node, Charge::Result(what)))
}

fn unknown(function: &str) -> DataFusionError {
    DataFusionError::NotImplemented(format!("the function `{function}` is not supported: its cost is unknown"))
}

/// A function whose calls are charged.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ChargedFunction {
    inner: Arc<ScalarUDF>,
    class: CostClass,
}

impl ScalarUDFImpl for ChargedFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = format!("`{}`", self.name());
        let rows = args.number_rows;
        let cost = self.class.cost(&args.args, rows, args.return_field.data_type())?;
        sql_quota::charge_steps(&name, cost.steps)?;
        sql_quota::charge_bytes(&name, cost.bytes)?;
        let result = self.inner.invoke_with_args(args)?;
        if self.class == CostClass::Result && column_bytes::is_variable_width(&result.data_type()) {
            sql_quota::charge_bytes(&name, value_cost::bytes_of_value(&result, rows)?)?;
        }
        Ok(result)
    }
}

/// What the value of a node is charged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Charge {
    /// Its bytes. The text names the node in an error.
    Result(String),
    /// The bytes of its cast to this type.
    Cast(DataType),
    /// This many steps per byte: a pattern is searched in it.
    Steps(u64),
}

/// A node whose value is charged.
#[derive(Debug, Eq)]
struct ChargedExpr {
    inner: Node,
    charge: Charge,
}

impl ChargedExpr {
    fn on(inner: Node, charge: Charge) -> Node {
        Arc::new(Self { inner, charge })
    }
}

/// Implemented by hand because the derived implementation would move the nodes.
impl PartialEq for ChargedExpr {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && self.charge.eq(&other.charge)
    }
}

impl Hash for ChargedExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.charge.hash(state);
    }
}

impl fmt::Display for ChargedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for ChargedExpr {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (value, rows) = (self.inner.evaluate(batch)?, batch.num_rows());
        match &self.charge {
            Charge::Result(what) => sql_quota::charge_bytes(what, value_cost::bytes_of_value(&value, rows)?)?,
            Charge::Cast(to) => sql_quota::charge_bytes("a cast", value_cost::bytes_of_cast(&value, rows, to)?)?,
            Charge::Steps(steps) => sql_quota::charge_steps("a pattern", value_cost::bytes_of_value(&value, rows)?.saturating_mul(*steps))?,
        }
        Ok(value)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Node> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> Result<Node> {
        let [inner] = exactly(children)?;
        Ok(Self::on(inner, self.charge.clone()))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Matcher {
    Like,
    Regex,
}

impl Matcher {
    /// Returns the steps per byte of the text.
    fn steps(self, pattern: &str) -> u64 {
        match self {
            Self::Like => LIKE_STEPS.saturating_mul(pattern.len() as u64),
            Self::Regex => regex_cost::states(pattern),
        }
    }
}

/// Charges a match. A pattern that is a constant is charged per byte of the text; other patterns
/// are charged row by row.
fn charge_match(node: Node, text: Node, pattern: Node, matcher: Matcher) -> Result<Node> {
    match pattern.downcast_ref::<Literal>().map(|literal| literal.value().try_as_str().flatten().unwrap_or_default().to_owned()) {
        Some(constant) => node.with_new_children(vec![ChargedExpr::on(text, Charge::Steps(matcher.steps(&constant))), pattern]),
        None => Ok(Arc::new(ChargedMatch { node, text, pattern, matcher })),
    }
}

/// A match whose pattern comes from the record.
#[derive(Debug, Eq)]
struct ChargedMatch {
    /// The match.
    node: Node,
    text: Node,
    pattern: Node,
    matcher: Matcher,
}

/// Implemented by hand because the derived implementation would move the nodes.
impl PartialEq for ChargedMatch {
    fn eq(&self, other: &Self) -> bool {
        self.node.eq(&other.node) && self.text.eq(&other.text) && self.pattern.eq(&other.pattern) && self.matcher.eq(&other.matcher)
    }
}

impl Hash for ChargedMatch {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
        self.text.hash(state);
        self.pattern.hash(state);
        self.matcher.hash(state);
    }
}

impl fmt::Display for ChargedMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl PhysicalExpr for ChargedMatch {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let (text, pattern) = (self.text.evaluate(batch)?.into_array(rows)?, self.pattern.evaluate(batch)?.into_array(rows)?);
        let cost = value_cost::cost_of_patterns(&text, &pattern, |pattern| self.matcher.steps(pattern));
        sql_quota::charge_steps("a pattern", cost.steps)?;
        sql_quota::charge_bytes("a pattern", cost.bytes)?;
        let fields = [("text", &text), ("pattern", &pattern)].map(|(name, column)| Field::new(name, column.data_type().clone(), true));
        let arguments = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![text, pattern])?;
        let columns: Vec<Node> = vec![Arc::new(Column::new("text", 0)), Arc::new(Column::new("pattern", 1))];
        Arc::clone(&self.node).with_new_children(columns)?.evaluate(&arguments)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.node.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Node> {
        vec![&self.text, &self.pattern]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> Result<Node> {
        let [text, pattern] = exactly(children)?;
        let node = Arc::clone(&self.node).with_new_children(vec![Arc::clone(&text), Arc::clone(&pattern)])?;
        Ok(Arc::new(Self { node, text, pattern, matcher: self.matcher }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt_sql(f)
    }
}

fn exactly<const N: usize>(children: Vec<Node>) -> Result<[Node; N]> {
    children.try_into().map_err(|_| DataFusionError::Internal("a node is given a different number of children".into()))
}
