//! Numbers with a unit, as an operator writes and reads them: `4TB`, `50MB/s`, `1.57%`, `10m`.

/// Bytes of each unit: decimal as on a disk's label, binary as in memory.
const UNITS: [(&str, f64); 11] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("PB", 1e15),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("PiB", 1_125_899_906_842_624.0),
];

/// Hours of each unit of time.
const TIMES: [(&str, f64); 6] = [
    ("s", 1.0 / 3600.0),
    ("m", 1.0 / 60.0),
    ("min", 1.0 / 60.0),
    ("h", 1.0),
    ("d", 24.0),
    ("w", 168.0),
];

/// Reads a number of bytes, which needs a unit.
pub(super) fn parse_bytes(text: &str) -> Result<f64, String> {
    let example = "a size above 0 with its unit, such as 4TB, 4TiB or 500GB";
    let (number, unit) = split(text).ok_or(example)?;
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(example)?;
    positive(number * bytes).ok_or_else(|| example.to_owned())
}

/// Reads bytes per second, with or without the `/s`.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    parse_bytes(text.strip_suffix("/s").unwrap_or(text)).map_err(|_| {
        "bytes per second above 0 with their unit, such as 50MB/s or 64MiB/s".to_owned()
    })
}

/// Reads a share: `1.5%` or `0.015`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    match share {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Some(share) if share > 1.0 && share <= 100.0 && !text.ends_with('%') => {
            Err(format!("{text} would be {} %; if you mean percent, write {text}%", share * 100.0))
        }
        _ => Err("a share of 0 to 100 %, such as 1.5% or 0.015".to_owned()),
    }
}

/// Reads a time, in hours.
pub(super) fn parse_hours(text: &str) -> Result<f64, String> {
    let example = "a time with its unit, such as 30s, 10m, 1h or 1d";
    let (number, unit) = split(text).ok_or(example)?;
    let (_, hours) = TIMES.iter().find(|(name, _)| *name == unit).ok_or(example)?;
    Ok(number * hours)
}

/// Reads a number above 0.
pub(super) fn parse_positive(text: &str) -> Result<f64, String> {
    number(text).and_then(positive).ok_or_else(|| "a number above 0".to_owned())
}

fn split(text: &str) -> Option<(f64, &str)> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (digits, unit) = text.split_at(at);
    Some((number(digits.trim_end())?, unit))
}

/// A plain decimal number, not negative: no `inf`, `nan` or exponent, which mean nothing here.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    if is_plain { text.parse().ok() } else { None }
}

fn positive(number: f64) -> Option<f64> {
    (number > 0.0 && number.is_finite()).then_some(number)
}

/// Bytes for people, in decimal units as on disks.
pub(super) fn show_bytes(bytes: f64) -> String {
    let scales = [(1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match scales.into_iter().find(|(scale, _)| bytes >= *scale) {
        Some((scale, unit)) => format!("{} {unit}", show_number(bytes / scale)),
        None => format!("{bytes:.0} B"),
    }
}

/// A time for people.
pub(super) fn show_hours(hours: f64) -> String {
    if hours >= 8766.0 {
        format!("{} years", show_number(hours / 8766.0))
    } else if hours >= 240.0 {
        format!("{} d", show_number(hours / 24.0))
    } else if hours >= 1.0 {
        format!("{} h", show_number(hours))
    } else if hours >= 1.0 / 60.0 {
        format!("{} min", show_number(hours * 60.0))
    } else {
        format!("{} s", show_number(hours * 3600.0))
    }
}

/// A share for people, in percent.
pub(super) fn show_share(share: f64) -> String {
    format!("{} %", show_number(share * 100.0))
}

/// A probability for people.
pub(super) fn show_probability(probability: f64) -> String {
    if probability >= 0.01 { show_share(probability) } else { format!("{probability:.1e}") }
}

/// Three digits where there are so many, none of them a zero behind the point.
pub(super) fn show_number(number: f64) -> String {
    let digits = if number >= 100.0 {
        0
    } else if number >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Result<f64, String>, expected: f64) {
        let found = found.expect("readable");
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} instead of {expected}");
    }

    #[test]
    fn sizes_have_units() {
        near(parse_bytes("4TB"), 4e12);
        near(parse_bytes("4TiB"), 4.0 * 1024f64.powi(4));
        near(parse_bytes("1.5 GB"), 1.5e9);
        for wrong in ["4", "4T", "0TB", "-4TB", "TB", "4 potatoes", "1e3GB", "infTB", ""] {
            let error = parse_bytes(wrong).expect_err(wrong);
            assert!(error.contains("such as 4TB"), "{error}");
        }
    }

    #[test]
    fn rates_are_sizes_per_second() {
        near(parse_rate("50MB/s"), 50e6);
        near(parse_rate("64MiB"), 64.0 * 1024.0 * 1024.0);
        assert!(parse_rate("50").expect_err("no unit").contains("50MB/s"));
        assert!(parse_rate("50MB/h").is_err());
    }

    #[test]
    fn shares_are_percent_or_parts() {
        near(parse_share("1.5%"), 0.015);
        near(parse_share("0.015"), 0.015);
        near(parse_share("100%"), 1.0);
        assert!(parse_share("1.57").expect_err("157 %").contains("write 1.57%"));
        for wrong in ["101%", "-1%", "nan", "%", "", "1.2.3"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        near(parse_hours("10m"), 1.0 / 6.0);
        near(parse_hours("30s"), 1.0 / 120.0);
        near(parse_hours("1.5d"), 36.0);
        assert!(parse_hours("10").is_err());
        assert!(parse_hours("10 years").is_err());
    }

    #[test]
    fn people_read_few_digits() {
        assert_eq!(show_bytes(14e12), "14 TB");
        assert_eq!(show_bytes(1.234e9), "1.23 GB");
        assert_eq!(show_bytes(512.0), "512 B");
        assert_eq!(show_hours(63.636), "63.6 h");
        assert_eq!(show_hours(0.5), "30 min");
        assert_eq!(show_hours(0.001), "3.6 s");
        assert_eq!(show_hours(240.0), "10 d");
        assert_eq!(show_share(0.0157), "1.57 %");
        assert_eq!(show_probability(6.04e-12), "6.0e-12");
        assert_eq!(show_probability(0.25), "25 %");
    }
}
