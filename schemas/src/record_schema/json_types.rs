//! Sets of the types of JSON values.

/// Types of JSON values, without null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JsonTypes(u8);

impl JsonTypes {
    /// `true` and `false`.
    pub const BOOLEAN: Self = Self(1);
    /// Numbers without a fraction.
    pub const INTEGER: Self = Self(2);
    /// Numbers.
    pub const NUMBER: Self = Self(4);
    /// Strings.
    pub const TEXT: Self = Self(8);
    /// Objects.
    pub const OBJECT: Self = Self(16);
    /// Arrays.
    pub const ARRAY: Self = Self(32);
    /// All but objects and arrays.
    pub const SCALARS: Self = Self(15);
    /// All types.
    pub const ALL: Self = Self(63 - Self::INTEGER.0);

    /// The names of the types in JSON Schema, without `null`.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("boolean", Self::BOOLEAN),
        ("integer", Self::INTEGER),
        ("number", Self::NUMBER),
        ("string", Self::TEXT),
        ("object", Self::OBJECT),
        ("array", Self::ARRAY),
    ];

    /// The types of both sets. `number` has the integers.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let all = Self(self.0 | other.0);
        if all.has(Self::NUMBER) { Self(all.0 & !Self::INTEGER.0) } else { all }
    }

    /// Whether the set has all of these types.
    pub fn has(self, types: Self) -> bool {
        self.0 & types.0 == types.0
    }

    /// Whether the set has no type.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The types in words.
    pub(super) fn expected(self) -> String {
        let words = [
            (Self::TEXT, "text"),
            (Self::INTEGER, "an integer"),
            (Self::NUMBER, "a number"),
            (Self::BOOLEAN, "true or false"),
            (Self::OBJECT, "an object"),
            (Self::ARRAY, "an array"),
        ];
        let words: Vec<&str> = words.into_iter().filter(|(types, _)| self.has(*types)).map(|(_, word)| word).collect();
        match words.as_slice() {
            [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            words => words.concat(),
        }
    }
}
