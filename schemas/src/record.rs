//! The JSON Schema of one record, as far as Forebay enforces it.
