//! A request body of the API is refused, or means the same when it is written and parsed again.

use std::fmt::Debug;

use forebay_schemas::api::{ApplyRequest, PlanRequest, StateRequest};
use forebay_schemas::run::RunRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn parse_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    if let Ok(parsed) = serde_json::from_slice::<T>(body) {
        let written = serde_json::to_vec(&parsed).expect("a body is JSON");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("it was written by its own type"), parsed);
    }
}

/// Checks one input.
pub fn check(body: &[u8]) {
    parse_again::<RunRequest>(body);
    parse_again::<StateRequest>(body);
    parse_again::<PlanRequest>(body);
    parse_again::<ApplyRequest>(body);
}
