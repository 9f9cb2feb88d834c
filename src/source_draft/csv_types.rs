//! The types of the columns of CSV, in which every field is a text.

use serde_json::{Map, Number, Value};

/// The rows with the types that all their fields in a column have: integers, numbers, true and
/// false. Other columns stay text, as integers with leading zeros do.
pub(crate) fn with_types(rows: Vec<Value>) -> Vec<Value> {
    let names: Vec<String> = rows.first().and_then(Value::as_object).map(|row| row.keys().cloned().collect()).unwrap_or_default();
    let mut rows = rows;
    for name in names {
        let texts = || rows.iter().filter_map(|row| row.get(&name)?.as_str()).filter(|text| !text.is_empty());
        let all = |is: fn(&str) -> bool| texts().next().is_some() && texts().all(is);
        let of: fn(&str) -> Option<Value> = if all(is_integer) {
            |text| text.parse::<i64>().ok().map(Value::from)
        } else if all(is_number) {
            |text| text.parse().ok().and_then(Number::from_f64).map(Value::Number)
        } else if all(|text| matches!(text, "true" | "false")) {
            |text| text.parse::<bool>().ok().map(Value::from)
        } else {
            continue;
        };
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            set(row, &name, of);
        }
    }
    rows
}

fn set(row: &mut Map<String, Value>, name: &str, of: fn(&str) -> Option<Value>) {
    if let Some(value) = row.get_mut(name) {
        match value.as_str().map(of) {
            Some(Some(typed)) => *value = typed,
            // An empty field.
            Some(None) => *value = Value::Null,
            None => {}
        }
    }
}

fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// Whether a text is a number of JSON, of which a double keeps all digits.
fn is_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits <= 15 && serde_json::from_str::<Number>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_has_the_type_that_all_its_fields_have() {
        let rows = vec![
            json!({ "id": "1", "zip": "01067", "amount": "12.50", "paid": "true", "note": "", "mixed": "1", "left": "3" }),
            json!({ "id": "2", "zip": "10115", "amount": "7", "paid": "false", "note": null, "mixed": "one", "left": "" }),
        ];
        let expected = [
            json!({ "id": 1, "zip": "01067", "amount": 12.5, "paid": true, "note": "", "mixed": "1", "left": 3 }),
            json!({ "id": 2, "zip": "10115", "amount": 7.0, "paid": false, "note": null, "mixed": "one", "left": null }),
        ];
        assert_eq!(with_types(rows), expected);
        assert_eq!(with_types(vec![json!({ "n": "12345678901234567890.5" })]), [json!({ "n": "12345678901234567890.5" })]);
    }
}
