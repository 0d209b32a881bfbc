//! Quotas: a bounded number of permits, of which one address gets at most its share.
//!
//! A client that floods the node exhausts its own share and leaves the rest to others. The share is one part in
//! [`limits::ADDRESS_SHARE`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::origin::Origin;
use crate::types::limits;

/// A number of permits. Cheap to clone; all clones draw on the same permits.
///
/// Invariants, held under one lock: `used.total` is the sum of the widths of all live [`Permit`]s and at most
/// `capacity`; `used.by_origin` has the same sum for each origin, at most its share, and no entry of zero. So memory is
/// bounded by the capacity, and a quota that nobody uses holds nothing.
#[derive(Clone)]
pub(in crate::server) struct Quota(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: usize,
    by_origin: BTreeMap<Origin, usize>,
}

/// A part of a quota. Returns to it when dropped.
#[derive(Debug)]
pub(in crate::server) struct Permit {
    shared: Arc<Shared>,
    origin: Option<Origin>,
    width: usize,
}

/// Why a quota has no permit left. Clients see the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum Full {
    #[error("all {0} places are taken")]
    All(usize),
    #[error("this address has taken its share of {0} places")]
    Share(usize),
}

impl Quota {
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared { capacity, used: Mutex::default() }))
    }

    /// Takes one permit for `origin`. Without an origin only the capacity counts.
    pub fn take(&self, origin: Option<Origin>) -> Result<Permit, Full> {
        self.take_wide(origin, 1)
    }

    /// Takes a permit that counts as `width` permits.
    pub fn take_wide(&self, origin: Option<Origin>, width: usize) -> Result<Permit, Full> {
        let (capacity, share) = (self.0.capacity, self.0.capacity.div_ceil(limits::ADDRESS_SHARE));
        let mut used = self.0.used();
        if used.total + width > capacity {
            return Err(Full::All(capacity));
        }
        if let Some(origin) = origin {
            let held = used.by_origin.get(&origin).copied().unwrap_or(0);
            if held + width > share {
                return Err(Full::Share(share));
            }
            used.by_origin.insert(origin, held + width);
        }
        used.total += width;
        Ok(Permit { shared: Arc::clone(&self.0), origin, width })
    }
}

impl Shared {
    // No operation leaves the counts half changed when it panics, so a poisoned lock is safe to use.
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.shared.used();
        used.total -= self.width;
        if let Some(origin) = self.origin
            && let Some(held) = used.by_origin.get_mut(&origin)
        {
            *held -= self.width;
            if *held == 0 {
                used.by_origin.remove(&origin);
            }
        }
    }
}

/// The permits of one call, kept until its answer has left. Cheap to clone; all clones are one set, and the permits
/// return when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct HeldPermits(Arc<Mutex<Vec<Permit>>>);

impl HeldPermits {
    pub fn add(&self, permit: Permit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
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
        let quota = Quota::new(4);
        let held = [quota.take(origin(1)).ok(), quota.take(origin(1)).ok()];
        assert_eq!(quota.take(origin(1)).err(), Some(Full::Share(2)));
        let others = [quota.take(origin(2)).ok(), quota.take(origin(3)).ok()];
        assert!(held.iter().chain(&others).all(Option::is_some));
        assert_eq!(quota.take(origin(4)).err(), Some(Full::All(4)));
    }

    #[test]
    fn a_wide_permit_counts_for_as_many_as_it_is_wide() {
        let quota = Quota::new(8);
        let wide = quota.take_wide(origin(1), 3);
        assert_eq!(quota.take_wide(origin(1), 2).err(), Some(Full::Share(4)));
        let other = quota.take_wide(origin(2), 4);
        assert_eq!(quota.take_wide(origin(3), 2).err(), Some(Full::All(8)));
        drop((wide, other));
        assert!(quota.take_wide(origin(1), 4).is_ok());
    }

    #[test]
    fn a_permit_given_back_is_free_for_anyone_and_leaves_nothing_behind() {
        let quota = Quota::new(2);
        for round in 0..10 {
            let first = quota.take(origin(round)).ok();
            assert!(first.is_some() && quota.take(None).is_ok(), "round {round}");
        }
        let used = quota.0.used();
        assert!(used.total == 0 && used.by_origin.is_empty());
    }
}
