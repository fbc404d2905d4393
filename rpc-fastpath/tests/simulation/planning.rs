//! What will happen in a run, drawn from its seed.

use crate::network::{LONGEST, MILLISECOND};
use crate::world::{FRAGMENT, Happening, NORMAL, Spec, World};

impl World {
    /// Decides what will happen to both.
    pub fn plan(&mut self) {
        let calls = self.random.within(4..16) as usize;
        let span = self.random.within(1..200) * MILLISECOND;
        for call in 0..calls {
            let spec = self.draw_call();
            self.calls.push(spec);
            let at = self.random.within(0..span);
            self.network.at(at, Happening::Begin(call));
        }
        for (of_a_thousand, what) in [
            (200, Happening::ClientDies),
            (300, Happening::ServerDies),
            (150, Happening::ServerDies),
            (100, Happening::Fence),
            (250, Happening::Cut(true)),
        ] {
            let at = self.random.within(0..span);
            if self.random.happens(of_a_thousand) {
                self.network.at(at, what);
            }
        }
        self.network.at(span + LONGEST, Happening::Heal);
    }

    fn draw_call(&mut self) -> Spec {
        let random = &mut self.random;
        let mut len = |long| {
            let most = if random.happens(long) { 3200 } else { u64::from(FRAGMENT) + 1 };
            random.within(0..most) as usize
        };
        let (len, reply_len) = (len(250), len(250));
        Spec {
            method: if random.happens(150) { random.within(1..3) as u16 } else { NORMAL },
            len,
            reply_len,
            max_reply: if random.happens(80) { 50 } else { 3000 },
            one_way: random.happens(120),
            time: random.happens(200).then(|| random.within(1..60) * MILLISECOND),
            work: if random.happens(150) { random.within(0..60) * MILLISECOND } else { 0 },
            asks: random.within(0..3) as u32,
        }
    }
}
