//! Values by a key that outlives them.
//!
//! A key of a removed value finds nothing, although its place is used again: an event that the
//! kernel reports late must not reach the next socket. It does not bound itself; its owner does.

/// Values of one kind, per shard.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

/// Bits of a key that count the uses of its place; the two above them are always zero, free for
/// whoever packs a key with something else.
const USES: u32 = u32::MAX >> 2;

/// Where a value is: its place in the low half, in the high half how often that place was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

#[derive(Debug)]
struct Place<T> {
    uses: u32,
    value: Option<T>,
}

impl Key {
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    fn new(place: u32, uses: u32) -> Self {
        Self(u64::from(uses) << 32 | u64::from(place))
    }

    fn place(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    fn uses(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// `None` when 2^32 - 1 places are in use.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.value = Some(value);
            return Some(Key::new(index, place.uses));
        }
        let index = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place {
            uses: 0,
            value: Some(value),
        });
        Some(Key::new(index, 0))
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.place() as usize)?;
        (place.uses == key.uses()).then_some(place.value.as_ref())?
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.place() as usize)?;
        if place.uses == key.uses() {
            place.value.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.place() as usize)?;
        if place.uses != key.uses() {
            return None;
        }
        let value = place.value.take()?;
        place.uses = place.uses.wrapping_add(1) & USES;
        self.free.push(key.place());
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_does_not_find_its_successor() {
        let mut slab = Slab::new();
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(first.place(), second.place());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
    }

    #[test]
    fn keys_survive_the_way_through_the_kernel() {
        let key = Key::new(7, USES);
        assert_eq!(Key::from_raw(key.raw()), key);
        assert_eq!((key.place(), key.uses()), (7, USES));
        assert_eq!(key.raw() >> 62, 0);
    }
}
