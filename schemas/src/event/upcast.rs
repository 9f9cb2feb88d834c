//! Upgrades old versions of events, one version at a time. Steps are never removed.

use serde_json::{Value, json};

/// Upgrades the whole object of an event to the newest version of its type.
pub(super) fn newest(kind: &str, mut version: u32, mut event: Value) -> Value {
    while version < super::version_of(kind) {
        let data = &mut event["data"];
        match (kind, version) {
            // Version 2 adds the topic and the group that the offsets in the journal belong to.
            ("PipelineStarted", 1) => (data["topic"], data["group"]) = (json!(""), json!("")),
            // Version 2 may have a cursor; sources had none in version 1.
            ("PageFetched" | "PageProduced", 1) => {}
            // Version 2 adds the params and labels of the request; before, there were none.
            ("RunRequested", 1) => {}
            // Version 3 adds reading again, and the limit of rejected records. In version 2 a run
            // continued at the source's cursor, and any number of records could be rejected.
            ("RunRequested", 2) => data["max_rejected"] = json!("100%"),
            // Version 4 adds the window of the run; before, there was none.
            ("RunRequested", 3) => {}
            // Version 2 adds the position; in version 1 it is unknown.
            ("RunStarted", 1) => {}
            // Version 3 adds whose cursor moves, and why records were rejected. In version 2 one
            // cursor served all fetches, so it becomes that of the read without params. Code that
            // knows the run ignores what a run with params did to it.
            ("PageProduced", 2) => {
                if data.get("cursor").is_some() {
                    data["moves"] = json!("");
                }
            }
            // Version 2 adds why no further page was requested; in version 1 it is unknown.
            ("RunProduced", 1) => {}
            // Version 3 adds what became of the records of runs.
            ("BatchWritten", 2) => {}
            // Version 2 adds who, and why.
            ("RunCancelled", 1) => (data["by"], data["reason"]) = (json!("operator"), json!("")),
            // Version 2 adds the written offsets that moved.
            ("BatchWritten", 1) => data["written"] = json!({}),
            // Version 2 adds where each partition starts; in version 1 it is unknown, and no epoch
            // is 0.
            ("PartitionsAssigned", 1) => *data = json!({ "starts": {} }),
            (kind, version) => unreachable!("{kind} has no upgrade from version {version}"),
        }
        version += 1;
        event["v"] = version.into();
    }
    event
}
