//! Records for the users example.

use std::collections::BTreeMap;

use super::Job;

/// The identifier of user `n`.
pub(crate) fn user_id(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

/// The date of a bad record.
pub(crate) const BAD_DATE: &str = "some day";

/// User `n` with an invalid date, so that the record becomes a dead letter.
pub(crate) fn bad_user(n: u32, version: u32) -> String {
    user(n, version).replace("1992-03-08T15:13:16.688Z", BAD_DATE)
}

/// User `n` in a version, as the source API would send it.
pub(crate) fn user(n: u32, version: u32) -> String {
    serde_json::json!({
        "gender": if n.is_multiple_of(2) { "female" } else { "male" },
        "name": { "title": "Mx", "first": format!("First{n}"), "last": format!("Last{version}") },
        "location": {
            "street": { "number": n, "name": "Main Street" }, "city": "Zürich", "state": "ZH", "country": "Switzerland", "postcode": 8000 + n % 100,
            "coordinates": { "latitude": "47.3", "longitude": "8.5" }, "timezone": { "offset": "+1:00", "description": "Bern" },
        },
        "email": format!("user{n}@example.org"),
        "login": {
            "uuid": user_id(n), "username": format!("user{n}"), "password": "p", "salt": "s", "md5": "m", "sha1": "s", "sha256": "s",
        },
        "dob": { "date": "1992-03-08T15:13:16.688Z", "age": 30 },
        "registered": { "date": "2007-07-09T05:51:59.390Z", "age": 14 },
        "phone": "1", "cell": "2", "id": { "name": "AHV", "value": null },
        "picture": { "large": "l", "medium": "m", "thumbnail": "t" }, "nat": "CH",
    })
    .to_string()
}

/// Users `0..n` in a version, keyed.
pub(crate) fn version(n: u32, version: u32) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..n).map(move |n| (user_id(n), user(n, version).into_bytes()))
}

/// Number of rows of a job's table by last name, which has the version.
pub(crate) fn versions(job: &Job) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for row in job.query("SELECT last_name FROM users_stream") {
        *versions.entry(row["last_name"].as_str().unwrap_or("none").to_owned()).or_default() += 1;
    }
    versions
}

/// Users `0..n`, keyed by their identifier.
pub(crate) fn users(n: u32) -> impl Iterator<Item = (String, Vec<u8>)> {
    (0..n).map(|n| (user_id(n), user(n, 1).into_bytes()))
}
