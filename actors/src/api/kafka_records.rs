//! Records and dead letters, read from Kafka.
//!
//! Guarantees:
//! * A field that `[api] mask` names is not shown: not in a value, not in a key made from it, and
//!   not in the reason of a dead letter.
//! * With masks, a value that is not JSON is not shown at all, and a reason is the one that quotes
//!   nothing of the record.
//! * A value is shown up to [`MAX_VALUE_BYTES`] bytes. A response reads at most [`MAX_READ_BYTES`]
//!   of the topic.
//!
//! Does not guarantee that the record's own headers reveal nothing of its value.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use forebay_schemas::api::{RecordView, Records};
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::dead_letters::DeadLetter;
use forebay_schemas::offset::{Offset, Partition, Range};
use forebay_schemas::problem;
use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::error::ApiError;
use super::extract::Params;
use super::{ApiResult, MAX_CONCURRENT_READS, State};
use crate::broker;
use crate::broker::reader::{ReadLimit, StoredRecord, read};
use forebay_dataplane::{MASK, dead_letter};

/// The shown bytes of a value's JSON.
const MAX_VALUE_BYTES: usize = 16 << 10;
/// The shown bytes of a key or a header.
const MAX_KEY_BYTES: usize = 1 << 10;
/// The bytes of the topic that one request reads.
const MAX_READ_BYTES: usize = 4 << 20;

pub(super) async fn records(state: web::Data<State>, params: Params) -> ApiResult {
    let (limit, partition) = (params.limit(), params.integer("partition").and_then(|number| Partition::try_from(number).ok()));
    let (from, last) = (params.integer("from"), params.integer("last"));
    let topic = &state.api.pipeline.kafka.topic;
    let invalid = |detail: &str| Err(ApiError::new(&problem::RECORDS_PLACE, detail));
    if from.is_some() && last.is_some() {
        return invalid("from and last are mutually exclusive");
    }
    if from.is_some() && partition.is_none() {
        return invalid("from is an offset and requires a partition");
    }
    let mut ends = broker::ends(&state.api.access, topic).await?;
    if let Some(partition) = partition {
        ends.retain(|other, _| *other == partition);
        if ends.is_empty() {
            return invalid(&format!("{topic} has no partition {partition}"));
        }
    }
    let newest = last.unwrap_or(limit as u64);
    let wanted = match from {
        Some(from) => {
            let from = Offset(i64::try_from(from).unwrap_or(i64::MAX));
            ends.iter().map(|(&partition, &(start, end))| (partition, Range { from: from.max(start), to: end })).collect()
        }
        None => tails(&ends, newest),
    };
    let mut records = read_limited(&state, topic, wanted, if from.is_some() { limit } else { usize::MAX }).await?;
    if from.is_none() {
        records = latest(records, limit.min(usize::try_from(newest).unwrap_or(usize::MAX)));
    }
    let mask = Mask::of(&state);
    let records = records.iter().map(|record| mask.view(record)).collect();
    Ok(HttpResponse::Ok().json(Records { topic: topic.clone(), records }))
}

/// The last `count` dead letters of each partition.
pub(super) async fn last_dead_letters(state: &State, count: u64) -> Result<Vec<StoredRecord>, ApiError> {
    let topic = state.api.pipeline.kafka.dead_letter_topic();
    let ends = broker::ends(&state.api.access, &topic).await?;
    read_limited(state, &topic, tails(&ends, count), usize::MAX).await
}

/// The last `count` offsets of each partition.
fn tails(ends: &BTreeMap<Partition, (Offset, Offset)>, count: u64) -> BTreeMap<Partition, Range> {
    let tail = |(&partition, &(start, end)): (&Partition, &(Offset, Offset))| {
        (partition, Range { from: start.max(Offset(end.value().saturating_sub_unsigned(count))), to: end })
    };
    ends.iter().map(tail).collect()
}

/// The last `count` records by timestamp, in the order of partition and offset.
fn latest(mut records: Vec<StoredRecord>, count: usize) -> Vec<StoredRecord> {
    records.sort_by_key(|record| std::cmp::Reverse((record.timestamp_ms, record.offset)));
    records.truncate(count);
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// The permission to read Kafka for as long as it is held.
pub(super) fn read_permit(state: &State) -> Result<SemaphorePermit<'_>, ApiError> {
    let busy = |_| ApiError::new(&problem::API_BUSY, format!("too many reads of Kafka (limit {MAX_CONCURRENT_READS})"));
    state.reads.try_acquire().map_err(busy)
}

async fn read_limited(
    state: &State,
    topic: &str,
    wanted: BTreeMap<Partition, Range>,
    records: usize,
) -> Result<Vec<StoredRecord>, ApiError> {
    let _permit = read_permit(state)?;
    Ok(read(&state.api.access, topic, wanted, ReadLimit { records, bytes: MAX_READ_BYTES }).await?)
}

/// Masks the fields that `[api] mask` names.
pub(super) struct Mask<'a> {
    pointers: &'a [String],
    /// The pointer that the key is taken from.
    key: Option<&'a str>,
}

impl<'a> Mask<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let pipeline = &state.api.pipeline;
        Self { pointers: &pipeline.api.mask, key: pipeline.producer.as_ref().map(|producer| producer.key.as_str()) }
    }

    /// A mask that hides nothing.
    #[cfg(test)]
    pub(super) fn open() -> Self {
        Self { pointers: &[], key: None }
    }

    fn view(&self, record: &StoredRecord) -> RecordView {
        let (value, truncated) = self.value(record.value.as_deref());
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let hidden = name == dead_letter::REASON && self.hides_any();
            (name.clone(), if hidden { MASK.to_owned() } else { shown(value.as_deref().unwrap_or_default()) })
        };
        RecordView {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms.unwrap_or(-1),
            key: self.key(record),
            value,
            value_bytes: record.value.as_ref().map_or(0, |value| value.len() as u64),
            truncated,
            headers: record.headers.iter().map(header).collect(),
            headers_left_out: Some(record.unreadable_headers).filter(|&count| count > 0),
        }
    }

    /// A dead letter as it is shown, whether it is handled or not.
    pub(super) fn letter(&self, letter: &StoredRecord) -> DeadLetter {
        DeadLetter {
            stage: letter.header(dead_letter::STAGE).unwrap_or_default().to_owned(),
            reason: self.reason(letter),
            sql_fingerprint: letter.header(dead_letter::SQL).map(str::to_owned),
            origin: letter.origin(),
            record: self.view(letter),
            handled: false,
        }
    }

    /// Whether what is shown of a dead letter matches.
    pub(super) fn matches(&self, letter: &StoredRecord, filter: &DeadLetterFilter) -> bool {
        let stage = letter.header(dead_letter::STAGE).unwrap_or_default();
        filter.is_empty() || filter.matches(stage, &self.reason(letter), self.key(letter).as_deref())
    }

    /// The key of a record.
    fn key(&self, record: &StoredRecord) -> Option<String> {
        record.key.as_deref().map(|key| if self.hides_key() { MASK.to_owned() } else { shown(key) })
    }

    /// The reason of a dead letter.
    pub(super) fn reason(&self, letter: &StoredRecord) -> String {
        let reason =
            if self.hides_any() { letter.header(dead_letter::MASKED_REASON).or(Some(MASK)) } else { letter.header(dead_letter::REASON) };
        reason.unwrap_or_default().to_owned()
    }

    fn hides_any(&self) -> bool {
        !self.pointers.is_empty()
    }

    /// Whether the key is a masked field or part of one. The key of a foreign producer may be
    /// anything.
    fn hides_key(&self) -> bool {
        let within =
            |key: &str, pointer: &String| key.strip_prefix(pointer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.hides_any() && self.key.is_none_or(|key| self.pointers.iter().any(|pointer| within(key, pointer)))
    }

    /// The shown value, and whether it is truncated.
    fn value(&self, bytes: Option<&[u8]>) -> (Value, bool) {
        let Some(bytes) = bytes else { return (Value::Null, false) };
        let value = match serde_json::from_slice::<Value>(bytes) {
            Ok(mut value) => {
                for pointer in self.pointers {
                    if let Some(found) = value.pointer_mut(pointer) {
                        *found = MASK.into();
                    }
                }
                value
            }
            Err(_) if self.hides_any() => return (MASK.into(), false),
            Err(_) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
        };
        if bytes.len() <= MAX_VALUE_BYTES {
            return (value, false);
        }
        let text = match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        let cut = text.len() > MAX_VALUE_BYTES;
        (Value::String(truncate(&text, MAX_VALUE_BYTES).to_owned()), cut)
    }
}

fn shown(bytes: &[u8]) -> String {
    truncate(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_KEY_BYTES)]), MAX_KEY_BYTES).to_owned()
}

fn truncate(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use forebay_dataplane::{Reason, RejectStage};

    fn stored(key: &str, value: &[u8]) -> StoredRecord {
        let headers = vec![("forebay-stage".to_owned(), Some(b"transform".to_vec()))];
        let (key, value) = (Some(key.into()), Some(value.into()));
        StoredRecord { partition: 1, offset: Offset(7), timestamp_ms: Some(5), key, value, headers, unreadable_headers: 0 }
    }

    #[test]
    fn a_masked_field_is_not_shown_in_value_or_key() {
        let pointers = vec!["/name".to_owned(), "/login".to_owned(), "/none".to_owned()];
        let record = stored("secret-key", br#"{"name":{"first":"A"},"login":{"uuid":"secret-key"},"age":7}"#);
        let view = Mask { pointers: &pointers, key: Some("/login/uuid") }.view(&record);
        assert_eq!(view.value, json!({ "name": MASK, "login": MASK, "age": 7 }));
        assert_eq!(view.key.as_deref(), Some(MASK));
        assert_eq!(Mask { pointers: &pointers, key: Some("/id") }.view(&record).key.as_deref(), Some("secret-key"));
        assert_eq!(Mask { pointers: &pointers, key: None }.view(&record).key.as_deref(), Some(MASK), "a foreign key may be anything");
    }

    #[test]
    fn with_masks_a_dead_letter_shows_its_masked_reason() {
        let mut letter = stored("k", b"{\"age\":\"secret\"}");
        let reason = Reason::quoting("\"secret\"", |value| format!("`/age` must be a number, but is {value}"));
        let it = dead_letter::DeadLetter {
            key: None,
            value: None,
            stage: RejectStage::Decode,
            reason: &reason,
            truncation: dead_letter::Truncation::NONE,
            unreadable_headers: 0,
        };
        let origin = [(dead_letter::PARTITION, "3"), (dead_letter::OFFSET, "40")];
        it.headers(std::iter::empty(), &origin, |name, value| letter.headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        let pointers = vec!["/age".to_owned()];
        let mask = Mask { pointers: &pointers, key: Some("/id") };
        let view = mask.letter(&letter);
        assert_eq!((view.reason.as_str(), view.origin), ("`/age` must be a number, but is ***", Some((3, Offset(40)))));
        assert!(!serde_json::to_string(&view).unwrap().contains("secret"), "{view:?}");
        let open = Mask { pointers: &[], key: Some("/id") }.letter(&letter);
        assert_eq!(open.reason, "`/age` must be a number, but is \"secret\"");
        letter.headers.retain(|(name, _)| name != dead_letter::MASKED_REASON);
        assert_eq!(mask.letter(&letter).reason, MASK, "it may quote anything");
    }

    #[test]
    fn headers_that_cannot_be_shown_are_counted() {
        let record = StoredRecord { unreadable_headers: 2, ..stored("k", b"1") };
        let view = Mask { pointers: &[], key: None }.view(&record);
        assert_eq!((view.headers_left_out, view.headers.len()), (Some(2), 1));
        assert!(!serde_json::to_string(&Mask { pointers: &[], key: None }.view(&stored("k", b"1"))).unwrap().contains("left_out"));
    }

    #[test]
    fn with_masks_a_value_that_is_not_json_is_not_shown() {
        let pointers = vec!["/name".to_owned()];
        assert_eq!(Mask { pointers: &pointers, key: None }.view(&stored("k", b"{\"name\": \"A\"")).value, json!(MASK));
        assert_eq!(Mask { pointers: &[], key: None }.view(&stored("k", b"{\"name\": \"A\"")).value, json!("{\"name\": \"A\""));
    }

    #[test]
    fn a_long_value_is_truncated_between_characters_and_marked() {
        let value = format!("{{\"text\":\"{}\"}}", "é".repeat(MAX_VALUE_BYTES));
        let view = Mask { pointers: &[], key: None }.view(&stored("k", value.as_bytes()));
        assert!(view.truncated && view.value.as_str().unwrap().len() <= MAX_VALUE_BYTES && view.value_bytes == value.len() as u64);
        let long_and_masked = Mask { pointers: &["/text".to_owned()], key: None }.view(&stored("k", value.as_bytes()));
        assert!(!long_and_masked.value.to_string().contains('é') && !long_and_masked.truncated, "masked before it is truncated");
    }

    #[test]
    fn a_tail_starts_no_earlier_than_its_partition() {
        let ends = BTreeMap::from([(0, (Offset(5), Offset(100))), (1, (Offset(0), Offset(3)))]);
        let tail = |from, to| Range { from: Offset(from), to: Offset(to) };
        assert_eq!(tails(&ends, 10), BTreeMap::from([(0, tail(90, 100)), (1, tail(0, 3))]));
    }
}
