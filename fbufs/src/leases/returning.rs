//! How what was lent comes back: given back, revoked, or reclaimed from who is gone.

use std::sync::Arc;

use segment::Fault;
use segment::blocks::Blocks;

use super::{Export, LEFT_BEHIND, Leases, Lent, MAX_LEASES};
use crate::{Part, Pool};

impl Leases {
    /// Takes back what the receiver has given back. How many parts that was.
    ///
    /// # Errors
    /// The [`Fault`] that the receiver committed; the channel is to be poisoned.
    ///
    /// # Cost
    /// One load of a cache line that the receiver writes, and a few for each part.
    #[inline]
    pub fn collect(&mut self, pool: &mut Pool) -> Result<usize, Fault> {
        let mut returned = 0;
        // At most as many as there are: an honest receiver cannot return more, a lying one is caught.
        while returned < MAX_LEASES
            && let Some((lease, generation)) = self.reclaims.try_pop()?
        {
            self.take_back(lease, generation, pool)?;
            returned += 1;
        }
        Ok(returned)
    }

    #[inline]
    fn take_back(&mut self, returned: u16, generation: u32, pool: &mut Pool) -> Result<(), Fault> {
        let lease = returned & !LEFT_BEHIND;
        if usize::from(lease) >= MAX_LEASES {
            return Err(Fault::BufferIndex);
        }
        let entry = self.leases.get_mut(usize::from(lease)).ok_or(Fault::FreeNotLent)?;
        if entry.lent.is_none() && !entry.revoked {
            return Err(Fault::FreeNotLent);
        }
        if entry.generation != generation {
            return Err(Fault::FreeGeneration);
        }
        entry.revoked = false;
        if let Some(lent) = entry.lent.take() {
            self.bytes -= lent.len();
            self.passed_on -= usize::from(lent.is_passed_on());
            if returned == lease {
                free(lent, pool);
            } else {
                self.take_away(lent, pool);
            }
        }
        self.vacant.push(lease as u8);
        Ok(())
    }

    /// Takes back, at once, the buffers of this process that the receiver holds. What it reads of them
    /// from now on is an error to it, and to every later domain. Its leases stay used up until it has
    /// given them back. How many buffers that was.
    ///
    /// What other domains lent to this one can only be revoked by them; where they have, it is
    /// passed on.
    ///
    /// # Cost
    /// A walk over the private table.
    pub fn revoke(&mut self, pool: &mut Pool) -> usize {
        let mut revoked = 0;
        for at in 0..self.leases.len() {
            let Some(lent) = self.leases[at].lent.take_if(|lent| match lent {
                Lent::Part(Part::Peer(fbuf)) => fbuf.is_revoked(),
                _ => true,
            }) else {
                continue;
            };
            self.leases[at].revoked = true;
            self.bytes -= lent.len();
            self.passed_on -= usize::from(lent.is_passed_on());
            self.take_away(lent, pool);
            revoked += 1;
        }
        revoked
    }

    /// Takes back everything: the receiver is gone. How many buffers it held.
    ///
    /// # Cost
    /// A walk over the private table.
    pub fn reclaim(&mut self, pool: &mut Pool) -> usize {
        let mut reclaimed = 0;
        for at in 0..self.leases.len() {
            let lease = &mut self.leases[at];
            let was_revoked = std::mem::take(&mut lease.revoked);
            if let Some(lent) = lease.lent.take() {
                self.take_away(lent, pool);
                reclaimed += 1;
            } else if !was_revoked {
                continue;
            }
            self.vacant.push(at as u8);
        }
        (self.bytes, self.passed_on) = (0, 0);
        reclaimed
    }

    /// Frees a buffer that somebody may still be reading: who does learns it before it is written again,
    /// which is at once, unless others share it.
    #[cold]
    fn take_away(&self, lent: Lent, pool: &mut Pool) {
        match &lent {
            Lent::Part(Part::Own(fbuf)) => fbuf.block().revoke_before_reuse(),
            Lent::Guarded(secured, _) => secured.revoke(),
            Lent::Part(Part::Peer(_)) => {}
        }
        match lent {
            Lent::Part(Part::Peer(fbuf)) => fbuf.leave_behind(),
            lent => free(lent, pool),
        }
    }

    /// Whether buffers are of a pool of their own, which outlives the channel.
    fn lives_on(&self, blocks: &Arc<Blocks>) -> bool {
        self.exports.iter().any(|export| match export {
            Export::Own { blocks: own, lives_on, .. } => *lives_on && Arc::ptr_eq(own, blocks),
            Export::Peer { .. } => false,
        })
    }

    /// Whether something was given back that another domain waits for.
    ///
    /// # Cost
    /// One load; where something was passed on, another of a cache line that the receiver writes.
    #[inline(always)]
    pub fn owes(&self) -> bool {
        self.passed_on != 0 && self.reclaims.is_ready()
    }
}

#[inline(always)]
fn free(lent: Lent, pool: &mut Pool) {
    match lent {
        Lent::Part(Part::Own(fbuf)) => pool.recycle(fbuf),
        Lent::Part(Part::Peer(fbuf)) => drop(fbuf),
        // Where the kernel refuses, the drop tries again and then gives the buffer up.
        Lent::Guarded(secured, _) => _ = secured.restore().map(|block| pool.put(block.share())),
    }
}

impl Drop for Leases {
    /// What is still lent may be written again from now on, if its pool lives on or others share it.
    fn drop(&mut self) {
        for at in 0..self.leases.len() {
            let Some(lent) = self.leases[at].lent.take() else { continue };
            match lent {
                Lent::Part(Part::Peer(fbuf)) => fbuf.leave_behind(),
                Lent::Part(Part::Own(fbuf)) => {
                    let block = fbuf.block();
                    if !block.is_unique() || self.lives_on(block.region()) {
                        block.revoke_before_reuse();
                    }
                }
                Lent::Guarded(secured, _) => {
                    if self.lives_on(secured.region()) {
                        secured.revoke();
                    }
                }
            }
        }
    }
}
