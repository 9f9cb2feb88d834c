//! Random records, with values at the edges of their types, and random statements over them.

use chrono::DateTime;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value as Json, json};

use super::expr::{Expr, Type, Value};

pub(super) const SCHEMA: &str = r#"{"type":"object","required":["id"],"properties":{
    "id":{"type":"integer"},"a":{"type":["integer","null"]},"b":{"type":"integer"},"x":{"type":["number","null"]},"y":{"type":"number"},
    "s":{"type":["string","null"]},"t":{"type":"string"},"p":{"type":["boolean","null"]},"q":{"type":"boolean"},
    "w":{"type":["string","null"],"format":"date-time"}}}"#;

const INTS: &[i64] = &[0, 1, -1, 2, 3, 7, -7, 10, 100, 32_767, 32_768, -32_768, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN, i64::MIN + 1];
const REALS: &[&str] = &[
    "0",
    "1",
    "-1",
    "0.5",
    "1.5",
    "2.5",
    "-2.5",
    "0.1",
    "0.29",
    "1.005",
    "-0.0",
    "12345.6789",
    "1e-7",
    "1e15",
    "9007199254740993",
    "1e30",
    "-1e300",
    "1.7e308",
    "799.929496989092949698",
    "0.49999999999999994",
    "3",
];
const TEXTS: &[&str] = &[
    "",
    "a",
    "A",
    "abc",
    "b%",
    "a_c",
    "é",
    "a😀b",
    "12",
    "-7",
    "12.345",
    "-12.345",
    "0.005",
    "1e3",
    "99999999999999999999",
    " 5 ",
    "it's",
    "x\\y",
];
const TIMES: &[&str] = &[
    "1970-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "1900-06-15T07:09:00.5Z",
    "2020-02-29T23:30:00Z",
    "2024-01-31T12:00:00Z",
    "1994-03-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "0100-01-01T00:00:00Z",
];

/// A record, as JSON text and as values.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) text: String,
    fields: Vec<(&'static str, Option<String>)>,
}

impl Record {
    pub(super) fn random(id: usize, random: &mut StdRng) -> Self {
        let mut fields = vec![("id", Some(id.to_string()))];
        for (name, kind) in FIELDS {
            let text = match kind {
                Type::Int if random.random_bool(0.5) => random.random_range(-5..6).to_string(),
                Type::Int => INTS.choose(random).unwrap().to_string(),
                Type::Real => (*REALS.choose(random).unwrap()).to_owned(),
                Type::Text => json!(TEXTS.choose(random).unwrap()).to_string(),
                Type::Bool => random.random_bool(0.5).to_string(),
                _ => json!(TIMES.choose(random).unwrap()).to_string(),
            };
            fields.push((*name, random.random_bool(0.85).then_some(text)));
        }
        let members: Vec<_> = fields.iter().filter_map(|(name, text)| Some(format!("\"{name}\":{}", text.as_ref()?))).collect();
        Self { text: format!("{{{}}}", members.join(",")), fields }
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name)?.1.as_deref()
    }

    /// The digits of a number.
    pub(super) fn digits(&self, name: &str) -> &str {
        self.text_of(name).expect("the field has a value")
    }

    pub(super) fn value(&self, name: &str) -> Value {
        let Some(text) = self.text_of(name) else { return Value::Null };
        let string = || serde_json::from_str::<String>(text).unwrap();
        match FIELDS.iter().find(|(field, _)| *field == name).map_or(Type::Int, |(_, kind)| *kind) {
            Type::Int => Value::Int(text.parse().unwrap()),
            Type::Real => Value::Real(text.parse::<f64>().unwrap() + 0.0),
            Type::Text => Value::Text(string()),
            Type::Bool => Value::Bool(text == "true"),
            _ => Value::Time(DateTime::parse_from_rfc3339(&string()).unwrap().timestamp_micros()),
        }
    }

    /// For DuckDB: all values as text, by column.
    pub(super) fn columns(&self) -> Json {
        let text = |(name, _): &(&str, Type)| {
            let value = match self.value(name) {
                Value::Null => Json::Null,
                Value::Text(text) => json!(text),
                _ => json!(self.text_of(name).unwrap().trim_matches('"')),
            };
            ((*name).to_owned(), value)
        };
        Json::Object(FIELDS.iter().map(text).collect())
    }
}

pub(super) const FIELDS: &[(&str, Type)] = &[
    ("a", Type::Int),
    ("b", Type::Int),
    ("x", Type::Real),
    ("y", Type::Real),
    ("s", Type::Text),
    ("t", Type::Text),
    ("p", Type::Bool),
    ("q", Type::Bool),
    ("w", Type::Time),
];

/// A SELECT of two expressions, with a WHERE.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) columns: Vec<Expr>,
    pub(super) filter: Option<Expr>,
}

/// Returns a random statement and records for it, from a seed.
pub(super) fn random(seed: u64, records: usize) -> (Statement, Vec<Record>) {
    let mut random = StdRng::seed_from_u64(seed);
    let kinds = [Type::Int, Type::Small, Type::Real, Type::Text, Type::Bool, Type::Decimal(12, 2), Type::Time];
    let mut columns = Vec::new();
    for _ in 0..2 {
        let kind = *kinds.choose(&mut random).unwrap();
        columns.push(any(kind, 4, &mut random));
    }
    let filter = random.random_bool(0.5).then(|| any(Type::Bool, 3, &mut random));
    let records = (0..records).map(|id| Record::random(id, &mut random)).collect();
    (Statement { columns, filter }, records)
}

fn boxed(kind: Type, depth: u32, random: &mut StdRng) -> Box<Expr> {
    Box::new(any(kind, depth, random))
}

/// Returns a random expression of a type.
fn any(kind: Type, depth: u32, random: &mut StdRng) -> Expr {
    if depth == 0 || random.random_bool(0.15) {
        return leaf(kind, random);
    }
    let depth = depth - 1;
    if random.random_bool(0.3) {
        return choice(kind, depth, random);
    }
    match kind {
        Type::Int | Type::Small => match random.random_range(0..10) {
            0 => Expr::Negate(boxed(kind, depth, random)),
            1 if kind == Type::Int => Expr::Math(["<<", ">>"].choose(random).unwrap(), boxed(kind, depth, random), boxed(kind, 0, random)),
            2 => Expr::Cast(boxed(*[Type::Real, Type::Text, Type::Decimal(12, 2), Type::Int].choose(random).unwrap(), depth, random), kind),
            3 => Expr::TryCast(boxed(*[Type::Real, Type::Text, Type::Int].choose(random).unwrap(), depth, random), kind),
            4 if kind == Type::Int => Expr::Call("length", vec![any(Type::Text, depth, random)], kind),
            5 if kind == Type::Int => Expr::Call("year", vec![any(Type::Time, depth, random)], kind),
            _ => Expr::Math(["+", "-", "*", "/", "%"].choose(random).unwrap(), boxed(kind, depth, random), boxed(kind, depth, random)),
        },
        Type::Real => match random.random_range(0..6) {
            0 => Expr::Negate(boxed(kind, depth, random)),
            1 => Expr::Cast(boxed(Type::Int, depth, random), kind),
            _ => Expr::Math(["+", "-", "*", "/", "%"].choose(random).unwrap(), boxed(kind, depth, random), boxed(kind, depth, random)),
        },
        Type::Decimal(..) => match random.random_range(0..6) {
            0 => Expr::Negate(boxed(kind, depth, random)),
            1 | 2 => {
                let op = ["+", "-", "*"].choose(random).unwrap();
                Expr::Cast(Box::new(Expr::Math(op, boxed(kind, depth, random), boxed(kind, depth, random))), kind)
            }
            3 => Expr::TryCast(boxed(*[Type::Text, Type::Real, Type::Int].choose(random).unwrap(), 0, random), kind),
            _ => Expr::Cast(boxed(*[Type::Text, Type::Real, Type::Int].choose(random).unwrap(), depth, random), kind),
        },
        Type::Text => match random.random_range(0..7) {
            0 => Expr::Call("upper", vec![any(kind, depth, random)], kind),
            1 => Expr::Call("lower", vec![any(kind, depth, random)], kind),
            2 => Expr::Call("reverse", vec![any(kind, depth, random)], kind),
            3 => {
                let number = |low: i64, random: &mut StdRng| Expr::Literal(Value::Int(random.random_range(low..4)), Type::Int);
                Expr::Call("substr", vec![any(kind, depth, random), number(1, random), number(0, random)], kind)
            }
            4 => Expr::Cast(boxed(Type::Int, depth, random), kind),
            _ => Expr::Call("concat", vec![any(kind, depth, random), any(kind, depth, random)], kind),
        },
        Type::Time => match random.random_range(0..3) {
            0 => Expr::Call("date_trunc", vec![any(kind, depth, random)], kind),
            _ => Expr::Plus(boxed(kind, depth, random), random.random_range(-40..40), ["hour", "day", "month"].choose(random).unwrap()),
        },
        Type::Bool => truth(depth, random),
    }
}

const COMPARED: &[Type] = &[Type::Int, Type::Small, Type::Real, Type::Text, Type::Decimal(12, 2), Type::Time, Type::Bool];

fn truth(depth: u32, random: &mut StdRng) -> Expr {
    let kind = *COMPARED.choose(random).unwrap();
    let negated = random.random_bool(0.4);
    match random.random_range(0..12) {
        0 | 1 => Expr::And(boxed(Type::Bool, depth, random), boxed(Type::Bool, depth, random)),
        2 | 3 => Expr::Or(boxed(Type::Bool, depth, random), boxed(Type::Bool, depth, random)),
        4 => Expr::Not(boxed(Type::Bool, depth, random)),
        5 => Expr::IsNull(boxed(kind, depth, random), negated),
        6 => Expr::Distinct(boxed(kind, depth, random), boxed(kind, depth, random), negated),
        7 => Expr::Between(boxed(kind, depth, random), boxed(kind, depth, random), boxed(kind, depth, random), negated),
        8 => {
            let kind = if matches!(kind, Type::Int | Type::Text | Type::Real) { kind } else { Type::Int };
            let list = (0..random.random_range(1..5)).map(|_| constant(kind, random)).collect();
            Expr::In(boxed(kind, depth, random), list, negated)
        }
        9 => Expr::Like(boxed(Type::Text, depth, random), ["a%", "%b", "_", "%", "a_c", "%1_", ""].choose(random).unwrap(), negated),
        _ => {
            Expr::Compare(["=", "<>", "<", "<=", ">", ">="].choose(random).unwrap(), boxed(kind, depth, random), boxed(kind, depth, random))
        }
    }
}

/// Returns a random expression that chooses between operands.
fn choice(kind: Type, depth: u32, random: &mut StdRng) -> Expr {
    let rest = |random: &mut StdRng| if random.random_bool(0.7) { Some(boxed(kind, depth, random)) } else { None };
    let branches = random.random_range(1..3);
    match random.random_range(0..4) {
        0 => Expr::Coalesce((0..2 + branches % 2).map(|_| any(kind, depth, random)).collect()),
        1 => Expr::NullIf(boxed(kind, depth, random), boxed(kind, depth, random)),
        2 => {
            let base = *[Type::Int, Type::Text].choose(random).unwrap();
            let whens = (0..branches).map(|_| (any(base, depth.min(1), random), any(kind, depth, random))).collect();
            Expr::CaseOf(boxed(base, depth, random), whens, rest(random))
        }
        _ => {
            let whens = (0..branches).map(|_| (any(Type::Bool, depth, random), any(kind, depth, random))).collect();
            Expr::Case(whens, rest(random))
        }
    }
}

fn constant(kind: Type, random: &mut StdRng) -> Expr {
    if random.random_bool(0.1) {
        return Expr::Literal(Value::Null, kind);
    }
    let value = match kind {
        Type::Int if random.random_bool(0.6) => Value::Int(random.random_range(-3..12)),
        Type::Int => Value::Int(*INTS.choose(random).unwrap()),
        Type::Real => Value::Real(REALS.choose(random).unwrap().parse::<f64>().unwrap() + 0.0),
        Type::Text => Value::Text((*TEXTS.choose(random).unwrap()).to_owned()),
        _ => Value::Bool(random.random_bool(0.5)),
    };
    Expr::Literal(value, kind)
}

fn leaf(kind: Type, random: &mut StdRng) -> Expr {
    match kind {
        Type::Small => Expr::Cast(Box::new(leaf(Type::Int, random)), kind),
        Type::Decimal(..) => Expr::Cast(Box::new(leaf(*[Type::Text, Type::Real, Type::Int].choose(random).unwrap(), random)), kind),
        Type::Time => Expr::Field("w", kind),
        _ if random.random_bool(0.12) => constant(kind, random),
        _ => {
            let fields: Vec<_> = FIELDS.iter().filter(|(_, field)| *field == kind).collect();
            Expr::Field(fields.choose(random).unwrap().0, kind)
        }
    }
}
