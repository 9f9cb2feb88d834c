//! The headers of a record as Kafka's client gives them.
//!
//! Guarantee: each header whose name is UTF-8 is given, in order, and the others are counted, with nothing written to stderr for them. Not
//! guaranteed: anything of a header whose name is not UTF-8. Kafka's protocol does not allow one, its brokers keep it, and the client panics.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use rdkafka::message::Headers;

thread_local! {
    /// Whether a panic of this thread is expected, and is not to be reported.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    /// Whether the hook has not reported one.
    static SILENCED: Cell<bool> = const { Cell::new(false) };
}

/// Gives each header of a record to `each`, and then how many have no readable name.
pub(crate) fn each(headers: &impl Headers, mut each: impl FnMut(&str, Option<&[u8]>)) -> u64 {
    let mut unreadable = 0;
    for at in 0..headers.count() {
        match quietly(|| headers.try_get(at)) {
            Some(Some(header)) => each(header.key, header.value),
            Some(None) => {}
            None => unreadable += 1,
        }
    }
    unreadable
}

/// What `work` gives; none where it panics, of which the hook says nothing.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static FIRST: Once = Once::new();
    FIRST.call_once(silence);
    EXPECTED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    // Another hook was put before this one since. The next panic is silent again.
    if done.is_err() && !SILENCED.take() {
        silence();
    }
    done.ok()
}

/// Puts a hook before all others that does not report panics that are expected.
fn silence() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        if EXPECTED.get() {
            SILENCED.set(true);
        } else {
            others(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_panic_that_is_expected_is_silent_and_any_other_is_not() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        const MARK: &str = "a panic of this test";
        let others = take_hook();
        set_hook(Box::new(move |panic| match panic.payload().downcast_ref::<&str>() {
            Some(&MARK) => drop(HEARD.fetch_add(1, Ordering::Relaxed)),
            _ => others(panic),
        }));
        // The first may be heard: this hook was set after the one that silences.
        for _ in 0..100 {
            assert_eq!(quietly(|| -> u8 { std::panic::panic_any(MARK) }), None);
        }
        let at_most_the_first = HEARD.load(Ordering::Relaxed);
        assert!(at_most_the_first <= 1, "{at_most_the_first}");
        assert_eq!(quietly(|| 7), Some(7));
        assert!(catch_unwind(|| std::panic::panic_any(MARK)).is_err());
        assert_eq!(HEARD.load(Ordering::Relaxed), at_most_the_first + 1, "one that is not expected is heard");
    }
}
