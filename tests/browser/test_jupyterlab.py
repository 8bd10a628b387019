"""Notebooks 00, 01 and 14 in JupyterLab, in Chromium: run from top to bottom, then used as a person would use them.

Screenshots, and the time from click to first preview, are kept in runs/browser.
"""

import json
import re

import pytest
from PIL import Image

from ldm_tutorial.images import read_settings

expect = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so no tests in a browser").expect


def run_cells(page, until=None, timeout=300):
    """All cells, or those up to the first one that holds the text `until`; none may fail or write to stderr."""
    answer = page.evaluate(
        """async ([text, ms]) => {
            const { shell, commands } = window.jupyterapp, panel = shell.currentWidget;
            await panel.sessionContext.ready;
            const sources = panel.content.widgets.map(cell => cell.model.sharedModel.getSource());
            const last = text === null ? -1 : sources.findIndex(source => source.includes(text));
            if (text !== null && last < 0) return 'no such cell';
            panel.content.activeCellIndex = last + 1;
            return await Promise.race([commands.execute(text === null ? 'notebook:run-all-cells' : 'notebook:run-all-above'),
                                       new Promise(resolve => setTimeout(() => resolve('timeout'), ms))]);
        }""",
        [until, timeout * 1000],
    )
    assert answer != "no such cell", f"no cell of the notebook holds {until!r}"
    assert answer != "timeout", f"the cells were not done after {timeout} s"
    assert_no_errors(page)


def assert_no_errors(page):
    kinds = [f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")]
    errors = page.locator(", ".join(kinds))
    assert errors.count() == 0, errors.first.inner_text()
    assert page.outside == []
    assert page.complaints == [], json.dumps(page.complaints, indent=1)


def cell(page, text):
    return page.locator(".jp-CodeCell").filter(has_text=text).first


def control(place, kind, label):
    """The slider or number field with this label."""
    return place.locator(f".{kind}").filter(has=place.page.locator(f"label:text-is('{label}')")).first


def type_into(slider, value):
    """A number into the field beside a slider."""
    readout = slider.locator(".widget-readout")
    readout.click()
    readout.page.keyboard.press("ControlOrMeta+a")
    readout.page.keyboard.type(str(value))
    readout.page.keyboard.press("Enter")


def press(place, name):
    place.get_by_role("button", name=name, exact=True).first.click()


def picture(place):
    """What the screen of the playground shows, as its data URL."""
    return place.locator(".ldm-screen img").first.get_attribute("src")


def wait_for_status(place, text):
    place.locator("[role=status], [role=alert]").filter(has_text=text).first.wait_for()


def is_drawn(place):
    """The last picture is there: only then can it be saved."""
    place.locator("a[download]").first.wait_for()


CLICK_TO_PREVIEW = """async (button) => {
    const screen = button.closest('.jp-OutputArea-output').querySelector('.ldm-screen').closest('.widget-html-content');
    const began = performance.now();
    const seen = new Promise(resolve => new MutationObserver((_, observer) => {
        if (screen.querySelector('img[alt$="unfinished"]')) { observer.disconnect(); resolve(performance.now() - began); }
    }).observe(screen, {childList: true, subtree: true}));
    button.click();
    return await seen;
}"""


def test_notebook_00_runs_in_jupyterlab(open_notebook, keep):
    page = open_notebook("00_start_here.ipynb")
    run_cells(page)
    pictures = page.locator(".jp-OutputArea-output img")
    assert pictures.count() >= 8
    # Not asked here: their alt texts. They are stored, as nbtool checks; JupyterLab 4.6 leaves them out of an image/png.
    drawn = "images => images.every(i => i.complete && i.naturalWidth > 0)"
    assert page.locator(".jp-Notebook img").evaluate_all(drawn)  # the badge and the gallery too
    page.locator(".jp-Notebook h1").first.scroll_into_view_if_needed()
    keep.picture(page, "notebook_00")


def test_the_small_widget_of_notebook_01_is_moved_by_keyboard(open_notebook, keep):
    page = open_notebook("01_noise.ipynb")
    widget = cell(page, "Explore(")
    stored = widget.locator(".jp-OutputArea-output img")
    assert stored.evaluate("i => i.complete && i.naturalWidth > 300")  # before anything has run
    run_cells(page)
    live = widget.locator(".widget-html img")
    first = live.get_attribute("src")

    control(widget, "widget-slider", "Timestep").locator(".noUi-handle").focus()
    page.keyboard.press("End")
    expect(live).to_have_attribute("alt", re.compile("Timestep 999, Schedule scaled linear.*SNR"))
    wait_for_status(widget, "SNR = 0.00468")  # as notebook 01 says of v1.5's schedule: ᾱ = 0.00466
    last = live.get_attribute("src")
    assert last != first
    for _ in range(12):  # faster than it draws: the newest counts
        page.keyboard.press("ArrowLeft")
    expect(live).to_have_attribute("alt", re.compile("Timestep 987"))
    widget.get_by_label("Schedule", exact=True).select_option(label="cosine")
    expect(live).to_have_attribute("alt", re.compile("Timestep 987, Schedule cosine"))
    assert live.get_attribute("src") not in (first, last)
    keep.picture(widget, "explore")
    assert_no_errors(page)


def test_notebook_14_is_a_playground(open_notebook, keep, tmp_path):
    page = open_notebook("14_playground.ipynb")
    run_cells(page, until="LatentExplorer(pipe")  # nbval runs the others, too
    play = cell(page, "Playground(pipe)")
    is_drawn(play)
    first = picture(play)
    keep.picture(play, "playground")

    # 1. Another scheduler, fewer steps: each change draws, and Generate as well
    play.get_by_label("Scheduler", exact=True).select_option(label="Euler ancestral")
    type_into(control(play, "widget-slider", "Steps"), 12)
    press(play, "Generate")
    wait_for_status(play, "12 steps")
    changed = picture(play)
    assert changed != first

    # 2. The keyboard: one step more
    play.locator(".widget-slider .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    wait_for_status(play, "13 steps")
    assert picture(play) not in (first, changed)

    # 3. From click to first preview
    seconds = play.get_by_role("button", name="Generate", exact=True).evaluate(CLICK_TO_PREVIEW) / 1000
    is_drawn(play)
    keep.line(f"playground: {seconds:.2f} s from click to first preview")
    assert seconds < 5  # at most 0.5 on two free cores; the machine of this test may be busy

    # 4. Cancel: nothing of it is shown afterwards
    type_into(control(play, "widget-slider", "Steps"), 100)
    wait_for_status(play, "of 100")
    press(play, "Cancel")
    wait_for_status(play, "Cancelled")
    left = picture(play)
    page.wait_for_timeout(700)
    assert picture(play) == left
    assert play.locator("a[download]").count() == 0

    # 5. History: settings and picture come back
    press(play, "Restore 1")
    wait_for_status(play, "Restored no. 1")
    assert picture(play) == first
    assert play.get_by_label("Scheduler", exact=True).evaluate("e => e.selectedOptions[0].text") == "DDIM"
    assert control(play, "widget-slider", "Steps").locator(".widget-readout").inner_text() == "25"

    # 6. To take away: the file with its settings, and the code
    with page.expect_download() as download:
        play.get_by_text("Save PNG").click()
    download.value.save_as(tmp_path / "cat.png")
    settings = read_settings(tmp_path / "cat.png")
    assert (settings["prompt"], settings["steps"], settings["scheduler"]) == ("a cat in the style of noto", 25, "ddim")
    play.get_by_text("As Python code").click()
    press(play, "Copy code")
    assert page.evaluate("navigator.clipboard.readText()").startswith("from ldm_tutorial import load_pipeline")
    keep.picture(play, "playground_restored")

    # 7. Two schedulers side by side
    compare = cell(page, 'vary="scheduler"')
    control(compare, "widget-slider", "Columns").locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    expect(compare.get_by_label("Column 3", exact=True)).to_be_hidden()  # so the kernel has answered
    compare.get_by_label("Column 2", exact=True).select_option(label="DDPM")
    press(compare, "Compare")
    expect(compare.locator("figcaption")).to_have_text(
        ["DDIM, step 15 of 15", "DDPM, step 15 of 15", "column 1", re.compile("differs from column 1 by [1-9]")], timeout=60_000
    )
    keep.picture(compare, "compare")

    # 8. The scheduler lab, by mouse; the explorer's slider
    lab = cell(page, "SchedulerLab()")
    before = lab.locator("img").first.get_attribute("src")
    press(lab, "Paths")
    wait_for_status(lab, "Paths.")
    assert lab.locator("img").first.get_attribute("src") != before
    keep.picture(lab, "scheduler_lab")
    explorer = cell(page, "DenoisingExplorer(pipe")
    type_into(control(explorer, "widget-slider", "Step"), 3)
    explorer.get_by_text("latents after step 3").wait_for()
    keep.picture(explorer, "denoising_explorer")

    # 9. An error is one line, and the widget goes on
    latents = cell(page, "LatentExplorer(pipe")
    name = latents.get_by_label("Picture", exact=True)
    name.fill("rockett, fluent")
    name.press("Enter")
    wait_for_status(latents, "did you mean 'rocket, fluent'?")
    name.fill("penguin, noto")
    name.press("Enter")
    wait_for_status(latents, "50% of the way")
    keep.picture(latents, "latent_explorer")

    # 10. A mask painted in another program
    press(latents, "Inpaint")
    expect(latents.locator("figcaption")).to_have_text(["orange: new", "result"])
    painted = latents.locator("figure img").first
    ellipse = painted.get_attribute("src")
    mask = Image.new("L", (128, 128))
    mask.paste(255, (64, 0, 128, 128))
    mask.save(tmp_path / "mask.png")
    with page.expect_file_chooser() as chooser:
        latents.get_by_role("button", name="Upload a mask").click()
    chooser.value.set_files(tmp_path / "mask.png")
    expect(painted).not_to_have_attribute("src", ellipse)
    expect(latents.locator("figcaption")).to_have_text(["orange: new", "result"])
    keep.picture(latents, "latent_explorer_mask")

    assert_no_errors(page)


def test_what_answers_a_prediction_is_folded_until_it_is_asked_for(open_notebook, keep):
    page = open_notebook("05_clip.ipynb")
    pairs, merges = cell(page, "def count_pairs"), cell(page, "def merge_pair")
    for folded in (pairs, merges):
        expect(folded.locator(".jp-OutputPlaceholder, .jp-Placeholder").last).to_contain_text("Your prediction first.")
        expect(folded.locator(".jp-OutputArea-output")).to_have_count(0)
    keep.picture(pairs, "folded_output")
    merges.get_by_text("Your prediction first.").click()
    expect(merges.locator(".jp-OutputArea-output").last).to_contain_text("a + t</w>, 5 times")
    expect(pairs.locator(".jp-OutputArea-output")).to_have_count(0)
    pairs.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    expect(pairs.locator(".jp-OutputArea-output").first).to_contain_text("5 times a t</w>")
    assert_no_errors(page)
