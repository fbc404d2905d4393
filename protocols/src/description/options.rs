//! The options of a node.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Problem;
use super::parse::check_word;

/// The options of a node, by name, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(String, String)>);

/// What is wrong with an option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// The kind has no such option.
    #[error("there is no option `{name}` here: {}", choices(.known))]
    Unknown {
        /// The option.
        name: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// It cannot be left out.
    #[error("the option `{name}` is missing: add `{name}=…`")]
    Missing {
        /// The option.
        name: &'static str,
    },
    /// Its value is none.
    #[error("`{name}={value}` is not possible: write {wanted}")]
    Value {
        /// The option.
        name: String,
        /// What was written.
        value: String,
        /// What can be written.
        wanted: &'static str,
    },
}

fn choices(known: &[&str]) -> String {
    if known.is_empty() {
        "leave it out".into()
    } else {
        format!("write one of {}", known.join(", "))
    }
}

impl Options {
    /// Sets an option, also if it was set before.
    ///
    /// # Errors
    /// [`Problem::Option`] if that cannot be written in a description; nothing is set then.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), Problem> {
        let bad = |c: char| c.is_whitespace() || "(),#".contains(c);
        if check_word(name).is_err() || value.is_empty() || value.contains(bad) {
            return Err(Problem::Option(format!("{name}={value}")));
        }
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(option) => option.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses options that the kind does not have.
    ///
    /// # Errors
    /// [`OptionError::Unknown`].
    pub fn only(&self, known: &'static [&'static str]) -> Result<(), OptionError> {
        match self.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => Err(OptionError::Unknown { name: name.to_owned(), known }),
            None => Ok(()),
        }
    }

    /// An option as it was written.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// An option, parsed; `wanted` says what can be written.
    ///
    /// # Errors
    /// [`OptionError::Value`].
    pub fn get<T: FromStr>(
        &self,
        name: &str,
        wanted: &'static str,
    ) -> Result<Option<T>, OptionError> {
        self.text(name).map(|value| value.parse().map_err(|_| bad(name, value, wanted))).transpose()
    }

    /// A number within a range.
    ///
    /// # Errors
    /// [`OptionError::Value`].
    pub fn within<T: FromStr + PartialOrd>(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<T>,
        wanted: &'static str,
    ) -> Result<Option<T>, OptionError> {
        let value = self.get(name, wanted)?;
        match value {
            Some(value) if range.contains(&value) => Ok(Some(value)),
            Some(_) => Err(bad(name, self.text(name).unwrap_or_default(), wanted)),
            None => Ok(None),
        }
    }

    /// A time, such as `250us`, `10ms` or `2s`.
    ///
    /// # Errors
    /// [`OptionError::Value`].
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, OptionError> {
        const WANTED: &str = "a whole number of ns, us, ms or s, such as 250us";
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match &text[digits..] {
            "ns" => Some(1),
            "us" => Some(1_000),
            "ms" => Some(1_000_000),
            "s" => Some(1_000_000_000),
            _ => None,
        };
        let number: Option<u64> = text[..digits].parse().ok();
        let nanos = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
        nanos.map(|nanos| Some(Duration::from_nanos(nanos))).ok_or_else(|| bad(name, text, WANTED))
    }
}

fn bad(name: &str, value: &str, wanted: &'static str) -> OptionError {
    OptionError::Value { name: name.to_owned(), value: value.to_owned(), wanted }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(place, (name, value))| {
            write!(f, "{}{name}={value}", if place == 0 { "" } else { ", " })
        })
    }
}
