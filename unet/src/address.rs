//! Addresses: one grammar for every way to another process.

use std::fmt;
use std::str::FromStr;

/// Where to listen or connect. Written as a URI: `shm:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A name on this host, in this network namespace: 1 to 64 letters, digits and `-_.`.
    Shm(String),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no scheme before a colon.
    #[error("an address begins with a scheme, as in shm:NAME")]
    NoScheme,
    /// The scheme is not one that this version knows.
    #[error("this version knows shm:NAME, not the scheme of this address")]
    UnknownScheme,
    /// The name is empty, too long, or has a character that is not allowed.
    #[error("a name has 1 to 64 letters, digits or -_. characters")]
    InvalidName,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once(':').ok_or(AddressError::NoScheme)?;
        match scheme {
            "shm" if segment::control::is_valid_name(rest) => Ok(Self::Shm(rest.to_owned())),
            "shm" => Err(AddressError::InvalidName),
            _ => Err(AddressError::UnknownScheme),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shm(name) => write!(f, "shm:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_prints() {
        let address: Address = "shm:echo-1".parse().expect("it is valid");
        assert_eq!(address.to_string(), "shm:echo-1");
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        let parse = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(parse("echo"), AddressError::NoScheme);
        assert_eq!(parse("udp:localhost:1"), AddressError::UnknownScheme);
        assert_eq!(parse("shm:a/b"), AddressError::InvalidName);
    }
}
