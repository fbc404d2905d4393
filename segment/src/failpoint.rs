//! Numbered steps at which a test kills or stops this process.
//!
//! The steps are marked with [`hit`]. Without the feature `failpoints`, and in every build without
//! debug assertions, [`hit`] is empty and nothing of this module is left in the program.

/// Every step that is marked somewhere in the house, in the order in which a connection, a
/// hand-off and a call pass them. The failure tests walk this list.
pub const STEPS: &[&str] = &[
    "connect.1-named",
    "connect.2-connected",
    "connect.3-segment-made",
    "connect.4-hello-sent",
    "connect.5-welcome-received",
    "connect.6-mapped",
    "accept.1-connected",
    "accept.2-hello-received",
    "accept.3-mapped",
    "accept.4-segment-made",
    "accept.5-welcome-sent",
    "send.1-before-publish",
    "send.2-published",
    "send.3-doorbell-rung",
    "handoff.1-buffer-taken",
    "handoff.2-lent",
    "handoff.3-published",
    "receive.1-popped",
    "receive.2-buffer-held",
    "receive.3-buffer-returned",
    "call.1-arguments-written",
    "call.2-posted",
    "call.3-waiting",
    "reply.1-call-taken",
    "reply.2-handled",
    "reply.3-result-written",
    "reply.4-posted",
];

#[cfg(all(feature = "failpoints", debug_assertions))]
mod armed {
    use std::sync::Mutex;

    use rustix::process::Signal;

    struct Plan {
        step: &'static str,
        hits_left: u32,
        signal: Signal,
    }

    static PLAN: Mutex<Option<Plan>> = Mutex::new(None);

    /// Sends this process `signal` when it passes `step` for the `nth` time, counted from one.
    /// `false` if there is no such step.
    pub fn arm(step: &str, nth: u32, signal: Signal) -> bool {
        let Some(step) = super::STEPS.iter().find(|known| **known == step) else { return false };
        *PLAN.lock().expect("no panic while the plan is held") =
            Some(Plan { step, hits_left: nth, signal });
        true
    }

    /// Marks a step.
    pub fn hit(step: &'static str) {
        debug_assert!(super::STEPS.contains(&step), "{step} is not in the list of steps");
        let mut plan = PLAN.lock().expect("no panic while the plan is held");
        let Some(armed) = plan.as_mut().filter(|plan| plan.step == step) else { return };
        armed.hits_left -= 1;
        if armed.hits_left == 0 {
            let signal = armed.signal;
            *plan = None;
            drop(plan);
            // To this thread: sent to the process, another thread may take it, and this one go on
            // for a while before it stops.
            // SAFETY: it takes a number, and touches no memory of this program.
            unsafe { libc::raise(signal.as_raw()) };
        }
    }
}

#[cfg(all(feature = "failpoints", debug_assertions))]
pub use armed::{arm, hit};

/// Marks a step. Empty in this build.
#[cfg(not(all(feature = "failpoints", debug_assertions)))]
#[inline(always)]
pub fn hit(_step: &'static str) {}
