"""What Voilà needs to show notebooks as pages, such as page.ipynb; voila.json, in the project's folder, tells it so."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path

from nbconvert.filters.markdown_mistune import IPythonRenderer
from voila.exporter import VoilaMarkdownRenderer


class PicturesInside(VoilaMarkdownRenderer):
    """Puts a text's pictures into the page, those of ../images too.

    Its parent takes them from the notebook's folder only, and any other is an error that leaves the page waiting.
    """

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """The HTML of one picture of a text; a file that exists becomes part of the page."""
        file = Path(self.contents_manager.root_dir) / url
        if file.is_file():
            url = f"data:{mimetypes.guess_type(file.name)[0]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        return IPythonRenderer.image(self, text, url, title)
