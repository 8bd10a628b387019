"""Sphinx' settings for the reading site. tools/build_site.py gathers the pages and calls Sphinx."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import nbformat
from docutils import nodes

import ldm_tutorial

project = "Stable Diffusion from scratch"
author = "The ldm_tutorial contributors"
copyright = author
version = release = ldm_tutorial.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
exclude_patterns = ["files", "_static", "_templates"]
templates_path = ["_templates"]
default_role = "code"

# ---- notebooks, as they are stored

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
mathjax_path = "mathjax/es5/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}  # each formula would be a stop of the Tab key

# ---- docstrings, which are plain sentences

autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # not those of PyTorch
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False
autodoc_mock_imports = [name for name in ("accelerate", "onnx", "onnxruntime", "onnxscript", "voila") if not find_spec(name)]

# ---- the page

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_permalinks_icon = "#"
html_theme_options = {
    "light_css_variables": {"font-stack": 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'},
}


def docstring_to_rst(text: str, parameters: set[str]) -> list[str]:
    """A docstring of this project as reStructuredText: its characters mean themselves, `names` are code.

    A line that is indented, or set in columns, stands as it is. "name: ..." of a parameter is an entry of a list,
    "Raises ..." a paragraph of its own.
    """
    names = "|".join(sorted(map(re.escape, parameters), key=len, reverse=True))
    text = re.sub(r"^Raises:\n\s+(\w+): ", r"Raises \1: ", text, flags=re.MULTILINE)
    lines = []
    for block in re.split(r"\n[ \t]*\n", text):
        for preformatted, part in runs(block):
            if preformatted:
                lines += ["::", "", *("    " + line for line in part), ""]
                continue
            prose = re.sub(r"(?:^|(?<=\. ))(?=Raises \w)", "\0", " ".join(line.strip() for line in part))
            if names:
                prose = re.sub(rf"(?:^|(?<=[.;:\0] ))(?=(?:(?:{names})(?:, | and )?)+: )", "\0\1", prose)
            for sentence in filter(None, (piece.strip() for piece in prose.split("\0"))):
                if sentence.startswith("\1"):
                    name, _, rest = sentence[1:].partition(": ")
                    lines += [f"- **{escaped(name)}**: {escaped(rest)}", ""]
                else:
                    lines += [re.sub(r"^(\w+|#)([.)])(?= )", r"\1\\\2", escaped(sentence)), ""]
    return lines


def runs(block: str):
    """(whether it is set in columns or indented, the lines) for stretches of lines of one kind."""
    stretches: list[tuple[bool, list[str]]] = []
    for line in block.split("\n"):
        kind = bool(re.search(r"^\s|\S {2,}\S", line))
        if stretches and stretches[-1][0] == kind:
            stretches[-1][1].append(line)
        else:
            stretches.append((kind, [line]))
    return stretches


def escaped(text: str) -> str:
    """Every character as itself, but for `code` and *emphasis*."""
    parts = re.split(r"(`[^`]+`|(?<![\w*])\*[\w][\w ]*\*(?![\w*]))", text)
    for i, part in enumerate(parts):
        if i % 2 == 0:
            parts[i] = re.sub(r"([\\*_|`])", r"\\\1", part)
        elif part.startswith("`"):
            parts[i] = f"\\ ``{part[1:-1]}``\\ "
    return "".join(parts)


def plain_docstring(app, what, name, obj, options, lines):
    try:
        parameters = set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        parameters = set()
    if inspect.isclass(obj):
        parameters |= set(getattr(obj, "__annotations__", {}))
    text = "\n".join(lines).strip("\n")
    lines[:] = docstring_to_rst("" if text.startswith("Alias for field number") else text, parameters)


def pictures_say_what_they_show(app, doctree):
    """The alt text that a notebook stores beside each picture; myst-nb leaves it behind."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    stored = [o.metadata["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]
    shown = [image for image in doctree.findall(nodes.image) if re.search(r"[0-9a-f]{64}\.png$", image["uri"])]
    if len(stored) != len(shown):
        raise RuntimeError(f"{path.name}: {len(stored)} pictures are stored, {len(shown)} are on the page")
    for image, alt in zip(shown, stored):
        image["alt"] = alt


def captions_are_no_headings(app, pagename, templatename, context, doctree):
    """Those of the menu stand before the page's title, and have no level."""
    context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(' role="heading"', "")


def setup(app):
    app.connect("autodoc-process-docstring", plain_docstring)
    app.connect("doctree-read", pictures_say_what_they_show)
    app.connect("html-page-context", captions_are_no_headings, priority=900)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
