//! Finds how an API paginates, for `forebay init --from`, `paging = "auto"` and `forebay fetch
//! --dry-run`: tries what its first answer hints at.
//!
//! Guarantees:
//! * A rule is found only if the API answers two pages by it, or if its first answer names the rule
//!   and leads to no second page.
//! * Of a rule that the answer does not name, the first page has the records of the first answer,
//!   and the second page has others.
//! * Nothing is produced and no cursor moves. At most two requests are made for each guess.
//!
//! Does not guarantee that an API in which no rule is found has one page.

use std::time::SystemTime;

use bytes::Bytes;
use forebay_schemas::pipeline::{FetcherSection, PagingSection, Pipeline};
use forebay_schemas::source_read::ReadParams;
use serde_json::Value;

use super::error::FetchError;
use super::page::{self, PagePaths};
use super::paging_guess::{FirstAnswer, PagingGuess, paging_guesses, sign_of_more};
use super::sample::{FirstResponse, first_response, two_pages};
use crate::text::json_lookup::parse_pointer;

/// How an API paginates, as far as its answers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagingSearch {
    /// The rule that was found.
    pub found: Option<PagingGuess>,
    /// What was found, and what was tried, a sentence each.
    pub notes: Vec<String>,
    /// Without a rule: what says that there are further pages.
    pub more: Option<String>,
}

/// Finds how the API of `[fetcher]` paginates, from its first answer on.
///
/// # Errors
/// When the first answer does not arrive.
pub(crate) async fn search_paging(
    pipeline: &Pipeline,
    section: &FetcherSection,
    params: &ReadParams,
    wall: SystemTime,
) -> Result<PagingSearch, FetchError> {
    let first = first_response(pipeline, section, params, wall).await?;
    Ok(find_paging(pipeline, section, &first, params, wall).await)
}

/// Finds how the API of `[fetcher]` paginates, whose first answer is `first`. `[fetcher.paging]` is
/// ignored.
pub async fn find_paging(
    pipeline: &Pipeline,
    section: &FetcherSection,
    first: &FirstResponse,
    params: &ReadParams,
    wall: SystemTime,
) -> PagingSearch {
    let one_page = FetcherSection { paging: None, cursor: None, ..section.clone() };
    let records = page::read(&first.body, &PagePaths::of(&one_page), false, section.max_page_bytes.as_usize());
    let records = records.map(|(extracted, _)| extracted.records).unwrap_or_default();
    let body: Value = serde_json::from_slice(&first.body).unwrap_or_default();
    let key = pipeline.producer.as_ref().map(|producer| parse_pointer(&producer.key)).unwrap_or_default();
    let at = parse_pointer(section.records.pointer());
    let answer = FirstAnswer {
        body: &body,
        headers: &first.headers,
        links_next: first.links_next,
        url: Some(section.url.reveal()),
        records: &at,
        count: records.len(),
        key: &key,
    };
    let (mut search, mut trials) = (PagingSearch::default(), Vec::new());
    for guess in paging_guesses(&answer) {
        let rule = guess.lines.join(", ");
        match tried(pipeline, &one_page, &guess, &records, params, wall).await {
            Ok((guess, note)) => {
                search.notes.push(note);
                search.found = Some(guess);
                return search;
            }
            Err(_) if guess.is_trial => trials.extend(guess.param()),
            Err(why) => search.notes.push(format!("not paging by {rule}: {why}")),
        }
    }
    search.more = sign_of_more(&answer);
    let tried = match trials.is_empty() {
        true => String::new(),
        false => format!("; the parameters {} lead to no other records", trials.join(", ")),
    };
    search.notes.push(match &search.more {
        Some(more) => format!(
            "paging: not found, although there is more: {more}{tried}; a fetch would be one page of several, so write [fetcher.paging], with the \
             kinds in docs/SOURCES.md"
        ),
        None => format!("paging: none found, so a fetch is one page{tried}; docs/SOURCES.md has the kinds"),
    });
    search
}

/// Tries a guess. Returns it, maybe with another start, and what was found.
///
/// # Errors
/// Why it is wrong.
async fn tried(
    pipeline: &Pipeline,
    section: &FetcherSection,
    guess: &PagingGuess,
    records: &[Bytes],
    params: &ReadParams,
    wall: SystemTime,
) -> Result<(PagingGuess, String), String> {
    let of = async |guess: &PagingGuess| {
        let paging = PagingSection::from_toml(&guess.lines.join("\n")).map_err(|error| error.to_string())?;
        let section = FetcherSection { paging: Some(paging), ..section.clone() };
        two_pages(pipeline, &section, params, wall).await.map_err(|error: FetchError| error.to_string())
    };
    let (mut guess, mut pages) = (guess.clone(), of(guess).await?);
    if pages.0 != records && guess.counts_from_one() {
        // The first page may have the number 0.
        let from_zero = PagingGuess { lines: [guess.lines.clone(), vec!["start = 0".to_owned()]].concat(), ..guess.clone() };
        if let Ok(zero) = of(&from_zero).await
            && zero.0 == records
        {
            (guess, pages) = (from_zero, zero);
        }
    }
    if guess.is_trial && pages.0 != records {
        return Err("its first page has other records than the first answer".to_owned());
    }
    let (first, second) = pages;
    let PagingGuess { lines, sign, is_trial } = &guess;
    let rule = lines.join(", ");
    let note = match second {
        Some(second) if second.iter().any(|record| first.contains(record)) => {
            return Err("its second page repeats records of the first".to_owned());
        }
        Some(second) if *is_trial && second.is_empty() => return Err("its second page has no records".to_owned()),
        Some(second) => format!("paging: {rule}, because {sign}; its second page has {} other records", second.len()),
        None if *is_trial => return Err("the first page leads to no second one".to_owned()),
        None => format!("paging: {rule}, a guess: {sign}, and the first page leads to no second one"),
    };
    Ok((guess, note))
}
