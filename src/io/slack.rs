//! What the process takes besides what its buffers hold.
//!
//! The engine counts what buffers hold; an allocator keeps what was freed for a while besides, so that the next buffers
//! come without a call to the kernel. When many large ones come and go that is as much again, so where buffers
//! hold much, a worker looks at what is resident, and has the allocator give back what is free when that is more than
//! the buffers may hold. What is in use besides, what comes between two looks, and the old place of a large value that is
//! moved to a larger one, have to find room in what is left up to what is promised.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// How the allocator of this program is told to give back what is free.
static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Bytes that have to come after what is free has been given back, for that to be worth it once more.
const STEP: usize = 8 << 20;

/// What is resident has not changed by much where no more bytes have come, and buffers hold no more and no fewer.
const LITTLE: usize = 1 << 20;

/// Has `give_back` called, by any thread, when the process takes too much: it gives back to the system what the allocator
/// keeps and nobody uses. The first one given holds.
pub fn give_back_with(give_back: fn()) {
    let _ = GIVE_BACK.set(give_back);
}

/// A worker's eye on it.
#[derive(Debug)]
pub(crate) struct Slack {
    /// Bytes in the worker's buffers from which on it looks.
    from: usize,
    /// Bytes that they held when it last looked, and that have come since.
    seen: usize,
    came: usize,
    bound: Bound,
    resident: Resident,
}

/// What the process may take.
#[derive(Debug)]
struct Bound {
    /// More bytes than this are too much.
    most: usize,
    /// What is in use and cannot be given back leaves it at more than that: then more bytes than this are.
    next: usize,
}

impl Slack {
    /// Of one of so many workers, which may hold `limit` bytes together.
    pub(crate) fn new(limit: usize, workers: usize) -> Self {
        Self {
            from: limit / workers.max(1) / 4,
            seen: 0,
            came: 0,
            bound: Bound::new(limit),
            resident: Resident::of_process(),
        }
    }

    /// The workers, so many, may hold so many bytes together from here on.
    pub(crate) fn set_limit(&mut self, limit: usize, workers: usize) {
        (self.from, self.bound) = (limit / workers.max(1) / 4, Bound::new(limit));
    }

    /// The worker's buffers hold so much, and so many bytes have come or gone.
    #[inline]
    pub(crate) fn heed(&mut self, held: usize, came: usize) {
        self.came += came;
        if held > self.from && (self.came >= LITTLE || held.abs_diff(self.seen) >= LITTLE) {
            (self.seen, self.came) = (held, 0);
            self.look();
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self) {
        if let Some(give_back) = GIVE_BACK.get() {
            self.bound.keep(|| self.resident.bytes(), give_back);
        }
    }
}

impl Bound {
    const fn new(most: usize) -> Self {
        Self { most, next: most }
    }

    /// Has what is free given back when there is too much.
    fn keep(&mut self, mut resident: impl FnMut() -> Option<usize>, give_back: impl FnOnce()) {
        let Some(mut bytes) = resident() else { return };
        if bytes > self.next {
            give_back();
            bytes = resident().unwrap_or(bytes);
            self.next = usize::MAX;
        }
        // What is left is in use, and would not be given back the next time either.
        self.next = self.next.min(self.most.max(bytes + STEP));
    }
}

/// What the kernel says of the process.
#[derive(Debug)]
struct Resident {
    /// `None` where there is no such file: then nothing is known.
    statm: Option<File>,
    page: usize,
}

impl Resident {
    fn of_process() -> Self {
        Self { statm: File::open("/proc/self/statm").ok(), page: rustix::param::page_size() }
    }

    /// Bytes of the process that are in memory.
    fn bytes(&self) -> Option<usize> {
        let mut text = [0; 64];
        let count = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let pages = std::str::from_utf8(&text[..count]).ok()?.split(' ').nth(1)?;
        pages.parse::<usize>().ok().map(|pages| pages * self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_given_back_when_the_process_takes_too_much_and_not_in_vain() {
        let mut bound = Bound::new(80 << 20);
        let mut is_given_back = |before: usize, left: usize| {
            let (mut readings, mut given) = ([before << 20, left << 20].into_iter(), false);
            bound.keep(|| readings.next(), || given = true);
            given
        };
        assert!(!is_given_back(80, 80), "as much as it may");
        assert!(is_given_back(81, 30));
        assert!(!is_given_back(80, 80));
        assert!(is_given_back(81, 79));
        assert!(!is_given_back(87, 87), "it has just been done, and gave little");
        assert!(is_given_back(88, 80));
        assert!(!is_given_back(70, 70), "what was in use is free");
        assert!(is_given_back(81, 40));
    }

    #[test]
    fn it_looks_where_buffers_hold_much_and_something_has_changed() {
        let mut slack = Slack::new(40 * LITTLE, 1);
        let mut looks = |held: usize, came: usize| {
            slack.heed(held, came);
            slack.came == 0 && slack.seen == held
        };
        assert!(!looks(10 * LITTLE, 5 * LITTLE), "they hold little");
        assert!(looks(11 * LITTLE, 0), "what came before counts");
        assert!(!looks(11 * LITTLE + 1, LITTLE / 2));
        assert!(looks(11 * LITTLE + 1, LITTLE / 2));
        assert!(looks(20 * LITTLE, 1) && looks(19 * LITTLE, 1) && !looks(19 * LITTLE, 1));
    }

    #[test]
    fn what_cannot_be_known_is_left_alone() {
        Bound::new(0).keep(|| None, || panic!("nothing is known"));
    }

    #[test]
    fn the_kernel_says_what_is_resident() {
        let resident = Resident::of_process();
        let before = resident.bytes().expect("a size");
        let pages = std::hint::black_box(vec![1u8; 64 << 20]);
        let then = resident.bytes().expect("a size");
        assert!(then > before + (32 << 20), "{before} bytes, then {then}");
        drop(pages);
    }
}
