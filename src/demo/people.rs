//! The people of the demo: person `n` of a seed, with the fields of randomuser.me.
//!
//! Guarantees, within one version of the program:
//! * The same seed and `n` give the same person, byte for byte.
//! * Identifiers are well-formed version 4 UUIDs, and differ from person to person.
//! * First names fit the gender; names, postcodes and phone numbers fit the country.
//!
//! Does not guarantee that the hashes are hashes of anything: they are random digits of the right
//! length.

mod countries;
mod flaws;
mod person_json;

use std::fmt::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _};
use countries::{COUNTRIES, City, Country, Postcode};
pub(super) use flaws::with_flaw;
use person_json::Login;
pub(super) use person_json::{FIELDS, FieldSet};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// Ages are as of this moment, 2026-01-01T00:00:00Z, so that a person does not change from day to
/// day.
const AS_OF_MILLIS: i64 = 1_767_225_600_000;
const DAY_MILLIS: i64 = 86_400_000;
/// The mean length of a year.
const YEAR_MILLIS: i64 = 31_556_952_000;

/// A seed, hashed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: &str) -> Self {
        Self(hash(seed.as_bytes()))
    }
}

/// FNV-1a: stable across processes, unlike the hash of the standard library.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Person `index` of a seed, and the fields to serialize.
pub(super) struct Person {
    selected: FieldSet,
    gender: &'static str,
    title: &'static str,
    first: &'static str,
    last: &'static str,
    country: &'static Country,
    city: City,
    street: &'static str,
    number: u32,
    postcode: Result<u32, String>,
    latitude: String,
    longitude: String,
    email: String,
    login: Login,
    dob: (String, u32),
    registered: (String, u32),
    phone: String,
    cell: String,
    id: Option<String>,
    portrait: u32,
}

const ADJECTIVES: [&str; 12] =
    ["angry", "beautiful", "big", "crazy", "golden", "happy", "heavy", "lazy", "orange", "purple", "silver", "tiny"];
const ANIMALS: [&str; 12] = ["bear", "bird", "butterfly", "cat", "duck", "elephant", "frog", "gorilla", "koala", "lion", "panda", "swan"];
const PASSWORDS: [&str; 10] =
    ["sunshine", "trustno1", "guitar", "dragon1", "marlboro", "snoopy", "qwerty12", "penguin", "hello1", "buttercup"];

impl Person {
    pub(super) fn new(seed: Seed, index: u64, selected: FieldSet) -> Self {
        // An odd factor maps different indices to different states.
        let mut rng = StdRng::seed_from_u64(seed.0 ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rng = &mut rng;
        let country = &COUNTRIES[rng.random_range(0..COUNTRIES.len())];
        let male = rng.random_bool(0.5);
        let (gender, title, first) = if male {
            ("male", "Mr", pick(rng, country.male))
        } else {
            ("female", pick(rng, &["Ms", "Mrs", "Miss"]), pick(rng, country.female))
        };
        let last = pick(rng, country.last);
        let age = rng.random_range(18..=80);
        let member = rng.random_range(0..=18);
        Self {
            selected,
            gender,
            title,
            first,
            last,
            country,
            city: pick(rng, country.cities),
            street: pick(rng, country.streets),
            number: rng.random_range(1..10_000),
            postcode: match country.postcode {
                Postcode::Number(from, to) => Ok(rng.random_range(from..=to)),
                Postcode::Text(form) => Err(fill(rng, form)),
            },
            latitude: degrees(rng, 90),
            longitude: degrees(rng, 180),
            email: format!("{}.{}@example.com", ascii(first), ascii(last)),
            login: Login {
                uuid: uuid::Builder::from_random_bytes(rng.random()).into_uuid(),
                username: format!("{}{}{}", pick(rng, &ADJECTIVES), pick(rng, &ANIMALS), rng.random_range(100..1_000)),
                password: pick(rng, &PASSWORDS),
                salt: salt(rng),
                md5: hex::<16>(rng),
                sha1: hex::<20>(rng),
                sha256: hex::<32>(rng),
            },
            dob: (date(rng, age), age),
            registered: (date(rng, member), member),
            phone: fill(rng, country.phone),
            cell: fill(rng, country.cell),
            id: country.id.map(|(_, form)| fill(rng, form)),
            portrait: rng.random_range(0..100),
        }
    }
}

fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

/// Replaces each `#` by a digit and each `@` by a letter. The first digit is not zero.
fn fill(rng: &mut StdRng, form: &str) -> String {
    let mut first = true;
    let mut out = String::with_capacity(form.len());
    for c in form.chars() {
        out.push(match c {
            '#' => char::from(rng.random_range(if first { b'1' } else { b'0' }..=b'9')),
            '@' => char::from(rng.random_range(b'A'..=b'Z')),
            other => other,
        });
        first &= c != '#';
    }
    out
}

fn degrees(rng: &mut StdRng, max: i32) -> String {
    let (whole, part) = (rng.random_range(-max..max), rng.random_range(0..10_000));
    format!("{whole}.{part:04}")
}

fn salt(rng: &mut StdRng) -> String {
    const CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..8).map(|_| char::from(pick(rng, CHARS))).collect()
}

fn hex<const N: usize>(rng: &mut StdRng) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    let mut out = String::with_capacity(2 * N);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// A moment in the year that ended `years` years before [`AS_OF_MILLIS`].
fn date(rng: &mut StdRng, years: u32) -> String {
    // Two days away from either end of the year, so that leap days can't change the age.
    let before = i64::from(years) * YEAR_MILLIS + rng.random_range(2 * DAY_MILLIS..363 * DAY_MILLIS);
    let mut out = String::with_capacity(24);
    let at = DateTime::from_timestamp_millis(AS_OF_MILLIS - before).unwrap_or_default();
    let (second, millis) = (at.second(), at.timestamp_subsec_millis());
    let _ = write!(out, "{:04}-{:02}-{:02}T{:02}:{:02}:{second:02}.{millis:03}Z", at.year(), at.month(), at.day(), at.hour(), at.minute());
    out
}

/// The name in lower-case ASCII, for an email address.
fn ascii(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            'A'..='Z' => out.push(c.to_ascii_lowercase()),
            'ä' | 'Ä' | 'æ' => out.push_str("ae"),
            'ö' | 'Ö' | 'ø' | 'œ' => out.push_str("oe"),
            'ü' | 'Ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'à'..='å' | 'À'..='Å' => out.push('a'),
            'è'..='ë' | 'È'..='Ë' => out.push('e'),
            'ì'..='ï' | 'Ì'..='Ï' | 'ı' | 'İ' => out.push('i'),
            'ò'..='õ' | 'Ò'..='Õ' => out.push('o'),
            'ù'..='û' | 'Ù'..='Û' => out.push('u'),
            'ç' | 'Ç' => out.push('c'),
            'ñ' | 'Ñ' => out.push('n'),
            'ğ' | 'Ğ' => out.push('g'),
            'ş' | 'Ş' => out.push('s'),
            'ÿ' | 'ý' => out.push('y'),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    fn json(seed: &str, index: u64) -> Value {
        serde_json::to_value(Person::new(Seed::new(seed), index, FieldSet::ALL)).unwrap()
    }

    #[test]
    fn a_seed_and_an_index_give_one_person_and_others_differ() {
        assert_eq!(json("forebay", 7), json("forebay", 7));
        assert_ne!(json("forebay", 7), json("forebay", 8));
        assert_ne!(json("forebay", 7), json("other", 7));
    }

    #[test]
    fn identifiers_of_100_000_people_are_distinct_and_version_4() {
        let seed = Seed::new("forebay");
        let people = (0..100_000).map(|index| Person::new(seed, index, FieldSet::ALL).login.uuid);
        let all: HashSet<_> = people.inspect(|uuid| assert_eq!(uuid.get_version_num(), 4)).collect();
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn every_person_has_every_field_with_its_type() {
        for index in 0..500 {
            let person = json("layout", index);
            let keys: Vec<_> = person.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, FIELDS);
            let text = [
                "/gender",
                "/name/title",
                "/name/first",
                "/name/last",
                "/location/street/name",
                "/location/city",
                "/location/state",
                "/location/country",
                "/location/coordinates/latitude",
                "/location/coordinates/longitude",
                "/location/timezone/offset",
                "/location/timezone/description",
                "/email",
                "/login/uuid",
                "/login/username",
                "/login/password",
                "/login/salt",
                "/login/md5",
                "/login/sha1",
                "/login/sha256",
                "/dob/date",
                "/registered/date",
                "/phone",
                "/cell",
                "/picture/large",
                "/picture/medium",
                "/picture/thumbnail",
                "/nat",
            ];
            for path in text {
                assert!(
                    person.pointer(path).is_some_and(|value| value.as_str().is_some_and(|text| !text.is_empty())),
                    "{path} of {person}"
                );
            }
            for path in ["/location/street/number", "/dob/age", "/registered/age"] {
                assert!(person.pointer(path).is_some_and(Value::is_u64), "{path} of {person}");
            }
            let postcode = &person["location"]["postcode"];
            assert_eq!(postcode.is_string(), ["GB", "CA", "NL"].contains(&person["nat"].as_str().unwrap()), "{person}");
            assert_eq!(person["id"]["value"].is_null(), person["nat"] == "TR", "{person}");
            for (hash, length) in [("md5", 32), ("sha1", 40), ("sha256", 64)] {
                assert_eq!(person["login"][hash].as_str().unwrap().len(), length);
            }
        }
    }

    #[test]
    fn dates_match_ages_and_are_utc_with_milliseconds() {
        for index in 0..500 {
            let person = json("dates", index);
            for field in ["dob", "registered"] {
                let text = person[field]["date"].as_str().unwrap();
                assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
                let date: DateTime<chrono::Utc> = text.parse().unwrap();
                let as_of = DateTime::from_timestamp_millis(AS_OF_MILLIS).unwrap();
                assert_eq!(as_of.years_since(date).map(u64::from), person[field]["age"].as_u64(), "{person}");
            }
        }
    }

    #[test]
    fn first_names_fit_the_gender_and_no_name_is_shared() {
        for country in COUNTRIES {
            assert!(country.male.iter().all(|name| !country.female.contains(name)), "{}", country.nat);
        }
        for index in 0..500 {
            let person = Person::new(Seed::new("names"), index, FieldSet::ALL);
            assert_eq!(person.country.male.contains(&person.first), person.gender == "male");
        }
    }

    #[test]
    fn email_addresses_are_ascii_and_have_both_names() {
        for index in 0..2_000 {
            let person = Person::new(Seed::new("mail"), index, FieldSet::ALL);
            let (first, last) = person.email.strip_suffix("@example.com").unwrap().split_once('.').unwrap();
            assert!(person.email.is_ascii() && !first.is_empty() && !last.is_empty(), "{} {}: {}", person.first, person.last, person.email);
        }
    }

    #[test]
    fn every_city_has_a_time_zone_with_a_name() {
        assert!(
            COUNTRIES.iter().flat_map(|country| country.cities).all(|city| countries::ZONES.iter().any(|(zone, _)| *zone == city.offset))
        );
    }
}
