//! Who may come into a pool, and with which password.

use std::fmt;
use std::path::PathBuf;

/// What stands in the place of a password.
pub(super) const UNTOLD: &str = "***";

/// The users of a pool, at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    /// The file that lists them, where that is not the configuration itself.
    pub(super) file: Option<PathBuf>,
    /// Their names, each once, and their passwords.
    pub(super) known: Vec<(String, String)>,
}

impl Users {
    /// Their names and passwords.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.iter().map(|(name, password)| (name.as_str(), password.as_str()))
    }

    /// What stands below the key of the option: the names alone, if it is not a file.
    pub(super) fn told(&self) -> Vec<String> {
        let quoted = |text: String| serde_json::Value::from(text).to_string();
        match &self.file {
            Some(file) => vec![quoted(file.to_string_lossy().into_owned())],
            None => self.known.iter().map(|(name, _)| format!("  - {}", quoted(format!("{name}:{UNTOLD}")))).collect(),
        }
    }

    /// What tells them from others. Nothing where a password is not known.
    pub(super) fn compared(&self) -> Option<String> {
        let is_known = self.known.iter().all(|(_, password)| password != UNTOLD);
        is_known.then(|| format!("{:?} {:?}", self.file, self.known))
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.known.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Users").field("file", &self.file).field("names", &names).finish_non_exhaustive()
    }
}
