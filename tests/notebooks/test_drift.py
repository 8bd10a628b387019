"""tools/drift.py finds a notebook that no longer says what the package says, and only that."""

import drift
import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes

PACKAGE = '''
"""A module."""
import torch
from torch import nn


class Block(nn.Module):
    """The package's docstring."""

    def __init__(self, width: int):
        """And here."""
        super().__init__()
        self.linear = nn.Linear(width, width)  # (b, width) -> (b, width)

    def forward(self, x):
        return x + self.linear(x)


def guide(cond, uncond, scale):
    return uncond + scale * (cond - uncond)
'''

THE_SAME = """
class Block(nn.Module):
    # told in the text above
    def __init__(self,
                 width: int):
        super().__init__()
        self.linear = nn.Linear(
            width, width
        )

    def forward(self, x):
        'Another docstring.'
        return x + self.linear(x)      # the residual
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "ldm_tutorial" / "sub"
    folder.mkdir(parents=True)
    (folder / "blocks.py").write_text(PACKAGE)
    return drift.in_package(tmp_path / "ldm_tutorial")


def notebook(tmp_path, *sources, name="04.ipynb", tags=()):
    path = tmp_path / name
    path.write_text(writes(new_notebook(cells=[new_code_cell(s, metadata={"tags": list(tags)}) for s in sources])))
    return path


def test_methods_may_stand_in_another_order(tmp_path, package):
    first, last = THE_SAME.index("    def __init__"), THE_SAME.index("    def forward")
    turned = THE_SAME[:first] + THE_SAME[last:] + "\n" + THE_SAME[first:last]
    assert turned.index("def forward") < turned.index("def __init__")
    assert drift.drifts([notebook(tmp_path, turned)], package) == []


def test_comments_docstrings_and_line_breaks_are_free(tmp_path, package):
    assert drift.drifts([notebook(tmp_path, "%matplotlib inline\n!ls\nx = 1", THE_SAME)], package) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + self.linear(x)", "x - self.linear(x)"),
        ("x + self.linear(x)", "self.linear(x) + x"),
        ("width, width\n", "width, width, bias=False\n"),
        ("width: int", "width"),
        ("nn.Module", "object"),
        ("def forward", "def forwards"),
        ("super().__init__()", "pass"),
    ],
)
def test_any_other_difference_is_a_drift(tmp_path, package, old, new):
    assert old in THE_SAME
    [found] = drift.drifts([notebook(tmp_path, "x = 1", THE_SAME.replace(old, new))], package)
    assert "04.ipynb cell 1: Block is not the one of ldm_tutorial/sub/blocks.py" in found
    assert "\n-" in found
    assert "\n+" in found


def test_a_quoted_return_type_is_the_same_type():
    source = "class Pair:\n    def flipped(self) -> {}:\n        return self\n"
    types = ("Pair", "'Pair'", "'Other'")
    texts = {written: drift.without_docstrings(next(drift.definitions(source.format(written)))) for written in types}
    assert texts["Pair"] == texts["'Pair'"] != texts["'Other'"]


def test_a_function_drifts_too(tmp_path, package):
    good = "def guide(cond, uncond, scale):\n    return uncond + scale * (cond - uncond)"
    bad = good.replace("cond - uncond", "uncond - cond")
    assert drift.drifts([notebook(tmp_path, good)], package) == []
    assert len(drift.drifts([notebook(tmp_path, bad)], package)) == 1


def test_a_class_may_be_built_over_several_cells(tmp_path, package):
    head, forward = THE_SAME.split("    def forward")
    more = "class Block(Block):\n    'And now the rest.'\n    def forward" + forward
    assert drift.drifts([notebook(tmp_path, head, "x = Block(3)", more)], package) == []
    assert len(drift.drifts([notebook(tmp_path, head)], package)) == 1  # not finished
    assert len(drift.drifts([notebook(tmp_path, head, more.replace("x + ", "x - "))], package)) == 1
    assert len(drift.drifts([notebook(tmp_path, more)], package)) == 1  # never begun


def test_sketches_exercises_and_names_of_their_own_are_free(tmp_path, package):
    wrong = THE_SAME.replace("+", "-")
    assert drift.drifts([notebook(tmp_path, wrong, tags=["sketch"])], package) == []
    assert drift.drifts([notebook(tmp_path, wrong, tags=["exercise"])], package) == []
    assert drift.drifts([notebook(tmp_path, wrong.replace("Block", "MyBlock"))], package) == []


def test_one_name_in_two_modules_may_be_either(tmp_path, package):
    package["Block"] = {"a.py": "class Block:\n    pass", **package["Block"]}
    assert drift.drifts([notebook(tmp_path, THE_SAME)], package) == []


def test_two_modules_classes_of_one_name_are_built_in_two_notebooks(tmp_path, package):
    other = "class Block:\n    pass"
    package["Block"] = {"a.py": other, **package["Block"]}
    notebooks = [notebook(tmp_path, THE_SAME), notebook(tmp_path, other, name="05.ipynb")]
    assert drift.drifts(notebooks, package) == []


def test_a_class_is_built_in_one_notebook(tmp_path, package):
    first, second = notebook(tmp_path, THE_SAME), notebook(tmp_path, THE_SAME, name="05.ipynb")
    [found] = drift.drifts([first, second], package)
    assert "05.ipynb cell 0: Block is built in 04.ipynb already" in found


def test_the_package_itself_is_read_and_the_checks_of_exercises_are_not():
    package = drift.in_package()
    assert "ldm_tutorial/unet.py" in package["UNet"]
    assert len(package) > 30
    assert not any("/exercises/" in module for modules in package.values() for module in modules)
