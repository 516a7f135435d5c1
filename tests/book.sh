#!/usr/bin/env bash
# Builds the book with mdbook, to target/book/docs/index.html, and follows every link in it. A warning of mdbook is an error.
#
#     tests/book.sh               needs mdbook; `cargo install mdbook --locked --root target/tools` takes some minutes once
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$PWD/target/tools/bin"
command -v mdbook >/dev/null || { echo "book.sh: there is no mdbook"; exit 1; }

rm -rf target/book
said=$(NO_COLOR=1 mdbook build docs 2>&1) || { echo "$said"; exit 1; }
if grep -E "WARN|ERROR" <<< "$said"; then exit 1; fi
python3 - <<'END'
import html, html.parser, pathlib, shutil, sys
from urllib.parse import unquote

root, book = pathlib.Path.cwd(), pathlib.Path("target/book").resolve()


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.ids.update(filter(None, [of.get("id"), of.get("name")]))
        self.links += filter(None, [of.get("href") if tag == "a" else None, of.get("src") if tag == "img" else None])


pages = {path: Page(path.read_text()) for path in (book / "docs").rglob("*.html") if "shop" not in path.parts}
wrong, followed = [], 0
for path, page in pages.items():
    for link in page.links:
        if link.startswith(("http:", "https:", "mailto:", "javascript:")):
            continue
        file, _, heading = unquote(link).partition("#")
        to = (path.parent / file).resolve() if file else path
        to = to / "index.html" if (to / "index.html").is_file() else to
        inside = to.relative_to(book) if to.is_relative_to(book) else None
        # What lies outside of docs/ in the tree lies outside of the book's pages here.
        if inside and not to.exists() and (root / inside).is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / inside, to)
        # mdbook takes each page for one of its own.
        text = root / inside.with_suffix(".md") if inside else root
        if inside and not to.exists() and to.suffix == ".html" and text.is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(f"<meta charset=utf-8><pre>{html.escape(text.read_text())}</pre>")
        if inside and not to.exists() and (root / inside).is_dir():
            shutil.copytree(root / inside, to)
        if not to.exists() or heading and to in pages and heading not in pages[to].ids:
            wrong.append(f"{path.relative_to(book)}: {link}")
        followed += 1
if wrong or len(pages) < 40 or followed < 400:
    sys.exit(f"book.sh: {len(pages)} pages, {followed} links; these lead nowhere:\n" + "\n".join(sorted(set(wrong))))
print(f"book.sh: target/book/docs/index.html: {len(pages)} pages, {followed} links")
END
