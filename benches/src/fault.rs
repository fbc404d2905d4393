//! What can go wrong, and how the program ends then.

use std::io;

/// Why a measurement could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The other process closed its end, or is dead.
    #[error("the server process closed its end in the middle of the measurement")]
    PeerGone,
    /// Nothing arrived for seconds.
    #[error("nothing arrived for several seconds: a message was lost, or the server is stopped")]
    Silent,
    /// What arrived is not what was sent: the figures would mean nothing.
    #[error("message {expected} was expected, but {found} arrived: this is a defect, report it")]
    OutOfOrder {
        /// The sequence number that was due.
        expected: u64,
        /// The one in the message.
        found: u64,
    },
    /// The server process could not do its part.
    #[error("the server process says: {0}")]
    Server(String),
    /// A system call failed.
    #[error("{what} failed: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Anything with a sentence of its own.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// Builds the error for a failed system call; ends of a dead peer are told apart here.
    pub fn from_call(what: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::UnexpectedEof => Self::PeerGone,
            _ => Self::System { what, source },
        }
    }
}

/// Turns a system call's result into ours, naming what was being done.
pub trait During<T> {
    /// Names the action that failed.
    fn during(self, what: &'static str) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|source| Fault::from_call(what, source))
    }
}

/// How the program ends when it does not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The user asked for something that cannot be had: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something failed while running: exit code 1.
    #[error("{0}")]
    Run(String),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => 2,
            Self::Run(_) => 1,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Run(format!("The measurement failed: {fault}."))
    }
}
