//! Values that CQL has and JSON has not, read from text as Cassandra spells them.

/// The limit for the digits of a varint in text.
pub(super) const MAX_VARINT_DIGITS: usize = 1_000;

/// A length of time in months, days and nanoseconds, all of one sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Duration {
    pub(in crate::store) months: i32,
    pub(in crate::store) days: i32,
    pub(in crate::store) nanos: i64,
}

/// Reads `HH:MM:SS`, with up to nine digits after a point. Returns nanoseconds since midnight.
pub(super) fn time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) if (1..=9).contains(&fraction.len()) => (clock, fraction),
        Some(_) => return None,
        None => (text, "0"),
    };
    let mut parts = clock.split(':').map(|part| number(part).filter(|_| part.len() == 2));
    let (Some(hours), Some(minutes), Some(seconds), None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let nanos = number(fraction)? * 10_i64.pow(u32::try_from(9 - fraction.len()).ok()?);
    (hours < 24 && minutes < 60 && seconds < 60).then(|| ((hours * 60 + minutes) * 60 + seconds) * NANOS_PER_SECOND + nanos)
}

/// Reads digits only.
fn number(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The units of a duration in the order that they are written in, and how much of months, days or
/// nanoseconds one is.
const UNITS: &[(&str, Part, i64)] = &[
    ("y", Part::Months, 12),
    ("mo", Part::Months, 1),
    ("w", Part::Days, 7),
    ("d", Part::Days, 1),
    ("h", Part::Nanos, 3_600 * NANOS_PER_SECOND),
    ("m", Part::Nanos, 60 * NANOS_PER_SECOND),
    ("s", Part::Nanos, NANOS_PER_SECOND),
    ("ms", Part::Nanos, 1_000_000),
    ("us", Part::Nanos, 1_000),
    ("ns", Part::Nanos, 1),
];

#[derive(Clone, Copy)]
enum Part {
    Months = 0,
    Days = 1,
    Nanos = 2,
}

/// Reads a duration in one of the three forms of CQL: `1y2mo3d4h5m6s7ms8us9ns`, `P1Y2M3DT4H5M6S`
/// (or `P1W`), and `P0001-02-03T04:05:06`; each may have a minus sign before it.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let amounts = match text.strip_prefix('P') {
        None => {
            let mut amounts = Vec::new();
            let mut rest = text;
            while !rest.is_empty() {
                let (count, unit, after) = amount(rest)?;
                amounts.push((count, unit.to_lowercase().replace('µ', "u")));
                rest = after;
            }
            amounts
        }
        Some(iso) => iso_amounts(iso).or_else(|| iso_positions(iso))?,
    };
    let mut parts = [0_i64; 3];
    let mut earliest = 0;
    for (count, unit) in &amounts {
        let at = UNITS.iter().position(|(name, ..)| name == unit).filter(|at| *at >= earliest)?;
        earliest = at + 1;
        let (_, part, size) = UNITS[at];
        let sum = &mut parts[part as usize];
        *sum = sum.checked_add(count.checked_mul(size)?)?;
    }
    let [months, days, nanos] = parts.map(|part| sign * part);
    (!amounts.is_empty()).then_some(())?;
    Some(Duration { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, nanos })
}

/// Splits off a number and the letters after it.
fn amount(text: &str) -> Option<(i64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let letters = text[digits..].find(|c: char| c.is_ascii_digit() || c == 'T').unwrap_or(text.len() - digits);
    let (unit, rest) = text[digits..].split_at(letters);
    Some((number(&text[..digits])?, unit, rest))
}

/// `1Y2M3DT4H5M6S` or `1W`.
fn iso_amounts(text: &str) -> Option<Vec<(i64, String)>> {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if time == Some("") {
        return None;
    }
    let mut amounts = Vec::new();
    for (mut rest, units) in
        [(date, [("Y", "y"), ("M", "mo"), ("D", "d")]), (time.unwrap_or_default(), [("H", "h"), ("M", "m"), ("S", "s")])]
    {
        while !rest.is_empty() {
            let (count, unit, after) = amount(rest)?;
            let is_week = unit == "W" && after.is_empty() && amounts.is_empty() && time.is_none();
            let name = if is_week { "w" } else { units.iter().find(|(iso, _)| *iso == unit)?.1 };
            amounts.push((count, name.to_owned()));
            rest = after;
        }
    }
    Some(amounts)
}

/// `0001-02-03T04:05:06`.
fn iso_positions(text: &str) -> Option<Vec<(i64, String)>> {
    let shape = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b });
    if !shape.eq("0000-00-00T00:00:00".bytes()) {
        return None;
    }
    let counts = text.split(['-', 'T', ':']).map(number);
    counts.zip(["y", "mo", "d", "h", "m", "s"]).map(|(count, unit)| Some((count?, unit.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_by_its_digits() {
        assert_eq!(time("00:00:00"), Some(0));
        assert_eq!(time("12:34:56"), Some(45_296_000_000_000));
        assert_eq!(time("23:59:59.999999999"), Some(86_399_999_999_999));
        assert_eq!(time("00:00:00.5"), Some(500_000_000));
        for wrong in [
            "24:00:00",
            "12:60:00",
            "12:00:60",
            "12:34",
            "1:02:03",
            "12:34:56Z",
            "12:34:56.",
            "12:34:56.0123456789",
            "",
            "-1:00:00",
            "+1:00:00",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_duration_is_read_in_the_three_forms_of_cql() {
        let of = |months, days, nanos| Some(Duration { months, days, nanos });
        assert_eq!(duration("1y2mo3w4d5h6m7s8ms9us10ns"), of(14, 25, 18_367_008_009_010));
        assert_eq!(duration("-2MO10us"), of(-2, 0, -10_000));
        assert_eq!(duration("3µs"), of(0, 0, 3_000));
        assert_eq!(duration("P1Y2M3DT4H5M6S"), of(14, 3, 14_706_000_000_000));
        assert_eq!(duration("-PT5M"), of(0, 0, -300_000_000_000));
        assert_eq!(duration("P2W"), of(0, 14, 0));
        assert_eq!(duration("P0001-02-03T04:05:06"), of(14, 3, 14_706_000_000_000));
        for wrong in [
            "",
            "-",
            "1",
            "y",
            "1d1y",
            "1d1d",
            "1x",
            "1.5h",
            "P",
            "PT",
            "P1D1Y",
            "PT1D",
            "P1DT",
            "P1W2D",
            "P1-02-03T04:05:06",
            "1 d",
            "1y -2mo",
            "9999999999y",
            "2147483648d",
            "99999999999999999999ns",
            "P1d",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
