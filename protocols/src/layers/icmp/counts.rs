//! What came in, by kind.

use etherparse::{icmpv4, icmpv6};

/// Messages received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub echo_requests: u64,
    pub echo_replies: u64,
    unreachable: u64,
    too_big: u64,
    time_exceeded: u64,
    parameter_problem: u64,
    redirect: u64,
}

impl Counts {
    /// Counts an error; `false` if it is of no kind that we know.
    pub(super) fn error(&mut self, version6: bool, kind: u8) -> bool {
        let count = match (version6, kind) {
            (false, icmpv4::TYPE_DEST_UNREACH) | (true, icmpv6::TYPE_DST_UNREACH) => {
                &mut self.unreachable
            }
            (true, icmpv6::TYPE_PACKET_TOO_BIG) => &mut self.too_big,
            (false, icmpv4::TYPE_TIME_EXCEEDED) | (true, icmpv6::TYPE_TIME_EXCEEDED) => {
                &mut self.time_exceeded
            }
            (false, icmpv4::TYPE_PARAMETER_PROBLEM) | (true, icmpv6::TYPE_PARAMETER_PROBLEM) => {
                &mut self.parameter_problem
            }
            (false, icmpv4::TYPE_REDIRECT) => &mut self.redirect,
            _ => return false,
        };
        *count += 1;
        true
    }

    pub(super) fn tell(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("echo_requests", self.echo_requests);
        tell("echo_replies", self.echo_replies);
        tell("destination_unreachable", self.unreachable);
        tell("packet_too_big", self.too_big);
        tell("time_exceeded", self.time_exceeded);
        tell("parameter_problem", self.parameter_problem);
        tell("redirect", self.redirect);
    }
}
