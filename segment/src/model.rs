//! The queues and the doorbell without a segment around them, for loom's models: the very same code,
//! on words of the heap instead of a mapping. Exists under `cfg(loom)` only.

use std::sync::Arc;

use crate::doorbell::{Bell, Sleeper};
use crate::free_queue::{self, Reclaims, Returns};
use crate::ring::{Consumer, Producer, Slot};
use crate::sync::AtomicU64;
use crate::view::View;

/// The two ends of a ring of so many slots.
pub fn ring(slots: usize) -> (Producer, Consumer) {
    let slots = Slot::on_heap(slots);
    let credit = word();
    let producer = Producer::new(View::heap(&slots), View::heap(&credit));
    (producer, Consumer::new(View::heap(&slots), View::heap(&credit)))
}

/// The two ends of a free queue.
pub fn free_queue() -> (Returns, Reclaims) {
    let words = free_queue::on_heap();
    (Returns::new(View::heap(&words)), Reclaims::new(View::heap(&words)))
}

/// The two ends of a doorbell. With `fence` the sender executes it; without, the sleeper's
/// membarrier is to be modelled between [`Sleeper::arm`] and the last look.
pub fn doorbell(fence: bool) -> (Bell, Sleeper) {
    let armed = word();
    (Bell::new(View::heap(&armed), fence), Sleeper::new(View::heap(&armed), false))
}

/// What the sender finds when it looks whether to ring: the number of a sleep, or zero. The look of
/// [`Bell::notify`], without the socket.
pub fn look(bell: &Bell) -> u64 {
    bell.look()
}

fn word() -> Arc<Vec<AtomicU64>> {
    Arc::new(vec![AtomicU64::new(0)])
}
