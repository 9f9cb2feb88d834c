//! Reads a type as CQL spells it.

use super::{CqlType, SIMPLE, UserType, Whole};

/// What is wrong with a type, and what to write instead.
type Wrong = (String, String);

/// The limit for how deep types may nest.
const MAX_DEPTH: usize = 16;
/// The limit for the parts of a tuple.
const MAX_PARTS: usize = 256;

/// Where a type is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Context {
    /// It is the type of a column.
    Column,
    /// Directly in `frozen<…>`.
    Frozen,
    /// In another type, whose freezing it shares.
    Nested,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// In lower case.
    Word(String),
    /// A name in quotes.
    Name(String),
    Sign(char),
}

impl CqlType {
    /// Reads a type as CQL spells it.
    ///
    /// # Errors
    /// What is wrong and what to write instead, when it is no type or not one that Forebay writes.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        Self::parse_in(text, Context::Column)
    }

    /// Reads the type of a field of a user-defined type that is frozen as a whole.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn parse_field(text: &str) -> Result<Self, (String, String)> {
        Self::parse_in(text, Context::Nested)
    }

    fn parse_in(text: &str, context: Context) -> Result<Self, Wrong> {
        let tokens = tokens(text).ok_or_else(|| malformed(text))?;
        let mut reader = Reader { text, tokens: tokens.into_iter().peekable() };
        let cql = reader.read(context, 0)?;
        if reader.tokens.next().is_some() { Err(malformed(text)) } else { Ok(cql) }
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let (mut found, mut rest) = (Vec::new(), text.trim());
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '<' | '>' | ',' => {
                found.push(Token::Sign(first));
                1
            }
            '"' => {
                let (mut name, mut at) = (String::new(), 1);
                loop {
                    let end = at + rest[at..].find('"')?;
                    name.push_str(&rest[at..end]);
                    at = end + 1;
                    if !rest[at..].starts_with('"') {
                        break;
                    }
                    name.push('"');
                    at += 1;
                }
                found.push(Token::Name(name));
                at
            }
            _ => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                if end == 0 {
                    return None;
                }
                found.push(Token::Word(rest[..end].to_lowercase()));
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    Some(found)
}

struct Reader<'a> {
    text: &'a str,
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Reader<'_> {
    fn read(&mut self, context: Context, depth: usize) -> Result<CqlType, Wrong> {
        if depth > MAX_DEPTH {
            return Err((format!("`{}` nests deeper than {MAX_DEPTH} types", self.text), "use fewer levels".to_owned()));
        }
        let word = match self.tokens.next() {
            Some(Token::Word(word)) => word,
            Some(Token::Name(name)) => return self.user(name, context),
            _ => return Err(malformed(self.text)),
        };
        let whole = if context == Context::Column { Whole::Cells } else { Whole::Frozen };
        let simple = SIMPLE.iter().find(|(name, _)| *name == word || (word == "varchar" && *name == "text"));
        match (simple, word.as_str()) {
            (Some((name, _)), _) if context == Context::Frozen => {
                Err((format!("`frozen<{word}>` is not a type of CQL"), format!("use `{name}`, which is always written whole")))
            }
            (Some((_, simple)), _) => Ok(simple.clone()),
            (None, "frozen") => self.in_brackets(|this| this.read(Context::Frozen, depth + 1)),
            (None, "list") => {
                let element = self.in_brackets(|this| this.read(Context::Nested, depth + 1))?;
                if context == Context::Column {
                    return Err((
                        format!("`list<{element}>` can't be written twice without doubling its elements"),
                        format!("use `frozen<list<{element}>>`, which is written as one value"),
                    ));
                }
                Ok(CqlType::List(Box::new(element)))
            }
            (None, "set") => {
                let element = self.in_brackets(|this| this.read(Context::Nested, depth + 1))?;
                ordered(&element, "the elements of a set")?;
                Ok(CqlType::Set(whole, Box::new(element)))
            }
            (None, "map") => self.in_brackets(|this| {
                let key = this.read(Context::Nested, depth + 1)?;
                ordered(&key, "the keys of a map")?;
                this.sign(',')?;
                Ok(CqlType::Map(whole, Box::new((key, this.read(Context::Nested, depth + 1)?))))
            }),
            (None, "tuple") => self.in_brackets(|this| {
                let mut parts = vec![this.read(Context::Nested, depth + 1)?];
                while this.tokens.next_if_eq(&Token::Sign(',')).is_some() {
                    if parts.len() == MAX_PARTS {
                        return Err((format!("a tuple of more than {MAX_PARTS} parts"), "use several columns".to_owned()));
                    }
                    parts.push(this.read(Context::Nested, depth + 1)?);
                }
                Ok(CqlType::Tuple(parts))
            }),
            (None, "vector") => self.in_brackets(Self::vector),
            (None, "counter") => Err((
                "a counter can't be written twice without counting twice, and a record may be read again".to_owned(),
                "write a `bigint` with a row for each record, and add them up when you read".to_owned(),
            )),
            (None, _) => self.user(word, context),
        }
    }

    fn vector(&mut self) -> Result<CqlType, Wrong> {
        let element = self.read(Context::Nested, 1)?;
        self.sign(',')?;
        let length = match self.tokens.next() {
            Some(Token::Word(length)) => length.parse().ok().filter(|length| *length > 0_u16),
            _ => None,
        };
        match (element, length) {
            (CqlType::Float, Some(length)) => Ok(CqlType::Vector(length)),
            (CqlType::Float, None) => {
                Err((format!("`{}` has no number of dimensions", self.text), "write it as vector<float, 3>, with 1 to 65535".to_owned()))
            }
            (other, _) => Err((
                format!("a vector of `{other}` is a type of CQL that Forebay does not write"),
                "use vector<float, N>, or frozen<list<…>>".to_owned(),
            )),
        }
    }

    fn user(&mut self, name: String, context: Context) -> Result<CqlType, Wrong> {
        if context == Context::Frozen {
            return Ok(CqlType::User(UserType { name, fields: None }));
        }
        let help = match forebay_schemas::pipeline::nearest(&name, CqlType::names()) {
            Some(near) => format!("did you mean `{near}`? A user-defined type is written frozen<{name}>"),
            None => format!(
                "use one of {}, frozen<list<…>>, set<…>, map<…, …>, frozen<tuple<…>>, vector<float, N>, or frozen<{name}> for a user-defined type",
                CqlType::names().collect::<Vec<_>>().join(", ")
            ),
        };
        Err((format!("`{name}` is not a type of CQL"), help))
    }

    fn in_brackets<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Wrong>) -> Result<T, Wrong> {
        self.sign('<')?;
        let read = inner(self)?;
        self.sign('>')?;
        Ok(read)
    }

    fn sign(&mut self, sign: char) -> Result<(), Wrong> {
        self.tokens.next_if_eq(&Token::Sign(sign)).map(|_| ()).ok_or_else(|| malformed(self.text))
    }
}

/// Checks that Cassandra can order values of a type.
fn ordered(cql: &CqlType, what: &str) -> Result<(), Wrong> {
    match cql.unfit_for_key() {
        Some(why) => Err((format!("{what} can't be `{cql}`: {why}"), "use another type, or a list".to_owned())),
        None => Ok(()),
    }
}

fn malformed(text: &str) -> Wrong {
    (format!("`{text}` is not a type of CQL"), "write it as CQL does, such as text, frozen<list<text>> or map<text, int>".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_as_it_is_shown() {
        for name in CqlType::names() {
            assert_eq!(CqlType::parse(name).unwrap().to_string(), name);
        }
        for text in [
            "frozen<list<bigint>>",
            "set<text>",
            "frozen<set<frozen<list<inet>>>>",
            "map<text, frozen<map<int, varint>>>",
            "frozen<map<timeuuid, frozen<address>>>",
            "frozen<tuple<text, frozen<tuple<int, duration>>>>",
            "frozen<list<vector<float, 1536>>>",
            "frozen<address>",
            "frozen<\"Street Address\">",
        ] {
            let cql = CqlType::parse(text).unwrap();
            assert_eq!(cql.to_string(), text);
            assert_eq!(CqlType::parse(&cql.to_string()), Ok(cql));
        }
        assert_eq!(CqlType::parse(" VarChar ").unwrap(), CqlType::Text);
    }

    #[test]
    fn what_is_in_a_type_is_frozen_as_cassandra_freezes_it() {
        for (written, shown) in [
            ("set<list<int>>", "set<frozen<list<int>>>"),
            ("frozen<list<set<tuple<int,map<int,text>>>>>", "frozen<list<frozen<set<frozen<tuple<int, frozen<map<int, text>>>>>>>>"),
            ("tuple< int , text >", "frozen<tuple<int, text>>"),
            ("frozen<Address>", "frozen<address>"),
        ] {
            assert_eq!(CqlType::parse(written).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_written_is_refused_with_a_remedy() {
        let refused = |text: &str| CqlType::parse(text).unwrap_err();
        assert_eq!(refused("uid").1, "did you mean `uuid`? A user-defined type is written frozen<uid>");
        assert!(refused("counter").0.contains("counting twice"));
        assert_eq!(refused("list<text>").1, "use `frozen<list<text>>`, which is written as one value");
        assert_eq!(refused("frozen<text>").1, "use `text`, which is always written whole");
        assert!(refused("vector<double, 3>").0.contains("a vector of `double`"));
        assert!(refused("vector<float, 0>").1.contains("1 to 65535"));
        assert!(refused("set<duration>").0.contains("durations have no order"));
        assert!(refused("map<frozen<tuple<duration>>, int>").0.contains("the keys of a map"));
        assert!(refused("frozen<set<zzz>>").1.contains("frozen<zzz> for a user-defined type"));
        for text in ["", "set", "set<>", "map<int>", "tuple<int,>", "set<int", "set<int>>", "int int", "a.b", "\"a", "<int>", "frozen<>"] {
            assert!(CqlType::parse(text).is_err(), "{text}");
        }
        assert!(CqlType::parse(&"frozen<list<".repeat(20)).unwrap_err().0.contains("nests deeper"));
    }
}
