"""tools/course.py: both versions come from one master, edits find their way back, and nothing is lost or let through."""

import re
import shutil
import subprocess
import symtable
import sys

import nbformat
import nbtool
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import course as course_tool
from course import Course, CourseError, read_master, solved, stub, write_master

MASTER = r"""---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
---

+++ {"id": "title"}

# 04 · Attention

With $a_i$, `code` and **bold**.
 · [solutions](solutions/04_attention.ipynb) · [license](../LICENSE)

```{code-cell} ipython3
:id: boot
:tags: [bootstrap]
```

+++ {"id": "task"}

The check helps. Answers: [solutions/04_attention.ipynb](solutions/04_attention.ipynb). Skip what you like.

**1 · Warm-up.** Double it.

<details><summary>Hint</summary>

$$\begin{aligned}y &= 2x\end{aligned}$$

</details>

+++ {"id": "why", "tags": ["solution"]}

**1 · Doubling.** Twice.

```{code-cell} ipython3
:id: exercise
:tags: [exercise]

# solution
import math
# end of solution


def double(x):
    # x is a number
    # solution
    return 2 * x
    # end of solution


check("04.1", double)
```

```{code-cell} ipython3
:id: proof
:tags: [solution]

print(double(2))
```

+++ {"id": "question", "tags": ["predict"]}

**Predict first:** what is x? ([the code](../ldm_tutorial/x.py), [symbols](../docs/notation.md))

```{code-cell} ipython3
:id: build
:tags: [reveal]

%time x = 1
print("```")
```

+++ {"id": "recap"}

## Recap

All of it.

## Quiz

## Where to find it

Here.
"""
QUESTIONS = """
- id: "04-01"
  notebook: "04"
  goal: 1
  level: 1
  question: "What is $2 \\\\cdot {n}$?"
  vary: {n: [3, 4]}
  derive: {product: "2 * n", sum: "2 + n", power: "n ** 2", quotient: "n / 2"}
  options:
    - {text: "{product}", right: true, because: "two times {n}"}
    - {text: "{sum}", because: "that is a sum"}
    - {text: "{power}", because: "that is a power"}
    - {text: "{quotient}", because: "that is a quotient"}
  show: true
- {id: "04-02", notebook: "04", goal: 1, level: 1, question: "Not shown?", options: &all [
    {text: "a", right: true, because: "w"}, {text: "b", because: "x"}, {text: "c", because: "y"}, {text: "d", because: "z"}]}
- {id: "05-01", notebook: "05", goal: 1, level: 1, question: "Another's?", options: *all, show: true}
"""
NAME = "04_attention"


@pytest.fixture
def course(tmp_path):
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / f"{NAME}.md").write_text(MASTER, encoding="utf-8")
    (tmp_path / "course" / "bootstrap.ipy").write_text("%pip install it\n", encoding="utf-8")
    (tmp_path / "course" / "questions.yml").write_text(QUESTIONS, encoding="utf-8")
    made = Course(tmp_path)
    for version in course_tool.PUBLISHED:
        made.generate(NAME, version)
    return made


def stored(course, version="notebooks"):
    return nbformat.read(course.notebook(NAME, version), 4)


def cell_of(notebook, name):
    [cell] = [cell for cell in notebook.cells if cell.id == name]
    return cell


def ids(notebook):
    return [cell.id for cell in notebook.cells]


def edit(course, change, version="notebooks"):
    """Do to the stored notebook what an author does in JupyterLab; returns its path."""
    path = course.notebook(NAME, version)
    notebook = nbformat.read(path, 4)
    change(notebook.cells)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return path


def ran(course, version="notebooks"):
    """Give each code cell an output, as running it does."""
    path = course.notebook(NAME, version)
    notebook = nbformat.read(path, 4)
    for i, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        cell.execution_count, cell.outputs = i + 1, [new_output("stream", text=f"output of {cell.id}\n")]
    nbtool.store(nbtool.clean(notebook, NAME), path)
    course.generate(NAME, version)


# ---- what is committed


@pytest.mark.parametrize("name", Course().names())
@pytest.mark.parametrize("version", course_tool.PUBLISHED)
def test_the_notebook_is_what_its_master_says(name, version):
    assert not (said := Course().stale(name, version)), said[0]


def test_every_notebook_has_a_master():
    assert {path.stem for path in nbtool.all_notebooks()} == set(Course().names())


@pytest.mark.parametrize("name", Course().names())
def test_a_notebook_begins_with_the_bootstrap_cell_and_its_exercises_have_solutions(name):
    cells = Course().cells(name)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [i for i, cell in enumerate(code) if "bootstrap" in nbtool.tags(cell)] == [0], "the first code cell, and only it"
    assert code[0].source == "", "its source is in course/bootstrap.ipy"
    assert sum("exercise" in nbtool.tags(cell) for cell in cells) == 3


@pytest.mark.parametrize("name", Course().names())
def test_a_master_survives_being_read_and_written(name, tmp_path):
    master = Course().master(name)
    write_master(read_master(master).cells, tmp_path / master.name)
    assert (tmp_path / master.name).read_text(encoding="utf-8") == master.read_text(encoding="utf-8")


# ---- one master, two versions


def test_the_student_gets_stubs_and_no_solutions(course):
    notebook = stored(course)
    assert ids(notebook) == ["title", "boot", "task", "exercise", "question", "build", "recap"]
    assert cell_of(notebook, "exercise").source == 'def double(x):\n    # x is a number\n    ...\n\n\ncheck("04.1", double)'
    assert cell_of(notebook, "boot").source == "%pip install it"
    assert cell_of(notebook, "build").source == '%time x = 1\nprint("```")'
    assert r"$$\begin{aligned}y &= 2x\end{aligned}$$" in cell_of(notebook, "task").source


def test_the_solutions_are_short(course):
    notebook = stored(course, "solutions")
    assert ids(notebook) == ["solutions-title", "boot", "why", "exercise", "proof"]
    assert notebook.cells[0].source.startswith("# Solutions to [04 · Attention](../04_attention.ipynb)\n\nOne way each")
    source = 'import math\n\n\ndef double(x):\n    return 2 * x\n\n\ncheck("04.1", double)'
    assert cell_of(notebook, "exercise").source == source


@pytest.mark.parametrize(
    ("master", "student", "solution"),
    [
        ("def f(x):\n    # solution\n    return x\n    # end of solution", "def f(x): ...", "def f(x):\n    return x"),
        (
            "import a\n\n\ndef f(x):\n    # a hint:\n    # solution\n    y = x\n\n    return y\n    # end of solution\n\n\nf(1)\n"
            "# solution\nf(2)\n# end of solution",
            "import a\n\n\ndef f(x):\n    # a hint:\n    ...\n\n\nf(1)",
            "import a\n\n\ndef f(x):\n    y = x\n\n    return y\n\n\nf(1)\nf(2)",
        ),
        (
            "# solution\nimport a\n# end of solution\n\nimport b\n\n\n"
            "def f(x):\n    # solution\n    y = 2 * x\n    # end of solution\n    return y",
            "import b\n\n\ndef f(x):\n    ...\n    return y",
            "import a\n\nimport b\n\n\ndef f(x):\n    y = 2 * x\n    return y",
        ),
    ],
)
def test_a_solution_between_its_markers(master, student, solution):
    assert (stub(master), solved(master)) == (student, solution)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    # end of solution\n", "", "an exercise needs"),
        ("    # solution\n", "  # solution\n", "an exercise needs"),
        (":tags: [exercise]\n", "", "`# solution`, but not the tag"),
        (":id: build", ":id: boot", "two cells with the id boot"),
    ],
)
def test_a_master_that_would_give_a_solution_away_is_refused(course, old, new, message):
    path = course.master(NAME)
    path.write_text(MASTER.replace(old, new), encoding="utf-8")
    with pytest.raises(CourseError, match=message):
        course.generate(NAME, "notebooks")


def test_a_new_cell_is_given_an_id_that_stays(course):
    path = course.master(NAME)
    path.write_text(MASTER.replace('+++ {"id": "recap"}', '+++\n\nNew.\n\n+++ {"id": "recap"}'), encoding="utf-8")
    course.generate(NAME, "notebooks")
    once = path.read_text(encoding="utf-8")
    [new] = [cell for cell in stored(course).cells if cell.source == "New."]
    assert f'+++ {{"id": "{new.id}"}}\n\nNew.' in once
    assert course.generate(NAME, "notebooks") == []
    assert path.read_text(encoding="utf-8") == once


# ---- outputs


def test_outputs_stay_with_what_has_not_changed(course):
    ran(course)
    path = course.master(NAME)
    path.write_text(MASTER.replace("%time x = 1", "x = 2").replace("All of it.", "All."), encoding="utf-8")
    said = course.generate(NAME, "notebooks")
    assert (
        said[1]
        == f"notebooks/{NAME}.ipynb: cell build has no output any more; make notebooks ARGS=notebooks/{NAME}.ipynb runs it"
    )
    notebook = stored(course)
    assert cell_of(notebook, "exercise").outputs[0].text == "output of exercise\n"
    assert (cell_of(notebook, "build").outputs, cell_of(notebook, "build").execution_count) == ([], None)
    assert any("never run" in problem for problem in nbtool.problems(course.notebook(NAME)))


def test_a_conflict_is_settled_by_the_master_and_outputs_of_both_sides_are_kept(course):
    ran(course)
    path = course.notebook(NAME)
    ours = path.read_text(encoding="utf-8")
    lines = ours.split("\n")
    at = next(i for i, line in enumerate(lines) if "output of build" in line)
    theirs = [line.replace("All of it.", "All.") for line in lines[at:]]
    conflict = ["<<<<<<< HEAD", *lines[at:-1], "=======", *theirs[:-1], ">>>>>>> a branch", ""]
    path.write_text("\n".join([*lines[:at], *conflict]), encoding="utf-8")
    assert course.generate(NAME, "notebooks") == [f"notebooks/{NAME}.ipynb: generated"]
    assert path.read_text(encoding="utf-8") == ours


def test_what_is_as_its_master_says_is_not_written(course):
    before = course.notebook(NAME).stat().st_mtime_ns
    assert course.generate(NAME, "notebooks") == []
    assert course.notebook(NAME).stat().st_mtime_ns == before


def test_running_generates_first(course, monkeypatch, capsys):
    monkeypatch.setattr(course_tool, "Course", lambda: course)
    path = course.master(NAME)
    text = (
        MASTER.replace('check("04.1", double)', "double(1)").replace("%time x = 1", "x = 7").replace('print("```")', "print(x)")
    )
    path.write_text(text, encoding="utf-8")
    (course.folder / "bootstrap.ipy").write_text("import os\n", encoding="utf-8")
    assert nbtool.each("run", course.notebook(NAME), 60, False) == []
    assert cell_of(stored(course), "build").outputs[-1].text == "7\n"
    assert course.stale(NAME, "notebooks") == []


# ---- edits in a notebook


def test_edits_go_back_into_the_master(course):
    def change(cells):
        cells[0].source += "\n\nMore."
        cells[5].source = "y = 1"
        cells.insert(3, new_markdown_cell("Before the exercise."))
        cells.append(new_code_cell("print(3)", execution_count=9, outputs=[new_output("stream", text="3\n")]))

    path = edit(course, change)
    with pytest.raises(CourseError, match="has been edited"):  # nothing that was written is lost
        course.generate(NAME, "notebooks")
    assert "--from notebooks/04_attention.ipynb" in course.stale(NAME, "notebooks")[0]
    course.carry(path)
    cells = read_master(course.master(NAME)).cells
    new = [cell.id for cell in cells if cell.source == "Before the exercise."]
    last = cells[-1]
    after = ["why", "exercise", "proof", "question", "build", "recap", last.id]
    assert [c.id for c in cells] == ["title", "boot", "task", *new, *after]
    assert cells[0].source.endswith("(../LICENSE)\n\nMore.")
    assert cell_of(stored(course), last.id).outputs[0].text == "3\n"
    assert cells[5].source.startswith("# solution\nimport math")
    for version in course_tool.PUBLISHED:
        assert course.stale(NAME, version) == []


def test_cells_moved_and_deleted_in_a_notebook(course):
    def change(cells):
        cells.insert(1, cells.pop(5))  # build
        del cells[3]  # task

    course.carry(edit(course, change))
    assert ids(read_master(course.master(NAME))) == ["title", "build", "boot", "why", "exercise", "proof", "question", "recap"]


def test_edits_in_the_solutions_go_back_too(course):
    def change(cells):
        cells[2].source = "Two times."
        cells.insert(4, new_markdown_cell("See:"))

    course.carry(edit(course, change, "solutions"))
    cells = read_master(course.master(NAME)).cells
    [new] = [cell for cell in cells if cell.source == "See:"]
    assert nbtool.tags(new) == {"solution"}
    assert [c.id for c in cells] == ["title", "boot", "task", "why", "exercise", new.id, "proof", "question", "build", "recap"]
    assert cells[3].source == "Two times."


def test_a_cell_with_a_quiz_keeps_its_questions(course):
    before = cell_of(read_master(course.master(NAME)), "recap").source

    def change(cells):
        cells[-1].source = cells[-1].source.replace("All of it.", "Most of it.").replace("Here.", "There.")

    course.carry(edit(course, change))
    after = cell_of(read_master(course.master(NAME)), "recap").source
    assert after == before.replace("All of it.", "Most of it.").replace("Here.", "There.")


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        ("notebooks", lambda cells: cells[3].update(source="def double(x):\n    return 2 * x"), "exercise is an exercise"),
        ("solutions", lambda cells: cells[3].update(source="pass"), "exercise is an exercise"),
        ("notebooks", lambda cells: cells[1].update(source="import os"), "boot is the bootstrap cell"),
        ("notebooks", lambda cells: cells[6].update(source="## Quiz\n\n**1. Who?**"), "recap holds the quiz"),
        ("solutions", lambda cells: cells[0].update(source="# Answers"), "solutions-title is generated"),
        ("notebooks", lambda cells: cells.pop(3), "exercise was deleted; it is generated"),
        (
            "notebooks",
            lambda cells: cells[0].update(attachments={"a.png": {"image/png": "iVBORw0KGgo="}}, source="new"),
            "picture",
        ),
        ("notebooks", lambda cells: cells[0].update(source="one\n\n+++\n\ntwo"), "no MyST text"),
    ],
)
def test_what_cannot_be_carried_is_refused_and_nothing_is_written(course, version, change, message):
    path = edit(course, lambda cells: (cells[2].update(source="Also changed."), change(cells)), version)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(CourseError, match=message):
        course.carry(path)
    assert course.master(NAME).read_text(encoding="utf-8") == MASTER
    assert path.read_text(encoding="utf-8") == before
    assert sorted(p.name for p in course.folder.iterdir()) == [f"{NAME}.md", "bootstrap.ipy", "questions.yml"]


# ---- the quiz


def test_the_quiz_comes_from_the_questions(course):
    source = cell_of(stored(course), "recap").source
    n = 3 if "**1. What is $2 \\cdot 3$?**\n\n- A) " in source else 4
    assert f"**1. What is $2 \\cdot {n}$?**\n\n- A) " in source
    assert "Not shown?" not in source
    assert "Another's?" not in source
    letter = next(line[2] for line in source.split("\n") if line.endswith(f") {2 * n}"))
    assert f"<summary>Answer</summary>\n\n**{letter}**\n" in source
    assert f"- {letter}: two times {n}" in source
    assert source.endswith("</details>\n\n## Where to find it\n\nHere.")
    assert source.startswith("## Recap\n\nAll of it.\n\n## Quiz\n\n**1. ")
    assert course.quiz(NAME, answers=False).count("- ") == 4
    assert "Answer" not in course.quiz(NAME, answers=False)


def test_a_quiz_in_a_master_is_refused(course):
    path = course.master(NAME)
    path.write_text(MASTER.replace("## Quiz\n", "## Quiz\n\n**1. Why?**\n"), encoding="utf-8")
    with pytest.raises(CourseError, match="the quiz comes from course/questions.yml"):
        course.generate(NAME, "notebooks")


# ---- predictions and editions


@pytest.mark.parametrize("name", Course().names())
def test_each_prediction_is_tagged_and_answered(name):
    cells = Course().cells(name)
    asked = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and re.search(r"(?i)\*\*predict", cell.source)]
    answers = [i for i, cell in enumerate(cells) if "reveal" in nbtool.tags(cell)]
    assert asked == [i for i, cell in enumerate(cells) if "predict" in nbtool.tags(cell)]
    for i in asked:
        assert "<summary>Answer</summary>" in cells[i].source or any(i <= j <= i + 26 for j in answers), cells[i].id
    for j in answers:
        assert any(i <= j for i in asked), cells[j].id


def test_what_answers_a_prediction_is_folded_behind_an_invitation(course):
    ran(course)
    cell = cell_of(stored(course), "build")
    assert (cell.metadata["collapsed"], cell.metadata["jupyter"]) == (True, {"outputs_hidden": True})
    assert [o.get("text") or o.data["text/plain"] for o in cell.outputs] == [course_tool.INVITATION, "output of build\n"]
    assert course_tool.without_invitation(cell.outputs) == cell.outputs[1:]
    assert len(cell_of(stored(course), "exercise").outputs) == 1
    path = edit(course, lambda cells: (cells[5].metadata.pop("collapsed"), cells[5].metadata.pop("jupyter")))  # it was opened
    course.carry(path)
    assert course.master(NAME).read_text(encoding="utf-8") == MASTER
    assert course.generate(NAME, "notebooks") == []


@pytest.fixture
def editions(course, tmp_path):
    for version in course_tool.PUBLISHED:
        ran(course, version)
    for place in ("LICENSE", "docs/notation.md", "ldm_tutorial/x.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("here", encoding="utf-8")
    for version in course_tool.EDITIONS:
        course.edition(version, tmp_path / version)
    return {version: nbformat.read(tmp_path / version / "notebooks" / f"{NAME}.ipynb", 4) for version in course_tool.EDITIONS}


def test_the_student_edition_gives_no_answer_away(editions):
    notebook = editions["student"]
    assert ids(notebook) == ["title", "boot", "task", "exercise", "question", "build", "recap"]
    assert (cell_of(notebook, "build").outputs, cell_of(notebook, "build").execution_count) == ([], None)
    assert cell_of(notebook, "exercise").outputs[0].text == "output of exercise\n"
    assert "    ...\n" in cell_of(notebook, "exercise").source
    assert "Answer</summary>" not in cell_of(notebook, "recap").source
    assert "\n- A) " in cell_of(notebook, "recap").source


def test_the_instructor_edition_has_solutions_and_answers_in_their_places(editions):
    notebook = editions["instructor"]
    assert ids(notebook) == ["title", "boot", "task", "why", "exercise", "proof", "question", "build", "recap"]
    assert [cell.outputs[0].text for cell in notebook.cells if cell.cell_type == "code"] == [
        f"output of {name}\n" for name in ("boot", "exercise", "proof", "build")
    ]
    assert "return 2 * x" in cell_of(notebook, "exercise").source
    assert "<summary>Answer</summary>" in cell_of(notebook, "recap").source


def test_an_edition_is_a_folder_for_itself(editions, course, tmp_path):
    for version, notebook in editions.items():
        folder = tmp_path / version
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert names == ["LICENSE", "docs/notation.md", f"notebooks/{NAME}.ipynb"]
        assert cell_of(notebook, "title").source.endswith("**bold**.\n · [license](../LICENSE)")
        assert "The check helps. Skip what you like." in cell_of(notebook, "task").source
        assert "(the code, [symbols](../docs/notation.md))" in cell_of(notebook, "question").source
    with pytest.raises(CourseError, match="is not empty"):
        course.edition("student", tmp_path / "student")


@pytest.mark.parametrize("version", course_tool.EDITIONS)
def test_the_editions_of_the_course_lead_nowhere_else(version, tmp_path):
    Course().edition(version, tmp_path / version)
    for path in (tmp_path / version / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            assert "solutions/" not in cell.source, cell.id
            if cell.cell_type == "markdown":
                assert list(nbtool.text_problems(cell.source, path.parent)) == [], cell.id
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        if version == "student":  # so that they run because the notebooks do
            assert code == [c.source for c in nbformat.read(Course().notebook(path.stem), 4).cells if c.cell_type == "code"]
            shown = "".join(cell.source for cell in notebook.cells)
            assert not re.search(r"^ *# (end of )?solution$|^\*\*[A-D]\*\*$", shown, re.M)


@pytest.mark.parametrize("name", Course().names())
def test_a_solution_binds_no_name_that_the_rest_of_the_lesson_uses(name):
    """In the instructor edition it stands in the middle of the lesson, and the widgets above it still draw."""
    same = {"pipe", "tokenizer"}  # loaded once more, for the solutions stand alone; the same model
    cells = [cell for cell in Course().build(name, "instructor").cells if cell.cell_type == "code" and cell.source]
    lesson: set[str] = set()
    taken: dict[str, str] = {}  # name of the lesson -> the solution that has bound it anew
    for cell in cells:
        table = symtable.symtable(TransformerManager().transform_cell(cell.source), cell.id, "exec")
        bound = nbtool.bound_in(table)
        if nbtool.tags(cell) & {"exercise", "solution"}:
            taken.update(dict.fromkeys(bound & lesson - same, cell.id))
        else:
            wrong = {word: taken[word] for word in (used_in(table) - bound) & taken.keys()}
            assert not wrong, f"{cell.id} uses names that solutions before it bind anew: {wrong}"
            lesson |= bound
            taken = {word: place for word, place in taken.items() if word not in bound}
    for problem in nbtool.widget_problems(cells):
        assert any(f" {word}, " in problem for word in same), problem


def used_in(table):
    top = table.get_type() == "module"
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and (top or symbol.is_global())}
    return own.union(*map(used_in, table.get_children()))


# ---- the command


def test_the_command_checks_and_fails_if_a_notebook_differs(course, monkeypatch, capsys):
    monkeypatch.setattr(course_tool, "Course", lambda: course)
    monkeypatch.setattr(sys, "argv", ["course.py", "--check"])
    assert course_tool.main() == 0
    course.master(NAME).write_text(MASTER.replace("All of it.", "All."), encoding="utf-8")
    assert course_tool.main() == 1
    said = capsys.readouterr().out
    assert f"notebooks/{NAME}.ipynb is not what course/{NAME}.md says. If the master was edited: make course." in said
    monkeypatch.setattr(sys, "argv", ["course.py"])
    assert course_tool.main() == 0
    assert course.stale(NAME, "notebooks") == []


def test_the_command_names_what_is_not_there():
    done = subprocess.run([sys.executable, course_tool.__file__, "notebooks/99.ipynb"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "notebooks/99.ipynb: no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_nbval_fails_for_a_notebook_that_differs(tmp_path):
    """conftest.py: a notebook that is not its master's is not compared with itself."""
    for name in (
        "conftest.py",
        "pyproject.toml",
        "tests/notebooks/sanitize.cfg",
        "course/questions.yml",
        "tools/course.py",
        "tools/nbtool.py",
        "tools/questions.py",
        "tools/repository.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(nbtool.ROOT / name, tmp_path / name)
    course = Course(tmp_path)
    write_master([new_code_cell("1 + 1", id="a")], course.master(NAME))
    course.notebook(NAME).parent.mkdir()
    nbtool.store(new_notebook(cells=[new_code_cell("2", id="a")]), course.notebook(NAME))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "notebooks"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert f"notebooks/{NAME}.ipynb is not what course/{NAME}.md says" in done.stdout
