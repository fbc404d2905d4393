//! The suite names what a device of frames does wrong: what only shows with frames, links, pieces, long
//! runs or short queues.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use driver_sim::{DeviceOptions, Faults, Frames, Network, PortId};
use unet::conformance::{self, Bench, OverFrames, Wire};
use unet::device::{Capabilities, Count, Device, DeviceError, Piece, Statistics};
use unet::{Fbuf, FbufMut, Pool};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    CountsNothing,
    PadsShortFrames,
    TakesTooManyPieces,
    ForgetsThatMoreFollows,
    ExceedsTheBurst,
    LosesThe400th,
    LeaksThe1000th,
    SaysNothingOfTheLink,
    StaysDown,
}

/// A good device, with something wrong about it.
struct Broken {
    inner: Frames,
    fault: Fault,
    wrong: Statistics,
    frames: u64,
    leaked: Vec<FbufMut>,
    was_down: bool,
}

impl AsFd for Broken {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Device for Broken {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        if self.fault == Fault::ExceedsTheBurst {
            capabilities.burst -= 1;
        }
        if self.fault == Fault::TakesTooManyPieces {
            capabilities.pieces -= 1;
        }
        capabilities
    }

    fn statistics(&mut self) -> Statistics {
        let mut said = self.inner.statistics();
        said += self.wrong;
        said
    }

    fn pool(&mut self) -> &mut Pool {
        self.inner.pool()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.inner.arm()
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        let result = self.inner.maintain();
        self.was_down |= result.is_err();
        match self.fault {
            Fault::SaysNothingOfTheLink => Ok(()),
            Fault::StaysDown if self.was_down => Err(DeviceError::Down),
            _ => result,
        }
    }
}

impl unet::device::Frames for Broken {
    fn mac(&self) -> [u8; 6] {
        self.inner.mac()
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        self.frames += u64::from(!frames.is_empty());
        match self.fault {
            Fault::CountsNothing if frames.is_empty() => self.wrong.add(Count::Sent, 1),
            Fault::PadsShortFrames => {
                for frame in frames.iter_mut().filter(|frame| frame.bytes.len() < 14) {
                    let mut padded = self.inner.pool().alloc(14).expect("one is free");
                    padded.fill(0);
                    frame.bytes = padded.freeze();
                }
            }
            Fault::LosesThe400th if self.frames.is_multiple_of(400) && !frames.is_empty() => {
                let lost = frames.pop_front().map_or(0, |frame| frame.bytes.len());
                self.wrong.add(Count::Sent, 1);
                self.wrong.add(Count::SentBytes, lost as u64);
            }
            Fault::LeaksThe1000th if self.frames.is_multiple_of(1000) => {
                self.leaked.extend(self.inner.pool().alloc(0).ok());
            }
            _ => {}
        }
        self.inner.transmit(frames)
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        let result = self.inner.receive(into);
        if self.fault == Fault::ForgetsThatMoreFollows {
            into.iter_mut().for_each(|piece| piece.more = false);
        }
        result
    }
}

struct Lab {
    fault: Fault,
    options: DeviceOptions,
    network: Network,
    first: Option<PortId>,
}

impl Bench for Lab {
    type End = OverFrames<Broken>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        self.network =
            Network::new(1, Faults { delay: Duration::from_micros(1), ..Faults::default() });
        let [a, b] = [1, 2].map(|number| {
            let inner = self.network.frames([2, 0, 0, 0, 0, number], self.options);
            OverFrames::new(Broken {
                inner: inner.expect("it is free"),
                fault: self.fault,
                wrong: Statistics::default(),
                frames: 0,
                leaked: Vec::new(),
                was_down: false,
            })
        });
        self.first = Some(a.device.inner.port());
        Ok((a, b))
    }

    fn wire(&mut self) -> Wire {
        Wire { lost: self.network.account().not_carried(), ..Wire::default() }
    }

    fn idle(&mut self) {
        self.network.advance(Duration::from_micros(20));
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        Ok(self.first.is_some_and(|port| self.network.set_link(port, up)))
    }

    fn patience(&self) -> Duration {
        let short = !matches!(self.fault, Fault::None);
        if short { Duration::from_millis(100) } else { Duration::from_secs(2) }
    }

    fn packets(&self) -> u64 {
        3000
    }
}

fn is_named(fault: Fault, behaviour: &str, words: &str) {
    let options = DeviceOptions { mtu: 4000, pieces: 2, queue: 16, burst: 8, ..Default::default() };
    let network = Network::new(0, Faults::default());
    let report = conformance::frames(&mut Lab { fault, options, network, first: None });
    let found = report.failures().find(|(name, _)| *name == behaviour);
    let (_, failure) = found.unwrap_or_else(|| panic!("{fault:?} passes {behaviour}:\n{report}"));
    assert!(failure.to_string().contains(words), "{fault:?}: {failure}");
}

#[test]
fn a_good_device_passes() {
    let (options, network) = (DeviceOptions::default(), Network::new(0, Faults::default()));
    let mut lab = Lab { fault: Fault::None, options, network, first: None };
    let report = conformance::frames(&mut lab);
    assert!(report.is_ok(), "{report}");
}

macro_rules! faults {
    ($($test:ident: $fault:ident, $behaviour:literal, $words:literal;)*) => {$(
        #[test]
        fn $test() {
            is_named(Fault::$fault, $behaviour, $words);
        }
    )*};
}

faults! {
    what_counts_without_sending_is_named: CountsNothing, "nothing", "0 packets were taken";
    short_frames_that_are_sent_are_named: PadsShortFrames, "undersize", "";
    too_many_pieces_that_are_taken_are_named: TakesTooManyPieces, "too_many_pieces", "1 was expected";
    pieces_that_fall_apart_are_named: ForgetsThatMoreFollows, "pieces", "";
    bursts_that_are_too_long_are_named: ExceedsTheBurst, "burst_edges", "the burst is 7";
    a_loss_after_long_is_named: LosesThe400th, "ring_wrap", "unaccounted for";
    a_leak_after_long_is_named: LeaksThe1000th, "conservation", "are lost";
    a_link_nobody_speaks_of_is_named: SaysNothingOfTheLink, "link_down_and_up", "does not say so";
    a_device_that_stays_down_is_named: StaysDown, "link_down_and_up", "is up again";
}
