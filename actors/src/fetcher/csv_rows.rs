//! CSV (RFC 4180) as JSON: each row below the header is an object. Pure.
//!
//! Guarantees:
//! * The records do not depend on how the text is split into chunks.
//! * A row that does not fit the header, or is not UTF-8, is a bad record, and the others are read.
//! * A field becomes a number or a boolean only where the record's schema wants one; any other is
//!   text, byte for byte.
//!
//! Does not guarantee that a text that ends within its last field is recognised as cut short.

use std::collections::HashMap;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use forebay_dataplane::Reason;
use forebay_schemas::pipeline::Pipeline;
use forebay_schemas::record_schema::{Field, Kind, RecordSchema};

use super::page_error::PageError;
use super::record_part::RecordPart;

/// The most fields of a row.
const MAX_FIELDS: usize = 10_000;
/// The size of the buffers of a row at first.
const FIRST_ROW_BYTES: usize = 4 << 10;
const FIRST_FIELDS: usize = 64;

/// What the schema of a record says about the columns.
#[derive(Debug, Clone, Default)]
pub(super) struct CsvTypes(HashMap<String, Column>);

/// How the fields of a column are written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    literal: Option<Literal>,
    empty: Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literal {
    Number,
    Boolean,
}

/// What an empty field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    Null,
    Absent,
    Text,
}

impl CsvTypes {
    /// The types of a pipeline that has a schema; else every field is text.
    pub(super) fn of_pipeline(pipeline: &Pipeline) -> Self {
        let Some(transformer) = &pipeline.transformer else { return Self::default() };
        // The checks of the pipeline file report a schema that can't be used.
        RecordSchema::of(pipeline, transformer).map(|schema| Self::of(&schema)).unwrap_or_default()
    }

    /// The types of a schema's fields.
    fn of(schema: &RecordSchema) -> Self {
        let column = |field: &Field| {
            let literal = match field.kind {
                Kind::Int64 | Kind::Float64 | Kind::Epoch { .. } => Some(Literal::Number),
                Kind::Bool => Some(Literal::Boolean),
                _ => None,
            };
            let empty = match (field.null, field.optional) {
                (true, _) => Empty::Null,
                (false, true) => Empty::Absent,
                (false, false) => Empty::Text,
            };
            (field.name.clone(), Column { literal, empty })
        };
        Self(schema.fields.iter().map(column).collect())
    }

    fn of_column(&self, name: &str) -> Column {
        self.0.get(name).copied().unwrap_or(Column { literal: None, empty: Empty::Null })
    }
}

/// Reads rows.
pub(super) struct Rows {
    reader: Reader,
    types: CsvTypes,
    header: Option<Vec<(String, Column)>>,
    /// The fields of the row so far, one after the other, and where each ends.
    fields: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
    count: usize,
    /// The number of complete rows, with the header.
    number: u64,
    max_row_bytes: usize,
}

impl Rows {
    /// A text from its start, with rows of at most `max_row_bytes`.
    pub(super) fn new(delimiter: u8, types: CsvTypes, max_row_bytes: usize) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        let (fields, ends) = (vec![0; FIRST_ROW_BYTES], vec![0; FIRST_FIELDS]);
        Self { reader, types, header: None, fields, used: 0, ends, count: 0, number: 0, max_row_bytes }
    }

    /// Reads the rows that a chunk completes, until the part is full. Returns how many bytes it has
    /// used. An empty chunk is the end of the text.
    ///
    /// # Errors
    /// When the header is unusable, or a row is too long.
    pub(super) fn feed(&mut self, chunk: &[u8], part: &mut RecordPart) -> Result<usize, PageError> {
        let mut read = 0;
        while !part.is_full() {
            let (fields, ends) = (&mut self.fields[self.used..], &mut self.ends[self.count..]);
            let (result, taken, written, ended) = self.reader.read_record(&chunk[read..], fields, ends);
            read += taken;
            self.used += written;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => break,
                ReadRecordResult::OutputFull if self.fields.len() >= self.max_row_bytes => {
                    return Err(PageError::LongLine { line: self.number + 1, max: self.max_row_bytes });
                }
                ReadRecordResult::OutputFull => self.fields.resize((self.fields.len() * 2).min(self.max_row_bytes.max(self.used + 1)), 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= MAX_FIELDS => {
                    return Err(PageError::Csv(format!("row {} has more than {MAX_FIELDS} fields", self.number + 1)));
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize((self.ends.len() * 2).min(MAX_FIELDS), 0),
                ReadRecordResult::Record => {
                    self.number += 1;
                    self.row(part)?;
                    (self.used, self.count) = (0, 0);
                }
            }
        }
        Ok(read)
    }

    fn row(&mut self, part: &mut RecordPart) -> Result<(), PageError> {
        let mut start = 0;
        let fields: Vec<&[u8]> = self.ends[..self.count].iter().map(|&end| &self.fields[std::mem::replace(&mut start, end)..end]).collect();
        let Some(header) = &self.header else {
            self.header = Some(header(&fields, &self.types)?);
            return Ok(());
        };
        let texts: Option<Vec<&str>> = fields.iter().map(|field| std::str::from_utf8(field).ok()).collect();
        match texts {
            Some(texts) if texts.len() == header.len() => part.push(&object(header, &texts), None),
            Some(_) => {
                let (found, wanted, row) = (fields.len(), header.len(), self.number);
                let reason = format!(
                    "row {row} of the CSV has {found} fields, and its header {wanted}; a field with the delimiter in it needs quotes"
                );
                part.push(&array(&fields), Some(Reason::plain(reason)));
            }
            None => part.push(&array(&fields), Some(Reason::plain(format!("row {} of the CSV is not UTF-8", self.number)))),
        }
        Ok(())
    }
}

/// The columns that a header names.
fn header(fields: &[&[u8]], types: &CsvTypes) -> Result<Vec<(String, Column)>, PageError> {
    let mut columns: Vec<(String, Column)> = Vec::with_capacity(fields.len());
    for field in fields {
        let name = std::str::from_utf8(field).map_err(|_| PageError::Csv("its header is not UTF-8".to_owned()))?.trim();
        if columns.iter().any(|(other, _)| other == name) {
            return Err(PageError::Csv(format!("its header has the column {name:?} twice")));
        }
        columns.push((name.to_owned(), types.of_column(name)));
    }
    Ok(columns)
}

fn object(header: &[(String, Column)], texts: &[&str]) -> Vec<u8> {
    let mut json = vec![b'{'];
    for ((name, column), text) in header.iter().zip(texts) {
        if text.is_empty() && column.empty == Empty::Absent {
            continue;
        }
        if json.len() > 1 {
            json.push(b',');
        }
        push_text(&mut json, name);
        json.push(b':');
        match (text.is_empty(), column.empty, column.literal) {
            (true, Empty::Null, _) => json.extend_from_slice(b"null"),
            (false, _, Some(literal)) => match literal.of(text) {
                Some(literal) => json.extend_from_slice(literal.as_bytes()),
                None => push_text(&mut json, text),
            },
            _ => push_text(&mut json, text),
        }
    }
    json.push(b'}');
    json
}

impl Literal {
    /// The JSON of a field, if it is one of these.
    fn of(self, text: &str) -> Option<&str> {
        let text = text.trim();
        match self {
            Self::Number => serde_json::from_str::<serde_json::Number>(text).is_ok().then_some(text),
            Self::Boolean => ["true", "false"].into_iter().find(|word| word.eq_ignore_ascii_case(text)),
        }
    }
}

/// A row that is no record, for its dead letter.
fn array(fields: &[&[u8]]) -> Vec<u8> {
    let mut json = vec![b'['];
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        push_text(&mut json, &String::from_utf8_lossy(field));
    }
    json.push(b']');
    json
}

fn push_text(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("text can be written as JSON, and memory takes it");
}

#[cfg(test)]
mod tests {
    use forebay_schemas::pipeline::FileText;
    use proptest::prelude::*;

    use super::*;

    fn types(schema: &str) -> CsvTypes {
        let file = FileText { path: "schema.json".into(), text: schema.to_owned() };
        CsvTypes::of(&RecordSchema::parse(&file).unwrap())
    }

    /// The records of a text that arrives in chunks of this size, and the reasons of bad ones.
    fn records(text: &[u8], delimiter: u8, types: CsvTypes, size: usize) -> Result<(Vec<String>, Vec<String>), PageError> {
        let (mut rows, mut part) = (Rows::new(delimiter, types, 1 << 16), RecordPart::new(1 << 20));
        for chunk in text.chunks(size) {
            assert_eq!(rows.feed(chunk, &mut part)?, chunk.len());
        }
        rows.feed(b"", &mut part)?;
        let found = part.extracted();
        let text = |record: &bytes::Bytes| String::from_utf8(record.to_vec()).unwrap();
        Ok((found.records.iter().map(text).collect(), found.bad.iter().map(|bad| bad.reason.full().to_owned()).collect()))
    }

    #[test]
    fn a_row_is_an_object_of_texts_with_the_names_of_the_header() {
        let text = b"id, name ,note\r\n007,\"a, \"\"b\"\"\nc\",\r\n\r\n8,\xc3\xa9,x";
        let (found, bad) = records(text, b',', CsvTypes::default(), 100).unwrap();
        assert_eq!(found, [r#"{"id":"007","name":"a, \"b\"\nc","note":null}"#, r#"{"id":"8","name":"é","note":"x"}"#]);
        assert!(bad.is_empty());
    }

    #[test]
    fn a_field_is_a_number_or_a_boolean_where_the_schema_wants_one() {
        let schema = r#"{"type": "object", "required": ["id", "name"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"},
            "ok": {"type": "boolean"}, "rate": {"type": ["number", "null"]}}}"#;
        let (found, _) = records(b"id;name;ok;rate\n7;8;TRUE;1.50\n x ;;;\n", b';', types(schema), 7).unwrap();
        assert_eq!(found, [r#"{"id":7,"name":"8","ok":true,"rate":1.50}"#, r#"{"id":" x ","name":"","rate":null}"#]);
    }

    #[test]
    fn a_row_that_does_not_fit_the_header_is_a_bad_record_between_the_others() {
        let (found, bad) = records(b"a,b\n1,2\n1\n1,2,3\n\xff,2\n3,4\n", b',', CsvTypes::default(), 100).unwrap();
        assert_eq!(found.len(), 5);
        assert_eq!(found[1..3], ["[\"1\"]", "[\"1\",\"2\",\"3\"]"]);
        let row = "row 3 of the CSV has 1 fields, and its header 2; a field with the delimiter in it needs quotes";
        assert_eq!((bad.len(), bad[0].as_str(), bad[2].as_str()), (3, row, "row 5 of the CSV is not UTF-8"));
    }

    #[test]
    fn a_header_that_names_a_column_twice_and_a_row_over_the_limit_are_errors() {
        let twice = records(b"a,b,a\n", b',', CsvTypes::default(), 100).unwrap_err();
        assert_eq!(twice.to_string(), "the answer is no usable CSV: its header has the column \"a\" twice");
        let long = [b"a\n".to_vec(), vec![b'x'; 70_000]].concat();
        assert_eq!(records(&long, b',', CsvTypes::default(), 1_000), Err(PageError::LongLine { line: 2, max: 1 << 16 }));
    }

    proptest! {
        #[test]
        fn any_fields_survive_whatever_the_chunks(
            rows in prop::collection::vec(prop::collection::vec("[a-z,\"\n\r é]{0,8}", 3), 0..6), size in 1_usize..30,
        ) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
            let text = format!("a,b,c\n{}", rows.iter().map(line).collect::<String>());
            let (found, bad) = records(text.as_bytes(), b',', CsvTypes::default(), size).unwrap();
            prop_assert!(bad.is_empty());
            let value = |text: &String| if text.is_empty() { serde_json::Value::Null } else { text.as_str().into() };
            let wanted: Vec<_> = rows.iter().map(|row| serde_json::json!({ "a": value(&row[0]), "b": value(&row[1]), "c": value(&row[2]) })).collect();
            let found: Vec<serde_json::Value> = found.iter().map(|record| serde_json::from_str(record).unwrap()).collect();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b',')], 0..200), size in 1_usize..50) {
            let _ = records(&bytes, b',', CsvTypes::default(), size);
        }
    }
}
