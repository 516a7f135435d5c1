//! The options: each is one value that holds all that is known of it.
//!
//! What reads a file and what writes one go through these tables, and so does what is said of a key that is none. The
//! pages and the example are compared with them (`options/tests.rs`). A new option is one entry here, and its use.

#[macro_use]
mod form;
mod pool;
mod process;

pub(super) use form::{Setting, quoted};
pub(super) use pool::{Draft, KEYS, NEAR_CACHE, POOL, SERVERS, STAMPEDE};
pub(super) use process::{LOG, PROCESS, STATSD};

use super::model::{LogSettings, Pool, Protocol, Settings};
use super::value::Wrong;

/// What is known of an option, whatever it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name in the file.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// What holds when the file does not say.
    pub default: Default,
    /// What its value may be.
    pub limits: Limits,
    /// The pools that have it.
    pub only: Only,
    /// Its value is nobody's business, and may contain anything.
    pub is_secret: bool,
    /// twemproxy does not have it.
    pub is_new: bool,
    /// A value to show, where it is not the default.
    pub example: &'static str,
    /// In the example it is commented out: few files need it.
    pub is_rare: bool,
    /// A running process keeps the value that it was started with.
    pub is_fixed: bool,
    /// What it does, as the example says it. Each line of it is one there.
    pub what: &'static str,
}

/// What an option is when the file does not say.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// The file has to say.
    Required,
    /// Nothing.
    None,
    /// This, as the file would say it.
    Is(&'static str),
    /// What depends on other things, in the words of the page.
    Told(&'static str),
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Limits {
    /// Whatever its type is.
    Any,
    /// A number from the first to the second.
    Numbers(u64, u64),
    /// A size from the first to the second, in bytes.
    Sizes(usize, usize),
    /// What its reader sees to, in the words of the page.
    Told(&'static str),
}

/// The pools that have an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// All of them.
    Any,
    /// Those of Redis.
    Redis,
    /// Those of memcached. Why.
    Memcached(&'static str),
}

/// An option of something that is read into a `D` and then is an `M`.
#[derive(Debug)]
pub(super) struct Opt<D: 'static, M: 'static = D> {
    pub(super) about: About,
    pub(super) form: Form<D, M>,
}

/// How an option's value stands in the file.
#[derive(Debug)]
pub(super) enum Form<D: 'static, M: 'static> {
    /// As a single value.
    Single {
        /// Takes the text of it, and sets what it means.
        read: fn(&mut D, &str, Limits) -> Result<(), Wrong>,
        /// The text of what is in force; nothing where it is to be left out.
        write: fn(&M) -> Option<String>,
    },
    /// As lines below its key; what has it, reads it.
    Lines {
        /// These lines; nothing where the key is to be left out.
        write: fn(&M) -> Option<Vec<String>>,
    },
    /// As lines with secrets in them; what has it, reads it.
    Secrets {
        /// These lines without what is secret, or the one value behind the key; nothing where the key is to be left out.
        write: fn(&M) -> Option<Vec<String>>,
        /// What tells it from another one, secrets included, if that is known; nothing where there is none.
        compare: fn(&M) -> Option<Option<String>>,
    },
}

/// An option that twemproxy has as well.
const fn twemproxys<D, M>(name: &'static str, form: Form<D, M>) -> Opt<D, M> {
    let about = About {
        name,
        alias: None,
        default: Default::None,
        limits: Limits::Any,
        only: Only::Any,
        is_secret: false,
        is_new: false,
        example: "",
        is_rare: false,
        is_fixed: false,
        what: "",
    };
    Opt { about, form }
}

/// An option of this program only.
const fn new<D, M>(name: &'static str, form: Form<D, M>) -> Opt<D, M> {
    let mut option = twemproxys(name, form);
    option.about.is_new = true;
    option
}

/// Methods that set one thing of an option.
macro_rules! setters {
    ($($name:ident($($value:ident: $type:ty),*) => $field:ident = $set:expr;)+) => {
        impl<D, M> Opt<D, M> {
            $(const fn $name(mut self $(, $value: $type)*) -> Self {
                self.about.$field = $set;
                self
            })+
        }
    };
}

setters! {
    alias(name: &'static str) => alias = Some(name);
    required() => default = Default::Required;
    default(text: &'static str) => default = Default::Is(text);
    default_told(words: &'static str) => default = Default::Told(words);
    numbers(least: u64, most: u64) => limits = Limits::Numbers(least, most);
    sizes(least: usize, most: usize) => limits = Limits::Sizes(least, most);
    limits(words: &'static str) => limits = Limits::Told(words);
    redis() => only = Only::Redis;
    memcached(why: &'static str) => only = Only::Memcached(why);
    secret() => is_secret = true;
    example(value: &'static str) => example = value;
    rare() => is_rare = true;
    fixed() => is_fixed = true;
    what(words: &'static str) => what = words;
}

/// What stands in the place of secrets.
const SECRET: &str = "\"***\"";

impl Only {
    /// Whether pools of this protocol have it.
    pub(super) fn is_of(self, protocol: Protocol) -> bool {
        match self {
            Self::Any => true,
            Self::Redis => protocol == Protocol::Redis,
            Self::Memcached(_) => protocol == Protocol::Memcache,
        }
    }
}

impl Limits {
    /// As the pages say it.
    pub fn in_words(self) -> String {
        let size = |bytes: usize| match bytes.trailing_zeros() {
            30.. => format!("{}gb", bytes >> 30),
            20.. => format!("{}mb", bytes >> 20),
            _ => format!("{}kb", bytes >> 10),
        };
        match self {
            Self::Any => String::new(),
            Self::Numbers(least, most) if most == u64::from(u32::MAX) => format!("from {least}"),
            Self::Numbers(least, most) => format!("{least} to {most}"),
            Self::Sizes(least, most) => format!("{} to {}", size(least), size(most)),
            Self::Told(words) => words.to_owned(),
        }
    }
}

impl About {
    /// Whether it is called so.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }
}

impl<D, M> Opt<D, M> {
    /// How it differs between two, if it does.
    fn difference(&self, before: &M, after: &M) -> Option<Difference> {
        let text = |model: &M| match self.form {
            Form::Single { write, .. } => write(model),
            Form::Lines { write } => write(model).map(|lines| as_words(&lines)),
            Form::Secrets { compare, .. } => compare(model).map(|known| known.unwrap_or_else(|| SECRET.to_owned())),
        };
        let (before, after) = (text(before), text(after));
        let About { name, is_secret, is_fixed, .. } = self.about;
        // Of who does not tell its secret, it is not known whether it has another.
        let is_hidden = is_secret && [&before, &after].iter().any(|text| text.as_deref() == Some(SECRET));
        let shown = |text: Option<String>| text.map(|text| if is_secret { SECRET.to_owned() } else { text });
        (before != after && !is_hidden).then(|| Difference {
            name: name.to_owned(),
            before: shown(before),
            after: shown(after),
            is_fixed,
        })
    }

    /// The lines of the file that say what is in force.
    pub(super) fn lines(&self, model: &M) -> Vec<String> {
        let name = self.about.name;
        match self.form {
            Form::Single { write, .. } => {
                let shown = |value: String| if self.about.is_secret { SECRET.to_owned() } else { value };
                write(model).map(|value| format!("{name}: {}", shown(value))).into_iter().collect()
            }
            Form::Secrets { write, .. }
                if write(model).is_some_and(|lines| lines.iter().all(|line| !line.starts_with(' '))) =>
            {
                write(model).into_iter().map(|lines| format!("{name}: {}", lines.concat())).collect()
            }
            Form::Lines { write } | Form::Secrets { write, .. } => {
                write(model).map(|lines| [vec![format!("{name}: ")], lines].concat()).unwrap_or_default()
            }
        }
    }
}

/// The lines of the file that say what is in force of these options, below the key that they belong to.
fn below<M>(options: &[Opt<M>], model: &M) -> Vec<String> {
    options.iter().flat_map(|option| option.lines(model)).map(|line| format!("  {line}")).collect()
}

/// Lines below a key in one line.
fn as_words(lines: &[String]) -> String {
    let (mut text, mut in_list) = (String::new(), false);
    for line in lines.iter().map(|line| line.trim()) {
        let item = line.strip_prefix("- ");
        if in_list && item.is_none() {
            text.push(']');
        }
        text += match (item, in_list) {
            (Some(_), false) => " [",
            _ if text.is_empty() => "",
            _ => ", ",
        };
        in_list = item.is_some();
        text += item.unwrap_or(line);
    }
    text + if in_list { "]" } else { "" }
}

/// An option that two configurations do not agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name; below another key, behind that and a dot.
    pub name: String,
    /// What the first says; nothing where it leaves it out.
    pub before: Option<String>,
    /// What the second says.
    pub after: Option<String>,
    /// A running process keeps the first.
    pub is_fixed: bool,
}

/// What two pools do not agree on, but for their servers.
#[must_use]
pub fn pool_differences(before: &Pool, after: &Pool) -> Vec<Difference> {
    let options = POOL.iter().filter(|option| option.about.name != SERVERS && option.about.only.is_of(after.protocol));
    options.filter_map(|option| option.difference(before, after)).collect()
}

/// What two configurations do not agree on as regards the process.
#[must_use]
pub fn process_differences(before: &Settings, after: &Settings) -> Vec<Difference> {
    let of_log = |option: &Opt<LogSettings>| {
        let found = option.difference(&before.log, &after.log)?;
        Some(Difference { name: format!("log.{}", found.name), ..found })
    };
    let options = PROCESS.iter().filter(|option| option.about.name != "log");
    let found = options.filter_map(|option| option.difference(before, after));
    found.chain(LOG.iter().filter_map(of_log)).collect()
}

/// The names of some options, in the order of the pages.
pub(super) fn names<D, M>(options: &[Opt<D, M>]) -> Vec<&'static str> {
    options.iter().flat_map(|one| [Some(one.about.name), one.about.alias]).flatten().collect()
}

/// Whether a pool has a key of this name.
pub(super) fn is_of_pool(name: &str) -> bool {
    POOL.iter().any(|option| option.about.has_name(name))
}

/// Whether the section of the process has a key of this name.
pub(super) fn is_of_process(name: &str) -> bool {
    PROCESS.iter().any(|option| option.about.has_name(name))
}

/// What is known of every option of a pool.
pub fn of_a_pool() -> impl Iterator<Item = &'static About> {
    POOL.iter().map(|option| &option.about)
}

/// What is known of every option of the process.
pub fn of_the_process() -> impl Iterator<Item = &'static About> {
    PROCESS.iter().map(|option| &option.about)
}

/// What is known of every option of a pool, and of the process.
pub fn all() -> impl Iterator<Item = &'static About> {
    of_a_pool().chain(of_the_process())
}

#[cfg(test)]
mod tests;
