//! What `forebay demo` brings with it: an API that serves invented people, and a pipeline file.

mod people;
pub(crate) mod people_api;
pub(crate) mod pipeline_file;
