//! The files of unix sockets that are listened on: none is taken from somebody who still listens, and only one's own is
//! removed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long another process that binds in the same folder is waited for.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The file of a socket that this process has bound.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own in the place meanwhile.
    identity: (u64, u64),
}

impl SocketFile {
    /// That at a path, which somebody has bound.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity_of(path)? })
    }

    /// Removes the file, if it is still this process's, which has stopped to listen there. The number of a file that was
    /// removed is given to the next one, so it does not tell them apart alone.
    pub(crate) fn remove(&self) {
        let _lock = self.path.parent().and_then(lock);
        if identity_of(&self.path).is_ok_and(|found| found == self.identity)
            && is_listened_on(&self.path).is_ok_and(|is_used| !is_used)
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Binds a unix socket. As with twemproxy, a socket that stands there is replaced, but only if nobody listens on it;
/// anything else is left alone.
///
/// # Errors
///
/// `AddrInUse` if somebody listens there, `AlreadyExists` if something else than a socket is there; what the system says.
pub(crate) fn bind(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    // Two that start at once must not both find nobody listening. Until this is dropped, others wait.
    let _lock = path.parent().and_then(lock);
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if is_listened_on(path)? {
                return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on this socket"));
            }
            fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket is in its place")),
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    let prepare = || {
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
    };
    if let Err(error) = prepare() {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok((socket.into(), file))
}

/// The mode of a socket for which none is said, if the system tells what it takes away of a file's.
pub(crate) fn usual_mode() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    Some(0o777 & !u32::from_str_radix(umask.trim(), 8).ok()?)
}

/// Whether somebody would take a connection there, at once or when there is room.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?; // a backlog may be full
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused || error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(true),
        Err(error) => Err(error), // whether it is in use cannot be known
    }
}

/// A lock on a folder. Without one, as on file systems that have none, it is as if nobody else started.
#[expect(clippy::disallowed_methods, reason = "at the start, before there is an event loop")]
fn lock(folder: &Path) -> Option<File> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = File::open(folder).ok()?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(_)) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("softmiss-unit-{}-{name}.sock", std::process::id()))
    }

    #[test]
    fn a_socket_is_taken_from_nobody_who_listens() {
        let path = path("taken");
        let (first, own) = bind(&path, Some(0o600), 1).unwrap();
        assert_eq!(bind(&path, None, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
        // Nor from one that has more waiting than it takes.
        let filled = || {
            let probe = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            probe.set_nonblocking(true).unwrap();
            probe.connect(&SockAddr::unix(&path).unwrap()).map(|()| probe)
        };
        let waiting: Vec<_> = std::iter::from_fn(|| filled().ok()).collect();
        assert!(!waiting.is_empty());
        assert_eq!(bind(&path, None, 1).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop((first, waiting));
        let (second, its) = bind(&path, None, 1).unwrap();
        own.remove();
        assert!(UnixStream::connect(&path).is_ok(), "that of another is left alone");
        drop(second);
        its.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let path = path("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path, None, 1).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_once_one_has_the_socket() {
        let path = path("race");
        for _ in 0..20 {
            drop(bind(&path, None, 1)); // a dead one stands there
            let all: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| bind(&path, None, 1))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(all.iter().filter(|bound| bound.is_ok()).count(), 1, "{all:?}");
        }
        fs::remove_file(&path).unwrap();
    }
}
