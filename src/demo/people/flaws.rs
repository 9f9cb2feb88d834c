//! What can be wrong with a person, as it is in records of real APIs.
//!
//! Guarantee: a person with all fields and one flaw is a dead letter of the example's pipeline, whichever flaw it is.

use serde_json::Value;

use super::Person;

/// What stands where a field was.
enum Instead {
    Nothing,
    Null,
    Text(&'static str),
}

/// The flaws: an object of the person, its field, and what stands there instead.
const FLAWS: [(&str, &str, Instead); 5] = [
    ("", "email", Instead::Nothing),
    ("/dob", "date", Instead::Text("unknown")),
    ("/location/street", "number", Instead::Text("12b")),
    // The key of the record; so it is found before the topic already.
    ("/login", "uuid", Instead::Nothing),
    ("/name", "first", Instead::Null),
];

/// The person with flaw `nth`, one flaw after the other; as it was where the field was not asked for.
///
/// # Errors
/// None that a person can cause.
pub(in crate::demo) fn spoiled(person: &Person, nth: u64) -> serde_json::Result<Value> {
    let mut person = serde_json::to_value(person)?;
    let at = usize::try_from(nth % FLAWS.len() as u64).unwrap_or(0);
    let (object, field, instead) = &FLAWS[at];
    let fields = person.pointer_mut(object).and_then(Value::as_object_mut).filter(|fields| fields.contains_key(*field));
    if let Some(fields) = fields {
        match instead {
            Instead::Nothing => drop(fields.shift_remove(*field)),
            Instead::Null => fields[*field] = Value::Null,
            Instead::Text(text) => fields[*field] = Value::from(*text),
        }
    }
    Ok(person)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::people::{Chosen, Seed};

    #[test]
    fn each_flaw_changes_its_field_and_nothing_else() {
        let person = Person::new(Seed::new("forebay"), 7, Chosen::ALL);
        let whole = serde_json::to_value(&person).unwrap();
        for (nth, (object, field, instead)) in (0..).zip(&FLAWS) {
            let mut spoiled = spoiled(&person, nth).unwrap();
            let path = format!("{object}/{field}");
            assert_eq!(spoiled.pointer(&path).is_none(), matches!(instead, Instead::Nothing), "{path}");
            assert_ne!(spoiled.pointer(&path), whole.pointer(&path));
            spoiled.pointer_mut(object).unwrap()[*field] = whole.pointer(&path).unwrap().clone();
            assert_eq!(spoiled, whole, "{path}");
        }
    }

    #[test]
    fn a_person_without_the_field_stays_as_it_is() {
        let person = Person::new(Seed::new("forebay"), 7, Chosen::parse("nat").unwrap());
        assert_eq!(spoiled(&person, 0).unwrap(), serde_json::to_value(&person).unwrap());
    }
}
