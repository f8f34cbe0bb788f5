//! Connections by slot, in fixed chunks: no doubling, and memory goes back when a chunk empties.

const CHUNK: usize = 128;

/// Values by `u32` slot.
pub struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    free: Vec<u32>,
    len: usize,
}

struct Chunk<T> {
    values: Box<[Option<T>]>,
    live: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// Is no value held?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The slot the next [`Slab::insert`] uses.
    pub fn insert(&mut self, value: T) -> u32 {
        if self.free.is_empty() {
            let first = (self.chunks.len() * CHUNK) as u32;
            self.chunks.push(None);
            self.free.extend((first..first + CHUNK as u32).rev());
        }
        let slot = self.free.pop().unwrap_or_default();
        if let Some(chunk) = self.chunks.get_mut(slot as usize / CHUNK) {
            let chunk = chunk.get_or_insert_with(|| Chunk {
                values: (0..CHUNK).map(|_| None).collect(),
                live: 0,
            });
            chunk.values[slot as usize % CHUNK] = Some(value);
            chunk.live += 1;
            self.len += 1;
        }
        slot
    }

    /// Takes a value out.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.chunks.get_mut(slot as usize / CHUNK)?;
        let chunk = place.as_mut()?;
        let value = chunk.values.get_mut(slot as usize % CHUNK)?.take()?;
        chunk.live -= 1;
        if chunk.live == 0 {
            *place = None;
        }
        self.free.push(slot);
        self.len -= 1;
        if self.len == 0 {
            // Low slots first again, so that a smaller crowd fills few chunks.
            self.chunks = Vec::new();
            self.free = Vec::new();
        }
        Some(value)
    }

    /// A value.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?.as_mut()?;
        chunk.values.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    /// A value.
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.as_ref()?;
        chunk.values.get(slot as usize % CHUNK)?.as_ref()
    }

    /// All of them, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let chunks = self.chunks.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref()?)));
        chunks.flat_map(|(i, c)| {
            let values = c.values.iter().enumerate();
            values.filter_map(move |(j, v)| Some(((i * CHUNK + j) as u32, v.as_ref()?)))
        })
    }

    /// Slots in use.
    pub fn slots(&self) -> Vec<u32> {
        let chunks = self.chunks.iter().enumerate();
        let used = chunks.filter_map(|(i, c)| c.as_ref().map(|c| (i, c))).flat_map(|(i, c)| {
            let values = c.values.iter().enumerate();
            values.filter(|(_, v)| v.is_some()).map(move |(j, _)| (i * CHUNK + j) as u32)
        });
        used.collect()
    }
}

/// A bit for each slot.
#[derive(Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Is it set?
    pub fn get(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Those that are set, in order.
    pub fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| at as u32 * 64 + bit)
        })
    }

    /// Sets or clears it.
    pub fn set(&mut self, slot: u32, on: bool) {
        let at = slot as usize / 64;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        if on {
            self.0[at] |= 1 << (slot % 64);
        } else {
            self.0[at] &= !(1 << (slot % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_bits_are_listed() {
        let mut bits = Bits::default();
        for slot in [0, 63, 64, 200, 201] {
            bits.set(slot, true);
        }
        bits.set(200, false);
        assert_eq!(bits.ones().collect::<Vec<_>>(), [0, 63, 64, 201]);
    }

    #[test]
    fn slots_are_reused_and_chunks_freed() {
        let mut s = Slab::default();
        let slots: Vec<u32> = (0..300).map(|n| s.insert(n)).collect();
        assert_eq!(slots, (0..300).collect::<Vec<_>>());
        assert_eq!(s.remove(7), Some(7));
        assert_eq!(s.remove(7), None);
        assert_eq!(s.insert(1_000), 7);
        assert_eq!((s.slots().len(), s.len(), s.iter().count()), (300, 300, 300));
        assert!(s.iter().all(|(slot, n)| *n == if slot == 7 { 1_000 } else { slot }));
        (128..256).for_each(|slot| assert!(s.remove(slot).is_some()));
        assert!(s.chunks[1].is_none() && s.get(200).is_none());
        (0..300).for_each(|slot| {
            s.remove(slot);
        });
        assert!(s.is_empty() && s.chunks.is_empty());
    }

    #[test]
    fn bits() {
        let mut b = Bits::default();
        assert!(!b.get(1_000));
        b.set(1_000, true);
        assert!(b.get(1_000) && !b.get(999));
        b.set(1_000, false);
        assert!(!b.get(1_000));
    }
}
