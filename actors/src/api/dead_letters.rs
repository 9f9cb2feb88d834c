//! Dead letters: listed, counted by reason, and selected by what is shown of them.
//!
//! Guarantees:
//! * A filter compares with what is shown, so it reveals nothing that `[api] mask` hides.
//! * An answer says how many dead letters were read for it.
//!
//! Does not guarantee that all dead letters of a large topic are read; see
//! [`dead_letters`](crate::operations::dead_letters).

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use forebay_dataplane::{dead_letter, reason_kind};
use forebay_schemas::dead_letter_filter::DeadLetterFilter;
use forebay_schemas::dead_letters::{DeadLetter, DeadLetterReason, DeadLetterReasons, DeadLetters};
use forebay_schemas::offset::{Offset, Partition, Range, RangeSet};
use forebay_schemas::problem;

use super::error::ApiError;
use super::extract::Params;
use super::kafka_records::{Mask, read_permit};
use super::{ApiResult, State};
use crate::broker::reader::StoredRecord;
use crate::operations::dead_letters::{Scan, newest, one};

/// The maximum number of reasons in an answer.
const MAX_REASONS: usize = 100;

/// Lists dead letters, or returns one.
pub(super) async fn list(state: web::Data<State>, params: Params) -> ApiResult {
    let (topic, redriven) = (state.api.pipeline.kafka.dead_letter_topic(), state.api.ledger.redriven());
    let mask = Mask::of(&state);
    let _permit = read_permit(&state)?;
    let Scan { total, read, letters } = match (params.integer("partition"), params.integer("offset")) {
        (Some(partition), Some(offset)) => {
            let letter = match (Partition::try_from(partition), i64::try_from(offset)) {
                (Ok(partition), Ok(offset)) => one(&state.api.access, &topic, partition, Offset(offset)).await?,
                _ => None,
            };
            let Some(letter) = letter else {
                return Err(ApiError::new(&problem::RECORDS_PLACE, format!("{topic} has no dead letter {partition}:{offset}")));
            };
            Scan { total: 1, read: 1, letters: vec![letter] }
        }
        (None, None) => {
            let filter = filter(&params);
            newest(&state.api.access, &topic, params.limit(), |letter| mask.matches(letter, &filter)).await?
        }
        _ => return Err(ApiError::new(&problem::RECORDS_PLACE, "partition and offset name a dead letter together")),
    };
    let letters = letters.iter().map(|letter| view(&mask, letter, &redriven)).collect();
    Ok(HttpResponse::Ok().json(DeadLetters { topic, total, read, letters }))
}

/// Counts the newest dead letters by reason.
pub(super) async fn reasons(state: web::Data<State>, params: Params) -> ApiResult {
    let (topic, redriven) = (state.api.pipeline.kafka.dead_letter_topic(), state.api.ledger.redriven());
    let (mask, filter) = (Mask::of(&state), filter(&params));
    let _permit = read_permit(&state)?;
    let Scan { total, read, letters } = newest(&state.api.access, &topic, usize::MAX, |letter| mask.matches(letter, &filter)).await?;
    let (reasons, left_out) = by_reason(&letters, &mask, &redriven);
    Ok(HttpResponse::Ok().json(DeadLetterReasons { topic, total, read, reasons, left_out }))
}

fn filter(params: &Params) -> DeadLetterFilter {
    let text = |name| params.text(name).map(str::to_owned);
    DeadLetterFilter { stage: text("stage"), matching: text("matching"), key: text("key") }
}

fn view(mask: &Mask<'_>, letter: &StoredRecord, redriven: &RangeSet) -> DeadLetter {
    DeadLetter { handled: is_handled(letter, redriven), ..mask.letter(letter) }
}

fn is_handled(letter: &StoredRecord, redriven: &RangeSet) -> bool {
    redriven.without(letter.partition, Range::of(letter.offset)).is_empty()
}

/// The reasons of dead letters, which are newest first: the most frequent reason first, and how
/// many dead letters have another one.
fn by_reason(letters: &[StoredRecord], mask: &Mask<'_>, redriven: &RangeSet) -> (Vec<DeadLetterReason>, u64) {
    let mut counts: BTreeMap<(String, String), DeadLetterReason> = BTreeMap::new();
    for letter in letters {
        let stage = letter.header(dead_letter::STAGE).unwrap_or_default();
        let kind = reason_kind(letter.header(dead_letter::MASKED_REASON).unwrap_or_default());
        let of_kind = counts.entry((stage.to_owned(), kind)).or_insert_with_key(|(stage, reason)| DeadLetterReason {
            stage: stage.clone(),
            reason: reason.clone(),
            count: 0,
            open: 0,
            newest: (letter.partition, letter.offset),
            example: mask.reason(letter),
        });
        of_kind.count += 1;
        of_kind.open += u64::from(!is_handled(letter, redriven));
    }
    let mut reasons: Vec<DeadLetterReason> = counts.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    let left_out = reasons.iter().skip(MAX_REASONS).map(|reason| reason.count).sum();
    reasons.truncate(MAX_REASONS);
    (reasons, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, stage: &str, reason: &str) -> StoredRecord {
        let header = |name: &str, text: &str| (name.to_owned(), Some(text.as_bytes().to_vec()));
        let headers =
            vec![header(dead_letter::REASON, reason), header(dead_letter::MASKED_REASON, reason), header(dead_letter::STAGE, stage)];
        let (partition, offset) = (0, Offset(offset));
        StoredRecord { partition, offset, timestamp_ms: None, key: None, value: None, headers, unreadable_headers: 0 }
    }

    #[test]
    fn reasons_that_differ_in_numbers_are_counted_together_with_the_newest_as_example() {
        let letters = [
            letter(4, "decode", "not JSON at line 1, column 9"),
            letter(3, "write", "null in the key"),
            letter(2, "decode", "not JSON at line 1, column 7"),
            letter(1, "write", "not JSON at line 1, column 7"),
        ];
        let mut redriven = RangeSet::default();
        redriven.add(&[(0, Range { from: Offset(2), to: Offset(4) })].into_iter().collect());
        let (reasons, left_out) = by_reason(&letters, &Mask::open(), &redriven);
        let shown: Vec<_> =
            reasons.iter().map(|each| (each.stage.as_str(), each.reason.as_str(), each.count, each.open, each.newest.1.value())).collect();
        assert_eq!(
            shown,
            [
                ("decode", "not JSON at line N, column N", 2, 1, 4),
                ("write", "not JSON at line N, column N", 1, 1, 1),
                ("write", "null in the key", 1, 0, 3)
            ]
        );
        assert_eq!((reasons[0].example.as_str(), left_out), ("not JSON at line 1, column 9", 0));
        let many: Vec<_> = (0..150).map(|n| letter(n, "decode", &format!("`/f{n}` is missing"))).collect();
        let (reasons, left_out) = by_reason(&many, &Mask::open(), &redriven);
        assert_eq!((reasons.len(), left_out), (100, 50));
    }
}
