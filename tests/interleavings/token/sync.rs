//! What stands in for `src/token/sync.rs`: the same types, on a scheduler that decides at each of
//! their operations which thread gets on.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;

pub(crate) use shuttle::sync::Mutex;
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// As dashmap's: maps behind locks of their own, each key in the one that its hash names.
#[derive(Debug)]
pub(crate) struct DashMap<K, V, S = RandomState> {
    shards: [RwLock<HashMap<K, V>>; 2],
    hasher: PhantomData<S>,
}

impl<K: Clone + Eq + Hash, V> DashMap<K, V> {
    pub(crate) fn new() -> Self {
        Self::with_hasher_and_shard_amount(RandomState::new(), 0)
    }
}

impl<K: Clone + Eq + Hash, V, S> DashMap<K, V, S> {
    pub(crate) fn with_hasher_and_shard_amount(_: S, _: usize) -> Self {
        Self {
            shards: [RwLock::new(HashMap::new()), RwLock::new(HashMap::new())],
            hasher: PhantomData,
        }
    }

    fn shard(&self, key: &K) -> &RwLock<HashMap<K, V>> {
        // Always the same, so that a schedule can be played again.
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        &self.shards[usize::from(hasher.finish() & 1 == 1)]
    }

    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().unwrap().len())
            .sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, key: &K) -> Option<Held<'_, K, V>> {
        let map = self.shard(key).read().unwrap();
        let key = map.contains_key(key).then(|| key.clone())?;
        Some(Held { map, key })
    }

    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        self.shard(&key).write().unwrap().insert(key, value)
    }

    pub(crate) fn remove(&self, key: &K) -> Option<(K, V)> {
        self.shard(key).write().unwrap().remove_entry(key)
    }

    pub(crate) fn retain(&self, mut is_kept: impl FnMut(&K, &mut V) -> bool) {
        for shard in &self.shards {
            shard
                .write()
                .unwrap()
                .retain(|key, value| is_kept(key, value));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Held<'_, K, V>> {
        let keys = self.shards.iter().flat_map(|shard| {
            let keys: Vec<_> = shard.read().unwrap().keys().cloned().collect();
            keys
        });
        keys.filter_map(|key| self.get(&key))
    }

    pub(crate) fn entry(&self, key: K) -> Slot<'_, K, V> {
        let map = self.shard(&key).write().unwrap();
        let is_held = map.contains_key(&key);
        let place = Place { map, key };
        if is_held {
            Slot::Occupied(place)
        } else {
            Slot::Vacant(place)
        }
    }
}

/// A value, and the lock of its shard.
pub(crate) struct Held<'a, K, V> {
    map: RwLockReadGuard<'a, HashMap<K, V>>,
    key: K,
}

impl<K: Borrow<K> + Eq + Hash, V> Held<'_, K, V> {
    pub(crate) const fn key(&self) -> &K {
        &self.key
    }

    pub(crate) fn value(&self) -> &V {
        &self.map[&self.key]
    }
}

impl<K: Eq + Hash, V> Deref for Held<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value()
    }
}

/// A place that is free or not, and the lock of its shard, until it is dropped.
pub(crate) enum Slot<'a, K, V> {
    Vacant(Place<'a, K, V>),
    Occupied(Place<'a, K, V>),
}

pub(crate) struct Place<'a, K, V> {
    map: RwLockWriteGuard<'a, HashMap<K, V>>,
    key: K,
}

impl<'a, K: Clone + Eq + Hash, V> Place<'a, K, V> {
    /// Keeps the lock for as long as what it gives lives.
    pub(crate) fn insert(mut self, value: V) -> Self {
        self.map.insert(self.key.clone(), value);
        self
    }

    pub(crate) const fn into_ref(self) -> Self {
        self
    }

    pub(crate) fn get_mut(&mut self) -> &mut V {
        self.map.get_mut(&self.key).unwrap()
    }
}
