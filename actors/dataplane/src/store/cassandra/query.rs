//! Runs a CQL query and returns its rows as JSON.
//!
//! Guarantees:
//! * Only a SELECT is sent.
//! * Each value keeps its meaning: a uuid, a date, a decimal and a non-finite number are text, and
//!   a blob is `0x…`.

use futures_util::StreamExt;
use scylla::client::session::Session;
use scylla::errors::NextRowError;
use scylla::value::{CqlDuration, CqlValue, Row};
use serde_json::{Number, Value};

use super::driver_error;
use crate::store::error::StoreError;
use crate::store::values::Duration;
use crate::store::{QueryRow, render};

pub(super) async fn run(
    server: &str,
    session: &Session,
    keyspace: &str,
    cql: &str,
    each: &mut (dyn FnMut(QueryRow) + Send),
) -> Result<Vec<String>, StoreError> {
    let refused = |message: String| StoreError::Refused { server: server.to_owned(), message };
    let word = cql.split_whitespace().next().unwrap_or_default();
    if !word.eq_ignore_ascii_case("select") {
        return Err(refused(format!("{word:?} is not allowed in a query; use SELECT")));
    }
    session.use_keyspace(keyspace, true).await.map_err(|error| driver_error::use_keyspace_error(server, &error))?;
    let pager = session.query_iter(cql, ()).await.map_err(|error| driver_error::pager_error(server, &error))?;
    let columns: Vec<String> = pager.column_specs().iter().map(|spec| spec.name().to_owned()).collect();
    let mut rows = pager.rows_stream::<Row>().map_err(|cause| refused(cause.to_string()))?;
    while let Some(row) = rows.next().await {
        let row = row.map_err(|error| match &error {
            NextRowError::NextPageError(page) => driver_error::next_page_error(server, page),
            _ => refused(error.to_string()),
        })?;
        each(columns.iter().cloned().zip(row.columns.iter().map(|cell| cell.as_ref().map_or(Value::Null, json))).collect());
    }
    Ok(columns)
}

pub(in crate::store) fn json(value: &CqlValue) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number);
    match value {
        CqlValue::Ascii(text) | CqlValue::Text(text) => text.clone().into(),
        CqlValue::Boolean(truth) => (*truth).into(),
        CqlValue::Int(number) => (*number).into(),
        CqlValue::BigInt(number) => (*number).into(),
        CqlValue::SmallInt(number) => (*number).into(),
        CqlValue::TinyInt(number) => (*number).into(),
        CqlValue::Counter(counter) => counter.0.into(),
        CqlValue::Double(number) => float(*number),
        CqlValue::Float(number) => number.to_string().parse().map_or_else(|_| float(f64::from(*number)), float),
        CqlValue::Uuid(uuid) => uuid.to_string().into(),
        CqlValue::Timeuuid(uuid) => uuid.to_string().into(),
        CqlValue::Timestamp(timestamp) => render::timestamp(timestamp.0).into(),
        CqlValue::Date(date) => render::date(i64::from(date.0) - (1 << 31)).into(),
        CqlValue::Blob(bytes) => render::blob(bytes).into(),
        CqlValue::Decimal(decimal) => {
            let (bytes, scale) = decimal.as_signed_be_bytes_slice_and_exponent();
            render::decimal(bytes, scale).map_or_else(|| format!("{decimal:?}").into(), Value::String)
        }
        CqlValue::Varint(number) => render::varint(number.as_signed_bytes_be_slice()).into(),
        CqlValue::Time(time) => render::time(time.0).into(),
        CqlValue::Duration(CqlDuration { months, days, nanoseconds }) => {
            render::duration(Duration { months: *months, days: *days, nanos: *nanoseconds }).into()
        }
        CqlValue::Inet(address) => address.to_string().into(),
        CqlValue::List(values) | CqlValue::Set(values) | CqlValue::Vector(values) => values.iter().map(json).collect(),
        CqlValue::Tuple(values) => values.iter().map(|each| each.as_ref().map_or(Value::Null, json)).collect(),
        CqlValue::Map(pairs) => {
            pairs.iter().map(|(key, value)| (render::map_key(json(key)), json(value))).collect::<serde_json::Map<_, _>>().into()
        }
        CqlValue::UserDefinedType { fields, .. } => fields
            .iter()
            .map(|(name, value)| (name.clone(), value.as_ref().map_or(Value::Null, json)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        CqlValue::Empty => Value::Null,
        other => format!("{other:?}").into(),
    }
}
