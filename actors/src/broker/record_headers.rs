//! Reads the headers of a record from Kafka's client.
//!
//! Guarantees:
//! * Every header whose name is UTF-8 is returned, in order.
//! * The other headers are counted, and nothing is written to stderr for them.
//!
//! Does not guarantee anything else about a header whose name is not UTF-8: Kafka's protocol
//! forbids it, brokers store it, and the client panics on it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use rdkafka::message::Headers;

thread_local! {
    /// Whether a panic of this thread is expected and must not be reported.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    /// Whether the hook has suppressed a panic.
    static SILENCED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `each` with every readable header, and returns the number of the others.
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

/// Runs `work`. Returns `None` if it panics, without a report on stderr.
fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static FIRST: Once = Once::new();
    FIRST.call_once(silence);
    EXPECTED.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    // Somebody has installed another hook since. Install ours again.
    if done.is_err() && !SILENCED.take() {
        silence();
    }
    done.ok()
}

/// Installs a hook that suppresses expected panics and passes on all others.
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
    fn an_expected_panic_is_silent_and_any_other_is_reported() {
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        const MARK: &str = "a panic of this test";
        let others = take_hook();
        set_hook(Box::new(move |panic| match panic.payload().downcast_ref::<&str>() {
            Some(&MARK) => drop(HEARD.fetch_add(1, Ordering::Relaxed)),
            _ => others(panic),
        }));
        // The first may be reported: this hook was installed after the silencing one.
        for _ in 0..100 {
            assert_eq!(quietly(|| -> u8 { std::panic::panic_any(MARK) }), None);
        }
        let at_most_the_first = HEARD.load(Ordering::Relaxed);
        assert!(at_most_the_first <= 1, "{at_most_the_first}");
        assert_eq!(quietly(|| 7), Some(7));
        assert!(catch_unwind(|| std::panic::panic_any(MARK)).is_err());
        assert_eq!(HEARD.load(Ordering::Relaxed), at_most_the_first + 1, "an unexpected one is reported");
    }
}
