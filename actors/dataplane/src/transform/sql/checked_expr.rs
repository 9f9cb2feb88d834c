//! Expressions that fail where DataFusion's would return a wrong value.
//!
//! Guarantees, for an expression that [`check`] returns:
//! * Integers of any width do not wrap around, in any operation.
//! * Decimals stay within their precision.
//! * Floats are neither infinite nor NaN.
//! * Casts are those of [`super::cast`].
//! * A field of an object that is NULL is NULL.
//!
//! Does not check what a function computes internally, only its arguments and its result.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, make_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::kernels::arity::try_binary;
use datafusion::arrow::compute::kernels::numeric::neg;
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, NegativeExpr, TryCastExpr, in_list};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::cast::{cast, finite};
use crate::decimal::within;

/// Returns the same expression, with every node replaced that could return a wrong value without an
/// error.
pub(super) fn check(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    expr.transform_up(|expr| replace(expr, schema)).map(|result| result.data)
}

fn replace(expr: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    let of = |kind: Kind, args: Vec<&Arc<dyn PhysicalExpr>>| {
        let args = args.into_iter().map(Arc::clone).collect();
        Ok(Transformed::yes(Arc::new(CheckedExpr { kind, args }) as Arc<dyn PhysicalExpr>))
    };
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                let result = binary.data_type(schema)?;
                let failing = BinaryExpr::new(Arc::clone(left), *binary.op(), Arc::clone(right)).with_fail_on_overflow(true);
                Ok(Transformed::yes(check_result(Arc::new(failing), &result)))
            }
            Operator::BitwiseShiftLeft => of(Kind::ShiftLeft, vec![left, right]),
            Operator::BitwiseShiftRight => of(Kind::ShiftRight, vec![left, right]),
            _ => Ok(Transformed::no(expr)),
        };
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        return of(Kind::Negate, vec![negative.arg()]);
    }
    if let Some(plain) = expr.downcast_ref::<CastExpr>() {
        return of(Kind::Cast { to: plain.cast_type().clone(), safe: false }, vec![plain.expr()]);
    }
    if let Some(safe) = expr.downcast_ref::<TryCastExpr>() {
        return of(Kind::Cast { to: safe.cast_type().clone(), safe: true }, vec![safe.expr()]);
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        // Re-created, because it holds the values of its list as DataFusion's casts returned them.
        return Ok(Transformed::yes(in_list(Arc::clone(list.expr()), list.list().to_vec(), &list.negated(), schema)?));
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return match function.name() {
            "get_field" if !is_path(&function.args()[0]) => {
                let object = function.args()[0].data_type(schema)?;
                match object {
                    DataType::Struct(_) => of(Kind::FieldOf, vec![&expr, &function.args()[0]]),
                    _ => Ok(Transformed::no(expr)),
                }
            }
            // A double of seconds gives wrong nanoseconds; a decimal out of range fails instead.
            "to_timestamp" if function.args()[0].data_type(schema)?.is_floating() => {
                let mut args = function.args().to_vec();
                let seconds = Kind::Cast { to: DataType::Decimal128(38, 9), safe: false };
                args[0] = Arc::new(CheckedExpr { kind: seconds, args: vec![Arc::clone(&args[0])] });
                Ok(Transformed::yes(Arc::clone(&expr).with_new_children(args)?))
            }
            _ => {
                let result = expr.data_type(schema)?;
                Ok(Transformed::yes(check_result(expr, &result)))
            }
        };
    }
    Ok(Transformed::no(expr))
}

/// Adds a check of the result, if its type has bounds.
fn check_result(expr: Arc<dyn PhysicalExpr>, result: &DataType) -> Arc<dyn PhysicalExpr> {
    let kind = match result {
        DataType::Float32 | DataType::Float64 => Kind::Finite,
        DataType::Decimal128(precision, _) => Kind::Precision(*precision),
        _ => return expr,
    };
    Arc::new(CheckedExpr { kind, args: vec![expr] })
}

/// Returns whether an expression is a column or a field of one. For those the decoder made the
/// fields of a NULL object NULL.
fn is_path(expr: &Arc<dyn PhysicalExpr>) -> bool {
    match expr.downcast_ref::<ScalarFunctionExpr>() {
        Some(function) => function.name() == "get_field" && is_path(&function.args()[0]),
        None => expr.is::<Column>(),
    }
}

/// A checked operation, or a check of its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedExpr {
    kind: Kind,
    args: Vec<Arc<dyn PhysicalExpr>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// The argument, which must be finite.
    Finite,
    /// The argument, a decimal, which must have at most this many digits.
    Precision(u8),
    /// `-a`
    Negate,
    /// `a << b`
    ShiftLeft,
    /// `a >> b`
    ShiftRight,
    /// `CAST(a AS …)`, or `TRY_CAST` when `safe`.
    Cast { to: DataType, safe: bool },
    /// The first argument, a field of the second. It is NULL where the second is.
    FieldOf,
}

impl fmt::Display for CheckedExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = &self.args;
        match &self.kind {
            Kind::Finite | Kind::Precision(_) | Kind::FieldOf => write!(f, "{}", args[0]),
            Kind::Negate => write!(f, "(- {})", args[0]),
            Kind::ShiftLeft => write!(f, "({} << {})", args[0], args[1]),
            Kind::ShiftRight => write!(f, "({} >> {})", args[0], args[1]),
            Kind::Cast { to, safe: false } => write!(f, "CAST({} AS {to})", args[0]),
            Kind::Cast { to, safe: true } => write!(f, "TRY_CAST({} AS {to})", args[0]),
        }
    }
}

impl PhysicalExpr for CheckedExpr {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        match &self.kind {
            Kind::Cast { to, .. } => Ok(to.clone()),
            _ => self.args[0].data_type(schema),
        }
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        if let Kind::Cast { safe: true, .. } = self.kind {
            return Ok(true);
        }
        self.args.iter().try_fold(false, |nullable, arg| Ok(nullable || arg.nullable(schema)?))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let mut values = self.args.iter().map(|arg| arg.evaluate(batch)).collect::<Result<Vec<_>>>()?;
        let second = if values.len() > 1 { values.pop() } else { None };
        let first = values.pop().expect("each kind has an argument");
        let single = |first: &ColumnarValue, apply: &dyn Fn(&ArrayRef) -> Result<ArrayRef>| match first {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(apply(array)?)),
            ColumnarValue::Scalar(scalar) => {
                let result = apply(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        };
        match (&self.kind, second) {
            (Kind::Finite, _) => single(&first, &|array| finite(array, false)),
            (Kind::Precision(precision), _) => single(&first, &|array| in_precision(array, *precision)),
            (Kind::Negate, _) => single(&first, &|array| finite(&neg(array)?, false)),
            (Kind::Cast { to, safe }, _) => single(&first, &|array| cast(array, to, *safe)),
            (Kind::ShiftLeft, Some(second)) => pair(&first, &second, batch.num_rows(), shift_left),
            (Kind::ShiftRight, Some(second)) => pair(&first, &second, batch.num_rows(), shift_right),
            (Kind::FieldOf, Some(second)) => pair(&first, &second, batch.num_rows(), |field, object| hide(field, object.logical_nulls())),
            (Kind::ShiftLeft | Kind::ShiftRight | Kind::FieldOf, None) => unreachable!("these kinds have two arguments"),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, args: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { kind: self.kind.clone(), args }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Applies a function to two arguments, as columns of equal length. The result is a scalar when
/// both are.
fn pair(
    first: &ColumnarValue,
    second: &ColumnarValue,
    rows: usize,
    apply: impl Fn(&ArrayRef, &ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match (first, second) {
        (ColumnarValue::Scalar(first), ColumnarValue::Scalar(second)) => {
            let result = apply(&first.to_array()?, &second.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
        }
        (first, second) => Ok(ColumnarValue::Array(apply(&first.to_array(rows)?, &second.to_array(rows)?)?)),
    }
}

/// Checks that decimals have at most `precision` digits.
fn in_precision(array: &ArrayRef, precision: u8) -> Result<ArrayRef> {
    let decimals = array.as_primitive::<Decimal128Type>();
    let beyond = |value: &i128| within(*value, precision).is_none();
    if decimals.values().iter().any(beyond) && decimals.iter().flatten().any(|value| beyond(&value)) {
        let why = format!("the result has more than the {precision} digits of {}", array.data_type());
        return Err(ArrowError::ArithmeticOverflow(why).into());
    }
    Ok(Arc::clone(array))
}

/// Returns the column with these rows NULL, too.
fn hide(field: &ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return Ok(Arc::clone(field)) };
    let nulls = NullBuffer::union(field.logical_nulls().as_ref(), Some(&nulls));
    let data = field.to_data().into_builder().nulls(nulls).build()?;
    Ok(make_array(data))
}

fn shift_left(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    shift(left, right, "<<")
}

fn shift_right(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    shift(left, right, ">>")
}

/// Shifts by fewer bits than the type has. A shift to the left must not lose bits.
fn shift(left: &ArrayRef, right: &ArrayRef, op: &'static str) -> Result<ArrayRef> {
    macro_rules! by_width {
        ($($data_type:ident => $kind:ident),*) => {
            match left.data_type() {
                $(DataType::$data_type => {
                    let shifted: PrimitiveArray<$kind> = try_binary(left.as_primitive::<$kind>(), right.as_primitive::<$kind>(), |value, by| {
                        let bits = u32::try_from(by).ok().filter(|bits| *bits < <$kind as ArrowPrimitiveType>::Native::BITS);
                        let shifted = bits.and_then(|bits| match op {
                            "<<" => Some(value << bits).filter(|shifted| shifted >> bits == value),
                            _ => Some(value >> bits),
                        });
                        shifted.ok_or_else(|| ArrowError::ArithmeticOverflow(format!("overflow happened on: {value} {op} {by}")))
                    })?;
                    Ok(Arc::new(shifted))
                })*
                other => Err(DataFusionError::NotImplemented(format!("{op} of {other}"))),
            }
        };
    }
    by_width!(
        Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type
    )
}
