"""`grade`: the right row for each student, whatever is in her notebook, and no harm to the machine.

All students are one class, graded once; each test looks at some rows.
"""

import json
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest

from ldm_tutorial.exercises import CHECK_MODULES
from ldm_tutorial.grading.sandbox import Limits
from ldm_tutorial.grading.table import grade_folder
from tests.exercises.answers import ALL, SOLUTIONS
from tests.grading.classroom import exercise_cell, hand_in, in_answer, solved, unsolved, with_code

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="notebooks are run in processes that this system cannot make")

LIMITS = Limits(cell_seconds=5, notebook_seconds=60, memory=3 * 2**30, processes=8)
ALL_RIGHT = {"08.1": 1, "08.2": 2, "08.3": 3}
NOTHING = dict.fromkeys(ALL_RIGHT, 0)
THESIS = "a file that is not the student's"

BREAKS = {  # a cell that never ends or breaks -> what the reasons say
    "endless loop": ("while True:\n    pass", "ran longer than 5 s"),
    "endless loop that cannot be interrupted": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "ran",
    ),
    "waiting for a widget": ("import time\nclicked = False\nwhile not clicked:\n    time.sleep(0.1)", "ran longer than 5 s"),
    "20 GB": ("import torch\nbig = torch.ones(5 * 10**9)", "allocate"),
    "20 GB in parts": ("big = []\nwhile True:\n    big.append(bytearray(10**8))", "cell 0"),
    "os._exit": ("import os\nos._exit(0)", "the process ended"),
    "crash": ("import ctypes\nctypes.string_at(0)", "the process ended"),
    "sys.exit": ("import sys\nsys.exit()", "raised SystemExit"),
    "input": ("x = input('your name? ')", "raised EOFError"),
    "syntax error": ("def f(:\n    return 1\n", "is no Python"),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "more than"),
    "daemons": (
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        os.fork()\n"
        "        time.sleep(600)\ntime.sleep(0.5)",
        "",
    ),
    "floods the output": ("for n in range(10**6):\n    print('x' * 100)", ""),
}
IN_ANSWER = {  # a line in the answer of 08.1 -> what is said of that exercise
    "endless": ("while True: pass", "ran longer than 5 s"),
    "exits": ("import os; os._exit(0)", "the process ended"),
    "takes 20 GB": ("import torch; torch.ones(5 * 10**9)", "allocate"),
    "starts programs": ("import subprocess; [subprocess.Popen(['sleep', '600']) for _ in range(99)]", "8 processes"),
    "raises SystemExit": ("raise SystemExit", "SystemExit"),
    "reads the solutions": (f"import json; json.load(open({str(SOLUTIONS / '08_ddpm.ipynb')!r}))", "PermissionError"),
    "changes the check": ("import ldm_tutorial.exercises.ddpm as d; d.close = lambda *_: True; return x", "the answer changed"),
    "changes PyTorch": ("import torch; torch.equal = lambda *_: True; return x", "the answer changed"),
    "returns what claims to be equal": ("return Liar(x)", "x itself"),
}
LIAR = (
    "import torch\nclass Liar(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, *_, **__):\n"
    "        return torch.tensor(0.0)\n"
)
IMPORT = "import ldm_tutorial.exercises as e\n"
FORGED = {  # cells of a student who has solved nothing
    "prints correct": 'for n in (1, 2, 3):\n    print(f"[08.{n}] correct")',
    "own check": "def check(name, answer):\n    print(f'[{name}] correct')",
    "other check": IMPORT + "e.check = lambda name, answer: print(f'[{name}] correct')",
    "other outcome": IMPORT + "e.outcome = lambda *_: e.Outcome('correct', 1.0, 'correct')",
    "other code": IMPORT + "e.outcome.__code__ = (lambda name, answer: Outcome('correct', 1.0, '')).__code__",
    "other registry": IMPORT + "for n in list(e.EXERCISES): e.EXERCISES[n] = e.Exercise(lambda f: None, '')",
    "other module": "import sys, types\nm = types.ModuleType('ldm_tutorial.exercises')\nsys.modules[m.__name__] = m",
    "other close": "import ldm_tutorial.exercises.ddpm as d\nd.close = lambda *_: True",
    "other PyTorch": "import torch\ntorch.equal = lambda *_: True\ntorch.Tensor.__le__ = lambda *_: torch.tensor(True)",
    "other builtins": "import builtins\nbuiltins.isinstance = lambda *_: True\nbuiltins.max = lambda *_: 0",
    "writes the table": "import pathlib\npathlib.Path('grades.csv').write_text('student,08.1\\nforger,1')",
    "writes into the pipe": (
        "import os, json\nlie = {'exercise': '08.1', 'state': 'correct', 'share': 1, 'said': '', 'key': '0'}\n"
        "for fd in range(3, 64):\n    try:\n        os.write(fd, json.dumps(lie).encode() + b'\\n')\n    except OSError: pass"
    ),
    "traces": "import sys\nsys.settrace(lambda *_: None)",
    "a mode of PyTorch": (
        "import torch\nclass Mode(torch.overrides.TorchFunctionMode):\n    def __torch_function__(self, *_, **__):\n"
        "        return torch.tensor(True)\nMode().__enter__()"
    ),
}


def stubs(notebook):
    """The notebook with the unsolved cells of exercises in place of the solved ones."""
    for name in ALL_RIGHT:
        exercise_cell(notebook, name).source = exercise_cell(unsolved("08"), name).source
    return notebook


def destroyer(*paths):
    return with_code(
        "import os, shutil\nfrom pathlib import Path\n"
        f"for path in (os.getcwd(), os.path.expanduser('~'), *{[str(p) for p in paths]!r}):\n"
        "    shutil.rmtree(path, ignore_errors=True)\n    try:\n        Path(path, 'thesis.txt').write_text('gone')\n"
        "    except OSError: pass"
    )


def helper_in_lesson(notebook):
    lesson = (
        "import time\nfrom math import sqrt as root\nclass Steps(list):\n    pass\nseen = Steps()\nseen.append(2)\n"
        "def spread(a):\n    return root(1 - a) * len(seen)\nother = 1\nother += 1\ntime.sleep(99)"
    )
    cell = exercise_cell(notebook, "08.1")
    cell.source = cell.source.replace("(1 - alpha_bar) ** 0.5", "spread(alpha_bar)")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(lesson))
    return notebook


def without(notebook, name):
    notebook.cells.remove(exercise_cell(notebook, name))
    return notebook


def backward(notebook):
    notebook.cells.reverse()
    return notebook


def uncapped(notebook):
    cell = exercise_cell(notebook, "09.1")
    cell.source = cell.source.replace("min(variance, 1 - alpha_bar_prev) ** 0.5", "variance ** 0.5")
    return notebook


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """The class, graded: `points(student)`, `said(student, exercise)`, `notes(student)`; and what it must not have touched."""
    folder = tmp_path_factory.mktemp("class")
    thesis = tmp_path_factory.mktemp("home") / "thesis.txt"
    thesis.write_text(THESIS)
    server = socket.create_server(("127.0.0.1", 0))
    calls = []

    def listen():
        with suppress(OSError):
            calls.append(server.accept())

    threading.Thread(target=listen, daemon=True).start()
    os.environ["SECRET_TOKEN"] = "x"

    for student, (code, _) in BREAKS.items():
        hand_in(folder, student, with_code(code)(solved("08")))
    for student, (line, _) in IN_ANSWER.items():
        notebook = in_answer("08.1", line)(solved("08"))
        exercise_cell(notebook, "08.1").source = LIAR + exercise_cell(notebook, "08.1").source
        hand_in(folder, student, notebook)
    for student, code in FORGED.items():
        hand_in(folder, student, with_code(code)(stubs(solved("08"))))
    hand_in(folder, "deletes files", destroyer(thesis.parent, folder)(solved("08")))
    hand_in(folder, "calls", with_code(f"import socket\nsocket.create_connection({server.getsockname()!r}, 2)")(solved("08")))
    secret = (
        "import os\nassert 'SECRET_TOKEN' not in os.environ and b'SECRET_TOKEN' not in open('/proc/self/environ', 'rb').read()"
    )
    hand_in(folder, "looks for keys", with_code(secret if os.path.exists("/proc/self/environ") else "")(solved("08")))
    hand_in(folder, "backward", backward(solved("08")))
    hand_in(folder, "renamed", solved("08"), "homework (2) final.ipynb")
    hand_in(folder, "without 08.1", without(solved("08"), "08.1"))
    hand_in(folder, "helper in the lesson", helper_in_lesson(solved("08")))
    hand_in(folder, "uncapped", uncapped(solved("09")), "09_ddim.ipynb")
    hand_in(folder, "=formula()", solved("08"))
    hand_in(folder, "half a file", solved("08")).write_text('{"cells": [')
    hand_in(folder, "no notebook", solved("08"))
    hand_in(folder, "no notebook", {}, "photo.ipynb")

    try:
        grades = grade_folder(folder, LIMITS)
    finally:
        server.close()
        del os.environ["SECRET_TOKEN"]
    return SimpleNamespace(
        points=lambda student: {n: grades.points(student, n) for n in grades.outcomes[student]},
        said=lambda student, name: grades.outcomes[student][name]["said"],
        notes=lambda student: " ".join(grades.notes[student]),
        grades=grades,
        folder=folder,
        thesis=thesis,
        calls=calls,
    )


@pytest.mark.parametrize("student", BREAKS)
def test_a_cell_that_never_ends_or_breaks_costs_nothing_but_itself(room, student):
    assert room.points(student) == ALL_RIGHT
    assert BREAKS[student][1] in room.notes(student)


@pytest.mark.parametrize("student", IN_ANSWER)
def test_an_answer_that_never_ends_or_breaks_or_cheats_costs_its_own_points(room, student):
    if student == "reads the solutions" and "files" in room.grades.open_doors:
        pytest.skip("NOTICE: this system cannot keep a process from reading files; the reasons say so")
    assert room.points(student) == {**ALL_RIGHT, "08.1": 0}
    assert IN_ANSWER[student][1] in room.said(student, "08.1")


@pytest.mark.parametrize("student", FORGED)
def test_what_claims_to_be_correct_is_not(room, student):
    assert room.points(student) == NOTHING


def test_no_process_is_left():
    ours = {p.pid for p in psutil.Process().children(recursive=True)}  # a browser of other tests may be among them
    wardens = [p for p in psutil.process_iter(["cmdline", "ppid"]) if "grading.warden" in " ".join(p.info["cmdline"] or [])]
    assert not [p for p in wardens if p.pid in ours or p.info["ppid"] == 1]  # other workers have wardens of their own


def test_files_outside_are_neither_written_nor_deleted(room):
    if "files" in room.grades.open_doors:
        pytest.skip("NOTICE: this system cannot keep a process from writing files; the reasons say so")
    assert room.thesis.read_text() == THESIS
    assert (room.folder / "backward" / "08_ddpm.ipynb").exists()
    assert room.points("deletes files") == ALL_RIGHT


def test_there_is_no_network(room):
    if "network" in room.grades.open_doors:
        pytest.skip("NOTICE: this system cannot cut a process off the network; the reasons say so")
    assert not room.calls
    assert "unreachable" in room.notes("calls") or "refused" in room.notes("calls")
    assert room.points("calls") == ALL_RIGHT


def test_no_key_of_the_environment_reaches_a_notebook(room):
    assert room.notes("looks for keys") == ""


def test_cells_in_another_order_are_all_right(room):
    assert room.points("backward") == ALL_RIGHT


def test_a_renamed_file_is_known_by_its_exercises(room):
    assert room.points("renamed") == ALL_RIGHT


def test_a_deleted_exercise_is_missing(room):
    assert room.points("without 08.1") == {**ALL_RIGHT, "08.1": 0}
    assert room.said("without 08.1", "08.1") == 'no cell hands an answer to check("08.1", ...)'


def test_a_helper_in_a_cell_of_the_lesson_is_found_and_the_rest_of_the_lesson_is_not_run(room):
    assert room.points("helper in the lesson") == ALL_RIGHT
    assert room.notes("helper in the lesson") == ""


def test_whole_notebooks_are_run_on_request(tmp_path):
    hand_in(tmp_path, "ada", helper_in_lesson(solved("08")))
    grades = grade_folder(tmp_path, LIMITS, whole=True)
    assert grades.total("ada") == 6
    assert "cell 0 ran longer than 5 s" in grades.notes["ada"][0]


def test_a_notebook_that_an_editor_saved_in_another_encoding_is_run(tmp_path):
    for student, encoding in (("bea", "utf-8-sig"), ("mo", "latin-1")):
        notebook = solved("08")
        exercise_cell(notebook, "08.1").source += "\n# für Mo"
        path = hand_in(tmp_path, student, notebook)
        path.write_bytes(json.dumps(notebook, ensure_ascii=False).encode(encoding, "replace"))
    grades = grade_folder(tmp_path, LIMITS)
    assert {student: grades.total(student) for student in grades.outcomes} == {"bea": 6, "mo": 6}, grades.reasons()


def test_a_partly_right_answer_has_a_part_of_the_points(room):
    assert room.points("uncapped") == {"09.1": 0.75, "09.2": 2, "09.3": 3}
    assert "cap it" in room.said("uncapped", "09.1")


def test_the_table_has_a_row_for_each_student_and_a_column_for_each_exercise(room):
    lines = room.grades.csv().splitlines()
    assert lines[0] == "student,08.1,08.2,08.3,09.1,09.2,09.3,total,of"
    assert len(lines) == 1 + len(room.grades.outcomes)
    assert "'=formula(),1,2,3,0,0,0,6,12" in lines  # no spreadsheet computes a name
    assert "uncapped,0,0,0,0.75,2,3,5.75,12" in lines
    assert "## uncapped: 5.75 of 12" in room.grades.reasons()


def test_what_is_no_notebook_has_no_points_and_stops_nothing(room):
    assert room.points("half a file") == NOTHING
    assert "the file is no notebook" in room.notes("half a file")
    assert room.grades.left_out == ["no notebook/photo.ipynb: neither its exercises nor its name say which notebook it is"]


def test_the_solved_set_has_all_points_and_the_unsolved_none(tmp_path):
    for number in sorted({name.partition(".")[0] for name in ALL}):
        hand_in(tmp_path, "solved", solved(number), f"{number}_x.ipynb")
        hand_in(tmp_path, "unsolved", unsolved(number), f"{number}_x.ipynb")
    grades = grade_folder(tmp_path, Limits(cell_seconds=120, notebook_seconds=300))
    assert grades.exercises == sorted(ALL)
    assert grades.possible == 6 * len(CHECK_MODULES)  # three in each notebook, for 1, 2 and 3 points
    assert {name: found["said"] for name, found in grades.outcomes["solved"].items()} == dict.fromkeys(ALL, "correct")
    assert grades.total("solved") == grades.possible
    assert grades.total("unsolved") == 0
    assert {found["state"] for found in grades.outcomes["unsolved"].values()} == {"not done"}


def test_the_folder_that_a_notebook_runs_in_is_gone_afterward(tmp_path, monkeypatch):
    hand_in(tmp_path / "class", "ada", with_code("open('left.txt', 'w').write('x')")(solved("08")))
    before = {*Path("/tmp").glob("ldm-grade-*")}
    assert grade_folder(tmp_path / "class", LIMITS).total("ada") == 6
    assert {*Path("/tmp").glob("ldm-grade-*")} <= before
