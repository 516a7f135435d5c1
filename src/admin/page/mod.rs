//! The dashboard: one page that loads nothing but itself, `/history` and `/servers`, put together from parts of a size that
//! can be read.

/// The page.
pub(super) const DASHBOARD: &str = concat!(
    include_str!("head.html"),
    "<style>\n",
    include_str!("style.css"),
    "</style>\n",
    include_str!("body.html"),
    "<script>\n",
    include_str!("words.js"),
    include_str!("drawing.js"),
    include_str!("trouble.js"),
    include_str!("pool.js"),
    include_str!("page.js"),
    "</script>\n</html>\n",
);
