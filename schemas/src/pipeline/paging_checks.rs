//! Checks of `[fetcher.paging]`, apart from its templates.
//!
//! Guarantee: a key that a kind of paging does not use is an error, and so is one that it needs and
//! does not have.

use super::checks::{check_pointer, in_range};
use super::paging::{HeaderPlace, PagingKind, PagingSection, Place, Scalar};
use super::{FetcherSection, FileError, Pipeline};
use crate::source_read::MAX_CURSOR_BYTES;

impl PagingSection {
    /// The keys that are set, apart from `kind`.
    fn keys(&self) -> Vec<&'static str> {
        let all = [
            ("next", self.next.is_some()),
            ("last", self.last.is_some()),
            ("param", self.param.is_some()),
            ("start", self.start.is_some()),
            ("step", self.step.is_some()),
            ("size", self.size.is_some()),
            ("size_param", self.size_param.is_some()),
            ("has_more", self.has_more.is_some()),
            ("total", self.total.is_some()),
            ("total_of", self.total_of.is_some()),
            ("max_empty_pages", self.max_empty_pages.is_some()),
            ("next_fetch", self.next_fetch.is_some()),
            ("allowed_hosts", !self.allowed_hosts.is_empty()),
        ];
        all.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect()
    }
}

/// The keys of a kind: those it needs, and those it may have.
fn keys_of(kind: PagingKind) -> (&'static [&'static str], &'static [&'static str]) {
    match kind {
        PagingKind::Auto => (&[], &[]),
        PagingKind::Cursor => (&["next"], &["param", "start", "has_more", "max_empty_pages", "next_fetch", "allowed_hosts"]),
        PagingKind::NextUrl => (&["next"], &["has_more", "max_empty_pages", "next_fetch", "allowed_hosts"]),
        PagingKind::Link => (&[], &["has_more", "max_empty_pages", "next_fetch", "allowed_hosts"]),
        PagingKind::Page => {
            (&[], &["param", "start", "step", "size", "size_param", "has_more", "total", "total_of", "max_empty_pages", "next_fetch"])
        }
        PagingKind::Offset => {
            (&[], &["param", "start", "size", "size_param", "has_more", "total", "total_of", "max_empty_pages", "next_fetch"])
        }
        PagingKind::LastRecord => (&["last"], &["param", "start", "size", "size_param", "has_more", "max_empty_pages", "next_fetch"]),
    }
}

/// An example of the value of a key, for remedies.
fn example(key: &str) -> &'static str {
    match key {
        "next" => "\"/meta/next\"",
        "last" => "\"/id\"",
        "total" => "\"/meta/total\"",
        "has_more" => "\"/has_more\"",
        _ => "\"page\"",
    }
}

/// Checks the section.
pub(super) fn check(p: &Pipeline, fetcher: &FetcherSection) -> Result<(), FileError> {
    let Some(section) = &fetcher.paging else { return Ok(()) };
    let key = |name| ["fetcher", "paging", name];
    if fetcher.cursor.is_some() {
        let remedy = "remove `cursor`: kind = \"cursor\" with the same next, param and start means the same";
        return Err(p.error_at(&["fetcher", "cursor"], "`cursor` and `paging` both say how the API paginates", remedy));
    }
    let (needed, allowed) = keys_of(section.kind);
    let set = section.keys();
    if section.kind == PagingKind::Auto
        && let Some(name) = set.first()
    {
        let remedy = "remove it; or write the whole rule, which `forebay fetch --dry-run` prints";
        return Err(p.error_at(&key(name), format!("kind = \"auto\" finds out `{name}` itself"), remedy));
    }
    let kind = section.kind.as_str();
    if let Some(name) = set.iter().find(|name| !needed.contains(name) && !allowed.contains(name)) {
        let known = [needed, allowed].concat().join(", ");
        return Err(p.error_at(&key(name), format!("kind = {kind:?} has no `{name}`"), format!("remove it; its keys: {known}")));
    }
    if let Some(name) = needed.iter().find(|name| !set.contains(name)) {
        let remedy = format!("add {name} = {}, as the API defines it", example(name));
        return Err(p.error_at(&["fetcher", "paging"], format!("kind = {kind:?} needs `{name}`"), remedy));
    }
    check_pointers(p, section)?;
    check_texts(p, section)?;
    check_numbers(p, section)
}

fn check_pointers(p: &Pipeline, section: &PagingSection) -> Result<(), FileError> {
    let key = |name| ["fetcher", "paging", name];
    let empty = |name: &str| format!("set it as the API defines it, such as {}", example(name));
    let places = [("next", &section.next), ("total", &section.total)];
    for (name, place) in places.into_iter().filter_map(|(name, place)| Some((name, place.as_ref()?))) {
        match place {
            Place::Body(pointer) if pointer.is_empty() => return Err(p.error_at(&key(name), format!("`{name}` is empty"), empty(name))),
            Place::Body(pointer) => check_pointer(p, &key(name), pointer)?,
            Place::Header(_) if name == "next" && section.kind == PagingKind::NextUrl => {
                let remedy = "use kind = \"link\" for a Link header, or kind = \"cursor\" for another header";
                return Err(p.error_at(&key(name), "the URL of the next page is in the body", remedy));
            }
            Place::Header(HeaderPlace { header }) if !is_token(header) => {
                return Err(p.error_at(
                    &key(name),
                    format!("{header:?} is not the name of a header"),
                    "write it as in the answer, such as \"X-Next-Cursor\"",
                ));
            }
            Place::Header(_) => {}
        }
    }
    for (name, pointer) in [("last", &section.last), ("has_more", &section.has_more)] {
        let Some(pointer) = pointer else { continue };
        if pointer.is_empty() {
            return Err(p.error_at(&key(name), format!("`{name}` is empty"), empty(name)));
        }
        check_pointer(p, &key(name), pointer)?;
    }
    Ok(())
}

fn check_texts(p: &Pipeline, section: &PagingSection) -> Result<(), FileError> {
    let key = |name| ["fetcher", "paging", name];
    for (name, text) in [("param", &section.param), ("size_param", &section.size_param)] {
        if text.as_ref().is_some_and(String::is_empty) {
            let remedy = format!("set it as the API defines it, such as {}; remove it if a template has the value", example(name));
            return Err(p.error_at(&key(name), format!("`{name}` is empty"), remedy));
        }
    }
    if let (Some(_), None) = (&section.size_param, section.size) {
        return Err(p.error_at(&key("size_param"), "`size_param` needs `size`", "add size = 100, the number of records on a page"));
    }
    if let (Some(_), None) = (&section.total_of, &section.total) {
        return Err(p.error_at(&key("total_of"), "`total_of` needs `total`", "add total = \"/meta/total\", as the API defines it"));
    }
    match &section.start {
        Some(Scalar::Text(text)) if matches!(section.kind, PagingKind::Page | PagingKind::Offset) => {
            Err(p.error_at(&key("start"), format!("{text:?} is not a number"), "write a number without quotes, such as 0"))
        }
        Some(Scalar::Text(text)) if text.is_empty() || text.len() > MAX_CURSOR_BYTES => {
            let remedy = "remove it if the first page is requested without a cursor";
            Err(p.error_at(&key("start"), format!("the cursor has {} bytes; a cursor has 1 to {MAX_CURSOR_BYTES}", text.len()), remedy))
        }
        _ => check_hosts(p, section),
    }
}

fn check_hosts(p: &Pipeline, section: &PagingSection) -> Result<(), FileError> {
    let is_host = |host: &str| {
        !host.is_empty() && !host.contains(['/', ' ', '@', '*', '?', '#']) && url::Url::parse(&format!("http://{host}/")).is_ok()
    };
    match section.allowed_hosts.iter().find(|host| !is_host(host)) {
        None => Ok(()),
        Some(host) => Err(p.error_at(
            &["fetcher", "paging", "allowed_hosts"],
            format!("{host:?} is not a host"),
            "write the host of the URLs, \"files.example.org\" or \"files.example.org:8443\"; each host by itself",
        )),
    }
}

fn check_numbers(p: &Pipeline, section: &PagingSection) -> Result<(), FileError> {
    let numbers = [("step", section.step, 1, 1_000_000), ("size", section.size, 1, 1_000_000)];
    for (name, number, min, max) in numbers {
        if let Some(number) = number {
            in_range(p, &["fetcher", "paging", name], i64::try_from(number).unwrap_or(i64::MAX), min, max)?;
        }
    }
    let empty = i64::from(section.max_empty_pages.unwrap_or_default());
    in_range(p, &["fetcher", "paging", "max_empty_pages"], empty, 0, 10_000)
}

/// Whether a text is a token of HTTP (RFC 9110), such as the name of a header.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
