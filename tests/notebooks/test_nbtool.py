"""tools/nbtool.py: the normal form, each thing that `check` must find, and that a failed run loses nothing."""

import subprocess
import sys

import nbformat
import nbtool
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PNG = "iVBORw0KGgo="


def picture(alt="a cat", **data):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", {"image/png": PNG, "text/plain": "a cat", **data}, metadata=metadata)


def said(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def stored(tmp_path, *cells, name="07_lesson.ipynb", clean=True):
    """A notebook on disk, as nbtool stores it."""
    notebook = new_notebook(cells=list(cells))
    path = tmp_path / name
    path.write_text(nbformat.writes(nbtool.clean(notebook, path.stem) if clean else notebook) + "\n", encoding="utf-8")
    return path


def run_cell(source, count=1, outputs=(), tags=()):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {})


# ---- check


def test_a_good_notebook_has_no_problems(tmp_path):
    (tmp_path / "cat.png").touch()
    path = stored(
        tmp_path,
        new_markdown_cell("# Title\n![a cat](cat.png) [there](cat.png#a) `[no](link)`"),
        new_markdown_cell("[the web](https://example.org) [in this page](#title)"),
        run_cell("show(fig, alt='a cat')", 1, [picture()]),
        run_cell(
            "1 / 0",
            2,
            [new_output("error", ename="ZeroDivisionError", evalue="division by zero")],
            ["raises-exception"],
        ),
        run_cell("", None),
    )
    assert nbtool.problems(path) == []


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([run_cell("x = 1", None)], "never run"),
        ([run_cell("\n\n".join(["x = 1"] * 21))], "21 lines of code; at most 20"),
        ([run_cell("class A:\n" + "    x = 1\n" * 45)], "46 lines of code; at most 45"),
        ([run_cell("class A:\n" + "    x = 1\n" * 20 + "A()")], "22 lines of code; at most 20"),
        ([run_cell("x = [1,2]  # fmt: skip")], "pragma"),
        ([run_cell("a", 1), run_cell("plot();", 2)], "ends with ';'"),
        (
            [run_cell("1 / 0", 1, [new_output("error", ename="ZeroDivisionError", evalue="division by zero")])],
            "failed with Zero",
        ),
        ([run_cell("a", 1, [said("UserWarning: old", "stderr")])], "stderr: 'UserWarning: old'"),
        ([run_cell("a", 1, [picture(alt=None)])], "without alt text"),
        ([run_cell("a", 1, [picture(alt=" ")])], "without alt text"),
        (
            [run_cell("a", 1, [new_output("display_data", {"text/html": "<p><img src='x.png'></p>"})])],
            "image without alt text",
        ),
        ([run_cell("a", 1, [new_output("display_data", {"image/svg+xml": "<svg/>"})])], "svg"),
        ([run_cell("a", 1, [said("x" * 400_000)])], "output of 400 kB"),
        ([run_cell("a", 1, [said(f"in {nbtool.ROOT}/x")])], "names a folder of this machine"),
        ([new_markdown_cell("![](https://example.org/a.png)")], "without alt text"),
        ([new_markdown_cell('<img src="https://example.org/a.png" alt="">')], "without alt text"),
        ([new_markdown_cell("[next](08_nowhere.ipynb)")], "08_nowhere.ipynb, which does not exist"),
        ([new_markdown_cell("![a cat](cat.png)")], "cat.png, which does not exist"),
        ([new_markdown_cell("word " * 5001 + "<details><summary>Hint</summary>\n\nmore words\n\n</details>")], "5001 words"),
        ([new_markdown_cell("word") for _ in range(81)], "81 cells"),
        ([new_markdown_cell("x" * 1_100_000)], "1100 kB in all"),
    ],
)
def test_check_finds(tmp_path, cells, problem):
    found = nbtool.problems(stored(tmp_path, *cells))
    assert len(found) == 1
    assert problem in found[0]


def test_check_finds_what_a_widget_uses_and_a_later_cell_binds_anew(tmp_path):
    path = stored(
        tmp_path,
        run_cell("a, b, c, d, e, g = range(6)\ndef helper(x):\n    return x + a + e", 1),
        run_cell(
            "from m import Explore, whole\ndef draw(n, c):\n    d = [n for n in range(n)]\n    return helper(n) + b + len(d)\n"
            "_ = [g for _ in range(3)]\nExplore(draw, alt='x', n=whole('N', 1, 0, 9))",
            2,
        ),
        run_cell("from m import whole\nb = 2\nc = d = n = g = 4\nprint(e)", 3),
        run_cell("def later():\n    e = 1\n    return e\nfor a in range(3):\n    pass", 4),
        run_cell("%time helper = 1", 5),
        run_cell("def helper(x):\n    return x", 6),
    )
    assert nbtool.problems(path) == [
        f"cell 1: the widget uses {name}, which cell {j} binds anew" for name, j in (("b", 2), ("a", 3), ("helper", 5))
    ]


def test_check_finds_cells_run_out_of_order(tmp_path):
    path = stored(tmp_path, run_cell("a", 2), run_cell("b", 1), clean=False)
    assert sum("run out of order" in p for p in nbtool.problems(path)) == 2


def test_check_finds_what_github_calls_invalid(tmp_path):
    notebook = new_notebook(cells=[run_cell("a")], metadata={"widgets": {"application/vnd.jupyter.widget-state+json": {}}})
    path = tmp_path / "a.ipynb"
    path.write_text(nbformat.writes(notebook))
    assert any("metadata.widgets" in p for p in nbtool.problems(path))


def test_check_finds_a_link_to_a_folder_which_jupyterlab_does_not_open(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").touch()
    path = stored(tmp_path, new_markdown_cell("[the package](package), [a file of it](package/a.py#L3)"))
    assert nbtool.problems(path) == ["cell 0: link to package, which is a folder: JupyterLab opens files only"]


def test_code_in_text_is_no_link(tmp_path):
    assert nbtool.problems(stored(tmp_path, new_markdown_cell("```python\nx[0](1)\n![](a.png)\n```\nand `f[0](x)`"))) == []


# ---- clean


def test_clean_twice_is_clean_once_and_keeps_text_and_pictures(tmp_path):
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# A", id="a-name-of-its-own"),
            run_cell("a", 7, [picture(), said("one\n"), said("two\n")]),
            run_cell("b", 9, [new_output("execute_result", {"text/plain": "2"}, execution_count=9)]),
            run_cell("c", None),
        ],
        metadata={
            "widgets": {},
            "colab": {"provenance": []},
            "kernelspec": {"name": "venv", "display_name": "mine"},
        },
    )
    once = nbformat.writes(nbtool.clean(notebook, "07_lesson"))
    twice = nbformat.writes(nbtool.clean(nbformat.reads(once, 4), "07_lesson"))
    assert once == twice
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells] == [
        "a-name-of-its-own",
        "07-lesson-001",
        "07-lesson-002",
        "07-lesson-003",
    ]
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2, None]
    outputs = notebook.cells[1].outputs
    assert [o.output_type for o in outputs] == ["display_data", "stream"]
    assert (outputs[0].data["image/png"], outputs[0].metadata["image/png"]["alt"]) == (PNG, "a cat")
    assert outputs[1].text == "one\ntwo\n"


def test_clean_drops_stale_widgets_second_pictures_and_paths():
    widget = {nbtool.WIDGET: {"model_id": "x"}, "text/plain": "Panel('a')"}
    error = new_output("error", ename="KeyError", evalue="'a'", traceback=["\x1b[31m/home/me/x.py", "..."])
    cell = run_cell("a", 1, [new_output("display_data", widget), picture(**{"image/jpeg": PNG}), error])
    notebook = nbtool.clean(new_notebook(cells=[cell]), "a")
    outputs = notebook.cells[0].outputs
    assert outputs[0].data == {"text/plain": "Panel('a')"}
    assert outputs[1].data.keys() == {"image/png", "text/plain"}
    assert outputs[2].traceback == ["KeyError: 'a'"]


def test_a_cell_put_between_others_leaves_their_ids():
    cells = [new_code_cell("a", id="3fe09a1c"), new_code_cell("b", id="AbCdEfGhIjKl")]
    notebook = nbtool.clean(new_notebook(cells=cells), "x")
    before = [c.id for c in notebook.cells]
    notebook.cells.insert(1, new_code_cell("new"))
    nbtool.clean(notebook, "x")
    after = [c.id for c in notebook.cells]
    assert [after[0], after[2]] == before
    assert len(set(after)) == 3


@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
def test_a_copied_cell_gets_an_id_of_its_own():
    notebook = nbtool.clean(new_notebook(cells=[new_code_cell("a", id="same-id"), new_code_cell("b", id="same-id")]), "x")
    assert [c.id for c in notebook.cells] == ["same-id", "x-001"]


# ---- run


def test_run_stores_the_same_file_twice(tmp_path):
    path = stored(
        tmp_path,
        new_markdown_cell("**Runs in** ?"),
        new_code_cell("import os\nfrom PIL import Image\nfrom ldm_tutorial.lessons.notebook import show"),
        new_code_cell("show(Image.new('RGB', (4, 4), 'red'), alt='a red field')"),
        new_code_cell("for i in range(3):\n    print(i, flush=True)"),
        new_code_cell("os.environ['LDM_QUIET'], os.listdir()"),
    )
    nbtool.run(path, timeout=60)
    once = path.read_bytes()
    nbtool.run(path, timeout=60)
    assert path.read_bytes() == once
    assert nbtool.problems(path) == []
    cells = nbformat.read(path, 4).cells
    assert len(cells) == 5
    assert cells[2].outputs[0].metadata["image/png"]["alt"] == "a red field"
    assert cells[3].outputs[0].text == "0\n1\n2\n"
    assert cells[4].outputs[0].data["text/plain"] == "('1', ['07_lesson.ipynb'])"


def test_run_writes_the_measured_cost_only_when_asked(tmp_path):
    path = stored(
        tmp_path,
        new_markdown_cell("?", metadata={"tags": ["cost-card"]}),
        new_code_cell("x = bytearray(600 * 2**20)"),
    )
    nbtool.run(path, timeout=60)
    assert nbformat.read(path, 4).cells[0].source == "?"
    ours = bytearray(3 * 2**30)  # of the process that starts the kernel: not the notebook's
    ours[:: 2**12] = b"x" * len(ours[:: 2**12])
    nbtool.run(path, timeout=60, cost=True)
    card = nbformat.read(path, 4).cells[0].source
    assert 0.6 <= float(card.split("with ")[1].split(" GiB")[0]) < 2, card


def test_an_option_may_stand_before_the_files(tmp_path, monkeypatch):
    path = stored(tmp_path, new_markdown_cell("# Title"))
    monkeypatch.setattr(sys, "argv", ["nbtool.py", "check", "--timeout", "60", str(path)])
    assert nbtool.main() == 0


def test_a_failing_notebook_stays_as_it_was_and_is_named(tmp_path):
    path = stored(tmp_path, new_code_cell("print('before')"), new_code_cell("raise ValueError('seen')"))
    before = path.read_bytes()
    done = subprocess.run([sys.executable, nbtool.__file__, "run", str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "07_lesson.ipynb: not stored" in done.stderr
    assert "ValueError: seen" in done.stderr
    assert "\x1b[" not in done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [None, "not json", '{"a": 1}'])
def test_what_is_no_notebook_is_named_in_a_line(tmp_path, content):
    path = tmp_path / "x.ipynb"
    if content is not None:
        path.write_text(content)
    done = subprocess.run([sys.executable, nbtool.__file__, "check", str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
