//! Files as text, without waiting for them for long.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// Largest file that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// How long what is read at once is waited for, all in all: so many times so long. A pipe has something new each time, or its
/// end, or has had its time.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
const MOST_PAUSES: u32 = 400;

/// The bytes of a file, at most one above [`FILE_LIMIT`]. One that is a pipe is read to its end, if that comes soon.
pub(super) fn read_at_once(path: &Path) -> io::Result<Vec<u8>> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut file = File::from(file).take(FILE_LIMIT + 1);
    let (mut bytes, mut pauses) = (Vec::new(), 0);
    // What was read before a pause stays in `bytes`.
    while let Err(error) = file.read_to_end(&mut bytes) {
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        pauses += 1;
        poll(&mut [PollFd::new(file.get_ref(), PollFlags::IN)], Some(&PAUSE))?;
        if pauses > MOST_PAUSES {
            return Err(io::Error::new(ErrorKind::TimedOut, "it is a pipe or a device, and does not come to an end"));
        }
    }
    Ok(bytes)
}

/// The text of a file, or why there is none. `what` it is, for messages.
pub(super) fn text_with(
    what: &str,
    path: &Path,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<String, String> {
    match std::fs::metadata(path) {
        Err(error) => return Err(format!("the {what} cannot be read: {error}")),
        Ok(found) if found.is_dir() => return Err("this is a directory, not a file".to_owned()),
        Ok(found) if found.len() > FILE_LIMIT => {
            return Err(format!("the file has {} bytes; at most {FILE_LIMIT} are read", found.len()));
        }
        Ok(_) => {}
    }
    match read(path) {
        Err(error) => Err(format!("the {what} cannot be read: {error}")),
        Ok(bytes) if bytes.len() as u64 > FILE_LIMIT => {
            Err(format!("there are more than {FILE_LIMIT} bytes; no more are read"))
        }
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "the file is not text in UTF-8".to_owned()),
    }
}
