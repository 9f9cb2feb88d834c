//! Old versions of events, brought to the next one step by step. A step that was ever needed stays.

use serde_json::{Value, json};

/// The whole object of an event of an old version, as the newest version would have it.
pub(super) fn newest(kind: &str, mut version: u32, mut event: Value) -> Value {
    while version < super::version_of(kind) {
        let data = &mut event["data"];
        match (kind, version) {
            // Version 2 says which topic and group the places in the journal belong to.
            ("PipelineStarted", 1) => (data["topic"], data["group"]) = (json!(""), json!("")),
            // Version 2 may have a cursor; a source of version 1 had none.
            ("PageFetched" | "PageProduced", 1) => {}
            // Version 2 says what was asked for, beside the key; before, that was nothing.
            ("RunRequested", 1) => {}
            // Version 3 may read again, and say how many records may be rejected; a run of version 2 went on at the source's cursor, and any number might.
            ("RunRequested", 2) => data["max_rejected"] = json!("100%"),
            // Version 2 says from where; version 1 did not know.
            ("RunStarted", 1) => {}
            // Version 3 says whose cursor moves, and why records were rejected. Version 2 had one for all fetches, so it is that of the read without params; who knows the
            // run leaves out what one with params did to it.
            ("PageProduced", 2) => {
                if data.get("cursor").is_some() {
                    data["moves"] = json!("");
                }
            }
            // Version 2 says why no further page was asked for; version 1 did not know.
            ("RunProduced", 1) => {}
            // Version 3 says what became of the records of runs.
            ("BatchWritten", 2) => {}
            // Version 2 says who, and why.
            ("RunCancelled", 1) => (data["by"], data["reason"]) = (json!("operator"), json!("")),
            // Version 2 says which written ends moved.
            ("BatchWritten", 1) => data["written"] = json!({}),
            // Version 2 says where each partition starts; version 1 did not know, and no lineage is ever 0.
            ("PartitionsAssigned", 1) => *data = json!({ "starts": {} }),
            (kind, version) => unreachable!("{kind} has no step from version {version}"),
        }
        version += 1;
        event["v"] = version.into();
    }
    event
}
