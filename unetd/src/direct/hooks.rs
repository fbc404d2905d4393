//! The XDP program of each interface that a queue was lent of: attached for the first client, detached after
//! the last.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use driver_af_xdp::lent::message::Refused;
use driver_af_xdp::program::About;
use driver_af_xdp::{Hook, Interface, Options, Program, Way, open};

use super::store::{KeeperGone, Of, Record, Store};

struct Attached {
    key: u64,
    program: Program,
}

/// Programs by their interface's number.
#[derive(Default)]
pub(super) struct Hooks {
    attached: BTreeMap<u32, Attached>,
}

impl Hooks {
    /// Takes over what a worker left that died.
    pub fn adopt(&mut self, record: Record) -> Option<()> {
        let key = record.key;
        let interface = u32::from_ne_bytes(record.about.get(..4)?.try_into().ok()?);
        let hook = if *record.about.get(4)? == 0 { Hook::Generic } else { Hook::Native };
        let frags = *record.about.get(5)? != 0;
        let descriptors = <[_; 3]>::try_from(record.descriptors).ok()?;
        let program = Program::adopt(descriptors, About { interface, hook, frags });
        self.attached.insert(interface, Attached { key, program });
        Some(())
    }

    pub fn get(&self, interface: u32) -> Option<&Program> {
        self.attached.get(&interface).map(|attached| &attached.program)
    }

    /// The program of an interface, attached if it is not yet.
    pub fn attach(
        &mut self,
        interface: &Interface,
        way: Way,
        key: &mut u64,
        store: Option<&Store>,
    ) -> Result<&Program, Refused> {
        if let Entry::Vacant(free) = self.attached.entry(interface.index) {
            // As the last queue wants it: all of them are to be usable.
            let last = interface.queues.saturating_sub(1);
            let options = Options { way, patience: Duration::ZERO, ..Options::default() };
            let program = open::attach(interface, last, &options)?;
            *key += 1;
            if let Some(store) = store {
                let About { interface, hook, frags } = program.about();
                let mut about = interface.to_ne_bytes().to_vec();
                about.extend([u8::from(hook == Hook::Native), u8::from(frags)]);
                let put = store.put(*key, Of::Program, &about, &program.descriptors());
                put.map_err(|KeeperGone| Refused::Crowded)?;
            }
            free.insert(Attached { key: *key, program });
        }
        self.get(interface.index).ok_or(Refused::NoInterface)
    }

    /// Detaches the programs of interfaces that nobody uses any more.
    pub fn keep_only(
        &mut self,
        in_use: impl Fn(u32) -> bool,
        store: Option<&Store>,
    ) -> Result<(), KeeperGone> {
        let unused: Vec<u32> = self.attached.keys().copied().filter(|it| !in_use(*it)).collect();
        for interface in unused {
            if let (Some(gone), Some(store)) = (self.attached.remove(&interface), store) {
                store.forget(gone.key)?;
            }
        }
        Ok(())
    }
}
