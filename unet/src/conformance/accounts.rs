//! Whether the accounts of two devices and of the network between them add up.

use std::time::Instant;

use super::session::{Session, Side};
use super::{Bench, Carrier, Failure};
use crate::device::{Count, Statistics};

impl<B: Bench> Session<'_, B> {
    /// How many packets were sent, are not lost, and have neither been received nor counted yet.
    /// Negative if there were more than that.
    pub fn missing(&mut self) -> i64 {
        let (a, b) = (self.a.end.device().statistics(), self.b.end.device().statistics());
        let wire = self.bench.wire();
        let sent = a[Count::Sent] + b[Count::Sent] + wire.duplicated;
        let strangers = self.a.strangers + self.b.strangers;
        let received = [a, b].map(|side| side[Count::Received] + side.sum(&Count::DROPPED));
        (sent + strangers) as i64 - (wire.lost + received[0] + received[1]) as i64
    }

    /// Lets everything arrive, and checks the accounts to the packet, and the buffers.
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.drain()?;
        check_side(&mut self.a)?;
        check_side(&mut self.b)?;
        self.check_network()?;
        self.check_buffers()
    }

    /// Receives until nothing is missing, and nothing arrives for a while.
    pub fn drain(&mut self) -> Result<(), Failure> {
        let mut deadline = Instant::now() + self.bench.patience();
        let mut since = Instant::now();
        loop {
            let mut moved = self.transmit()?;
            moved += self.receive()?.len() as u64;
            self.turn_quietly();
            moved += self.transmit()?;
            moved += self.receive()?.len() as u64;
            self.turn_quietly();
            let now = Instant::now();
            if moved > 0 {
                (deadline, since) = (now + self.bench.patience(), now);
                continue;
            }
            let quiet = now - since >= self.bench.quiet();
            if quiet && (now > deadline || self.missing() == 0 && self.in_use() == 0) {
                return Ok(());
            }
            self.bench.idle();
        }
    }

    /// As [`Session::turn`], for a look at the other direction.
    fn turn_quietly(&mut self) {
        std::mem::swap(&mut self.a, &mut self.b);
    }

    fn check_network(&mut self) -> Result<(), Failure> {
        let missing = self.missing();
        if missing != 0 {
            let (a, b) = (self.a.end.device().statistics(), self.b.end.device().statistics());
            let wire = self.bench.wire();
            let what = if missing > 0 {
                "were neither received nor counted"
            } else {
                "were received or counted more often than they were sent"
            };
            Err(format!(
                "{} packets {what}: one device says {}; the other, {}; the network lost {} and \
                 duplicated {}",
                missing.abs(),
                tell(&a),
                tell(&b),
                wire.lost,
                wire.duplicated
            ))?;
        }
        let wire = self.bench.wire();
        if self.damaged > wire.corrupted {
            let (damaged, corrupted) = (self.damaged, wire.corrupted);
            Err(format!(
                "{damaged} packets arrived damaged, and the network corrupted {corrupted}"
            ))?;
        }
        if self.twice > wire.duplicated {
            let (twice, duplicated) = (self.twice, wire.duplicated);
            Err(format!("{twice} packets arrived twice, and the network duplicated {duplicated}"))?;
        }
        Ok(())
    }

    /// How many buffers of both devices are neither free nor in the stock.
    pub fn in_use(&mut self) -> usize {
        in_use(&mut self.a) + in_use(&mut self.b)
    }

    /// Every buffer must be free or in the stock.
    fn check_buffers(&mut self) -> Result<(), Failure> {
        for side in [&mut self.a, &mut self.b] {
            let stock = side.end.capabilities().stock;
            let pool = side.end.device().pool();
            let (free, total) = (pool.free(), pool.total());
            if free > total {
                Err(format!("{free} buffers are free, of {total}: one is in two places"))?;
            }
            if free + stock < total {
                let lost = total - free - stock;
                Err(format!(
                    "of {total} buffers {free} are free and at most {stock} in the device's stock: \
                     {lost} are lost"
                ))?;
            }
        }
        Ok(())
    }
}

/// What a device counted must be what it was seen to do.
fn check_side<E: Carrier>(side: &mut Side<E>) -> Result<(), Failure> {
    let said = side.end.device().statistics();
    let all = said[Count::Sent] + said.sum(&Count::NOT_SENT);
    if all != side.taken {
        let taken = side.taken;
        Err(format!(
            "{taken} packets were taken to be sent, and {all} are counted, as sent or as not sent ({})",
            tell(&said)
        ))?;
    }
    let all_sent = said[Count::Sent] == side.taken;
    let sent_bytes = if all_sent { side.taken_bytes } else { said[Count::SentBytes] };
    let seen = [
        (Count::SentBytes, sent_bytes, "bytes were sent"),
        (Count::Received, side.handed, "packets were handed over"),
        (Count::ReceivedBytes, side.handed_bytes, "bytes were handed over"),
    ];
    for (count, seen, what) in seen {
        let counted = said[count];
        if counted != seen {
            Err(format!("{seen} {what}, and {counted} are counted"))?;
        }
    }
    Ok(())
}

fn in_use<E: Carrier>(side: &mut Side<E>) -> usize {
    let stock = side.end.capabilities().stock;
    let pool = side.end.device().pool();
    pool.total().saturating_sub(pool.free() + stock)
}

/// All counts in a line.
pub(super) fn tell(said: &Statistics) -> String {
    let counts: Vec<_> = said.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
}
