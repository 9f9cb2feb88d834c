//! What the tests of this crate's ingest run actors with.

use forebay_kernel::Backoff;
use std::sync::Arc;
use std::time::Duration;

use forebay_kernel::ChildSpec;

use forebay_kernel::Environment;

use forebay_kernel::Exit;

use forebay_kernel::Limits;

use forebay_kernel::Registry;

use forebay_kernel::Root;

use forebay_kernel::Strategy;

use forebay_kernel::SupervisorSpec;

use forebay_kernel::SystemClock;

use forebay_kernel::block_on;

use forebay_kernel::start;

/// Runs children under one supervisor while `test` does; gives what the test gave, and how the tree ended when asked to.
pub(crate) fn with_tree<T>(children: Vec<ChildSpec>, test: impl AsyncFnOnce(&Root, &Registry) -> T) -> (T, Exit) {
    let io = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    block_on(&io, async move {
        let registry = Registry::default();
        let env = Environment { clock: SystemClock::shared(), seed: 1, witness: Arc::new(()), registry: registry.clone() };
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(100) };
        let limits = Limits { max_restarts: 5, within: Duration::from_secs(60), backoff, backoff_reset: Duration::from_secs(60) };
        let nodes = children.len() + 1;
        let root = start("root", SupervisorSpec { strategy: Strategy::RestForOne, limits, children }, env);
        eventually(|| (registry.actors().iter().filter(|actor| actor.incarnation > 0).count() == nodes).then_some(())).await;
        let outcome = test(&root, &registry).await;
        root.stop();
        (outcome, root.exited().await)
    })
}

/// Looks until something is so, for half a minute at most.
pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(seen) = look() {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it has not become so")
}
