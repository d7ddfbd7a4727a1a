// SPDX-License-Identifier: GPL-2.0

//! Sizes on a command line, as e2fsprogs takes them.

/// A size that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a decimal number with a known suffix.
    #[error(
        "{0:?} is not a size: a number is wanted, with s (512 bytes), k, M, G or T behind it if need be"
    )]
    Syntax(String),
    /// More than 64 bits.
    #[error("{0:?} is too large")]
    Overflow(String),
}

/// The bytes that `text` stands for. Suffixes are k, m, g, t in either case, powers of 1024, and s, sectors of 512 bytes; a number
/// without one counts units of `unit_bytes`.
pub fn parse_size(text: &str, unit_bytes: u64) -> Result<u64, SizeError> {
    let syntax = || SizeError::Syntax(text.to_owned());
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let factor = match suffix {
        "" => unit_bytes,
        "s" | "S" => 512,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        _ => return Err(syntax()),
    };
    if digits.is_empty() {
        return Err(syntax());
    }
    // Digits alone fail to be a number only by being too many.
    let overflow = || SizeError::Overflow(text.to_owned());
    let number: u64 = digits.parse().map_err(|_| overflow())?;
    number.checked_mul(factor).ok_or_else(overflow)
}

/// Bytes for people: the largest unit that leaves at least 1, with two decimals unless it comes out even.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = bytes.checked_ilog2().unwrap_or(0) as usize / 10;
    let unit = 1_u64 << (10 * power);
    if bytes.is_multiple_of(unit) {
        format!("{} {}", bytes / unit, UNITS[power])
    } else {
        format!("{:.2} {}", bytes as f64 / unit as f64, UNITS[power])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_and_plain_numbers() {
        for (text, bytes) in
            [("4k", 4096), ("16M", 16 << 20), ("1G", 1 << 30), ("2t", 2 << 40), ("3s", 1536), ("7", 28672)]
        {
            assert_eq!(parse_size(text, 4096), Ok(bytes), "{text}");
        }
        for text in ["", "k", "4kb", "-1", "1.5G", " 4k", "0x10"] {
            assert!(matches!(parse_size(text, 1), Err(SizeError::Syntax(_))), "{text:?}");
        }
        for text in ["18446744073709551616", "16777216T", "99999999999999999999k"] {
            assert!(matches!(parse_size(text, 1), Err(SizeError::Overflow(_))), "{text}");
        }
    }

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (4096, "4 KiB"), (1536, "1.50 KiB"), (1 << 40, "1 TiB")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
