//! What is wrong with a file: where, what, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

pub(crate) use super::nearest::nearest;
use super::secret::without_secrets_at;

/// A place in the text of the file, in bytes.
pub type Span = Range<usize>;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file works, but hardly as it was meant.
    Warning,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// Where; `None` when it is about the file as a whole.
    pub span: Option<Span>,
    /// Words under the marked place.
    pub label: String,
    /// Other places that have to do with it.
    pub related: Vec<(Span, String)>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem for which the file is refused.
    pub fn error(span: Option<Span>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message)
    }

    /// A problem with which the file works.
    pub fn warning(span: Option<Span>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message)
    }

    fn new(severity: Severity, span: Option<Span>, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), span, label: String::new(), related: Vec::new(), help: None }
    }

    /// Adds words under the marked place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Marks another place as well.
    #[must_use]
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to write instead, if that is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// The problems of one file, with its text to show them in.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file's name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The problems, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Sorts by place, drops repetitions, and keeps secrets out of what is said.
    #[must_use]
    pub(super) fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        for one in &mut diagnostics {
            let at = one.span.as_ref().map_or(0, |span| span.end);
            one.message = without_secrets_at(&one.message, text, at).into_owned();
            one.help = one.help.take().map(|help| without_secrets_at(&help, text, at).into_owned());
        }
        diagnostics.sort_by_key(|one| (one.span.as_ref().map_or(0, |span| span.start), one.severity));
        diagnostics.dedup();
        Self { name: name.to_owned(), text: text.to_owned(), diagnostics }
    }

    /// How many of the problems are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|one| one.severity == Severity::Error).count()
    }

    /// Where a problem is: file, line and column, as compilers write it.
    #[must_use]
    pub fn place(&self, one: &Diagnostic) -> String {
        let Some(span) = &one.span else { return self.name.clone() };
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|one| *one != '\n').count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    /// The problems as text for people: file, line and column, the line with the place marked, what to write instead.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let blocks = self.diagnostics.iter().map(|one| self.render_one(&renderer, one));
        blocks.collect::<Vec<_>>().join("\n\n")
    }

    fn render_one(&self, renderer: &Renderer, one: &Diagnostic) -> String {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(one.message.as_str());
        let marks = one.span.iter().map(|span| (AnnotationKind::Primary, span, &one.label));
        let marks = marks.chain(one.related.iter().map(|(span, label)| (AnnotationKind::Context, span, label)));
        let mut snippet = Snippet::source(self.text.as_str()).path(self.name.as_str()).fold(true);
        let mut marked = false;
        for (kind, span, label) in marks {
            // The YAML reader's places need not be those of whole characters.
            let end = self.text.ceil_char_boundary(span.end);
            let start = self.text.floor_char_boundary(span.start.min(end));
            let mut annotation = kind.span(start..end);
            if !label.is_empty() {
                annotation = annotation.label(label.as_str());
            }
            snippet = snippet.annotation(annotation);
            marked = true;
        }
        let mut group = Group::with_title(title);
        if marked {
            group = group.element(snippet);
        } else {
            group = group.element(annotate_snippets::Origin::path(self.name.as_str()));
        }
        if let Some(help) = &one.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
