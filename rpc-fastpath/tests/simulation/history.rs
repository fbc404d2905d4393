//! What happened in a run, and whether it may.
//!
//! The history is written by who sees all: the callers, the handlers and the crashes. A protocol that keeps
//! its word can have made none of the violations; each has a test that makes it, so that the checker is known
//! to see it.

use rpc_fastpath::protocol::{Doubt, Failure, Refusal};

/// How a call ended, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the reply to this call, of the right length.
    Executed {
        reply_to: usize,
    },
    Delivered,
    Failed(Failure),
    Refused(Refusal),
    Unknown(Doubt),
}

/// What came out of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    pub executed: u64,
    pub failed: u64,
    pub refused: u64,
    pub unknown: u64,
    pub resolved: u64,
    pub suspected: u64,
}

impl std::ops::Add for Ends {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            executed: self.executed + other.executed,
            failed: self.failed + other.failed,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
            resolved: self.resolved + other.resolved,
            suspected: self.suspected + other.suspected,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A client process began a call.
    Began {
        call: usize,
        client: u32,
    },
    /// A client asked for the outcome of a call that had ended in doubt.
    Asked {
        call: usize,
    },
    Ended {
        call: usize,
        end: End,
    },
    /// A client process has a session with the server of this incarnation.
    Opened {
        client: u32,
        cookie: u64,
        incarnation: u64,
    },
    /// A handler was given a call.
    Handed {
        call: usize,
        cookie: u64,
        incarnation: u64,
    },
    /// A handler has done what was to be done, for good.
    Done {
        call: usize,
    },
    /// A client process died, and with it whoever waited.
    ClientDied {
        client: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The effect of a call came twice, or its handler had it twice.
    Twice { call: usize },
    /// A call that ended as executed has no effect.
    EffectLost { call: usize },
    /// A call that ended as refused has one.
    RefusedButDone { call: usize },
    /// A call did not end, or ended more often than it was asked after.
    NotOnce { call: usize, ends: u32 },
    /// A call ended in two ways that cannot both be.
    Contradiction { call: usize },
    /// A call has the reply of another.
    WrongReply { call: usize },
    /// A handler was given a call that was sent in no session of that server's.
    WrongServer { call: usize },
}

#[derive(Clone, Copy, Default)]
struct Known {
    client: u32,
    ends: u32,
    asked: u32,
    handed: u32,
    done: u32,
    executed: bool,
    refused: bool,
}

/// Whether this may have happened.
pub fn check(history: &[Entry]) -> Result<(), Violation> {
    let calls = history.iter().filter(|entry| matches!(entry, Entry::Began { .. })).count();
    let mut known = vec![Known::default(); calls];
    let mut sessions = Vec::new();
    let mut dead = Vec::new();
    for entry in history {
        match *entry {
            Entry::Began { call, client } => known[call].client = client,
            Entry::Asked { call } => known[call].asked += 1,
            Entry::Opened { client, cookie, incarnation } => {
                sessions.push((client, cookie, incarnation))
            }
            Entry::Handed { call, cookie, incarnation } => {
                known[call].handed += 1;
                if known[call].handed > 1 {
                    return Err(Violation::Twice { call });
                }
                if !sessions.contains(&(known[call].client, cookie, incarnation)) {
                    return Err(Violation::WrongServer { call });
                }
            }
            Entry::Done { call } => {
                known[call].done += 1;
                if known[call].done > 1 {
                    return Err(Violation::Twice { call });
                }
            }
            Entry::ClientDied { client } => dead.push(client),
            Entry::Ended { call, end } => end_call(&mut known[call], call, end)?,
        }
    }
    for (call, known) in known.iter().enumerate() {
        // Also what came after: a refused call is refused for ever.
        if known.refused && known.done > 0 {
            return Err(Violation::RefusedButDone { call });
        }
        let is_dead = dead.contains(&known.client);
        let expected = 1 + known.asked;
        if known.ends > expected || known.ends < expected && !is_dead {
            return Err(Violation::NotOnce { call, ends: known.ends });
        }
    }
    Ok(())
}

fn end_call(known: &mut Known, call: usize, end: End) -> Result<(), Violation> {
    known.ends += 1;
    match end {
        End::Executed { reply_to } if reply_to != call => {
            return Err(Violation::WrongReply { call });
        }
        End::Executed { .. } | End::Failed(_) => {
            known.executed = true;
            if known.done == 0 {
                return Err(Violation::EffectLost { call });
            }
        }
        End::Delivered => {
            known.executed = true;
            if known.handed == 0 {
                return Err(Violation::EffectLost { call });
            }
        }
        End::Refused(_) => known.refused = true,
        End::Unknown(_) => {}
    }
    if known.executed && known.refused {
        return Err(Violation::Contradiction { call });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Entry = Entry::Began { call: 0, client: 1 };
    const OPENED: Entry = Entry::Opened { client: 1, cookie: 5, incarnation: 7 };
    const HANDED: Entry = Entry::Handed { call: 0, cookie: 5, incarnation: 7 };
    const DONE: Entry = Entry::Done { call: 0 };
    const ASKED: Entry = Entry::Asked { call: 0 };
    const EXECUTED: Entry = Entry::Ended { call: 0, end: End::Executed { reply_to: 0 } };
    const REFUSED: Entry = Entry::Ended { call: 0, end: End::Refused(Refusal::Overload) };
    const UNKNOWN: Entry = Entry::Ended { call: 0, end: End::Unknown(Doubt::NoAnswer) };

    #[test]
    fn what_may_happen_is_accepted() {
        let died = Entry::ClientDied { client: 1 };
        let good: [&[Entry]; 6] = [
            &[BEGAN, OPENED, HANDED, DONE, EXECUTED],
            &[BEGAN, OPENED, REFUSED],
            &[BEGAN, OPENED, UNKNOWN, HANDED, DONE],
            &[BEGAN, OPENED, HANDED, UNKNOWN, ASKED, DONE, EXECUTED],
            &[BEGAN, OPENED, HANDED, DONE, died],
            &[BEGAN, OPENED, HANDED, UNKNOWN],
        ];
        for history in good {
            assert_eq!(check(history), Ok(()), "{history:?}");
        }
    }

    #[test]
    fn every_violation_is_found() {
        let call = 0;
        let other = Entry::Handed { call, cookie: 5, incarnation: 8 };
        let stranger = Entry::Handed { call, cookie: 6, incarnation: 7 };
        let wrong = Entry::Ended { call, end: End::Executed { reply_to: 1 } };
        let bad: [(&[Entry], Violation); 13] = [
            (&[BEGAN, OPENED, HANDED, DONE, DONE, EXECUTED], Violation::Twice { call }),
            (&[BEGAN, OPENED, HANDED, HANDED], Violation::Twice { call }),
            (&[BEGAN, OPENED, HANDED, EXECUTED, DONE], Violation::EffectLost { call }),
            (&[BEGAN, OPENED, EXECUTED], Violation::EffectLost { call }),
            (
                &[BEGAN, OPENED, Entry::Ended { call, end: End::Delivered }],
                Violation::EffectLost { call },
            ),
            (&[BEGAN, OPENED, HANDED, DONE, REFUSED], Violation::RefusedButDone { call }),
            (&[BEGAN, OPENED, REFUSED, HANDED, DONE], Violation::RefusedButDone { call }),
            (&[BEGAN, OPENED, HANDED, DONE], Violation::NotOnce { call, ends: 0 }),
            (&[BEGAN, OPENED, UNKNOWN, UNKNOWN], Violation::NotOnce { call, ends: 2 }),
            (
                &[BEGAN, OPENED, HANDED, DONE, EXECUTED, ASKED, REFUSED],
                Violation::Contradiction { call },
            ),
            (&[BEGAN, OPENED, HANDED, DONE, wrong], Violation::WrongReply { call }),
            (&[BEGAN, OPENED, other], Violation::WrongServer { call }),
            (&[BEGAN, OPENED, stranger], Violation::WrongServer { call }),
        ];
        for (history, violation) in bad {
            assert_eq!(check(history), Err(violation), "{history:?}");
        }
    }
}
