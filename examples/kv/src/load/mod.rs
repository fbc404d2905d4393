//! A load like YCSB's: reads and updates of keys by Zipf's law, offered to a store.
//!
//! | file | what |
//! |---|---|
//! | [`Workload`] | which keys, which operations, which values: drawn beforehand, the same in every run |
//! | [`Target`] | a store under load: ours ([`Calls`]), or another to compare with |
//! | [`fill`], [`drive`] | put every key; offer a load, closed or open loop, and measure |

mod calls;
mod drive;
mod workload;

pub use calls::Calls;
pub use drive::{Load, Measured, Pace, drive, fill};
pub use workload::{KEY_BYTES, MIN_VALUE, Mix, Operation, Workload, WorkloadOptions, check};

/// A store under load: operations are begun, and end later.
pub trait Target {
    /// Begins an operation. `false`: there is no room; take what has ended first.
    ///
    /// # Errors
    /// [`LoadError`]: the run is over.
    fn begin(&mut self, token: u64, operation: &Operation<'_>) -> Result<bool, LoadError>;

    /// Tells `each` the tokens of what has ended since, and how. It need not wait for any.
    ///
    /// # Errors
    /// [`LoadError`]: the run is over.
    fn ended(&mut self, each: &mut dyn FnMut(u64, End)) -> Result<(), LoadError>;
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done, and its result is what it must be.
    Done,
    /// Refused by a server that has too much to do.
    Refused,
}

/// Why a run was ended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// What came back is not what was put: the figures would mean nothing.
    #[error("key {key} has a value that was never put there")]
    WrongValue {
        /// Its number.
        key: u32,
    },
    /// A key that was put is not there.
    #[error("key {key} is missing: was the store filled?")]
    Missing {
        /// Its number.
        key: u32,
    },
    /// Nothing ended for seconds.
    #[error("nothing was answered for {0} s")]
    Silent(u64),
    /// The store says what.
    #[error("{0}")]
    Other(String),
}
