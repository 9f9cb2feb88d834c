//! The fields of user-defined types, which the pipeline file names and the server knows.
//!
//! Guarantee: after [`resolve`] without differences, each user-defined type of the spec has its
//! fields, in the server's order, and takes the values of the SELECT.

use std::collections::HashMap;

use datafusion::arrow::datatypes::DataType;
use scylla::client::session::Session;

use super::driver_error;
use super::schema::{Difference, local, unreadable};
use crate::cql_name::{cql_name, cql_names};
use crate::cql_type::{CqlType, UserType, own_fields};
use crate::store::error::StoreError;
use crate::store::table_spec::{Column, TableSpec};

/// The types of a keyspace: the names and types of the fields of each.
type Types = HashMap<String, Vec<(String, String)>>;

/// Returns the spec with the fields of its user-defined types, and what is not as planned. Asks
/// the server only if there are such types.
pub(super) async fn resolve(server: &str, session: &Session, spec: &TableSpec) -> Result<(TableSpec, Vec<Difference>), StoreError> {
    let mut spec = spec.clone();
    let has_user_type = |column: &mut Column| column.cql.each_user_type(&mut |_| Err(())).is_err();
    if !spec.columns.iter_mut().any(has_user_type) {
        return Ok((spec, Vec::new()));
    }
    let types = read(server, session, &spec.keyspace).await?;
    let differences = fill(&mut spec, &types);
    Ok((spec, differences))
}

async fn read(server: &str, session: &Session, keyspace: &str) -> Result<Types, StoreError> {
    let cql = "SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = ?";
    let answer = session
        .query_unpaged(local(cql), (keyspace,))
        .await
        .map_err(|error| driver_error::execution_failure(server, &error).into_error())?;
    let rows = answer.into_rows_result().map_err(|cause| unreadable(server, &cause))?;
    let mut types = Types::new();
    for row in rows.rows::<(String, Vec<String>, Vec<String>)>().map_err(|cause| unreadable(server, &cause))? {
        let (name, fields, kinds) = row.map_err(|cause| unreadable(server, &cause))?;
        types.insert(name, fields.into_iter().zip(kinds).collect());
    }
    Ok(types)
}

/// Fills in the fields, and returns a difference for each column whose type is unknown or does not
/// take the values of the SELECT.
fn fill(spec: &mut TableSpec, types: &Types) -> Vec<Difference> {
    let (keyspace, table) = (spec.keyspace.clone(), spec.name());
    let mut differences = Vec::new();
    for Column { name, arrow, cql, .. } in &mut spec.columns {
        let shown = cql.to_string();
        if let Err((why, remedy)) = cql.each_user_type(&mut |user| fill_in(user, types, arrow, &keyspace)) {
            differences.push((format!("column {name} of table {table} is {shown}: {why}"), remedy));
        } else if !cql.takes(arrow) {
            let message = format!("column {name} of table {table} is {shown}, which can't hold the {arrow} of the SELECT");
            differences.push((message, mismatch(cql, arrow)));
        }
    }
    differences
}

fn fill_in(user: &mut UserType, types: &Types, arrow: &DataType, keyspace: &str) -> Result<(), Difference> {
    let name = format!("{}.{}", cql_name(keyspace), cql_name(&user.name));
    let Some(known) = types.get(&user.name) else {
        let fields = match arrow {
            DataType::Struct(fields) => own_fields(fields)
                .map(|(_, field)| format!("{} {}", cql_name(field.name()), CqlType::of(field.data_type()).unwrap_or(CqlType::Text)))
                .collect::<Vec<_>>()
                .join(", "),
            _ => "…".to_owned(),
        };
        return Err((
            format!("there is no type {name}"),
            format!("create it first (CREATE TYPE {name} ({fields});), or declare another type in [writer] columns"),
        ));
    };
    let mut fields = Vec::with_capacity(known.len());
    for (field, kind) in known {
        let mut cql = CqlType::parse_field(kind).map_err(|(why, _)| {
            (format!("field {field} of type {name} is {kind}: {why}"), "leave the column out of the SELECT, or use another type".to_owned())
        })?;
        // Types of a server do not contain themselves.
        cql.each_user_type(&mut |inner| fill_in(inner, types, &DataType::Null, keyspace))?;
        fields.push((field.clone(), cql));
    }
    user.fields = Some(fields);
    Ok(())
}

/// What to change when a type does not take the values of the SELECT.
fn mismatch(cql: &CqlType, arrow: &DataType) -> String {
    let remedy = "build the value in the SQL, such as named_struct('street', address['street']) AS address";
    let (CqlType::User(UserType { name, fields: Some(known) }), DataType::Struct(fields)) = (cql, arrow) else { return remedy.to_owned() };
    let unfit = own_fields(fields).find(|(_, field)| !known.iter().any(|(name, cql)| name == field.name() && cql.takes(field.data_type())));
    let Some((_, field)) = unfit else { return remedy.to_owned() };
    match known.iter().find(|(name, _)| name == field.name()) {
        Some((_, cql)) => format!("field {} is {cql} in the type and {} in the SELECT; {remedy}", field.name(), field.data_type()),
        None => format!(
            "the type {name} has no field {}, it has {}; {remedy}",
            cql_name(field.name()),
            cql_names(known.iter().map(|(name, _)| name.as_str()))
        ),
    }
}

#[cfg(test)]
#[path = "user_types_tests.rs"]
mod tests;
