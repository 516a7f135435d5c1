//! Where the program of this process is.

use std::ffi::{OsStr, OsString};
use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the program of this process is, by the name that it was started by: that may be a link, which leads to another program
/// later. To be asked at the start: until then, what the name leads to is this program, or else the system knows better.
///
/// # Errors
///
/// When the system does not say it.
pub fn program_path() -> io::Result<PathBuf> {
    let actual = std::env::current_exe()?;
    let name = std::env::args_os().next();
    let named = name.and_then(|name| found_by(&name, &std::env::current_dir().ok()?, std::env::var_os("PATH")));
    Ok(match named {
        Some(named) if is_same(&named, Path::new("/proc/self/exe")) => named,
        _ => in_place_of_replaced(actual),
    })
}

/// The file that a name of a program stands for in a folder: a path, or something that is looked for.
fn found_by(name: &OsStr, folder: &Path, searched: Option<OsString>) -> Option<PathBuf> {
    if Path::new(name).components().count() > 1 {
        return Some(folder.join(name));
    }
    std::env::split_paths(&searched?).map(|one| folder.join(one).join(name)).find(|path| path.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path| metadata(path).ok().map(|found| (found.dev(), found.ino()));
    file(one).is_some_and(|found| file(other) == Some(found))
}

/// The program may have been replaced since the process was started.
fn in_place_of_replaced(actual: PathBuf) -> PathBuf {
    let of_replaced = actual.to_str().and_then(|text| text.strip_suffix(" (deleted)")).filter(|_| !actual.exists());
    of_replaced.map(PathBuf::from).unwrap_or(actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_folder_is_a_path_and_another_one_is_looked_for() {
        let found = |name: &str| found_by(OsStr::new(name), Path::new("/usr"), Some("/nowhere:/bin".into()));
        assert_eq!(found("./softmiss"), Some("/usr/./softmiss".into()));
        assert_eq!(found("bin/softmiss"), Some("/usr/bin/softmiss".into()));
        assert_eq!(found("/opt/softmiss"), Some("/opt/softmiss".into()));
        assert_eq!(found("sh"), Some("/bin/sh".into()));
        assert_eq!(found("no such program"), None);
    }

    #[test]
    fn a_program_that_was_replaced_is_where_it_was() {
        assert_eq!(in_place_of_replaced("/nowhere/softmiss (deleted)".into()), Path::new("/nowhere/softmiss"));
        assert_eq!(in_place_of_replaced("/bin/sh".into()), Path::new("/bin/sh"));
    }
}
