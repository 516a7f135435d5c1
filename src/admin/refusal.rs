//! Requests that are refused.

use hyper::StatusCode;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// The methods that would have been right.
    pub(super) allow: Option<&'static str>,
}

impl Refusal {
    /// It cannot be understood.
    pub(super) const fn bad(text: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text, allow: None }
    }

    /// It names what is not there.
    pub(super) const fn missing(text: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, text, allow: None }
    }
}
