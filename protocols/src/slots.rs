//! The sessions of a layer, by slot.

use crate::Slot;

/// A layer's sessions: a table with free places, bounded.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slots<T> {
    /// An empty table for at most `limit` sessions.
    pub fn new(limit: usize) -> Self {
        Self { places: Vec::new(), free: Vec::new(), limit }
    }

    /// Puts a session into a free place; gives it back if there is none.
    ///
    /// # Errors
    /// The session.
    pub fn insert(&mut self, session: T) -> Result<Slot, T> {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(session);
            return Ok(Slot(index));
        }
        if self.places.len() >= self.limit.min(u32::MAX as usize) {
            return Err(session);
        }
        self.places.push(Some(session));
        Ok(Slot(self.places.len() as u32 - 1))
    }

    /// The session in a slot.
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.places.get(slot.0 as usize)?.as_ref()
    }

    /// The session in a slot, to change.
    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.places.get_mut(slot.0 as usize)?.as_mut()
    }

    /// Takes a session out.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let session = self.places.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot.0);
        Some(session)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut T)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(index, place)| Some((Slot(index as u32), place.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_bounded() {
        let mut slots = Slots::new(2);
        let (a, b) = (slots.insert('a').expect("a place"), slots.insert('b').expect("a place"));
        assert_eq!(slots.insert('c'), Err('c'));
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!((slots.remove(a), slots.get(a), slots.len()), (None, None, 1));
        assert_eq!(slots.insert('d'), Ok(a));
        assert_eq!(slots.get_mut(b), Some(&mut 'b'));
        assert_eq!(slots.get(Slot(7)), None);
        assert_eq!(slots.iter_mut().map(|(slot, _)| slot).collect::<Vec<_>>(), [a, b]);
    }
}
