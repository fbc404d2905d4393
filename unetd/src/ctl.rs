//! Asking an agent how things are.

use std::time::{Duration, Instant};

use unet::mediated::Request;
use unet::{
    Address, AddressError, Channel, CloseReason, ConnectError, ConnectOptions, Policy, SendError,
};

/// Why an agent did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The name is none.
    #[error("{0}")]
    Name(#[from] AddressError),
    /// The agent does not let this process ask.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// It ended meanwhile.
    #[error("the agent ended meanwhile: {0}")]
    Closed(#[from] CloseReason),
    /// It did not take the question.
    #[error("the agent did not take the question: {0}")]
    Send(#[from] SendError),
    /// It did not answer in time.
    #[error("the agent did not answer in time")]
    TimedOut,
    /// It answered something that cannot be read.
    #[error("the agent's answer cannot be read: it is another version's")]
    Answer,
}

/// Asks the agent of a name one question: its answer, as JSON.
///
/// # Errors
/// [`AskError`].
///
/// # Cost
/// A connection.
pub fn ask(name: &str, question: &str, timeout: Duration) -> Result<Vec<u8>, AskError> {
    let address: Address = format!("shm:{name}").parse()?;
    let mut options = ConnectOptions {
        private: Request::Inspect.encode().unwrap_or_default(),
        // The answer is about the machine, and nothing is entrusted to it.
        policy: Policy::AnyUser,
        timeout,
        ..ConnectOptions::default()
    };
    options.channel.geometry.slots = 16;
    let mut channel = Channel::connect(&address, options)?;
    let deadline = Instant::now().checked_add(timeout);
    channel.send_timeout(question.as_bytes(), timeout)?;
    let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
    let answer = channel.recv_timeout(left)?.ok_or(AskError::TimedOut)?;
    answer.to_vec().map_err(|_| AskError::Answer)
}
