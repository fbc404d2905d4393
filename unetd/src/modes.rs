//! The ways by which a client gets at a device: one module a mode.
//!
//! | mode | who has the device | |
//! |---|---|---|
//! | [`mediated`] | the agent | messages pass through it, and get their headers there |
//!
//! What a mode decides about is asked of the policy and of the accounts in [`crate::agent`], which are the
//! same for all of them.

pub(crate) mod mediated;
