//! What DPDK refused, by name.

use rustix::io::Errno;
use unet::device::OpenError;

/// Why a port was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program was built where DPDK was not installed; what to install.
    #[error("this program was built without DPDK: {0}, and build it again")]
    Missing(&'static str),
    /// Somebody else in this process has begun DPDK.
    #[error("DPDK was begun by another part of this program: one part can have it")]
    Begun,
    /// DPDK was begun with other memory, by the first port.
    #[error("DPDK was begun with other memory: ask for the same as the first port did")]
    OtherMemory,
    /// DPDK was begun by a virtual port, and does not look for network cards since.
    #[error("DPDK was begun without network cards: open a card before any virtual port")]
    WithoutCards,
    /// There are no huge pages, or too few.
    #[error(
        "there are too few huge pages: set some aside (vm.nr_hugepages), or do without, in a new process (Memory::Plain)"
    )]
    HugePages,
    /// DPDK could not begin.
    #[error("DPDK could not begin: {errno}{said}")]
    Environment {
        /// What it returned.
        errno: Errno,
        /// What it said.
        said: Said,
    },
    /// There is no such port: no driver, no device, or arguments that the driver refuses.
    #[error("there is no DPDK port {name}: {errno}{said}")]
    NoPort {
        /// Its name.
        name: String,
        /// What DPDK returned.
        errno: Errno,
        /// What it said.
        said: Said,
    },
    /// The port is open in this process already.
    #[error("the DPDK port {0} is open already: close it, or give another a name of its own")]
    Busy(String),
    /// The port cannot do without what this driver has not.
    #[error("the DPDK port cannot be used: {0}")]
    Unsupported(&'static str),
    /// DPDK's memory is used up, or there are too few buffers.
    #[error(
        "DPDK's memory does not do for this port: ask for fewer buffers, or begin with more{0}"
    )]
    Memory(Said),
    /// A step of setting the port up failed.
    #[error("DPDK could not {step}: {errno}{said}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What it returned.
        errno: Errno,
        /// What it said.
        said: Said,
    },
}

/// The beginning of what DPDK said, which may be nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(pub String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " (DPDK says: {})", self.0) }
    }
}

/// For those who open devices by address; the log has the rest.
impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        tracing::warn!(%error, "a DPDK port was not opened");
        match error {
            Error::Missing(missing) => Self::Unsupported(missing),
            Error::NoPort { .. } => Self::NoDevice,
            Error::Busy(_) => Self::Busy("the DPDK port is open already in this process"),
            Error::Begun => Self::Busy("DPDK was begun by another part of this program"),
            Error::OtherMemory => Self::Busy("DPDK was begun with other memory, by the first port"),
            Error::WithoutCards => {
                Self::Busy("DPDK was begun without network cards, by a virtual port")
            }
            Error::HugePages => Self::Unsupported("there are too few huge pages (vm.nr_hugepages)"),
            Error::Unsupported(why) => Self::Unsupported(why),
            Error::Memory(_) => Self::Unsupported("DPDK's memory does not do: use fewer buffers"),
            Error::Environment { errno, .. } => Self::Kernel { step: "begin DPDK", errno },
            Error::Step { step, errno, .. } => Self::Kernel { step, errno },
        }
    }
}
