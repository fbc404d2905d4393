//! Which drivers a program has linked, and how one opens a device.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;

use super::Datagrams;

/// Opens the devices of one scheme: what stands before the colon of an address.
pub trait Driver: Send + Sync {
    /// The scheme.
    fn scheme(&self) -> &'static str;

    /// Opens a device for the channels of one endpoint.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing and how to get it. There is no silent fall-back.
    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError>;
}

/// What is asked of a driver: an address, taken apart and resolved.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The device: what stands between the colon and the `@`, such as `eth0/1`. Empty for `udp:`.
    pub device: &'a str,
    /// The local address; any of the device's, if `None`.
    pub local: Option<IpAddr>,
    /// The local port; any that is free, if 0.
    pub port: u16,
    /// Where the first channel leads, if it is known: a source that reaches it is to be chosen.
    pub remote: Option<SocketAddr>,
    /// What stands behind the `?`, in order.
    pub options: &'a [(String, String)],
    /// How many buffers the device's pool should have.
    pub buffers: usize,
}

impl<'a> Opening<'a> {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&'a str> {
        let mut found = self.options.iter().filter(|(key, _)| key == name);
        found.next_back().map(|(_, value)| value.as_str())
    }

    /// Checks that every option is one that the driver knows: names with `, ` between them.
    ///
    /// # Errors
    /// [`OpenError::UnknownOption`] for the first that is not.
    pub fn only_options(&self, known: &'static str) -> Result<(), OpenError> {
        let knows = |key: &str| known.split(", ").any(|other| other == key);
        let all_known = self.options.iter().all(|(key, _)| knows(key));
        if all_known { Ok(()) } else { Err(OpenError::UnknownOption(known)) }
    }
}

/// Why a device was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The program has no driver for this scheme.
    #[error(
        "this program has no driver for that scheme: build it with the driver's feature, and hand \
         the driver over (Drivers::with)"
    )]
    NoDriver,
    /// The address has an option that the driver does not know.
    #[error("the address has an option that the driver does not know; it knows: {0}")]
    UnknownOption(&'static str),
    /// An option, or the name of the device, has a value that makes no sense; what it should be.
    #[error("a part of the address makes no sense: it should be {0}")]
    BadValue(&'static str),
    /// There is no such device.
    #[error("there is no such device here: `ip link` lists them")]
    NoDevice,
    /// The local address or port belongs to somebody else.
    #[error("the local address is in use, or not this host's")]
    AddressInUse,
    /// Permission is missing; what would give it.
    #[error("not permitted: {0}")]
    NotPermitted(&'static str),
    /// The device cannot do what was asked for; what to do instead.
    #[error("the device cannot do that: {0}")]
    Unsupported(&'static str),
    /// The device's queue, or the hook of its interface, is taken.
    #[error("{0}")]
    Busy(&'static str),
    /// The buffers cannot be locked into memory.
    #[error("the buffers cannot be locked into memory: raise the limit (ulimit -l), or use fewer")]
    MemoryLock,
    /// The kernel refused a step.
    #[error("the kernel refused to {step}: {errno}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        errno: Errno,
    },
}

/// The drivers that a program has linked. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drivers(Vec<Arc<dyn Driver>>);

impl Drivers {
    /// Adds a driver; the one that was added last opens its scheme.
    #[must_use]
    pub fn with(mut self, driver: impl Driver + 'static) -> Self {
        self.0.push(Arc::new(driver));
        self
    }

    /// The schemes that can be opened.
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|driver| driver.scheme())
    }

    /// The driver of a scheme.
    ///
    /// # Errors
    /// [`OpenError::NoDriver`].
    pub fn find(&self, scheme: &str) -> Result<&dyn Driver, OpenError> {
        let found = self.0.iter().rev().find(|driver| driver.scheme() == scheme);
        found.map(Arc::as_ref).ok_or(OpenError::NoDriver)
    }
}

impl std::fmt::Debug for Drivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.schemes()).finish()
    }
}
