"""The branch explorer and the LoRA of the playground in JupyterLab, in Chromium: a small notebook of two cells."""

import re

import pytest

from tests.browser.test_jupyterlab import (
    assert_no_errors,
    cell,
    control,
    is_drawn,
    picture,
    press,
    run_cells,
    type_into,
    wait_for_status,
)

expect = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so no tests in a browser").expect

LORA = """\
import torch
from ldm_tutorial import load_pipeline
from ldm_tutorial.adapters import new_lora, save_lora
from ldm_tutorial.widgets import BranchExplorer, Playground
torch.set_num_threads(1)
pipe = load_pipeline("emoji", device="cpu", dtype="float32")
torch.manual_seed(0)
lora = new_lora(pipe.networks, rank=2)
for update in lora.by_name().values():
    torch.nn.init.normal_(update.up.weight, std=0.1)
save_lora(lora, "style.safetensors")
Playground(pipe, steps=4)"""
BRANCHES = 'BranchExplorer(pipe, "a cat in the style of noto", steps=6)'


def test_a_tree_grows_and_a_lora_is_scaled(open_notebook, keep, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    cells = [nbformat.v4.new_code_cell(code) for code in (LORA, BRANCHES)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "branches.ipynb")
    page = open_notebook(tmp_path / "branches.ipynb")
    run_cells(page)

    # 1. One run, and its middle to go on from
    place = cell(page, "BranchExplorer(pipe, ")
    tree = place.locator("img[alt^='A tree of pictures']")
    expect(tree).to_have_attribute("alt", re.compile(r"1: “a cat in the style of noto”, DDIM, 6 steps, guidance 7\.5, seed 0$"))
    first = tree.get_attribute("src")
    after = control(place, "widget-slider", "After step")
    expect(after.locator(".widget-readout")).to_have_text("3")

    # 2. Another step, by the keyboard; another prompt; go on
    after.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    expect(place.locator("figcaption")).to_have_text("prediction of run 1 after step 2")
    expect(control(place, "widget-slider", "Steps from there").locator(".widget-readout")).to_have_text("4")
    prompt = place.get_by_label("Prompt", exact=True)
    prompt.fill("a rocket in the style of noto")
    prompt.press("Enter")
    press(place, "Go on")
    wait_for_status(place, "Run 2 is drawn")
    expect(tree).to_have_attribute("alt", re.compile(r"2: from 1 after step 2 of 6: “a rocket in the style of noto”$"))
    assert tree.get_attribute("src") != first

    # 3. From the branch, with another scheduler and more steps
    place.get_by_label("Go on from", exact=True).select_option(index=1)
    expect(after.locator(".widget-readout")).to_have_text("2")
    place.get_by_label("Scheduler", exact=True).select_option(label="Euler ancestral")
    type_into(control(place, "widget-slider", "Steps from there"), 5)
    press(place, "Go on")
    wait_for_status(place, "Run 3 is drawn")
    expect(tree).to_have_attribute("alt", re.compile(r"3: from 2 after step 2 of 4: Euler ancestral, 5 steps instead of 2$"))
    keep.picture(place, "branch_explorer")

    # 4. What is wrong is one line, and the tree stays
    after.locator(".noUi-handle").focus()
    page.keyboard.press("End")
    steps = control(place, "widget-slider", "Steps from there")
    expect(steps.locator(".widget-readout")).to_have_text("1")  # only then: what Python sets would undo what is typed before
    type_into(steps, 100)
    press(place, "Go on")
    wait_for_status(place, "steps=100 must be a whole number")
    expect(tree).to_have_attribute("alt", re.compile("3: from 2"))

    # 5. The playground: a LoRA by its file, its scale, and none of it
    play = cell(page, "Playground(pipe, steps=4)")
    is_drawn(play)
    plain = picture(play)
    file = play.get_by_label("LoRA file", exact=True)
    file.fill("style.safetensors")
    file.press("Enter")
    wait_for_status(play, "No. 2")
    styled = picture(play)
    assert styled != plain
    menu = play.get_by_label("LoRA", exact=True)
    assert menu.evaluate("e => e.selectedOptions[0].text") == "style"
    type_into(control(play, "widget-slider", "LoRA scale"), 0.5)
    wait_for_status(play, "No. 3")
    assert picture(play) not in (plain, styled)
    menu.select_option(label="none")
    wait_for_status(play, "No. 4")
    assert picture(play) == plain
    press(play, "Restore 2")
    wait_for_status(play, "LoRA style at 1")
    assert picture(play) == styled
    keep.picture(play, "playground_lora")
    assert_no_errors(page)
