//! What an answer says of itself, so that the next request can ask whether it has changed. Pure.
//!
//! Guarantee: two answers with the same validators are the same, as far as the API gives each
//! `ETag` to one answer and dates its answers.
//!
//! Does not guarantee that an answer has any: a `Last-Modified` without a `Date` is none.

use chrono::{DateTime, TimeDelta};
use forebay_schemas::source_read::{MAX_VALIDATOR_BYTES, Validators};

/// The validators among the headers of an answer.
///
/// A `Last-Modified` counts if the answer's `Date` is at least a second later (RFC 9110, section
/// 8.8.2.2): what changes in the rest of a second would have the same time, and never be read.
pub(crate) fn of_answer(etag: Option<String>, last_modified: Option<String>, date: Option<&str>) -> Option<Validators> {
    let time = |text: &str| DateTime::parse_from_rfc2822(text).ok();
    let date = date.and_then(time);
    let is_past = |modified: &String| time(modified).zip(date).is_some_and(|(modified, date)| date - modified >= TimeDelta::seconds(1));
    let is_short = |text: &String| text.len() <= MAX_VALIDATOR_BYTES;
    let validators = Validators { etag: etag.filter(is_short), last_modified: last_modified.filter(is_short).filter(is_past) };
    Some(validators).filter(|known| *known != Validators::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(etag: Option<&str>, last_modified: Option<&str>, date: Option<&str>) -> Option<(Option<String>, Option<String>)> {
        let validators = of_answer(etag.map(str::to_owned), last_modified.map(str::to_owned), date)?;
        Some((validators.etag, validators.last_modified))
    }

    #[test]
    fn a_last_modified_counts_only_if_its_second_is_over() {
        let modified = "Mon, 30 Nov 2026 12:00:00 GMT";
        let kept = Some((None, Some(modified.to_owned())));
        assert_eq!(of(None, Some(modified), Some("Mon, 30 Nov 2026 12:00:01 GMT")), kept);
        for date in [Some(modified), Some("Mon, 30 Nov 2026 11:59:59 GMT"), Some("today"), None] {
            assert_eq!(of(None, Some(modified), date), None, "{date:?}");
        }
        assert_eq!(of(None, Some("yesterday"), Some(modified)), None);
    }

    #[test]
    fn an_etag_counts_by_itself_and_a_long_one_does_not() {
        assert_eq!(of(Some("\"1\""), None, None), Some((Some("\"1\"".to_owned()), None)));
        assert_eq!(of(Some(&"1".repeat(MAX_VALIDATOR_BYTES + 1)), None, None), None);
        assert_eq!(of(None, None, None), None);
    }
}
