"""What is in a folder of HTML pages: their ids, links, pictures and headings."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Page(HTMLParser):
    """One page, read."""

    path: Path
    ids: set = field(default_factory=set)
    links: list = field(default_factory=list)  # targets of href and src
    pictures: list = field(default_factory=list)  # the alt text of each, None where there is none
    headings: list = field(default_factory=list)  # 1, 2, 2, 3, ...

    def __post_init__(self):
        super().__init__()
        self.text = self.path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        if tag == "img":
            self.pictures.append(found.get("alt"))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))


def read_pages(folder):
    return {path.relative_to(folder).as_posix(): Page(path) for path in sorted(Path(folder).rglob("*.html"))}


def broken_links(pages, folder):
    """A line for each link to a file or an anchor that is not there. Addresses of other servers are not asked."""
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if link.startswith(("http:", "https:", "data:", "mailto:", "javascript:")):
                continue
            target, _, anchor = link.partition("#")
            target, anchor = unquote(target.partition("?")[0]), unquote(anchor)
            path = (page.path.parent / target).resolve() if target else page.path.resolve()
            if path.is_dir():
                path /= "index.html"
            if not path.is_file():
                broken.append(f"{name}: {link}: there is no such file")
            elif anchor and path.suffix == ".html":
                aimed = pages.get(path.relative_to(Path(folder).resolve()).as_posix())
                if aimed is None or anchor not in aimed.ids:
                    broken.append(f"{name}: {link}: there is no such anchor")
    return broken
