//! How a value stands in the file: reading it, and writing what reads as the same again.

use std::path::PathBuf;
use std::time::Duration;

use super::Limits;
use crate::config::choices::Choice;
use crate::config::model::{Listen, Port, Protocol};
use crate::config::value::{self, Wrong};

/// A value of an option.
pub(in crate::config) trait Setting: Sized {
    /// Reads it.
    fn read(text: &str, limits: Limits) -> Result<Self, Wrong>;

    /// Writes it; nothing where the key is to be left out.
    fn written(&self) -> Option<String>;
}

/// A field as an option with a single value: where it is read to, by its type's reader or by one of its own, and what is
/// written.
macro_rules! field {
    ($one:ident: $draft:ty, $model:ty => $to:expr, $from:expr) => {
        $crate::config::options::Form::Single {
            read: |$one: &mut $draft, text, limits| {
                $to = $crate::config::options::Setting::read(text, limits)?;
                Ok(())
            },
            write: |$one: &$model| $crate::config::options::Setting::written(&$from),
        }
    };
    ($one:ident: $draft:ty, $model:ty => $to:expr, $reader:path; $from:expr) => {
        $crate::config::options::Form::Single {
            read: |$one: &mut $draft, text, _| {
                $to = $reader(text)?;
                Ok(())
            },
            write: |$one: &$model| $crate::config::options::Setting::written(&$from),
        }
    };
    ($one:ident: $model:ty => $($ways:tt)+) => {
        field!($one: $model, $model => $($ways)+)
    };
}

impl<T: Choice> Setting for T {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::choice(text, Self::WORDS)
    }

    fn written(&self) -> Option<String> {
        value::word(*self, Self::WORDS)
    }
}

impl Setting for bool {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::boolean(text)
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A number within its limits.
fn number<T: TryFrom<u64>>(text: &str, limits: Limits) -> Result<T, Wrong> {
    let (least, most) = if let Limits::Numbers(least, most) = limits { (least, most) } else { (0, u64::MAX) };
    let number = value::number(text, least, most)?;
    T::try_from(number).map_err(|_| Wrong { message: format!("{text} is out of range"), help: None })
}

impl Setting for u32 {
    fn read(text: &str, limits: Limits) -> Result<Self, Wrong> {
        number(text, limits)
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for usize {
    fn read(text: &str, limits: Limits) -> Result<Self, Wrong> {
        if let Limits::Sizes(least, most) = limits { value::size(text, least, most) } else { number(text, limits) }
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// 0 is none.
impl Setting for Option<usize> {
    fn read(text: &str, limits: Limits) -> Result<Self, Wrong> {
        Ok(Some(number(text, limits)?).filter(|number| *number > 0))
    }

    fn written(&self) -> Option<String> {
        Some(self.unwrap_or_default().to_string())
    }
}

/// Whole milliseconds, and a bare 0 where there is none.
impl Setting for Duration {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        Ok(value::duration(text)?.unwrap_or_default())
    }

    fn written(&self) -> Option<String> {
        Some(if self.is_zero() { "0".to_owned() } else { format!("{}ms", self.as_millis()) })
    }
}

/// 0 is none.
impl Setting for Option<Duration> {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::duration(text)
    }

    fn written(&self) -> Option<String> {
        self.unwrap_or_default().written()
    }
}

impl Setting for Option<String> {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        Ok(Some(text.to_owned()))
    }

    fn written(&self) -> Option<String> {
        self.as_deref().map(quoted)
    }
}

/// `redis: true`.
impl Setting for Protocol {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::boolean(text).map(|redis| if redis { Self::Redis } else { Self::Memcache })
    }

    fn written(&self) -> Option<String> {
        (*self == Self::Redis).written()
    }
}

/// The marks around the part of a key that is hashed.
impl Setting for Option<[u8; 2]> {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::hash_tag(text).map(Some)
    }

    fn written(&self) -> Option<String> {
        self.map(|tag| quoted(&String::from_utf8_lossy(&tag)))
    }
}

impl Setting for Listen {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::listen(text)
    }

    fn written(&self) -> Option<String> {
        Some(match self {
            Self::Unix { path, mode: Some(mode) } => quoted(&format!("{} {mode:04o}", path.display())),
            Self::Unix { .. } | Self::Tcp { .. } => quoted(&self.to_string()),
        })
    }
}

impl Setting for Port {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::port(text)
    }

    fn written(&self) -> Option<String> {
        match self {
            Self::Unsaid => None,
            Self::Off => Some("none".to_owned()),
            Self::At(address) => Some(quoted(&address.to_string())),
        }
    }
}

/// A folder, wherever the process is started.
impl Setting for Option<PathBuf> {
    fn read(text: &str, _: Limits) -> Result<Self, Wrong> {
        value::folder(text)
    }

    fn written(&self) -> Option<String> {
        self.as_deref().map(|path| quoted(&path.to_string_lossy()))
    }
}

/// A text as YAML has it: bare where it can be nothing else.
pub(in crate::config) fn quoted(text: &str) -> String {
    let first = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let bare = first
        && text.chars().all(|character| character.is_ascii_alphanumeric() || " _./:-".contains(character))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !["null", "true", "false"].contains(&text.to_lowercase().as_str());
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
