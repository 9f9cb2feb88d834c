//! Whether the name of a property, header or parameter says that its value is a secret.

/// The last word of a secret's name, or its last two.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "cookie",
    "apikey",
    "api key",
    "auth key",
    "access key",
    "subscription key",
    "private key",
    "key pem",
    "jaas config",
    "oauthbearer config",
];
/// The last word of a query parameter that may be one.
const SUSPECT_WORDS: &[&str] = &["key", "appid", "sig", "signature", "auth", "pass", "pwd"];

/// Whether a property, header or parameter of this name is a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    ends_in(name, SECRET_WORDS)
}

/// Whether a query parameter of this name may be a secret.
pub(crate) fn may_be_secret(name: &str) -> bool {
    is_secret_name(name) || ends_in(name, SUSPECT_WORDS)
}

/// Whether the last word of a name, or its last two, are one of these.
pub(crate) fn ends_in(name: &str, endings: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).rev();
    let last = words.next().unwrap_or_default();
    let two = format!("{} {last}", words.next().unwrap_or_default());
    endings.contains(&last) || endings.contains(&two.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_secret_are_recognised_and_others_are_not() {
        for name in
            ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "Authorization", "X-Api-Key", "PRIVATE-TOKEN", "apikey"]
        {
            assert!(is_secret_name(name), "{name}");
        }
        for name in
            ["sasl.username", "ssl.key.location", "ssl.ca.pem", "sasl.oauthbearer.token.endpoint.url", "Accept", "Idempotency-Key", "key"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
