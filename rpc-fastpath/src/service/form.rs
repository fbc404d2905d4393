//! The forms in which arguments and results travel: in place, or encoded.
//!
//! A *cell* is what LRPC carries beside a buffer, in the call's slot or the A-stack: plain data of a
//! known size. Plain values are their own cell. What is encoded lies in the cell if it fits, else in a
//! buffer of its own.

use lrpc::{PlainData, Reason};
use serde::{Deserialize, Serialize};
use unet::{AllocError, Fbuf, FbufMut, Message};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::deadline::NEVER;
use super::encoding;

/// How values of a type travel.
///
/// The first three functions are for transports with cells; the last two for those that carry bytes.
pub trait Form<'a, T>: 'static {
    /// What lies in the slot or the A-stack.
    type Cell: PlainData + Copy + Send;

    /// Puts a value into a cell; what does not fit, into a buffer that `spill` allocates. `expires` is
    /// when the call's deadline passes, on this host's monotonic clock in nanoseconds.
    ///
    /// # Errors
    /// [`Reason`]: too large, or no buffer.
    fn pack(
        value: T,
        expires: u64,
        spill: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
    ) -> Result<(Self::Cell, Option<Fbuf>), Reason>;

    /// The value in a cell, or in `spilled` if there is a buffer. `None` if there is none of that type.
    fn unpack(cell: &'a Self::Cell, spilled: Option<&'a [u8]>) -> Option<T>;

    /// When the deadline in a cell passes.
    #[inline(always)]
    fn expires(_cell: &Self::Cell) -> u64 {
        NEVER
    }

    /// Appends the value's bytes.
    ///
    /// # Errors
    /// [`Reason::BadArguments`] if the value's own `Serialize` refuses.
    fn write(value: &T, to: &mut Vec<u8>) -> Result<(), Reason>;

    /// The value that these bytes are, all of them. `None` if they are none of that type.
    fn read(bytes: &'a [u8]) -> Option<T>;
}

/// Plain data, written in place.
#[derive(Debug)]
pub struct Plain;

impl<'a, T: PlainData + Copy + Send> Form<'a, T> for Plain {
    type Cell = T;

    #[inline(always)]
    fn pack(
        value: T,
        _expires: u64,
        _spill: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
    ) -> Result<(T, Option<Fbuf>), Reason> {
        Ok((value, None))
    }

    #[inline(always)]
    fn unpack(cell: &'a T, _spilled: Option<&'a [u8]>) -> Option<T> {
        Some(*cell)
    }

    fn write(value: &T, to: &mut Vec<u8>) -> Result<(), Reason> {
        to.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn read(bytes: &'a [u8]) -> Option<T> {
        T::try_read_from_bytes(bytes).ok()
    }
}

/// How large a cell is that has the slot for itself: all that LRPC carries there.
pub const NARROW: usize = 48;
/// How large a cell is beside bulk, where nothing can spill: larger arguments are refused.
pub const WIDE: usize = 512;
/// Bytes of a cell that count its content, and the count that says "in the buffer".
const COUNT: usize = 2;
const SPILLED: u16 = u16::MAX;

/// Any data that serde describes, encoded by postcard: in a cell of `CELL` bytes, or a buffer.
#[derive(Debug)]
pub struct Encoded<const CELL: usize = NARROW>;

impl<'a, T: Serialize + Deserialize<'a>, const CELL: usize> Form<'a, T> for Encoded<CELL> {
    type Cell = [u8; CELL];

    #[inline]
    fn pack(
        value: T,
        _expires: u64,
        spill: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
    ) -> Result<([u8; CELL], Option<Fbuf>), Reason> {
        let mut cell = [0; CELL];
        let (count, room) = cell.split_at_mut(COUNT);
        if let Some(used) = encoding::encode(&value, room)? {
            count.copy_from_slice(&(used as u16).to_le_bytes());
            return Ok((cell, None));
        }
        count.copy_from_slice(&SPILLED.to_le_bytes());
        let mut buffer = spill(encoding::encoded_len(&value)?).map_err(|error| match error {
            AllocError::TooLarge { .. } => Reason::TooLarge,
            _ => Reason::NoBuffer,
        })?;
        let used = encoding::encode(&value, &mut buffer)?.ok_or(Reason::BadArguments)?;
        buffer.truncate(used);
        Ok((cell, Some(buffer.freeze())))
    }

    #[inline]
    fn unpack(cell: &'a [u8; CELL], spilled: Option<&'a [u8]>) -> Option<T> {
        let (count, content) = cell.split_first_chunk::<COUNT>()?;
        match u16::from_le_bytes(*count) {
            SPILLED => encoding::decode(spilled?),
            count => encoding::decode(content.get(..usize::from(count))?),
        }
    }

    fn write(value: &T, to: &mut Vec<u8>) -> Result<(), Reason> {
        let (start, len) = (to.len(), encoding::encoded_len(value)?);
        to.resize(start + len, 0);
        encoding::encode(value, &mut to[start..])?.ok_or(Reason::BadArguments).map(|_| ())
    }

    fn read(bytes: &'a [u8]) -> Option<T> {
        encoding::decode(bytes)
    }
}

/// Another form, with the call's deadline before its cell. Bytes carry no deadline: on a network it is
/// the transport's to say, since clocks differ.
#[derive(Debug)]
pub struct Timed<F>(std::marker::PhantomData<fn() -> F>);

impl<'a, T: PlainData + Copy + Send> Form<'a, T> for Timed<Plain> {
    type Cell = Pair<u64, T>;

    #[inline]
    fn pack(
        value: T,
        expires: u64,
        _spill: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
    ) -> Result<(Self::Cell, Option<Fbuf>), Reason> {
        Ok((Pair(expires, value), None))
    }

    #[inline]
    fn unpack(cell: &'a Self::Cell, _spilled: Option<&'a [u8]>) -> Option<T> {
        Some(cell.1)
    }

    #[inline]
    fn expires(cell: &Self::Cell) -> u64 {
        cell.0
    }

    fn write(value: &T, to: &mut Vec<u8>) -> Result<(), Reason> {
        Plain::write(value, to)
    }

    fn read(bytes: &'a [u8]) -> Option<T> {
        Plain::read(bytes)
    }
}

impl<'a, T: Serialize + Deserialize<'a>, const CELL: usize> Form<'a, T> for Timed<Encoded<CELL>> {
    type Cell = TimedCell<CELL>;

    #[inline]
    fn pack(
        value: T,
        expires: u64,
        spill: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
    ) -> Result<(Self::Cell, Option<Fbuf>), Reason> {
        let (cell, spilled) = Encoded::<CELL>::pack(value, expires, spill)?;
        Ok((TimedCell { expires: expires.to_ne_bytes(), content: cell }, spilled))
    }

    #[inline]
    fn unpack(cell: &'a Self::Cell, spilled: Option<&'a [u8]>) -> Option<T> {
        Encoded::<CELL>::unpack(&cell.content, spilled)
    }

    #[inline]
    fn expires(cell: &Self::Cell) -> u64 {
        u64::from_ne_bytes(cell.expires)
    }

    fn write(value: &T, to: &mut Vec<u8>) -> Result<(), Reason> {
        Encoded::<CELL>::write(value, to)
    }

    fn read(bytes: &'a [u8]) -> Option<T> {
        Encoded::<CELL>::read(bytes)
    }
}

/// Two plain values side by side, without padding; several arguments are pairs of pairs.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct Pair<A, B>(pub A, pub B);

/// A deadline and encoded content.
#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimedCell<const CELL: usize> {
    expires: [u8; 8],
    content: [u8; CELL],
}

/// What can be an encoded argument or result of a service.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between the processes of a service",
    label = "derive serde's `Serialize` and `Deserialize` for it, or mark the method `#[plain]`"
)]
pub trait Argument<'a>: Serialize + Deserialize<'a> {}

impl<'a, T: Serialize + Deserialize<'a>> Argument<'a> for T {}

/// What can be an argument or result of a method that is marked `#[plain]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no plain data, but its method is marked `#[plain]`",
    label = "derive `Clone`, `Copy` and zerocopy's `TryFromBytes`, `IntoBytes`, `Immutable` and `KnownLayout` for it"
)]
pub trait PlainArgument: PlainData + Copy + Send {}

impl<T: PlainData + Copy + Send> PlainArgument for T {}

/// Results with bulk in them: a head that is encoded, and the bulk beside it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no result with bulk",
    label = "say `Message`, `Option<Message>` or `Result<Message, E>`"
)]
pub trait Bulky: Sized {
    /// The same with nothing in the place of the bulk.
    type Head;
    /// Takes the bulk out.
    fn split(self) -> (Self::Head, Option<Message>);
    /// Puts it back.
    fn join(head: Self::Head, bulk: Message) -> Self;
}

impl Bulky for Message {
    type Head = ();

    fn split(self) -> ((), Option<Message>) {
        ((), Some(self))
    }

    fn join((): (), bulk: Message) -> Self {
        bulk
    }
}

impl Bulky for Option<Message> {
    type Head = Option<()>;

    fn split(self) -> (Option<()>, Option<Message>) {
        (self.as_ref().map(|_| ()), self)
    }

    fn join(head: Option<()>, bulk: Message) -> Self {
        head.map(|()| bulk)
    }
}

impl<E> Bulky for Result<Message, E> {
    type Head = Result<(), E>;

    fn split(self) -> (Result<(), E>, Option<Message>) {
        match self {
            Ok(bulk) => (Ok(()), Some(bulk)),
            Err(error) => (Err(error), None),
        }
    }

    fn join(head: Result<(), E>, bulk: Message) -> Self {
        head.map(|()| bulk)
    }
}
