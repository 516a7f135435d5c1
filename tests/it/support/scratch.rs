//! A test's own places for files, and the end of whatever was started with a file there: also where the test fails, and of what
//! it has no [`Child`](std::process::Child) of, as the successor of an upgrade and what went to the background.

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Those of a thread, which go with it. A test is a thread; what helps it may end long before it.
struct Places(RefCell<Vec<PathBuf>>);

thread_local! {
    static PLACES: Places = const { Places(RefCell::new(Vec::new())) };
}

impl Drop for Places {
    fn drop(&mut self) {
        self.0.take().iter().for_each(|place| clear(place));
    }
}

/// A place for a test's files, which is gone with the test.
pub(crate) fn scratch_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("softmiss-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("a directory for the test");
    if std::thread::current().name().is_some() {
        PLACES.with(|places| places.0.borrow_mut().push(path.clone()));
    }
    path
}

/// Ends every process that was started with a file of a place, and removes the place.
pub(super) fn clear(place: &Path) {
    // What starts another one meanwhile, or goes to the background, is found by another look.
    for _ in 0..100 {
        let found = started_with(place);
        if found.is_empty() {
            break;
        }
        let _ = Command::new("kill").args(["-s", "KILL"]).args(found).output(); // it may have ended
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let _ = std::fs::remove_dir_all(place);
}

/// Processes among whose arguments is a file of this place.
fn started_with(place: &Path) -> Vec<String> {
    let inside = [place.as_os_str().as_bytes(), b"/"].concat();
    let is_of_place = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default(); // it may have ended
        line.windows(inside.len()).any(|part| part == inside)
    };
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let named = processes.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let numbered = named.filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbered.filter(|(_, path)| is_of_place(path)).map(|(id, _)| id).collect()
}

#[test]
fn what_a_test_leaves_behind_ends_with_it_also_when_it_fails() {
    use super::process::{Process, free_port};
    let memcached = Process::memcached();
    let (told, places) = std::sync::mpsc::channel();
    let failed = std::thread::Builder::new().name("a test".to_owned()).spawn(move || {
        let (place, port) = (scratch_dir(), free_port());
        told.send(place.clone()).expect("whoever asks");
        let file = place.join("softmiss.yml");
        let pool = format!("p:\n  listen: 127.0.0.1:{port}\n  timeout: 400\n  servers: ['{}:1']\n", memcached.address);
        std::fs::write(&file, format!("softmiss: {{stats: none, admin: none}}\n{pool}")).expect("write");
        let mut command = Command::new(env!("CARGO_BIN_EXE_softmiss"));
        let started = command.args(["-d", "-o"]).arg(place.join("log")).arg("-c").arg(&file).status();
        assert!(started.expect("softmiss").success());
        assert_eq!(started_with(&place).len(), 1, "it is in the background");
        std::panic::resume_unwind(Box::new("a failure"));
    });
    assert!(failed.expect("a thread").join().is_err_and(|why| why.is::<&str>()));
    let place = places.recv().expect("its place");
    assert_eq!(started_with(&place), [""; 0]);
    assert!(!place.exists());
}
