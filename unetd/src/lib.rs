//! The agent: a process that owns network devices and lends them to processes that distrust each other.
//!
//! A client asks by shared memory (`unet::mediated`) for a channel to an address, or for a port. The agent
//! asks the kernel who that is, looks into its [`Policy`], and opens the channel on its own device. From then
//! on it carries messages between the two: headers come from its own tables, so that a client can name no
//! address, port, channel or incarnation in a message, and sees nobody else's.
//!
//! One thread, one `unet::Endpoint` over all clients and devices. It waits for nobody: connections are begun
//! and not waited for, what a client does not take is dropped and counted, and what the network does not take
//! stays in that client's own memory.
//!
//! ```no_run
//! let policy = unetd::Policy::parse(&std::fs::read_to_string("/etc/unetd.toml")?)?;
//! let mut agent = unetd::Agent::start(policy, drivers::linked())?;
//! loop {
//!     agent.turn(std::time::Duration::from_millis(100));
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agent;
pub mod ctl;
pub mod direct;
pub mod doctor;
mod modes;
pub mod pages;
mod policy;
pub mod report;

pub use agent::{Agent, StartError};
pub use policy::{Device, Direct, Policy, PolicyError, Rule};
