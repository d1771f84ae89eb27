//! One fact about an object, and how it reads for people, for line tools and in JSON.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use tombolo::sysv::{Key, Mode};

/// A fact. The unit is part of it, so that every table writes it alike.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unknown, or not applicable.
    None,
    Number(i64),
    /// A count that may pass what `i64` holds: the kernel's limits do.
    Count(u64),
    /// An amount of memory in bytes.
    Bytes(u64),
    /// Seconds since the epoch; the kernel writes 0 for "never".
    Time(i64),
    Key(Key),
    /// Permissions as octal digits.
    Mode(Mode),
    Flag(bool),
    Text(String),
}

/// How people want their tables.
pub struct Human {
    /// Sizes in bytes rather than in K, M and G.
    pub exact: bool,
    /// Times without the day if it is today, and without the hour if it is not.
    brief: bool,
    zone: TimeZone,
}

impl Human {
    /// Tables in the local time zone.
    pub fn new(exact: bool) -> Self {
        Self {
            exact,
            brief: false,
            zone: TimeZone::system(),
        }
    }

    /// The same with short times.
    pub fn brief(&self) -> Self {
        Self {
            brief: true,
            zone: self.zone.clone(),
            ..*self
        }
    }

    fn time(&self, seconds: i64) -> String {
        let Ok(time) = Timestamp::from_second(seconds) else {
            return seconds.to_string();
        };
        let time = time.to_zoned(self.zone.clone());
        let today = Timestamp::now().to_zoned(self.zone.clone()).date();
        let form = match (self.brief, time.date() == today) {
            (false, _) => "%Y-%m-%d %H:%M:%S",
            (true, true) => "%H:%M:%S",
            (true, false) => "%Y-%m-%d",
        };
        time.strftime(form).to_string()
    }
}

impl Value {
    /// Text for a table.
    pub fn human(&self, how: &Human) -> String {
        match self {
            Self::Bytes(bytes) if !how.exact => size(*bytes),
            Self::Time(0) => "-".to_owned(),
            Self::Time(seconds) => how.time(*seconds),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            other => other.raw(),
        }
    }

    /// Text for line tools: one word or phrase without line breaks or tabs, nothing rounded.
    pub fn raw(&self) -> String {
        match self {
            Self::None => "-".to_owned(),
            Self::Number(number) | Self::Time(number) => number.to_string(),
            Self::Count(number) | Self::Bytes(number) => number.to_string(),
            Self::Key(key) => key.to_string(),
            Self::Mode(mode) => mode.to_string(),
            Self::Flag(flag) => u8::from(*flag).to_string(),
            Self::Text(text) if text.is_empty() => "-".to_owned(),
            Self::Text(text) => printable(text).into_owned(),
        }
    }

    /// The same for programs: numbers as numbers.
    pub fn json(&self) -> Json {
        match self {
            Self::None => Json::Null,
            Self::Number(number) | Self::Time(number) => (*number).into(),
            Self::Count(number) | Self::Bytes(number) => (*number).into(),
            Self::Key(key) => key.raw().into(),
            Self::Mode(mode) => mode.bits().into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }

    /// Whether a table aligns it to the right.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Number(_) | Self::Count(_) | Self::Bytes(_) | Self::Mode(_)
        )
    }

    /// The order for `--sort`: unknown first, numbers by amount, text by its letters.
    pub fn sort_key(&self) -> (i128, &str) {
        match self {
            Self::None => (i128::MIN, ""),
            Self::Number(number) | Self::Time(number) => ((*number).into(), ""),
            Self::Count(number) | Self::Bytes(number) => ((*number).into(), ""),
            // As people see them: 0x80000000 after 0x7fffffff.
            Self::Key(key) => (key.raw().cast_unsigned().into(), ""),
            Self::Mode(mode) => (mode.bits().into(), ""),
            Self::Flag(flag) => ((*flag).into(), ""),
            Self::Text(text) => (0, text),
        }
    }
}

/// Bytes in binary units, to one decimal: `512`, `4K`, `1.5M`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut unit = 0;
    let mut one = 1024_u128;
    let tenths = |one: u128| (u128::from(bytes) * 10 + one / 2) / one;
    while tenths(one) >= 10_240 && unit + 1 < UNITS.len() {
        one *= 1024;
        unit += 1;
    }
    match (tenths(one) / 10, tenths(one) % 10) {
        (whole, 0) => format!("{whole}{}", UNITS[unit]),
        (whole, tenth) => format!("{whole}.{tenth}{}", UNITS[unit]),
    }
}

/// Reads bytes: a number, or one with a binary unit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected =
        || format!("`{text}` is no size; expected bytes such as 4096, 0x1000, 64K, 1M or 2G");
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).map_err(|_| expected());
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(expected()),
    };
    let number: u64 = digits.parse().map_err(|_| expected())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("`{text}` is more than can be counted"))
}

/// A time of today: hours, minutes and seconds.
pub fn clock(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds)
        .ok()
        .filter(|_| seconds != 0);
    time.map_or_else(
        || "-".to_owned(),
        |time| {
            time.to_zoned(TimeZone::system())
                .strftime("%H:%M:%S")
                .to_string()
        },
    )
}

/// Text with what would move the cursor or break a line written as an escape.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_write() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            (1 << 20, "1M"),
            (1 << 40, "1T"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            size((1 << 20) - 1),
            "1M",
            "rounds up to the next unit, not to 1024K"
        );
        assert_eq!(size(u64::MAX), "16E");
        for (text, bytes) in [
            ("7", 7),
            ("0x10", 16),
            ("64K", 65536),
            ("1MiB", 1 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "K", "1x", "-1", "99999999999T", "0x", "1.5K"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn raw_values_are_one_field() {
        assert_eq!(Value::Text("a\tb\n".into()).raw(), "a\\tb\\n");
        assert_eq!(Value::Text(String::new()).raw(), "-");
        assert_eq!(Value::Bytes(4096).raw(), "4096");
        assert_eq!(Value::Bytes(4096).human(&Human::new(false)), "4K");
        assert_eq!(Value::Time(0).human(&Human::new(false)), "-");
        assert_eq!(Value::Time(0).raw(), "0");
    }
}
