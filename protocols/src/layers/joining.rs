//! Messages made one, of no more parts than a message may have.

use fbufs::{MAX_PARTS, Part};

use crate::{Message, Reason};

/// Appends a message, without its empty parts.
///
/// # Errors
/// [`Reason::TooLarge`] if that were more than [`MAX_PARTS`] parts; `whole` is as it was then, and
/// the tail is dropped.
///
/// # Cost
/// Each part of the tail is moved, no payload.
pub(crate) fn append(whole: &mut Message, tail: Message) -> Result<(), Reason> {
    if whole.parts().is_empty() && tail.parts().len() <= MAX_PARTS {
        *whole = tail;
        return Ok(());
    }
    let more = tail.parts().iter().filter(|part| !part.is_empty()).count();
    if whole.parts().len() + more > MAX_PARTS {
        return Err(Reason::TooLarge);
    }
    tail.into_parts().for_each(|part| whole.append_part(part));
    Ok(())
}

/// Gives back the buffers in front of which nothing but headroom is left: what only waits to be
/// appended has no use for them.
pub(crate) fn give_back_headroom(message: &mut Message) {
    while message.parts().first().is_some_and(Part::is_empty) {
        message.pop_part();
    }
}

#[cfg(test)]
mod tests {
    use fbufs::{Fbuf, PoolOptions};

    use super::*;
    use crate::Pool;

    fn part(pool: &mut Pool) -> Fbuf {
        pool.alloc(1).expect("a buffer is left").freeze()
    }

    #[test]
    fn what_would_have_too_many_parts_is_refused_and_the_rest_stays() {
        let mut pool = Pool::new(PoolOptions::default()).expect("memory is left");
        let one = part(&mut pool);
        let mut whole = Message::new();
        for _ in 0..MAX_PARTS {
            assert_eq!(append(&mut whole, one.clone().into()), Ok(()));
        }
        assert_eq!(append(&mut whole, one.clone().into()), Err(Reason::TooLarge));
        assert_eq!((whole.parts().len(), whole.len()), (MAX_PARTS, MAX_PARTS));
        let mut used_up = Message::from(one);
        used_up.skip(1);
        assert_eq!(used_up.parts().len(), 1, "its headroom could be used");
        assert_eq!(append(&mut whole, used_up.clone()), Ok(()));
        assert_eq!(whole.parts().len(), MAX_PARTS);
        give_back_headroom(&mut used_up);
        assert!(used_up.parts().is_empty());
    }
}
