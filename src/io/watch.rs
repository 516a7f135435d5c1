//! A file that is taken up by itself when it has changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How often the file is looked at while it is watched, and how often it is looked whether it is.
pub(super) const PERIOD: Duration = Duration::from_millis(500);
pub(super) const LONG_PERIOD: Duration = Duration::from_secs(5);

/// Looks that find the file as it was at the last one, after which it is taken as whole: one second.
const QUIET: u32 = 2;

/// What tells one state of a file from another. Who may read it is a part of that: it may have been refused for it. A file that others were put in the place of, as with the symbolic links of
/// Kubernetes, has another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileState {
    place: (u64, u64),
    changed: (i64, i64),
    len: u64,
}

impl FileState {
    /// That of the file at a path; nothing where there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let (place, changed) = ((found.dev(), found.ino()), (found.ctime(), found.ctime_nsec()));
        Some(Self { place, changed, len: found.len() })
    }
}

/// The eye on a file.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// As it was last seen, and at how many looks in a row.
    seen: Option<FileState>,
    looks: u32,
}

impl Watcher {
    /// Looks at it, as it is `now`. Whether it is to be read: it is not as it was when it was last `read`, and has not changed
    /// for a second.
    pub(super) fn look(&mut self, [now, read]: [Option<FileState>; 2]) -> bool {
        self.looks = if now == self.seen { self.looks.saturating_add(1) } else { 0 };
        self.seen = now;
        // A file that is not there for a moment is about to be there.
        now.is_some() && now != read && self.looks >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_when_it_has_been_quiet_for_a_second() {
        let state = |len: u64| Some(FileState { place: (1, 1), changed: (1, 1), len });
        let (mut watcher, mut read) = (Watcher::default(), state(1));
        let mut looks = |seen: &[Option<FileState>]| {
            let look = |now: &Option<FileState>| {
                let is_due = watcher.look([*now, read]);
                read = if is_due { *now } else { read };
                is_due
            };
            seen.iter().map(look).collect::<Vec<_>>()
        };
        assert_eq!(looks(&[state(1); 4]), [false; 4]);
        assert_eq!(
            looks(&[state(2), state(2), state(3), state(3), state(3), state(3)]),
            [false, false, false, false, true, false]
        );
        assert_eq!(looks(&[None, None, None, None]), [false; 4]);
        assert_eq!(looks(&[state(4), state(4), state(4), state(4)]), [false, false, true, false]);
    }
}
