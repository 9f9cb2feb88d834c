//! The SQL's expressions with a bound on what they make and how long they take.
//!
//! Guarantee: what a node of an expression makes is charged to the [`meter`], before it is made where it can be more than a few times what it is
//! made of, so that neither a function nor an operator takes memory or time beyond the limits by more than that. A record that alone goes
//! over a limit is a reject; records that do so together are run apart, so what one of them becomes does not depend on the others.
//! Not guaranteed: nodes whose values are of a fixed width are not charged; they are as many as the SQL is long.

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

use super::cost::{self, Cost};
use super::pattern;
use crate::transform::{meter, sizes};

/// The most bytes of a constant of the SQL that are not charged for each row.
const SHORT: u64 = 1 << 10;
/// The steps that LIKE takes for a byte of the text and one of the pattern.
const LIKE_STEPS: u64 = 4;

type Node = Arc<dyn PhysicalExpr>;

/// The same expression, bounded.
///
/// # Errors
/// When it calls a function whose cost is not known.
pub(super) fn bounded(expr: Node, input: &Schema) -> Result<Node> {
    Ok(expr.transform_up(|node| bound(node, input).map(Transformed::yes))?.data)
}

/// One node, whose children are bounded.
fn bound(node: Node, input: &Schema) -> Result<Node> {
    if let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() {
        let cost = cost::of(call.fun().name()).ok_or_else(|| unknown(call.fun().name()))?;
        if cost == Cost::Free {
            return Ok(node);
        }
        let function = ScalarUDF::new_from_impl(Call { inner: Arc::new(call.fun().clone()), cost });
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
        let long = sizes::of_array(&literal.value().to_array()?) > SHORT;
        return Ok(if long { Toll::on(node, Charge::Result("a constant".into())) } else { node });
    }
    if let Some(like) = node.downcast_ref::<LikeExpr>() {
        let (text, pattern) = (Arc::clone(like.expr()), Arc::clone(like.pattern()));
        return matching(node, text, pattern, Matcher::Like);
    }
    if let Some(binary) = node.downcast_ref::<BinaryExpr>() {
        let (left, right) = (Arc::clone(binary.left()), Arc::clone(binary.right()));
        match binary.op() {
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
                return matching(node, left, right, Matcher::Regex);
            }
            Operator::LikeMatch | Operator::ILikeMatch | Operator::NotLikeMatch | Operator::NotILikeMatch => {
                return matching(node, left, right, Matcher::Like);
            }
            _ => {}
        }
    }
    let cast = node.downcast_ref::<CastExpr>().map(CastExpr::cast_type);
    if let Some(to) = cast.or_else(|| node.downcast_ref::<TryCastExpr>().map(TryCastExpr::cast_type)).filter(|to| sizes::vary(to)) {
        let from = node.children().into_iter().map(|child| Toll::on(Arc::clone(child), Charge::Cast(to.clone()))).collect();
        return Ok(Toll::on(Arc::clone(&node).with_new_children(from)?, Charge::Result("a cast".into())));
    }
    if node.children().is_empty() || !node.data_type(input).is_ok_and(|data_type| sizes::vary(&data_type)) {
        return Ok(node);
    }
    let what = node.downcast_ref::<BinaryExpr>().map_or_else(|| "an expression".into(), |binary| format!("`{}`", binary.op()));
    Ok(Toll::on(node, Charge::Result(what)))
}

fn unknown(function: &str) -> DataFusionError {
    DataFusionError::NotImplemented(format!("the function `{function}` is not supported: what it costs at most is not known"))
}

/// A function that is charged for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Call {
    inner: Arc<ScalarUDF>,
    cost: Cost,
}

impl ScalarUDFImpl for Call {
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
        let price = self.cost.price(&args.args, rows, args.return_field.data_type())?;
        meter::charge_steps(&name, price.steps)?;
        meter::charge_bytes(&name, price.bytes)?;
        let result = self.inner.invoke_with_args(args)?;
        if self.cost == Cost::Result && sizes::vary(&result.data_type()) {
            meter::charge_bytes(&name, cost::of_value(&result, rows)?)?;
        }
        Ok(result)
    }
}

/// What is charged for the value of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Charge {
    /// Its bytes, of what this names.
    Result(String),
    /// What a cast of it makes.
    Cast(DataType),
    /// So many steps a byte: a pattern is looked for in it.
    Steps(u64),
}

/// A node whose value is charged for.
#[derive(Debug, Eq)]
struct Toll {
    inner: Node,
    charge: Charge,
}

impl Toll {
    fn on(inner: Node, charge: Charge) -> Node {
        Arc::new(Self { inner, charge })
    }
}

/// By hand, since a derived one would move the nodes.
impl PartialEq for Toll {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && self.charge.eq(&other.charge)
    }
}

impl Hash for Toll {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.charge.hash(state);
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Toll {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (value, rows) = (self.inner.evaluate(batch)?, batch.num_rows());
        match &self.charge {
            Charge::Result(what) => meter::charge_bytes(what, cost::of_value(&value, rows)?)?,
            Charge::Cast(to) => meter::charge_bytes("a cast", cost::of_cast(&value, rows, to)?)?,
            Charge::Steps(steps) => meter::charge_steps("a pattern", cost::of_value(&value, rows)?.saturating_mul(*steps))?,
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
        let [inner] = one_of_each(children)?;
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
    /// The steps a byte of the text.
    fn steps(self, pattern: &str) -> u64 {
        match self {
            Self::Like => LIKE_STEPS.saturating_mul(pattern.len() as u64),
            Self::Regex => pattern::states(pattern),
        }
    }
}

/// A match of a text. Where the pattern stands in the SQL, the text is charged for; else each pattern with its text.
fn matching(node: Node, text: Node, pattern: Node, matcher: Matcher) -> Result<Node> {
    match pattern.downcast_ref::<Literal>().map(|literal| literal.value().try_as_str().flatten().unwrap_or_default().to_owned()) {
        Some(known) => node.with_new_children(vec![Toll::on(text, Charge::Steps(matcher.steps(&known))), pattern]),
        None => Ok(Arc::new(Match { node, text, pattern, matcher })),
    }
}

/// A match with a pattern that is the record's own, or made of it.
#[derive(Debug, Eq)]
struct Match {
    /// The match itself.
    node: Node,
    text: Node,
    pattern: Node,
    matcher: Matcher,
}

/// By hand, since a derived one would move the nodes.
impl PartialEq for Match {
    fn eq(&self, other: &Self) -> bool {
        self.node.eq(&other.node) && self.text.eq(&other.text) && self.pattern.eq(&other.pattern) && self.matcher.eq(&other.matcher)
    }
}

impl Hash for Match {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
        self.text.hash(state);
        self.pattern.hash(state);
        self.matcher.hash(state);
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl PhysicalExpr for Match {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let (text, pattern) = (self.text.evaluate(batch)?.into_array(rows)?, self.pattern.evaluate(batch)?.into_array(rows)?);
        let steps = cost::of_patterns(&text, &pattern, |pattern| self.matcher.steps(pattern));
        meter::charge_steps("a pattern", steps.steps)?;
        meter::charge_bytes("a pattern", steps.bytes)?;
        let fields = [("text", &text), ("pattern", &pattern)].map(|(name, it)| Field::new(name, it.data_type().clone(), true));
        let given = RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![text, pattern])?;
        let columns: Vec<Node> = vec![Arc::new(Column::new("text", 0)), Arc::new(Column::new("pattern", 1))];
        Arc::clone(&self.node).with_new_children(columns)?.evaluate(&given)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.node.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Node> {
        vec![&self.text, &self.pattern]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Node>) -> Result<Node> {
        let [text, pattern] = one_of_each(children)?;
        let node = Arc::clone(&self.node).with_new_children(vec![Arc::clone(&text), Arc::clone(&pattern)])?;
        Ok(Arc::new(Self { node, text, pattern, matcher: self.matcher }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt_sql(f)
    }
}

fn one_of_each<const N: usize>(children: Vec<Node>) -> Result<[Node; N]> {
    children.try_into().map_err(|_| DataFusionError::Internal("a node has other children than it had".into()))
}
