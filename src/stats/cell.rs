//! Counts that one worker writes, and anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count with one writer and any number of readers. It never goes down: what has been read of it is never taken back.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

/// As [`Cell`], of what comes and goes.
#[derive(Debug, Default)]
pub struct Gauge(Cell);

impl Cell {
    /// A zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds to it. Only the worker that owns the cell may call this.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Its value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Adds to it. Only the worker that owns it may call this, and what follows.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.add(more);
    }

    /// Takes from it.
    #[inline]
    pub fn sub(&self, less: u64) {
        self.0.add(less.wrapping_neg());
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.value()
    }
}
