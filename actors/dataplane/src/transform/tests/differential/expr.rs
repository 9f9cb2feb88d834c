//! Typed expressions, as SQL in two dialects and as values.
//!
//! The interpreter evaluates SQL literally, one record at a time. It shares no code with the
//! library under test.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, Timelike};

use super::record::Record;
use crate::decimal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Small,
    Real,
    Text,
    Bool,
    Decimal(u8, i8),
    Time,
}

impl Type {
    pub(super) fn sql(self) -> String {
        match self {
            Self::Int => "BIGINT".into(),
            Self::Small => "SMALLINT".into(),
            Self::Real => "DOUBLE".into(),
            Self::Text => "VARCHAR".into(),
            Self::Bool => "BOOLEAN".into(),
            Self::Decimal(precision, scale) => format!("DECIMAL({precision},{scale})"),
            Self::Time => "TIMESTAMP".into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Bool(bool),
    /// The unscaled value, and the scale.
    Decimal(i128, i8),
    /// Microseconds since the Unix epoch.
    Time(i64),
}

/// The SQL dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Forebay,
    DuckDb,
}

#[derive(Debug, Clone)]
pub(super) enum Expr {
    Field(&'static str, Type),
    Literal(Value, Type),
    Negate(Box<Expr>),
    /// `+ - * / %` and `<< >>` of two operands of one type.
    Math(&'static str, Box<Expr>, Box<Expr>),
    /// `= <> < <= > >=` of two operands of one type.
    Compare(&'static str, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>, bool),
    Distinct(Box<Expr>, Box<Expr>, bool),
    Between(Box<Expr>, Box<Expr>, Box<Expr>, bool),
    In(Box<Expr>, Vec<Expr>, bool),
    Like(Box<Expr>, &'static str, bool),
    Case(Vec<(Expr, Expr)>, Option<Box<Expr>>),
    CaseOf(Box<Expr>, Vec<(Expr, Expr)>, Option<Box<Expr>>),
    Coalesce(Vec<Expr>),
    NullIf(Box<Expr>, Box<Expr>),
    Cast(Box<Expr>, Type),
    TryCast(Box<Expr>, Type),
    Call(&'static str, Vec<Expr>, Type),
    /// `t + INTERVAL '… day'` and similar.
    Plus(Box<Expr>, i64, &'static str),
}

/// The expression fails on the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fails;

impl Expr {
    pub(super) fn type_of(&self) -> Type {
        match self {
            Self::Field(_, kind) | Self::Literal(_, kind) | Self::Cast(_, kind) | Self::TryCast(_, kind) | Self::Call(_, _, kind) => *kind,
            Self::Negate(inner) | Self::NullIf(inner, _) | Self::Plus(inner, ..) => inner.type_of(),
            Self::Math(op, left, right) => match (left.type_of(), right.type_of()) {
                (Type::Decimal(p1, s1), Type::Decimal(p2, s2)) => match *op {
                    "*" => Type::Decimal(p1 + p2 + 1, s1 + s2),
                    _ => Type::Decimal(p1.max(p2) + 1, s1.max(s2)),
                },
                (left, _) => left,
            },
            Self::Case(branches, _) | Self::CaseOf(_, branches, _) => branches[0].1.type_of(),
            Self::Coalesce(args) => args[0].type_of(),
            _ => Type::Bool,
        }
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        let of = |expr: &Expr| expr.sql(dialect);
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::Field(name, _) => (*name).to_owned(),
            Self::Literal(value @ Value::Int(_), kind) if dialect == Dialect::DuckDb => {
                format!("CAST({} AS BIGINT)", literal(value, *kind))
            }
            Self::Literal(value, kind) => literal(value, *kind),
            Self::Negate(inner) if dialect == Dialect::DuckDb && matches!(inner.type_of(), Type::Int | Type::Small) => {
                format!("(CAST(0 AS {}) - {})", inner.type_of().sql(), of(inner))
            }
            Self::Negate(inner) => format!("(- {})", of(inner)),
            Self::Math(op, left, right) if dialect == Dialect::DuckDb => {
                let (kind, right) = (left.type_of(), of(right));
                let right = match *op {
                    "<<" | ">>" => given(&right, "CASE WHEN v BETWEEN 0 AND 63 OR v IS NULL THEN v ELSE error('out of range') END"),
                    _ => right,
                };
                let op = if *op == "/" && kind != Type::Real { "//" } else { op };
                // DuckDB must evaluate both sides, even when the first is NULL.
                let done = given(&format!("{{'l': {}, 'r': {right}}}", of(left)), &format!("v.l {op} v.r"));
                match (kind, done) {
                    (Type::Real, done) => given(&done, "CASE WHEN v IS NULL OR isfinite(v) THEN v ELSE error('out of range') END"),
                    (_, done) => done,
                }
            }
            // The same for comparisons: a NULL on one side must not hide an error on the other.
            Self::Compare(op, left, right) if dialect == Dialect::DuckDb => {
                given(&format!("{{'l': {}, 'r': {}}}", of(left), of(right)), &format!("v.l {op} v.r"))
            }
            Self::Math(op, left, right) | Self::Compare(op, left, right) => format!("({} {op} {})", of(left), of(right)),
            // The right side is evaluated unless the left side decides; NULL does not decide.
            Self::And(left, right) if dialect == Dialect::DuckDb => {
                let both = given(&format!("{{'l': {}, 'r': {}}}", of(left), of(right)), "v.l AND v.r");
                format!("CASE WHEN {} IS FALSE THEN false ELSE {both} END", of(left))
            }
            Self::Or(left, right) if dialect == Dialect::DuckDb => {
                let both = given(&format!("{{'l': {}, 'r': {}}}", of(left), of(right)), "v.l OR v.r");
                format!("CASE WHEN {} IS TRUE THEN true ELSE {both} END", of(left))
            }
            Self::And(left, right) => format!("({} AND {})", of(left), of(right)),
            Self::Or(left, right) => format!("({} OR {})", of(left), of(right)),
            Self::Not(inner) => format!("(NOT {})", of(inner)),
            Self::IsNull(inner, negated) => format!("({} IS {}NULL)", of(inner), not(negated)),
            Self::Distinct(left, right, negated) => format!("({} IS {}DISTINCT FROM {})", of(left), not(negated), of(right)),
            Self::Between(inner, low, high, negated) => format!("({} {}BETWEEN {} AND {})", of(inner), not(negated), of(low), of(high)),
            Self::In(inner, list, negated) => {
                let list: Vec<_> = list.iter().map(of).collect();
                format!("({} {}IN ({}))", of(inner), not(negated), list.join(", "))
            }
            Self::Like(inner, pattern, negated) => format!("({} {}LIKE '{pattern}')", of(inner), not(negated)),
            Self::Case(branches, rest) => {
                let mut sql = "CASE".to_owned();
                branches.iter().for_each(|(when, then)| {
                    let _ = write!(sql, " WHEN {} THEN {}", of(when), of(then));
                });
                rest.iter().for_each(|rest| sql += &format!(" ELSE {}", of(rest)));
                sql + " END"
            }
            Self::CaseOf(base, branches, rest) => {
                let mut sql = format!("CASE {}", of(base));
                branches.iter().for_each(|(when, then)| {
                    let _ = write!(sql, " WHEN {} THEN {}", of(when), of(then));
                });
                rest.iter().for_each(|rest| sql += &format!(" ELSE {}", of(rest)));
                sql + " END"
            }
            Self::Coalesce(args) => format!("coalesce({})", args.iter().map(of).collect::<Vec<_>>().join(", ")),
            // DuckDB must evaluate both sides, even when the first is NULL.
            Self::NullIf(left, right) if dialect == Dialect::DuckDb => {
                given(&format!("{{'l': {}, 'r': {}}}", of(left), of(right)), "nullif(v.l, v.r)")
            }
            Self::NullIf(left, right) => format!("nullif({}, {})", of(left), of(right)),
            Self::Cast(inner, to) => cast(inner, *to, "CAST", dialect),
            Self::TryCast(inner, to) => cast(inner, *to, "TRY_CAST", dialect),
            Self::Call("year", args, _) => format!("CAST(EXTRACT(YEAR FROM {}) AS BIGINT)", of(&args[0])),
            Self::Call("length", args, _) => format!("CAST(length({}) AS BIGINT)", of(&args[0])),
            Self::Call("date_trunc", args, _) if dialect == Dialect::DuckDb => given(
                &of(&args[0]),
                "CASE WHEN v IS NULL OR year(v) BETWEEN 1678 AND 2261 THEN date_trunc('hour', v) ELSE error('out of range') END",
            ),
            Self::Call("date_trunc", args, _) => format!("date_trunc('hour', {})", of(&args[0])),
            Self::Call(name, args, _) => format!("{name}({})", args.iter().map(of).collect::<Vec<_>>().join(", ")),
            Self::Plus(inner, count, unit) => format!("({} + INTERVAL '{count} {unit}')", of(inner)),
        }
    }

    /// Of an expression that chooses between operands, the chosen one.
    fn chosen(&self, record: &Record) -> Result<&Self, Fails> {
        const NULL: &Expr = &Expr::Literal(Value::Null, Type::Real);
        match self {
            Self::Case(branches, other) => {
                for (when, then) in branches {
                    if when.value(record)? == Value::Bool(true) {
                        return then.chosen(record);
                    }
                }
                other.as_ref().map_or(Ok(NULL), |other| other.chosen(record))
            }
            Self::CaseOf(base, branches, other) => {
                let base = base.value(record)?;
                for (when, then) in branches {
                    if base != Value::Null && compare(&base, &when.value(record)?).is_some_and(std::cmp::Ordering::is_eq) {
                        return then.chosen(record);
                    }
                }
                other.as_ref().map_or(Ok(NULL), |other| other.chosen(record))
            }
            Self::Coalesce(args) => {
                for arg in args {
                    if arg.value(record)? != Value::Null {
                        return arg.chosen(record);
                    }
                }
                Ok(NULL)
            }
            other => Ok(other),
        }
    }

    pub(super) fn value(&self, record: &Record) -> Result<Value, Fails> {
        let of = |expr: &Expr| expr.value(record);
        let negate = |value: Value, negated: &bool| match value {
            Value::Bool(value) => Value::Bool(value != *negated),
            other => other,
        };
        Ok(match self {
            Self::Field(name, _) => record.value(name),
            Self::Literal(value, _) => value.clone(),
            Self::Negate(inner) => match of(inner)? {
                Value::Null => Value::Null,
                Value::Int(value) => whole(-i128::from(value), inner.type_of())?,
                Value::Real(value) => finite(-value)?,
                Value::Decimal(value, scale) => Value::Decimal(-value, scale),
                _ => unreachable!("numbers are negated"),
            },
            Self::Math(op, left, right) => math(op, of(left)?, of(right)?, self.type_of())?,
            Self::Compare(op, left, right) => compare(&of(left)?, &of(right)?).map_or(Value::Null, |order| Value::Bool(holds(op, order))),
            Self::And(left, right) => match of(left)? {
                Value::Bool(false) => Value::Bool(false),
                left => match (left, of(right)?) {
                    (_, Value::Bool(false)) => Value::Bool(false),
                    (Value::Bool(true), right) => right,
                    _ => Value::Null,
                },
            },
            Self::Or(left, right) => match of(left)? {
                Value::Bool(true) => Value::Bool(true),
                left => match (left, of(right)?) {
                    (_, Value::Bool(true)) => Value::Bool(true),
                    (Value::Bool(false), right) => right,
                    _ => Value::Null,
                },
            },
            Self::Not(inner) => negate(of(inner)?, &true),
            Self::IsNull(inner, negated) => Value::Bool((of(inner)? == Value::Null) != *negated),
            Self::Distinct(left, right, negated) => Value::Bool(same(&of(left)?, &of(right)?) == *negated),
            Self::Between(inner, low, high, negated) => {
                let and = Self::And(
                    Box::new(Self::Compare(">=", inner.clone(), low.clone())),
                    Box::new(Self::Compare("<=", inner.clone(), high.clone())),
                );
                negate(of(&and)?, negated)
            }
            Self::In(inner, list, negated) => {
                let value = of(inner)?;
                let mut unknown = value == Value::Null;
                let mut found = false;
                for each in list {
                    match compare(&value, &of(each)?) {
                        Some(order) => found |= order.is_eq(),
                        None => unknown = true,
                    }
                }
                match (found, unknown) {
                    (true, _) => Value::Bool(!negated),
                    (false, true) => Value::Null,
                    (false, false) => Value::Bool(*negated),
                }
            }
            Self::Like(inner, pattern, negated) => match of(inner)? {
                Value::Text(text) => {
                    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
                    Value::Bool(like(&text, &pattern) != *negated)
                }
                _ => Value::Null,
            },
            Self::Case(..) | Self::CaseOf(..) | Self::Coalesce(_) => of(self.chosen(record)?)?,
            Self::NullIf(left, right) => {
                let (left, right) = (of(left)?, of(right)?);
                if compare(&left, &right).is_some_and(std::cmp::Ordering::is_eq) { Value::Null } else { left }
            }
            Self::Cast(inner, to) => {
                let source = inner.chosen(record)?;
                self::convert(source, source.value(record)?, *to, record)?
            }
            Self::TryCast(inner, to) => {
                let source = inner.chosen(record)?;
                self::convert(source, source.value(record)?, *to, record).unwrap_or(Value::Null)
            }
            Self::Call(name, args, _) => {
                let args = args.iter().map(of).collect::<Result<Vec<_>, _>>()?;
                match (*name, &args[0]) {
                    ("date_trunc", Value::Time(at)) if at.checked_mul(1_000).is_none() => return Err(Fails),
                    _ => call(name, &args),
                }
            }
            Self::Plus(inner, count, unit) => match of(inner)? {
                Value::Time(at) => plus(at, *count, unit).map(Value::Time).ok_or(Fails)?,
                _ => Value::Null,
            },
        })
    }
}

fn literal(value: &Value, kind: Type) -> String {
    match value {
        Value::Null => format!("CAST(NULL AS {})", kind.sql()),
        Value::Int(value) if *value == i64::MIN => "(-9223372036854775807 - 1)".to_owned(),
        Value::Int(value) if *value < 0 => format!("({value})"),
        Value::Int(value) => value.to_string(),
        Value::Real(value) => format!("CAST('{value:e}' AS DOUBLE)"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Bool(value) => value.to_string(),
        Value::Decimal(..) | Value::Time(_) => unreachable!("not written as a literal"),
    }
}

/// A cast. For DuckDB it is rewritten where DuckDB differs; see `DIFFERENCES`.
fn cast(inner: &Expr, to: Type, word: &str, dialect: Dialect) -> String {
    let sql = inner.sql(dialect);
    let plain = format!("{word}({sql} AS {})", to.sql());
    if dialect == Dialect::Forebay {
        return plain;
    }
    let fails = if word == "CAST" { "error('no such value')" } else { "NULL" };
    // A number is cast by its digits also when it is one of several operands.
    let each = |expr: &Expr| cast(expr, to, word, dialect);
    match inner {
        Expr::Case(branches, rest) if inner.type_of() == Type::Real => {
            let branches = branches.iter().map(|(when, then)| format!(" WHEN {} THEN {}", when.sql(dialect), each(then)));
            let rest = rest.iter().map(|rest| format!(" ELSE {}", each(rest)));
            return format!("CASE{} END", branches.chain(rest).collect::<String>());
        }
        Expr::CaseOf(base, branches, rest) if inner.type_of() == Type::Real => {
            let branches = branches.iter().map(|(when, then)| format!(" WHEN {} THEN {}", when.sql(dialect), each(then)));
            let rest = rest.iter().map(|rest| format!(" ELSE {}", each(rest)));
            return format!("CASE {}{} END", base.sql(dialect), branches.chain(rest).collect::<String>());
        }
        Expr::Coalesce(args) if inner.type_of() == Type::Real => {
            let branches = args.iter().map(|arg| format!(" WHEN {} IS NOT NULL THEN {}", arg.sql(dialect), each(arg)));
            return format!("CASE{} END", branches.collect::<String>());
        }
        _ => {}
    }
    let matching = |pattern: &str| {
        given(&sql, &format!("CASE WHEN v IS NULL OR regexp_full_match(v, '{pattern}') THEN {word}(v AS {}) ELSE {fails} END", to.sql()))
    };
    match (inner, inner.type_of(), to) {
        (Expr::Field(name, Type::Real), _, Type::Decimal(..)) => format!("{word}({name}_digits AS {})", to.sql()),
        (Expr::Field(name, Type::Real), _, Type::Int | Type::Small) => {
            format!("{word}({word}({name}_digits AS DECIMAL(38,0)) AS {})", to.sql())
        }
        (_, Type::Real, Type::Decimal(..)) => format!("{word}(CAST({sql} AS VARCHAR) AS {})", to.sql()),
        (_, Type::Text, Type::Int | Type::Small) => matching("[ ]*[+-]?[0-9]+[ ]*"),
        (_, Type::Text, Type::Decimal(..)) => matching("[ ]*[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?[ ]*"),
        (_, Type::Int, Type::Real) => given(
            &sql,
            &format!("CASE WHEN TRY_CAST(CAST(v AS DOUBLE) AS HUGEINT) IS DISTINCT FROM v THEN {fails} ELSE CAST(v AS DOUBLE) END"),
        ),
        _ => plain,
    }
}

/// For DuckDB: an expression with `v` in it, where `v` stands for another one that is evaluated
/// once.
pub(super) fn given(expr: &str, body: &str) -> String {
    format!("list_transform([{expr}], lambda v: {body})[1]")
}

fn whole(value: i128, kind: Type) -> Result<Value, Fails> {
    let value = i64::try_from(value).map_err(|_| Fails)?;
    match kind {
        Type::Small => i16::try_from(value).map(|value| Value::Int(i64::from(value))).map_err(|_| Fails),
        _ => Ok(Value::Int(value)),
    }
}

/// Fails for infinity and NaN, and turns `-0.0` into `0.0`.
fn finite(value: f64) -> Result<Value, Fails> {
    if value.is_finite() { Ok(Value::Real(value + 0.0)) } else { Err(Fails) }
}

fn math(op: &str, left: Value, right: Value, kind: Type) -> Result<Value, Fails> {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
        (Value::Int(left), Value::Int(right)) => {
            let (left, right) = (i128::from(left), i128::from(right));
            let bits = if kind == Type::Small { 16 } else { 64 };
            let value = match op {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" if right != 0 => left / right,
                "%" if right != 0 => left % right,
                "<<" if (0..bits).contains(&right) => left.checked_mul(1_i128 << right).ok_or(Fails)?,
                ">>" if (0..bits).contains(&right) => left >> right,
                _ => return Err(Fails),
            };
            whole(value, kind)
        }
        (Value::Real(left), Value::Real(right)) => finite(match op {
            "+" => left + right,
            "-" => left - right,
            "*" => left * right,
            "/" => left / right,
            _ => left % right,
        }),
        (Value::Decimal(left, s1), Value::Decimal(right, s2)) => {
            let Type::Decimal(precision, scale) = kind else { unreachable!("decimals give decimals") };
            let at = |value: i128, from: i8| decimal::rescale(value, from, 38, scale).ok_or(Fails);
            let value = match op {
                "+" => at(left, s1)?.checked_add(at(right, s2)?),
                "-" => at(left, s1)?.checked_sub(at(right, s2)?),
                _ => left.checked_mul(right),
            };
            value.and_then(|value| decimal::within(value, precision)).map(|value| Value::Decimal(value, scale)).ok_or(Fails)
        }
        other => unreachable!("{other:?} are not of one type"),
    }
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    Some(match (left, right) {
        (Value::Int(left), Value::Int(right)) | (Value::Time(left), Value::Time(right)) => left.cmp(right),
        (Value::Real(left), Value::Real(right)) => left.partial_cmp(right)?,
        (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Decimal(left, s1), Value::Decimal(right, s2)) => {
            let scale = *s1.max(s2);
            decimal::rescale(*left, *s1, 38, scale)?.cmp(&decimal::rescale(*right, *s2, 38, scale)?)
        }
        _ => return None,
    })
}

fn same(left: &Value, right: &Value) -> bool {
    (*left == Value::Null && *right == Value::Null) || compare(left, right).is_some_and(std::cmp::Ordering::is_eq)
}

fn holds(op: &str, order: std::cmp::Ordering) -> bool {
    match op {
        "=" => order.is_eq(),
        "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        [letter, rest @ ..] => text.first() == Some(letter) && like(&text[1..], rest),
    }
}

fn convert(inner: &Expr, value: Value, to: Type, record: &Record) -> Result<Value, Fails> {
    if let (Expr::Field(name, Type::Real), Value::Real(_), Type::Decimal(..) | Type::Int | Type::Small) = (inner, &value, to) {
        let digits = record.digits(name);
        return match to {
            Type::Decimal(precision, scale) => by_digits(digits, precision, scale),
            _ => decimal::to_scale(digits, 38, 0).map_err(|_| Fails).and_then(|value| whole(value, to)),
        };
    }
    match (value, to) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Int(value), Type::Int | Type::Small) => whole(i128::from(value), to),
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "what is lost is looked at")]
        (Value::Int(value), Type::Real) => {
            let real = value as f64;
            if real as i128 == i128::from(value) { Ok(Value::Real(real)) } else { Err(Fails) }
        }
        (Value::Int(value), Type::Text) => Ok(Value::Text(value.to_string())),
        (Value::Int(value), Type::Decimal(precision, scale)) => by_digits(&value.to_string(), precision, scale),
        (Value::Real(value), Type::Decimal(precision, scale)) => by_digits(&format!("{value:e}"), precision, scale),
        #[allow(clippy::cast_possible_truncation, reason = "in range")]
        (Value::Real(value), Type::Int | Type::Small) => match value.round_ties_even() {
            even if even.abs() < 1e19 => whole(even as i128, to),
            _ => Err(Fails),
        },
        (Value::Text(text), Type::Int | Type::Small) => {
            let text = text.trim();
            let value = text.strip_prefix('+').unwrap_or(text).parse::<i64>();
            if text.starts_with("+-") || text.starts_with("++") { Err(Fails) } else { whole(i128::from(value.map_err(|_| Fails)?), to) }
        }
        (Value::Text(text), Type::Decimal(precision, scale)) => by_digits(&text, precision, scale),
        (Value::Decimal(value, from), Type::Decimal(precision, scale)) => {
            decimal::rescale(value, from, precision, scale).map(|value| Value::Decimal(value, scale)).ok_or(Fails)
        }
        (Value::Decimal(value, from), Type::Int | Type::Small) => {
            decimal::rescale(value, from, 38, 0).ok_or(Fails).and_then(|value| whole(value, to))
        }
        (value, _) => Ok(value),
    }
}

fn by_digits(text: &str, precision: u8, scale: i8) -> Result<Value, Fails> {
    decimal::to_scale(text, precision, scale).map(|value| Value::Decimal(value, scale)).map_err(|_| Fails)
}

fn call(name: &str, args: &[Value]) -> Value {
    match (name, args) {
        ("concat", args) => {
            let text = |value: &Value| if let Value::Text(text) = value { text.clone() } else { String::new() };
            Value::Text(args.iter().map(text).collect())
        }
        (_, args) if args.contains(&Value::Null) => Value::Null,
        ("upper", [Value::Text(text)]) => Value::Text(text.to_uppercase()),
        ("lower", [Value::Text(text)]) => Value::Text(text.to_lowercase()),
        ("reverse", [Value::Text(text)]) => Value::Text(text.chars().rev().collect()),
        ("length", [Value::Text(text)]) => Value::Int(i64::try_from(text.chars().count()).unwrap()),
        ("substr", [Value::Text(text), Value::Int(from), Value::Int(count)]) => {
            let at = |value: &i64| usize::try_from(*value).unwrap();
            Value::Text(text.chars().skip(at(from) - 1).take(at(count)).collect())
        }
        ("starts_with", [Value::Text(text), Value::Text(start)]) => Value::Bool(text.starts_with(start.as_str())),
        ("year", [Value::Time(at)]) => Value::Int(i64::from(DateTime::from_timestamp_micros(*at).unwrap().year())),
        ("date_trunc", [Value::Time(at)]) => Value::Time(at - at.rem_euclid(3_600_000_000)),
        other => unreachable!("{other:?} is not a call that is made"),
    }
}

/// Adds days and months of the calendar to a time. In a shorter month the day is the last one.
fn plus(at: i64, count: i64, unit: &str) -> Option<i64> {
    let time = DateTime::from_timestamp_micros(at)?.naive_utc();
    let months = |count: i64| chrono::Months::new(u32::try_from(count.unsigned_abs()).unwrap());
    let moved = match unit {
        "hour" => time.checked_add_signed(chrono::TimeDelta::hours(count)),
        "day" => time.checked_add_signed(chrono::TimeDelta::days(count)),
        _ if count < 0 => time.checked_sub_months(months(count)),
        _ => time.checked_add_months(months(count)),
    };
    moved.filter(|moved| moved.nanosecond() < 1_000_000_000).map(|moved| moved.and_utc().timestamp_micros())
}
