//! Flaws of a person, as records of real APIs have them.
//!
//! Guarantees:
//! * A person with all fields and any one flaw becomes a dead letter of the example's pipeline.

use serde_json::Value;

use super::Person;

/// What replaces a field.
enum Replacement {
    Removed,
    Null,
    Text(&'static str),
}

/// The flaws: an object of the person, its field, and what replaces it.
const FLAWS: [(&str, &str, Replacement); 5] = [
    ("", "email", Replacement::Removed),
    ("/dob", "date", Replacement::Text("unknown")),
    ("/location/street", "number", Replacement::Text("12b")),
    // The key of the record, so the producer already rejects it.
    ("/login", "uuid", Replacement::Removed),
    ("/name", "first", Replacement::Null),
];

/// The person with flaw `nth`, modulo the number of flaws; unchanged if the field is not selected.
///
/// # Errors
/// No person causes one.
pub(in crate::demo) fn with_flaw(person: &Person, nth: u64) -> serde_json::Result<Value> {
    let mut person = serde_json::to_value(person)?;
    let at = usize::try_from(nth % FLAWS.len() as u64).unwrap_or(0);
    let (object, field, replacement) = &FLAWS[at];
    let fields = person.pointer_mut(object).and_then(Value::as_object_mut).filter(|fields| fields.contains_key(*field));
    if let Some(fields) = fields {
        match replacement {
            Replacement::Removed => drop(fields.shift_remove(*field)),
            Replacement::Null => fields[*field] = Value::Null,
            Replacement::Text(text) => fields[*field] = Value::from(*text),
        }
    }
    Ok(person)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::people::{FieldSet, Seed};

    #[test]
    fn each_flaw_changes_its_field_and_nothing_else() {
        let person = Person::new(Seed::new("forebay"), 7, FieldSet::ALL);
        let good = serde_json::to_value(&person).unwrap();
        for (nth, (object, field, replacement)) in (0..).zip(&FLAWS) {
            let mut flawed = with_flaw(&person, nth).unwrap();
            let path = format!("{object}/{field}");
            assert_eq!(flawed.pointer(&path).is_none(), matches!(replacement, Replacement::Removed), "{path}");
            assert_ne!(flawed.pointer(&path), good.pointer(&path));
            flawed.pointer_mut(object).unwrap()[*field] = good.pointer(&path).unwrap().clone();
            assert_eq!(flawed, good, "{path}");
        }
    }

    #[test]
    fn a_person_without_the_field_is_unchanged() {
        let person = Person::new(Seed::new("forebay"), 7, FieldSet::parse("nat").unwrap());
        assert_eq!(with_flaw(&person, 0).unwrap(), serde_json::to_value(&person).unwrap());
    }
}
