use std::path::Path;

use datafusion::arrow::datatypes::{Field, Schema};

use super::*;
use crate::store::fixtures::pipeline;

fn types() -> Types {
    let fields = |fields: &[(&str, &str)]| fields.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect();
    [
        ("address".to_owned(), fields(&[("street", "text"), ("no", "int"), ("tags", "list<text>"), ("at", "frozen<point>")])),
        ("point".to_owned(), fields(&[("x", "double"), ("y", "double")])),
        ("odd".to_owned(), fields(&[("v", "vector<double, 3>")])),
    ]
    .into()
}

/// The planned table with one object, and what differs from the server's types.
fn resolved(declared: &str, object: &[(&str, DataType)]) -> (TableSpec, Vec<Difference>) {
    let fields: Vec<Field> = object.iter().map(|(name, arrow)| Field::new(*name, arrow.clone(), true)).collect();
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("a", DataType::Struct(fields.into()), true)]);
    let writer = format!("table = \"t\"\nprimary_key = [\"id\"]\ncolumns = {{ a = \"{declared}\" }}");
    let mut spec = TableSpec::plan(&pipeline(Path::new("f.toml"), "[\"127.0.0.1:9\"]", "k", &writer), &schema).unwrap();
    let differences = fill(&mut spec, &types());
    (spec, differences)
}

#[test]
fn a_user_defined_type_gets_the_fields_of_the_server_in_its_order() {
    let (spec, differences) = resolved("frozen<address>", &[("no", DataType::Int64), ("street", DataType::Utf8)]);
    assert_eq!(differences, []);
    let CqlType::User(user) = &spec.columns[1].cql else { panic!("{:?}", spec.columns[1].cql) };
    let fields = user.fields.as_ref().unwrap();
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["street", "no", "tags", "at"]);
    assert_eq!(fields[2].1.to_string(), "frozen<list<text>>", "what is in a frozen type is frozen");
    assert!(matches!(&fields[3].1, CqlType::User(point) if point.fields.as_ref().unwrap().len() == 2));
}

#[test]
fn a_user_defined_type_in_another_type_gets_its_fields_too() {
    let object = DataType::Struct(vec![Field::new("no", DataType::Int64, true)].into());
    let list = DataType::List(std::sync::Arc::new(Field::new_list_field(object, true)));
    let (spec, differences) = resolved(
        "frozen<tuple<frozen<map<text, frozen<list<frozen<address>>>>>>>",
        &[("homes", DataType::Struct(vec![Field::new("summer", list, true)].into()))],
    );
    assert_eq!(differences, []);
    let mut known = 0;
    let mut cql = spec.columns[1].cql.clone();
    let all: Result<(), ()> = cql.each_user_type(&mut |user| user.fields.as_ref().map(|fields| known += fields.len()).ok_or(()));
    assert_eq!((all, known), (Ok(()), 4));
}

#[test]
fn a_type_that_the_server_does_not_have_is_refused_with_the_statement_that_creates_it() {
    let (_, differences) = resolved("frozen<nothing>", &[("no", DataType::Int64), ("Street", DataType::Utf8)]);
    let (what, remedy) = &differences[0];
    assert_eq!(what, "column a of table k.t is frozen<nothing>: there is no type k.nothing");
    assert!(remedy.contains("CREATE TYPE k.nothing (no bigint, \"Street\" text);"), "{remedy}");
}

#[test]
fn an_object_that_does_not_fit_its_type_is_refused_with_the_field() {
    let (_, differences) = resolved("frozen<address>", &[("zip", DataType::Utf8)]);
    assert!(differences[0].1.contains("the type address has no field zip, it has street, no, tags, at"), "{differences:?}");
    let (_, differences) = resolved("frozen<address>", &[("no", DataType::Utf8)]);
    assert!(differences[0].1.contains("field no is int in the type and Utf8 in the SELECT"), "{differences:?}");
    let (_, differences) = resolved("frozen<odd>", &[("v", DataType::Utf8)]);
    assert!(differences[0].0.contains("field v of type k.odd is vector<double, 3>"), "{differences:?}");
}
