//! Test support: runs actors under one supervisor.

use std::sync::Arc;
use std::time::Duration;

use super::{ActorTree, Backoff, ChildSpec, Environment, Exit, Limits, Root, Strategy, SupervisorSpec, SystemClock, block_on, start};

/// Runs children under one supervisor during `test`. Returns the test's output and the exit of the
/// tree, which is stopped afterwards.
///
/// # Panics
/// If there is no I/O runtime, or the children do not start within half a minute.
pub fn with_tree<T>(children: Vec<ChildSpec>, test: impl AsyncFnOnce(&Root, &ActorTree) -> T) -> (T, Exit) {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    block_on(&Arc::new(io.expect("a test has a runtime")), async move {
        let actor_tree = ActorTree::default();
        let env = Environment { clock: SystemClock::shared(), seed: 1, listener: Arc::new(()), actor_tree: actor_tree.clone() };
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(100) };
        let limits = Limits { max_restarts: 5, within: Duration::from_secs(60), backoff, backoff_reset: Duration::from_secs(60) };
        let nodes = children.len() + 1;
        let root = start("root", SupervisorSpec { strategy: Strategy::RestForOne, limits, children }, env);
        eventually(|| (actor_tree.actors().iter().filter(|actor| actor.incarnation > 0).count() == nodes).then_some(())).await;
        let output = test(&root, &actor_tree).await;
        root.stop();
        (output, root.exited().await)
    })
}

/// Polls a condition until it holds, for at most half a minute.
///
/// # Panics
/// If it does not hold by then.
pub async fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(value) = condition() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition did not hold within half a minute")
}
