//! Places, of which no address may take more than its share: one that floods the node leaves room for all others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::rates::Origin;
use crate::types::limits;

/// So many places. Cheap to clone; clones are the same places.
#[derive(Clone)]
pub(super) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_origin: BTreeMap<Origin, usize>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    origin: Option<Origin>,
    width: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("all {0} places are taken")]
    All(usize),
    #[error("this address has taken its share of {0} places")]
    Share(usize),
}

impl Places {
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most, taken: Mutex::default() }))
    }

    /// A place for `origin`; one that is not known has no share to exceed.
    pub fn take(&self, origin: Option<Origin>) -> Result<Place, Full> {
        self.take_wide(origin, 1)
    }

    /// One that is as wide as `width` others.
    pub fn take_wide(&self, origin: Option<Origin>, width: usize) -> Result<Place, Full> {
        let (most, share) = (self.0.most, self.0.most.div_ceil(limits::ADDRESS_SHARE));
        let mut taken = self.0.taken();
        if taken.all + width > most {
            return Err(Full::All(most));
        }
        if let Some(origin) = origin {
            let held = taken.by_origin.get(&origin).copied().unwrap_or(0);
            if held + width > share {
                return Err(Full::Share(share));
            }
            taken.by_origin.insert(origin, held + width);
        }
        taken.all += width;
        Ok(Place { shared: Arc::clone(&self.0), origin, width })
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.all -= self.width;
        if let Some(origin) = self.origin
            && let Some(held) = taken.by_origin.get_mut(&origin)
        {
            *held -= self.width;
            if *held == 0 {
                taken.by_origin.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(last: u8) -> Option<Origin> {
        Some(Origin::of([10, 0, 0, last].into()))
    }

    #[test]
    fn one_address_cannot_take_what_is_left_for_others() {
        let places = Places::new(4);
        let held = [places.take(origin(1)).ok(), places.take(origin(1)).ok()];
        assert_eq!(places.take(origin(1)).err(), Some(Full::Share(2)));
        let others = [places.take(origin(2)).ok(), places.take(origin(3)).ok()];
        assert!(held.iter().chain(&others).all(Option::is_some));
        assert_eq!(places.take(origin(4)).err(), Some(Full::All(4)));
    }

    #[test]
    fn a_wide_place_counts_for_as_many_as_it_is_wide() {
        let places = Places::new(8);
        let wide = places.take_wide(origin(1), 3);
        assert_eq!(places.take_wide(origin(1), 2).err(), Some(Full::Share(4)));
        let other = places.take_wide(origin(2), 4);
        assert_eq!(places.take_wide(origin(3), 2).err(), Some(Full::All(8)));
        drop((wide, other));
        assert!(places.take_wide(origin(1), 4).is_ok());
    }

    #[test]
    fn a_place_given_back_is_free_for_anyone_and_leaves_nothing_behind() {
        let places = Places::new(2);
        for round in 0..10 {
            let first = places.take(origin(round)).ok();
            assert!(first.is_some() && places.take(None).is_ok(), "round {round}");
        }
        let taken = places.0.taken();
        assert!(taken.all == 0 && taken.by_origin.is_empty());
    }
}
