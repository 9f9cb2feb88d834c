//! Serializes a person: the selected fields of randomuser.me, in its order.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::Person;
use super::countries::ZONES;

/// The fields of a person, in order.
pub(in crate::demo) const FIELDS: [&str; 12] =
    ["gender", "name", "location", "email", "login", "dob", "registered", "phone", "cell", "id", "picture", "nat"];

/// A set of fields; bit `n` is field `n` of [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::demo) struct FieldSet(u16);

impl FieldSet {
    pub(in crate::demo) const ALL: Self = Self((1 << FIELDS.len()) - 1);

    /// Parses comma-separated field names.
    ///
    /// # Errors
    /// The first name that is not a field.
    pub(in crate::demo) fn parse(names: &str) -> Result<Self, &str> {
        let mut bits = 0;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            bits |= 1 << FIELDS.iter().position(|field| *field == name).ok_or(name)?;
        }
        Ok(Self(bits))
    }
}

#[derive(Serialize)]
pub(super) struct Login {
    pub(super) uuid: uuid::Uuid,
    pub(super) username: String,
    pub(super) password: &'static str,
    pub(super) salt: String,
    pub(super) md5: String,
    pub(super) sha1: String,
    pub(super) sha256: String,
}

impl Person {
    fn has(&self, field: usize) -> bool {
        self.selected.0 & (1 << field) != 0
    }
}

impl Serialize for Person {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.has(0) {
            map.serialize_entry(FIELDS[0], self.gender)?;
        }
        if self.has(1) {
            map.serialize_entry(FIELDS[1], &Name { title: self.title, first: self.first, last: self.last })?;
        }
        if self.has(2) {
            map.serialize_entry(FIELDS[2], &Location::of(self))?;
        }
        if self.has(3) {
            map.serialize_entry(FIELDS[3], &self.email)?;
        }
        if self.has(4) {
            map.serialize_entry(FIELDS[4], &self.login)?;
        }
        for (field, (date, age)) in [(5, &self.dob), (6, &self.registered)] {
            if self.has(field) {
                map.serialize_entry(FIELDS[field], &Dated { date, age: *age })?;
            }
        }
        for (field, number) in [(7, &self.phone), (8, &self.cell)] {
            if self.has(field) {
                map.serialize_entry(FIELDS[field], number)?;
            }
        }
        if self.has(9) {
            let name = self.country.id.map_or("", |(name, _)| name);
            map.serialize_entry(FIELDS[9], &Id { name, value: self.id.as_deref() })?;
        }
        if self.has(10) {
            map.serialize_entry(FIELDS[10], &Picture::of(self))?;
        }
        if self.has(11) {
            map.serialize_entry(FIELDS[11], self.country.nat)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Name {
    title: &'static str,
    first: &'static str,
    last: &'static str,
}

#[derive(Serialize)]
struct Location<'a> {
    street: Street,
    city: &'static str,
    state: &'static str,
    country: &'static str,
    postcode: Postcode<'a>,
    coordinates: Coordinates<'a>,
    timezone: Timezone,
}

#[derive(Serialize)]
struct Street {
    number: u32,
    name: &'static str,
}

/// A postcode: a number in some countries and a string in others, as in the original.
#[derive(Serialize)]
#[serde(untagged)]
enum Postcode<'a> {
    Number(u32),
    Text(&'a str),
}

#[derive(Serialize)]
struct Coordinates<'a> {
    latitude: &'a str,
    longitude: &'a str,
}

#[derive(Serialize)]
struct Timezone {
    offset: &'static str,
    description: &'static str,
}

impl<'a> Location<'a> {
    fn of(person: &'a Person) -> Self {
        let offset = person.city.offset;
        Self {
            street: Street { number: person.number, name: person.street },
            city: person.city.name,
            state: person.city.state,
            country: person.country.name,
            postcode: person.postcode.as_ref().map_or_else(|text| Postcode::Text(text), |number| Postcode::Number(*number)),
            coordinates: Coordinates { latitude: &person.latitude, longitude: &person.longitude },
            timezone: Timezone { offset, description: ZONES.iter().find(|(zone, _)| *zone == offset).map_or("", |(_, name)| name) },
        }
    }
}

#[derive(Serialize)]
struct Dated<'a> {
    date: &'a str,
    age: u32,
}

#[derive(Serialize)]
struct Id<'a> {
    name: &'static str,
    value: Option<&'a str>,
}

#[derive(Serialize)]
struct Picture {
    large: String,
    medium: String,
    thumbnail: String,
}

impl Picture {
    fn of(person: &Person) -> Self {
        let folder = if person.gender == "male" { "men" } else { "women" };
        let at = |size: &str| format!("https://randomuser.me/api/portraits/{size}{folder}/{}.jpg", person.portrait);
        Self { large: at(""), medium: at("med/"), thumbnail: at("thumb/") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::people::Seed;

    #[test]
    fn only_the_selected_fields_are_written_in_order() {
        let selected = FieldSet::parse("nat, gender").unwrap();
        let person = serde_json::to_string(&Person::new(Seed::new("forebay"), 0, selected)).unwrap();
        assert!(person.starts_with(r#"{"gender":"#) && person.contains(r#","nat":"#) && person.len() < 40, "{person}");
        assert_eq!(FieldSet::parse("name,shoe"), Err("shoe"));
    }
}
