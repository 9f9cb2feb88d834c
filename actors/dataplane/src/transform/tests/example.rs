//! The example that `forebay init` writes.

use std::path::Path;

use forebay_schemas::pipeline::Pipeline;
use serde_json::json;

use super::*;

pub(super) const RECORD: &str = r#"{"gender":"female","name":{"title":"Ms","first":"Anna","last":"Meyer"},"location":{"street":{"number":8929,"name":"Valwood Pkwy"},"city":"Billings","state":"Michigan","country":"United States","postcode":63104,"coordinates":{"latitude":"-69.8246","longitude":"134.8719"},"timezone":{"offset":"+9:30","description":"Adelaide, Darwin"}},"email":"anna.meyer@example.com","login":{"uuid":"7a0eed16-9430-4d68-901f-c0d4c1c3bf00","username":"yellowpeacock117","password":"addison","salt":"sld1yGtd","md5":"ab54ac4c0be9480ae8fa5e9e2a5196a3","sha1":"edcf2ce613cbdea349133c52dc2f3b83168dc51b","sha256":"48df5229235ada28389b91e60a935e4f9b73eb4bdb855ef9258a1751f10bdc5d"},"dob":{"date":"1992-03-08T15:13:16.688Z","age":30},"registered":{"date":"2007-07-09T05:51:59.390Z","age":14},"phone":"(272) 790-0888","cell":"(489) 330-2385","id":{"name":"SSN","value":"405-88-3636"},"picture":{"large":"https://randomuser.me/api/portraits/women/75.jpg","medium":"https://randomuser.me/api/portraits/med/women/75.jpg","thumbnail":"https://randomuser.me/api/portraits/thumb/women/75.jpg"},"nat":"US"}"#;

pub(super) fn example() -> Pipeline {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/users/forebay.toml");
    forebay_schemas::pipeline::load(&path).unwrap()
}

#[test]
fn a_person_becomes_the_documented_row() {
    let transform = Transform::new(&example()).unwrap();
    let out = transform.run(&texts(&[RECORD]));
    assert_eq!(reasons(&out.rejects), []);
    let expected = json!({
        "id": "7a0eed16-9430-4d68-901f-c0d4c1c3bf00", "first_name": "Anna", "last_name": "Meyer", "gender": "female",
        "address": "8929 Valwood Pkwy, Billings, Michigan, United States", "post_code": "63104",
        "email": "anna.meyer@example.com", "username": "yellowpeacock117", "dob": "1992-03-08T15:13:16.688Z",
        "registered_date": "2007-07-09T05:51:59.390Z", "phone": "(272) 790-0888",
        "picture": "https://randomuser.me/api/portraits/med/women/75.jpg",
    });
    assert_eq!(rows(&out), [(0, expected)]);
    assert_eq!(out.write_ts, [1_000_000]);
}

#[test]
fn the_columns_of_a_person_have_the_types_of_the_table() {
    let transform = Transform::new(&example()).unwrap();
    let columns: Vec<_> = transform.output_schema().fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    let expected = [
        "id Utf8",
        "first_name Utf8",
        "last_name Utf8",
        "gender Utf8",
        "address Utf8",
        "post_code Utf8",
        "email Utf8",
        "username Utf8",
        "dob Timestamp(µs, \"+00:00\")",
        "registered_date Timestamp(µs, \"+00:00\")",
        "phone Utf8",
        "picture Utf8",
    ];
    assert_eq!(columns, expected);
}

#[test]
fn a_post_code_may_be_text_and_an_unused_field_may_be_null() {
    let transform = Transform::new(&example()).unwrap();
    let record = RECORD.replace("63104", "\"K1A 0B1\"").replace("\"405-88-3636\"", "null");
    assert_eq!(rows(&transform.run(&texts(&[&record])))[0].1["post_code"], "K1A 0B1");
}
