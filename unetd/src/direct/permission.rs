//! What the policy has to say to direct mode.

use driver_af_xdp::Way;
use driver_af_xdp::lent::message::Request;
use unet::Credentials;

/// What a user may have of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Which way into the interface: who asks for another one is refused.
    pub way: Way,
    /// How many queues all processes of the user have at most.
    pub queues: usize,
    /// How many bytes all of them have pinned at most.
    pub bytes: u64,
}

/// Who may have which queue with which port.
pub trait Permissions {
    /// What a user may have, if the user may have this. The request always names a queue; port 0 is any
    /// that no socket of the host has.
    fn permission(&self, who: Credentials, request: &Request) -> Option<Permission>;
}

impl<F: Fn(Credentials, &Request) -> Option<Permission>> Permissions for F {
    fn permission(&self, who: Credentials, request: &Request) -> Option<Permission> {
        self(who, request)
    }
}
