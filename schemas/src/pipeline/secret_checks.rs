//! Where the pipeline file may hold a secret: what must be a reference, and what is warned of.
//!
//! Guarantees:
//! * A value whose name says that it is a secret is a reference, and no address has a user or a
//!   password.
//! * No message repeats a value.
//!
//! Does not guarantee that a name says so: a secret in another property, header or parameter is not
//! recognised.

use std::collections::BTreeMap;

use super::{AuthSection, CassandraSection, FetcherSection, FileError, Pipeline, Property, QueryValue, Secret, SecretError, is_loopback};
use crate::http_url::HttpUrl;
use crate::run_plan::Warning;
use crate::secret_name::{ends_in, is_secret_name};
use crate::template::{Name, Template};

/// A file's text as an error shows it: `*` in place of the values that may be secrets, byte for
/// byte. The text need not be valid.
pub(super) fn masked(text: &str) -> String {
    let mut shown = text.as_bytes().to_vec();
    let mut key_start = 0;
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        match byte {
            b'"' | b'\'' => {
                let end = at + literal(&text[at..]);
                mask_urls(&mut shown[at..end]);
                at = end;
                continue;
            }
            b'\n' | b',' | b'{' => key_start = at + 1,
            b'=' => {
                let start = at + 1 + text[at + 1..].len() - text[at + 1..].trim_start_matches([' ', '\t']).len();
                let value = &text[start..];
                let end = start
                    + match value.as_bytes().first() {
                        Some(b'"' | b'\'') => literal(value),
                        Some(b'{' | b'[') => 0,
                        _ => value.find(['\n', ',', '}']).unwrap_or(value.len()),
                    };
                if holds_secret(&text[key_start..at]) {
                    shown[start..end].iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*');
                    at = end.max(at + 1);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    String::from_utf8(shown).expect("whole values are replaced")
}

/// Whether a key's value is a secret, or was meant to hold one.
fn holds_secret(key: &str) -> bool {
    is_secret_name(key) || ends_in(key, &["username", "bearer", "viewer", "operator", "admin", "tokens", "headers", "properties", "query"])
}

/// The length of the string literal at the start of a text; one that does not end takes its line.
fn literal(text: &str) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    if text.starts_with(&triple) {
        return text[3..].find(&triple).map_or(text.len(), |end| end + 6);
    }
    let line = text.find('\n').unwrap_or(text.len());
    let mut escaped = false;
    for (at, letter) in text[..line].char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote == "\"" => escaped = true,
            _ if text[at..].starts_with(quote) => return at + 1,
            _ => {}
        }
    }
    line
}

/// Masks the user and the query of the URL in a literal.
fn mask_urls(literal: &mut [u8]) {
    let Some(scheme) = literal.windows(3).position(|three| three == b"://") else { return };
    let start = scheme + 3;
    let end = literal.len() - literal.iter().rev().take_while(|byte| matches!(byte, b'"' | b'\'')).count();
    let at = literal.iter().rposition(|byte| *byte == b'@').map_or(start, |at| at.clamp(start, end));
    let query = literal[at..].iter().position(|byte| *byte == b'?').map_or(end, |query| (at + query + 1).min(end));
    literal[start..at].fill(b'*');
    literal[query..end].fill(b'*');
}

/// Refuses secrets that are written as text.
pub(super) fn check(p: &Pipeline) -> Result<(), FileError> {
    if let Some((name, _)) = plain(&p.kafka.properties).find(|(name, _)| is_secret_name(name)) {
        return Err(as_text(p, &["kafka", "properties", name], "KAFKA_SECRET"));
    }
    let headers = || p.fetcher.iter().flat_map(|fetcher| plain(&fetcher.headers));
    if let Some((name, _)) = headers().find(|(name, text)| is_secret_name(name) && !is_cursor(text)) {
        return Err(as_text(p, &["fetcher", "headers", name], "API_SECRET"));
    }
    let is_open = |value: &QueryValue| match value {
        QueryValue::Secret(_) => false,
        QueryValue::Text(text) => !is_cursor(text),
        _ => true,
    };
    let query = p.fetcher.iter().flat_map(|fetcher| &fetcher.query);
    if let Some((name, _)) = query.into_iter().find(|(name, value)| is_secret_name(name) && is_open(value)) {
        return Err(as_text(p, &["fetcher", "query", name], "API_KEY"));
    }
    let basic = "remove it from the URL, and set auth = { basic = { username = \"…\", password = { env = \"API_PASSWORD\" } } }";
    let remedies = [("fetcher", basic), ("lineage", "remove it from the URL, and set token = { env = \"…\" }")];
    if let Some((section, _)) = urls(p).into_iter().find(|(_, url)| url.has_user()) {
        let remedy = remedies.iter().find(|(with, _)| *with == section).map_or("remove it from the URL", |(_, remedy)| remedy);
        return Err(p.error_at(&[section, "url"], "the URL contains a user or a password", remedy));
    }
    Ok(())
}

/// The properties with their text, where they are not references.
fn plain(all: &BTreeMap<String, Property>) -> impl Iterator<Item = (&str, &str)> {
    all.iter().filter_map(|(name, value)| match value {
        Property::Plain(text) => Some((name.as_str(), text.as_str())),
        Property::Secret(_) => None,
    })
}

/// Whether a text is a `{{ cursor }}` alone: APIs name cursors tokens, too.
fn is_cursor(text: &str) -> bool {
    Template::parse(text).is_ok_and(|template| template.only().is_some_and(|it| it.name == Name::Cursor))
}

fn as_text(p: &Pipeline, key: &[&str], variable: &str) -> FileError {
    let name = key.last().expect("a key has a name");
    let remedy = format!(
        "write a reference: {name:?} = {{ env = \"{variable}\" }}, or {{ file = \"PATH\" }}; a text before the secret is its prefix: {{ prefix = \
         \"Bearer \", env = \"{variable}\" }}"
    );
    p.error_at(key, format!("`{name}` is a secret, and is written as text"), remedy)
}

/// The URLs of the file, each with its section.
fn urls(p: &Pipeline) -> Vec<(&'static str, &HttpUrl)> {
    let fetcher = p.fetcher.iter().map(|fetcher| ("fetcher", &fetcher.url));
    let lineage = p.lineage.iter().filter_map(|lineage| Some(("lineage", lineage.url.as_ref()?)));
    fetcher.chain(lineage).chain(p.traces.iter().map(|traces| ("traces", &traces.url))).collect()
}

/// A warning if a secret of `[fetcher]` crosses a network without TLS.
fn plaintext_secret(fetcher: &FetcherSection) -> Option<Warning> {
    let oauth2 = fetcher.auth.as_ref().and_then(|auth| auth.oauth2.as_ref());
    let has_secret = fetcher.auth.is_some() || fetcher.headers.values().any(|value| matches!(value, Property::Secret(_)));
    let urls = [("url", has_secret.then_some(&fetcher.url)), ("auth.oauth2.token_url", oauth2.map(|oauth2| &oauth2.token_url))];
    let is_plain = |url: &HttpUrl| {
        let host = url.reveal().host_str().unwrap_or_default().trim_matches(['[', ']']);
        url.reveal().scheme() == "http" && !is_loopback(host)
    };
    let (key, _) = urls.into_iter().find(|(_, url)| url.is_some_and(is_plain))?;
    let what = format!(
        "[fetcher] {key} is http: whoever can read the network's traffic can read the secret that is sent along; use https if the server has it"
    );
    Some(Warning { code: "plaintext_secret".to_owned(), what })
}

impl Pipeline {
    /// Settings that may reveal a secret, or trust a server that is not the intended one. They are
    /// shown by `check` and `plan`, and logged at each start.
    pub fn security_warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (section, url) in urls(self) {
            for (name, _) in url.secret_parameters() {
                let what = format!(
                    "the parameter `{name}` in [{section}] url may be a secret: the pipeline file holds it as text, and the logs of servers and \
                     proxies hold URLs; if the server takes it as a header, move it there as a reference{}",
                    if section == "fetcher" {
                        format!("; else write query = {{ {name} = {{ env = \"API_KEY\" }} }}")
                    } else {
                        String::new()
                    }
                );
                warnings.push(Warning { code: "secret_in_url".to_owned(), what });
            }
        }
        warnings.extend(self.fetcher.iter().filter_map(plaintext_secret));
        for (name, value) in plain(&self.kafka.properties) {
            let consequence = match (name, value.to_ascii_lowercase().as_str()) {
                ("enable.ssl.certificate.verification", "false" | "f" | "0") => {
                    "any server can pose as Kafka, and read records and passwords"
                }
                ("ssl.endpoint.identification.algorithm", "none") => "whoever has any certificate of the CA can pose as Kafka",
                _ => continue,
            };
            let what =
                format!("[kafka.properties] {name} = {value:?}: {consequence}; remove it, and set ssl.ca.location to the broker's CA");
            warnings.push(Warning { code: "verification_off".to_owned(), what });
        }
        warnings.extend(self.cassandra.iter().flat_map(CassandraSection::security_warnings));
        warnings.extend(self.api.security_warnings());
        warnings
    }

    /// Refuses secret files that others can read. Ignores those that can't be read yet.
    ///
    /// # Errors
    /// At the first such reference.
    pub fn check_secret_files(&self) -> Result<(), FileError> {
        for (key, secret) in self.secrets() {
            if let Err(error @ SecretError::Exposed { .. }) = secret.reveal(&self.source.path) {
                return Err(self.error_at(&key, error.to_string(), "a secret file is read by its owner only"));
            }
        }
        Ok(())
    }

    /// Refuses references to secrets that can't be read: an environment variable that is not set,
    /// a file that is missing.
    ///
    /// # Errors
    /// At the first such reference.
    pub fn check_secrets(&self) -> Result<(), FileError> {
        for (key, secret) in self.secrets() {
            if let Err(error) = secret.reveal(&self.source.path) {
                let remedy = match error {
                    SecretError::Unset(ref name) => format!("set it for this command and for `forebay run`: export {name}=…"),
                    _ => "create the file, readable by its owner only, or change the path, which is relative to this file".to_owned(),
                };
                return Err(self.error_at(&key, format!("`{}`: {error}", key.join(".")), remedy));
            }
        }
        Ok(())
    }

    /// Every reference to a secret, with its key.
    fn secrets(&self) -> Vec<(Vec<&str>, &Secret)> {
        let cassandra = self.cassandra.iter().flat_map(|it| [("username", &it.username), ("password", &it.password)]);
        let tokens = &self.api.tokens;
        let tokens = [("viewer", &tokens.viewer), ("operator", &tokens.operator), ("admin", &tokens.admin)];
        let lineage = self.lineage.iter().map(|it| ("token", &it.token));
        let optional = cassandra.map(|(name, secret)| (vec!["cassandra", name], secret));
        let optional = optional.chain(tokens.into_iter().map(|(name, secret)| (vec!["api", "tokens", name], secret)));
        let auth = self.fetcher.iter().filter_map(|it| it.auth.as_ref()).flat_map(AuthSection::secrets);
        let auth = auth.map(|(name, secret)| ([vec!["fetcher", "auth"], name].concat(), secret));
        let optional = optional.chain(lineage.map(|(name, secret)| (vec!["lineage", name], secret)));
        let properties = self.kafka.properties.iter().map(|(name, value)| (vec!["kafka", "properties", name.as_str()], value));
        let headers =
            self.fetcher.iter().flat_map(|it| &it.headers).map(|(name, value)| (vec!["fetcher", "headers", name.as_str()], value));
        let properties = properties.chain(headers).filter_map(|(key, value)| match value {
            Property::Secret(secret) => Some((key, secret)),
            Property::Plain(_) => None,
        });
        let query = self.fetcher.iter().flat_map(|it| &it.query).filter_map(|(name, value)| match value {
            QueryValue::Secret(secret) => Some((vec!["fetcher", "query", name.as_str()], secret)),
            _ => None,
        });
        optional.filter_map(|(key, secret)| Some((key, secret.as_ref()?))).chain(properties).chain(query).chain(auth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_file_without_its_secrets_even_if_the_file_is_not_toml() {
        for text in [
            "\"sasl.password\" = \"CANARY\"",
            "sasl.password = CANARY and more\n",
            "password = 'CANARY",
            "properties.\"ssl.key.pem\" = \"\"\"\nCANARY = \"x\"\nCANARY\n\"\"\"\nx = 1",
            "headers = { Accept = \"x\", Authorization = \"Bearer CANARY\" }",
            "headers = \"Authorization: CANARY\"",
            "tokens = { viewer = \"CANARY\", admin = 'CANARY' }",
            "# password = \"CANARY\"",
            "url = \"https://user:CANARY@host/\"",
            "url = \"https://user:CA?CANARY/CANARY@host/\"",
            "url = 'https://host/path?key=CANARY&x=CANARYé",
            "token = \"a\\\"CANARY\"",
        ] {
            let shown = masked(text);
            assert!(!shown.contains("CANARY") && shown.len() == text.len(), "{text}: {shown}");
        }
    }

    #[test]
    fn an_error_shows_what_is_no_secret() {
        for text in [
            "url = \"https://host/path\"\nevery = \"10s\" # it's not\nkey = \"/login/uuid\"",
            "tokens = { viewer = { env = \"V\" } }",
            "\"sasl.password\" = { file = \"/run/secrets/p\" }",
            "sql = \"\"\"\nSELECT a = 'b', token\n\"\"\"",
            "é = \"ü\"",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}
