//! A queue that an agent lends: what `xdp:…?agent=NAME` opens, without any privilege.
//!
//! ```text
//!   client                                      agent
//!   makes a pool, allocates its pages
//!   Hello: what is wanted, the pool's file ───► who is it? may it? is the file one that can be registered?
//!                                               registers it, binds a socket to the queue, reserves the port,
//!                                               steers packets to it
//!   AfXdp::from_bound ◄──── Welcome: the socket, what it is bound to
//!   …the connection stays open: the agent takes back what it lent when it ends.
//! ```
//!
//! The agent has to be root's or of the same user. After that nobody is in the data path.

mod asking;
pub mod message;

pub(crate) use asking::Lease;
pub use asking::ask;
