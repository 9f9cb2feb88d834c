//! Adds the fields of `[fetcher.add]` to records.
//!
//! Guarantees:
//! * A record keeps its own members byte for byte and in order; the added ones follow.
//! * A member of the record is replaced only if the file says so. Otherwise a record that has the
//!   field already is a bad record, as is one that is no object.
//! * The records of a page are one buffer: what is added costs one copy of each record.
//!
//! Does not guarantee that all records have the field: it is left out where the run has no value
//! for it, or the answer lacks the header.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use forebay_dataplane::Reason;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::columns::members;
use super::page_error::PageError;
use super::records::Extracted;
use crate::message::BadRecord;
use crate::text::json_lookup::kind;

/// The longest header that becomes a field.
pub(super) const MAX_HEADER_BYTES: usize = 1 << 10;
/// How much larger than `max_page_bytes` the records of a page may become.
const MAX_GROWTH: usize = 4;

/// A field with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordField {
    pub(super) name: String,
    /// The value, as JSON.
    pub(super) json: String,
    /// Whether it replaces the member of the record.
    pub(super) replace: bool,
}

/// The fields that the records of one answer get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RecordFields {
    fields: Vec<RecordField>,
    /// All of them as members: `"day":"2026-01-01","region":"eu"`.
    members: Vec<u8>,
}

impl RecordFields {
    /// These fields.
    pub(super) fn new(fields: Vec<RecordField>) -> Self {
        let member = |field: &RecordField| format!("{}:{}", serde_json::Value::from(field.name.as_str()), field.json);
        let members = fields.iter().map(member).collect::<Vec<_>>().join(",").into_bytes();
        Self { fields, members }
    }

    /// Adds the fields to the records of a page that had at most `max_page_bytes`.
    ///
    /// # Errors
    /// When the page grows too large by it.
    pub(super) fn add_to(&self, extracted: &mut Extracted, max_page_bytes: usize) -> Result<(), PageError> {
        if self.fields.is_empty() {
            return Ok(());
        }
        let max = max_page_bytes.saturating_mul(MAX_GROWTH);
        let bytes: usize = extracted.records.iter().map(|record| record.len() + self.members.len() + 1).sum();
        if bytes > max {
            return Err(PageError::TooMuchAdded { max });
        }
        let mut page = Vec::with_capacity(bytes);
        let mut ends = Vec::with_capacity(extracted.records.len());
        let mut before = std::mem::take(&mut extracted.bad).into_iter().peekable();
        for (index, record) in extracted.records.iter().enumerate() {
            let bad = match before.next_if(|bad| bad.index == index) {
                Some(bad) => Some(bad),
                None => self.splice(record, &mut page).err().map(|reason| BadRecord { index, reason }),
            };
            if let Some(bad) = bad {
                page.extend_from_slice(record);
                extracted.bad.push(bad);
            }
            ends.push(page.len());
        }
        let page = Bytes::from(page.into_boxed_slice());
        let mut start = 0;
        for (record, end) in extracted.records.iter_mut().zip(ends) {
            *record = page.slice(std::mem::replace(&mut start, end)..end);
        }
        Ok(())
    }

    /// Appends a record with the fields, or nothing when it is bad.
    fn splice(&self, record: &[u8], page: &mut Vec<u8>) -> Result<(), Reason> {
        let mut members = Members { fields: &self.fields, has_any: false, replaces: false, taken: None };
        if serde_json::Deserializer::from_slice(record).deserialize_map(&mut members).is_err() {
            return Err(Reason::plain(format!("the record is {}, and fetcher.add adds fields to objects only", kind(record))));
        }
        if let Some(name) = members.taken {
            return Err(Reason::plain(format!(
                "the record already has the field {name:?} of fetcher.add; add it under another name, or set replace = true"
            )));
        }
        let mut has_any = members.has_any;
        if members.replaces {
            page.push(b'{');
            has_any = self.keep(record, page);
        } else {
            page.extend_from_slice(record.trim_ascii_end().strip_suffix(b"}").expect("an object ends in a brace").trim_ascii_end());
        }
        if has_any {
            page.push(b',');
        }
        page.extend_from_slice(&self.members);
        page.push(b'}');
        Ok(())
    }

    /// Appends the members of an object that are not replaced. Returns whether there are any.
    fn keep(&self, record: &[u8], page: &mut Vec<u8>) -> bool {
        let mut has_any = false;
        for (name, value) in members(record, usize::MAX) {
            if serde_json::from_str::<Cow<'_, str>>(name.get()).is_ok_and(|name| self.fields.iter().any(|field| field.name == name)) {
                continue;
            }
            if std::mem::replace(&mut has_any, true) {
                page.push(b',');
            }
            page.extend_from_slice(name.get().as_bytes());
            page.push(b':');
            page.extend_from_slice(value.get().as_bytes());
        }
        has_any
    }
}

/// Looks for the fields among the members of a record.
struct Members<'f> {
    fields: &'f [RecordField],
    /// Whether the record has any member.
    has_any: bool,
    /// Whether it has a field that is replaced.
    replaces: bool,
    /// A field that it has, and that is not replaced.
    taken: Option<&'f str>,
}

impl<'de> Visitor<'de> for &mut Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(found) = map.next_key_seed(FieldNamed(self.fields))? {
            self.has_any = true;
            match found {
                Some(field) if field.replace => self.replaces = true,
                Some(field) => self.taken = Some(&field.name),
                None => {}
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Finds the field that a name is of, without a copy of the name.
struct FieldNamed<'f>(&'f [RecordField]);

impl<'de, 'f> DeserializeSeed<'de> for FieldNamed<'f> {
    type Value = Option<&'f RecordField>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'f> Visitor<'_> for FieldNamed<'f> {
    type Value = Option<&'f RecordField>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|field| field.name == name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn field(name: &str, value: &Value, replace: bool) -> RecordField {
        RecordField { name: name.to_owned(), json: value.to_string(), replace }
    }

    /// The records with the fields, and the reasons of the bad ones.
    fn added(fields: Vec<RecordField>, records: &[&str]) -> (Vec<String>, Vec<(usize, String)>) {
        let records = records.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect();
        let mut page = Extracted { records, ..Extracted::default() };
        RecordFields::new(fields).add_to(&mut page, 1 << 20).unwrap();
        let texts = page.records.iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect();
        (texts, page.bad.iter().map(|bad| (bad.index, bad.reason.full().to_owned())).collect())
    }

    #[test]
    fn fields_follow_the_members_of_a_record_which_keeps_its_bytes() {
        let fields = vec![field("day", &json!("2026-01-01"), false), field("n \"", &json!(7), false)];
        let (records, bad) = added(fields, &[r#"{"a" : 1.0, "b":{"day":1}}"#, "{}", "{ }", "{\"a\":[] \n}"]);
        let members = r#""day":"2026-01-01","n \"":7}"#;
        let expected = [r#"{"a" : 1.0, "b":{"day":1},"#, "{", "{", "{\"a\":[],"].map(|before| format!("{before}{members}"));
        assert_eq!((records, bad), (expected.to_vec(), vec![]));
    }

    #[test]
    fn a_record_that_has_the_field_or_is_no_object_is_bad_and_keeps_its_bytes() {
        let given = [r#"{"d\u0061y": 1}"#, "[1]", "7", r#"{"a": 1}"#, "null"];
        let (records, bad) = added(vec![field("day", &json!(1), false)], &given);
        assert_eq!(records, [given[0], given[1], given[2], r#"{"a": 1,"day":1}"#, given[4]]);
        let has = "the record already has the field \"day\" of fetcher.add; add it under another name, or set replace = true";
        let is = |index, kind: &str| (index, format!("the record is {kind}, and fetcher.add adds fields to objects only"));
        assert_eq!(bad, [(0, has.to_owned()), is(1, "an array"), is(2, "a number"), is(4, "null")]);
    }

    #[test]
    fn a_field_is_replaced_if_the_file_says_so() {
        let fields = || vec![field("day", &json!("x"), true)];
        let given = [r#"{"day": 1, "a" : [1.0 ], "d\u0061y": 2, "b\u0062":null}"#, r#"{"day": 1}"#, r#"{"a":1}"#];
        let (records, bad) = added(fields(), &given);
        assert_eq!(records, [r#"{"a":[1.0 ],"b\u0062":null,"day":"x"}"#, r#"{"day":"x"}"#, r#"{"a":1,"day":"x"}"#]);
        assert_eq!(bad, []);
    }

    #[test]
    fn records_that_are_not_json_stay_bad_and_a_page_must_not_grow_without_a_limit() {
        let bad = BadRecord { index: 1, reason: Reason::plain("not JSON") };
        let records = ["1", "{oops", "{}"].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        let mut page = Extracted { records, bad: vec![bad.clone()], ..Extracted::default() };
        RecordFields::new(vec![field("d", &json!(1), false)]).add_to(&mut page, 100).unwrap();
        assert_eq!(
            (&page.records[..], page.bad.len(), &page.bad[1]),
            (&[Bytes::from("1"), "{oops".into(), r#"{"d":1}"#.into()][..], 2, &bad)
        );
        let long = RecordFields::new(vec![field("d", &json!("x".repeat(400)), false)]);
        assert_eq!(long.add_to(&mut page, 100), Err(PageError::TooMuchAdded { max: 400 }));
    }

    proptest! {
        #[test]
        fn a_record_with_fields_equals_the_object_with_them(
            record in prop::collection::btree_map("[a-c\\PC]{0,3}", any::<i32>(), 0..5),
            fields in prop::collection::btree_map("[a-c]", (".*", any::<bool>()), 1..3),
            pretty: bool,
        ) {
            let object: Map<String, Value> = record.into_iter().map(|(name, value)| (name, value.into())).collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
            let list = fields.iter().map(|(name, (value, replace))| field(name, &json!(value), *replace)).collect();
            let (records, bad) = added(list, &[&text]);
            if fields.iter().any(|(name, (_, replace))| !replace && object.contains_key(name)) {
                prop_assert_eq!((bad.len(), &records[0]), (1, &text));
            } else {
                let mut expected = object;
                expected.extend(fields.into_iter().map(|(name, (value, _))| (name, value.into())));
                prop_assert_eq!(serde_json::from_str::<Map<String, Value>>(&records[0]).unwrap(), expected);
            }
        }
    }
}
