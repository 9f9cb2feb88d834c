//! Checks `[kafka.properties]` against the librdkafka in this program, without a server.
//!
//! Guarantees:
//! * Every property of the file exists, and its value is one that librdkafka takes for it.
//! * No value of a secret is in a message.
//!
//! Does not guarantee that the values suit each other or the broker, nor that a file that one names
//! can be read; the first client shows that.

use forebay_schemas::pipeline::{FileError, Pipeline, Property, nearest};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::property_names::{NAMES, OF_JAVA};

/// Checks the properties of a pipeline file.
///
/// # Errors
/// With every property that does not exist, or whose value is wrong, at its line.
pub fn check_properties(pipeline: &Pipeline) -> Result<(), FileError> {
    let errors = pipeline.kafka.properties.iter().filter_map(|(name, value)| {
        let (message, help) = problem(name, value)?;
        Some(pipeline.error_at(&["kafka", "properties", name], message, help))
    });
    FileError::several(errors.collect()).map_or(Ok(()), Err)
}

/// What is wrong with a property, and what to do.
fn problem(name: &str, value: &Property) -> Option<(String, String)> {
    // librdkafka knows some of them, to refuse them.
    if let Some((_, remedy)) = OF_JAVA.iter().find(|(java, _)| *java == name) {
        return Some((format!("`{name}` is a property of Java's clients, not of librdkafka"), (*remedy).to_owned()));
    }
    // The value of a secret is not known here; its name is checked.
    let text = match value {
        Property::Plain(text) => Some(text.as_str()),
        Property::Secret(_) => None,
    };
    let mut config = ClientConfig::new();
    config.set(name, text.unwrap_or_default());
    let Err(KafkaError::ClientConfig(result, description, ..)) = config.create_native_config() else { return None };
    if result == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        let help = match nearest(name, NAMES.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "remove the line; CONFIGURATION.md of librdkafka has the properties".to_owned(),
        };
        return Some((format!("librdkafka has no property `{name}`"), help));
    }
    let text = text?;
    let message = format!("{text:?} is no value of `{name}`: {}", description.trim_end());
    Some((message, "correct the value, or remove the line; CONFIGURATION.md of librdkafka has the values of each property".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn pipeline(properties: &str) -> Pipeline {
        let text = format!(
            "[pipeline]\nname = \"p\"\n[kafka]\nbootstrap = \"kafka:9092\"\ntopic = \"t\"\n[kafka.properties]\n{properties}\n[fetcher]\nurl = \
             \"http://127.0.0.1:1/\"\n[producer]\nkey = \"/id\"\n"
        );
        forebay_schemas::pipeline::parse(Path::new("forebay.toml"), text).unwrap()
    }

    fn error(properties: &str) -> FileError {
        check_properties(&pipeline(properties)).expect_err(properties)
    }

    #[test]
    fn a_property_that_does_not_exist_is_an_error_with_the_nearest_name() {
        for (property, remedy) in [
            ("\"scurity.protocol\" = \"ssl\"", "did you mean `security.protocol`?"),
            ("\"ssl.ca.locaton\" = \"ca.pem\"", "did you mean `ssl.ca.location`?"),
            ("\"zzz\" = \"1\"", "remove the line; CONFIGURATION.md of librdkafka has the properties"),
        ] {
            let error = error(property);
            assert_eq!((error.line(), error.remedy()), (Some(7), Some(remedy)), "{property}: {error}");
            assert!(error.to_string().starts_with("librdkafka has no property `"), "{error}");
        }
    }

    #[test]
    fn a_value_that_a_property_does_not_take_is_an_error_and_all_are_reported() {
        let error = error(
            "\"security.protocol\" = \"tls\"\n\"linger.ms\" = \"fast\"\n\"socket.keepalive.enable\" = \"perhaps\"\n\"session.timeout.ms\" = \"999999999\"",
        );
        let all: Vec<String> = [&error].into_iter().chain(error.others()).map(ToString::to_string).collect();
        assert_eq!(all.len(), 4, "{all:?}");
        for text in [
            "\"tls\" is no value of `security.protocol`",
            "\"fast\" is no value of `linger.ms`",
            "\"perhaps\" is no value of `socket.keepalive.enable`",
            "\"999999999\" is no value of `session.timeout.ms`: ",
        ] {
            assert!(all.iter().any(|message| message.starts_with(text)), "{text}: {all:?}");
        }
        assert!(
            check_properties(&pipeline(
                "\"linger.ms\" = \"20\"\n\"sasl.password\" = { env = \"P\" }\n\"ssl.key.password\" = { env = \"P\" }"
            ))
            .is_ok()
        );
    }

    #[test]
    fn a_property_of_javas_clients_is_an_error_that_says_what_to_write() {
        let error = error("\"sasl.jaas.config\" = { env = \"JAAS\" }\n\"max.poll.records\" = \"500\"");
        assert_eq!(error.to_string(), "`max.poll.records` is a property of Java's clients, not of librdkafka (the first of 2 errors)");
        assert_eq!(error.others()[0].remedy(), Some("set `sasl.username` and `sasl.password`"));
    }

    #[test]
    fn every_name_that_is_suggested_exists_and_none_of_javas_does() {
        let result = |name: &str| {
            let mut config = ClientConfig::new();
            match config.set(name, "").create_native_config() {
                Err(KafkaError::ClientConfig(result, ..)) => Some(result),
                _ => None,
            }
        };
        let unknown: Vec<_> = NAMES.iter().filter(|name| result(name) == Some(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(OF_JAVA.iter().all(|(name, _)| result(name).is_some()));
    }
}
