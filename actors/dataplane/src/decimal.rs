//! Parses decimal numbers exactly: from text to an unscaled integer, with no double in between.
//!
//! Guarantees:
//! * The result is the number in the text. Digits beyond the scale are rounded half away from zero,
//!   as in PostgreSQL's `numeric`.
//! * A number that does not fit is an error, never another number.

/// The number of digits of a 128-bit decimal.
pub(crate) const MAX_DIGITS: usize = 38;
/// The limit for the scale that [`exact`] returns. Every double in its shortest form has a smaller
/// one.
const MAX_SCALE: i64 = 400;

/// Why a text is not a decimal of the requested type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalError {
    /// The text is not a number.
    NotANumber,
    /// The number has more digits than the type.
    OutOfRange,
}

/// The parts of a number in text.
struct NumberText<'a> {
    negative: bool,
    /// The digits before the point. Together with those after it there is at least one.
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Parses a number such as `-12.5e-3`: an optional sign, digits with an optional point, an optional
/// exponent. Ignores surrounding white space.
fn parse(text: &str) -> Option<NumberText<'_>> {
    let text = text.trim_ascii().as_bytes();
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(digits(rest)),
        rest => (&rest[..0], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => {
            let (sign, rest) = match rest {
                [b'-', rest @ ..] => (-1, rest),
                [b'+', rest @ ..] => (1, rest),
                rest => (1, rest),
            };
            if rest.is_empty() || digits(rest) < rest.len() {
                return None;
            }
            // With a larger exponent, no text that fits into memory has a digit near the point.
            let size = rest.iter().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(i64::from(i32::MAX)));
            sign * size
        }
        _ => return None,
    };
    Some(NumberText { negative, whole, fraction, exponent })
}

impl NumberText<'_> {
    /// Iterates over the digits, without leading zeros.
    fn significant(&self) -> impl Iterator<Item = u8> + Clone {
        self.whole.iter().chain(self.fraction).map(|digit| digit - b'0').skip_while(|digit| *digit == 0)
    }

    /// Returns how many powers of ten the last digit lies above the last digit of a decimal with
    /// this scale; negative when below.
    fn shift(&self, scale: i64) -> i64 {
        self.exponent - length(self.fraction.len()) + scale
    }
}

fn length(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

/// Parses a text as a decimal with this precision and scale. Returns the unscaled value; digits
/// beyond the scale are rounded half away from zero.
pub(crate) fn to_scale(text: &str, precision: u8, scale: i8) -> Result<i128, DecimalError> {
    let parts = parse(text).ok_or(DecimalError::NotANumber)?;
    let digits = parts.significant();
    let count = length(digits.clone().count());
    if count == 0 {
        return Ok(0);
    }
    let shift = parts.shift(i64::from(scale));
    let kept = count.saturating_add(shift.min(0));
    if kept.saturating_add(shift.max(0)) > length(MAX_DIGITS) {
        return Err(DecimalError::OutOfRange);
    }
    let keep = usize::try_from(kept.max(0)).unwrap_or(0);
    let mut value = digits.clone().take(keep).fold(0_i128, |value, digit| value * 10 + i128::from(digit));
    if shift >= 0 {
        value *= power(u32::try_from(shift).unwrap_or(u32::MAX)).ok_or(DecimalError::OutOfRange)?;
    } else if kept >= 0 && digits.clone().nth(keep).is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    within(if parts.negative { -value } else { value }, precision).ok_or(DecimalError::OutOfRange)
}

/// Parses a text without rounding. Returns the unscaled value and the scale, which is never
/// negative.
pub(crate) fn exact(text: &str) -> Result<(i128, i32), DecimalError> {
    let parts = parse(text).ok_or(DecimalError::NotANumber)?;
    let digits = parts.significant();
    let count = digits.clone().count();
    // Trailing zeros that do not fit are dropped; they do not change the value.
    let zeros = trailing_zeros(digits.clone());
    let spare = count.saturating_sub(MAX_DIGITS).min(zeros);
    let (count, mut scale) = (count - spare, length(parts.fraction.len()) - parts.exponent - length(spare));
    if count == 0 {
        return Ok((0, i32::try_from(scale.clamp(0, MAX_SCALE)).unwrap_or(0)));
    }
    if count > MAX_DIGITS || scale > MAX_SCALE {
        return Err(DecimalError::OutOfRange);
    }
    let mut value = digits.take(count).fold(0_i128, |value, digit| value * 10 + i128::from(digit));
    if scale < 0 {
        let raised = u32::try_from(-scale).ok().and_then(power).and_then(|power| value.checked_mul(power));
        value = raised.and_then(|value| within(value, 38)).ok_or(DecimalError::OutOfRange)?;
        scale = 0;
    }
    Ok((if parts.negative { -value } else { value }, i32::try_from(scale).map_err(|_| DecimalError::OutOfRange)?))
}

fn trailing_zeros(digits: impl Iterator<Item = u8>) -> usize {
    digits.fold(0, |zeros, digit| if digit == 0 { zeros + 1 } else { 0 })
}

/// Returns a decimal's unscaled value at another scale, rounded half away from zero; `None` when it
/// has more digits than `precision`.
pub(crate) fn rescale(value: i128, from: i8, precision: u8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    let scaled = match power(shift.unsigned_abs()) {
        Some(power) if shift >= 0 => value.checked_mul(power)?,
        Some(power) => {
            let (whole, rest) = (value / power, value % power);
            whole + if rest.unsigned_abs() >= power.unsigned_abs().div_ceil(2) { rest.signum() } else { 0 }
        }
        None if shift < 0 || value == 0 => 0,
        None => return None,
    };
    within(scaled, precision)
}

/// Returns the value if it has at most `precision` digits.
pub(crate) fn within(value: i128, precision: u8) -> Option<i128> {
    let limit = power(u32::from(precision))?;
    (value.unsigned_abs() < limit.unsigned_abs()).then_some(value)
}

/// Returns a power of ten if it fits.
fn power(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_parsed_by_its_digits_and_rounded_half_away_from_zero() {
        let cases = [
            ("12.345", 10, 2, 1235),
            ("-12.345", 10, 2, -1235),
            ("0.005", 24, 2, 1),
            ("-0.005", 24, 2, -1),
            ("0.0049999999999999999999999999999999999999999", 24, 2, 0),
            ("799.929496989092949698", 38, 18, 799_929_496_989_092_949_698),
            ("9007199254740993.01", 38, 18, 9_007_199_254_740_993_010_000_000_000_000_000),
            ("18446744073709551615", 38, 0, 18_446_744_073_709_551_615),
            ("1e-7", 38, 18, 100_000_000_000),
            ("1e3", 10, 2, 100_000),
            ("1.5E+2", 10, 0, 150),
            (" +.5 ", 3, 0, 1),
            ("5.", 3, 1, 50),
            ("0e999999999999", 3, 1, 0),
            ("-0.0", 3, 1, 0),
            ("9.99", 3, 1, 100),
            ("1e-999999999999", 3, 1, 0),
            ("4", 5, -1, 0),
            ("15", 5, -1, 2),
        ];
        for (text, precision, scale, value) in cases {
            assert_eq!(to_scale(text, precision, scale), Ok(value), "{text} as decimal({precision}, {scale})");
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        for (text, precision, scale) in
            [("100", 2, 0), ("9.99", 2, 1), ("1e38", 38, 0), ("1e999999999999999999999", 38, 0), ("-1e30", 38, 18)]
        {
            assert_eq!(to_scale(text, precision, scale), Err(DecimalError::OutOfRange), "{text}");
        }
        for text in ["", " ", ".", "-", "1e", "1e+", "1.2.3", "1,5", "NaN", "Infinity", "0x10", "1 2", "1e5x", "--1"] {
            assert_eq!(to_scale(text, 38, 2), Err(DecimalError::NotANumber), "{text}");
            assert_eq!(exact(text), Err(DecimalError::NotANumber), "{text}");
        }
    }

    #[test]
    fn exact_keeps_a_number_as_it_is_written() {
        let cases = [("1.10", (110, 2)), ("-7", (-7, 0)), ("1e3", (1000, 0)), ("1e-7", (1, 7)), ("0.000", (0, 3)), ("00012.5", (125, 1))];
        for (text, expected) in cases {
            assert_eq!(exact(text), Ok(expected), "{text}");
        }
        let zeros = format!("1.{}", "0".repeat(60));
        assert_eq!(exact(&zeros), Ok((10_i128.pow(37), 37)));
        assert_eq!(exact(&format!("1{}", "1".repeat(38))), Err(DecimalError::OutOfRange));
        assert_eq!(exact("1e40"), Err(DecimalError::OutOfRange));
        assert_eq!(exact("1e-900"), Err(DecimalError::OutOfRange));
    }

    #[test]
    fn a_decimal_is_rescaled_unless_it_has_too_many_digits() {
        assert_eq!(rescale(12_345, 3, 10, 2), Some(1235));
        assert_eq!(rescale(-12_345, 3, 10, 2), Some(-1235));
        assert_eq!(rescale(-12_344, 3, 10, 2), Some(-1234));
        assert_eq!(rescale(99_995, 4, 3, 2), None);
        assert_eq!(rescale(1, 0, 38, 38), None);
        assert_eq!(rescale(1, 38, 38, -38), Some(0));
        assert_eq!(rescale(7, 0, 5, 3), Some(7000));
    }
}
