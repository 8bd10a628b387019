"""The built page in Chromium, from a server of plain files, used as people use it."""

import base64
import json
import re
import time
from urllib.parse import urlencode

import numpy as np
import pytest

from ldm_tutorial.schedulers import make_scheduler

from ..browser.servers import chromium
from .conftest import DRAWN, KEPT, WEB

expect = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so the page was not tested").expect

PIXELS = """(lane) => {
    const canvas = document.querySelector(`.result.lane-${lane} canvas`);
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.width, Array.from(data)];
}"""


def link(prompt="a cat", scheduler="ddim", steps=4, guidance=4, seed=0, **more):
    return urlencode({"p": prompt, "s": scheduler, "n": steps, "g": guidance, "seed": seed, **more})


def wait_until_drawn(page):
    page.wait_for_function("document.querySelector('#page').dataset.drawn")
    page.wait_for_function(f"({DRAWN})()")


def picture(page, lane="a"):
    page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    page.wait_for_function("(lane) => document.querySelector(`.result.lane-${lane}`).ariaBusy === 'false'", arg=lane)
    width, data = page.evaluate(PIXELS, lane)
    return np.array(data, np.int16).reshape(width, width, 4)[..., :3]


def look(page, step):
    slider = page.get_by_role("slider", name="Step", exact=False).last
    slider.focus()
    slider.press("Home")
    for _ in range(step):
        slider.press("ArrowRight")


# ---- as Python


def test_pictures_of_ten_prompts_and_four_schedulers_are_those_of_python(page_at, recorded):
    pictures = json.loads((recorded / "pictures.json").read_text())
    assert len({p["prompt"] for p in pictures}) == 10 and len(pictures) == 40
    largest, began = 0, time.monotonic()
    for entry in pictures:
        fragment = link(*(entry[name] for name in ("prompt", "scheduler", "steps", "guidance", "seed")))
        page = page_at(fragment)
        expected = np.frombuffer(base64.b64decode(entry["pixels"]), np.uint8).reshape(entry["width"], -1, 3)
        difference = int(np.abs(picture(page) - expected.astype(np.int16)).max())
        assert difference <= 2, f"{difference} levels: {fragment}"
        largest = max(largest, difference)
        assert page.outside == [] and page.complaints == []
    with open(KEPT / "log.txt", "a") as log:
        print(f"40 pictures, at most {largest} levels from Python, in {time.monotonic() - began:.0f} s", file=log)


GPU = ("enable-unsafe-webgpu", "ignore-gpu-blocklist", "enable-features=Vulkan")
IMITATED = ("use-vulkan=swiftshader", "use-webgpu-adapter=swiftshader")  # by the processor


def test_the_graphics_processor_draws_the_same_picture(site, browser):
    """Here it is imitated by the processor, so it is taken only when asked for, and slow: two steps."""
    settings, flags = link(steps=2), [f"--{flag}" for flag in ("no-sandbox", *GPU, *IMITATED)]
    with_gpu = browser.browser_type.launch(executable_path=chromium(), args=flags)
    try:
        drawn, footers = {}, {}
        for compute in ("graphics", "processor", ""):
            page = with_gpu.new_page()
            page.set_default_timeout(600_000)
            page.goto(f"{site.url}?compute={compute}#{settings}")
            footers[compute] = page.locator("footer").inner_text()
            if compute:
                wait_until_drawn(page)
                drawn[compute] = picture(page)
            page.close()
    finally:
        with_gpu.close()
    if "WebGPU" not in footers["graphics"]:
        pytest.skip("NOTICE: this Chromium cannot imitate a graphics processor, so WebGPU was not tested")
    assert "WebAssembly with" in footers["processor"] and "WebAssembly with" in footers[""]
    assert np.abs(drawn["graphics"] - drawn["processor"]).max() <= 2


def test_token_ids_in_this_browser_are_those_of_python(page_at, recorded):
    page = page_at(link())
    prompts = json.loads((recorded / "tokens.json").read_text())
    found = page.evaluate(
        """async (prompts) => {
            const { Tokenizer } = await import("./diffusion/tokenizer.js");
            const read = async (name) => (await fetch(`model/${name}.json`)).json();
            const [file, model] = [await read("tokenizer"), await read("model")];
            const tokenizer = new Tokenizer(file, model.characters);
            return prompts.map((prompt) => Array.from(tokenizer.encode(prompt, model.tokens).ids));
        }""",
        [entry["prompt"] for entry in prompts],
    )
    assert [e["prompt"] for e, ids in zip(prompts, found) if e["ids"] != ids] == []


# ---- what a person does


def test_it_opens_with_a_picture_and_the_tour(open_page, keep):
    began = time.monotonic()
    page = open_page("")
    wait_until_drawn(page)
    with open(KEPT / "log.txt", "a") as log:
        print(f"first picture {time.monotonic() - began:.1f} s after opening; {page.locator('.status').inner_text()}", file=log)
    tour = page.get_by_role("region", name="Tour")
    for station in range(1, 9):
        expect(tour).to_contain_text(f"Station {station} of 8")
        page.wait_for_timeout(300)
        wait_until_drawn(page)
        keep(page, f"tour-{station}")
        tour.get_by_role("button", name="Done" if station == 8 else "Next").click()
    expect(tour).to_be_hidden()
    page.reload()
    wait_until_drawn(page)
    expect(page.get_by_role("region", name="Tour")).to_be_hidden()  # once is enough
    assert page.outside == [] and page.complaints == []


def test_steps_can_be_looked_at_back_and_forth_with_the_keyboard(page_at):
    page = page_at(link(steps=5))
    last = picture(page)
    look(page, 0)
    expect(page.locator(".steps output")).to_have_text("1 of 5")
    first = picture(page)
    assert np.abs(first - last).mean() > 5
    look(page, 4)
    assert (picture(page) == last).all()


def test_each_part_shows_what_goes_in_and_out(page_at):
    page = page_at(link(prompt="a red cat", steps=3))
    panel = page.locator("#panel")
    for part, said in {
        "CLIP text encoder": ["token ids", "(77)", "red", "start"],
        "U-Net": ["predicted noise, guided", "timestep", "where was this word read?"],
        "Scheduler": ["noise level σ", "The step: only as far as the next noise level"],
        "VAE decoder": ["decoded", "times fewer numbers"],
    }.items():
        button = page.get_by_role("button", name=part)
        button.press("Enter")
        expect(button).to_have_attribute("aria-expanded", "true")
        for text in said:
            expect(panel).to_contain_text(text)
        expect(panel.get_by_role("link")).to_have_count(2)
    page.get_by_role("button", name="U-Net").click()
    page.get_by_role("radio", name="red").check(force=True)
    expect(panel.get_by_role("img", name="attention")).to_have_attribute(
        "aria-label", "attention: yellow: where “red” is read most in step 3"
    )


VALUES = """() => {
    const text = (e) => {
        const inside = Array.from(e.children, text);
        const plain = { "·": "*", "=": "==" }[e.textContent] ?? e.textContent.replaceAll("−", "-");
        if (["mn", "mo"].includes(e.localName)) return plain;
        return e.localName === "mfrac" ? `(${inside[0]})/(${inside[1]})` : inside.join("");
    };
    return Array.from(document.querySelectorAll(".formulas math:nth-of-type(even)"), text);
}"""


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "euler", "euler_a"])
def test_the_values_in_the_formulas_are_right(page_at, scheduler):
    page = page_at(link(scheduler=scheduler, steps=6, step=3))
    seen = set()
    for _ in range(5):
        formulas = page.evaluate(VALUES)
        assert len(formulas) == 3  # guidance, the guess, the step
        for formula in formulas:
            assert re.fullmatch(r"[-+*/().=\de]+", formula), formula
            left, right = formula.split("==")
            right = eval(right)  # numbers and operators only, as was just checked
            largest = max(abs(float(number)) for number in re.findall(r"[\d.]+(?:e-?\d+)?", formula))
            assert float(left) == pytest.approx(right, abs=4e-3 * max(1, largest)), formula
        seen.add(tuple(formulas))
        page.get_by_role("button", name="another number").click()
        page.wait_for_timeout(100)
    assert len(seen) > 1


def test_all_files_together_are_at_most_60_megabytes(site):
    sizes = {path.relative_to(site.folder): path.stat().st_size for path in site.folder.rglob("*") if path.is_file()}
    sizes = {path: size for path, size in sizes.items() if path.parts[0] != "diffusion"}
    with open(KEPT / "log.txt", "a") as log:
        print(
            *(f"{size:>12,} {path}" for path, size in sorted(sizes.items())),
            f"{sum(sizes.values()):>12,} in all",
            sep="\n",
            file=log,
        )
    assert sum(sizes.values()) <= 60e6


def test_two_settings_are_compared_from_the_same_noise(page_at):
    page = page_at(link(steps=3))
    page.get_by_role("button", name="Compare").click()
    wait_until_drawn(page)
    expect(page.locator(".result.lane-b figcaption")).to_contain_text("Euler, 3 steps")
    expect(page.locator(".result.lane-b figcaption")).to_contain_text("levels from A")
    b = page.locator(".controls.lane-b")
    b.get_by_role("radio", name="DDIM").check(force=True)
    wait_until_drawn(page)
    assert (picture(page, "a") == picture(page, "b")).all()  # the same settings, the same noise
    page.get_by_role("button", name="Remove B").click()
    expect(page.locator(".result.lane-b")).to_be_hidden()


def test_a_branch_shares_its_first_steps_and_then_goes_its_own_way(page_at):
    page = page_at(link(scheduler="euler_a", steps=6))
    whole = picture(page)
    look(page, 3)
    page.get_by_role("button", name="Branch here").click()
    wait_until_drawn(page)
    look(page, 5)
    assert np.abs(picture(page, "b") - whole).max() <= 2  # nothing changed yet: also the noise goes on as it would have
    b = page.locator(".controls.lane-b")
    b.get_by_role("textbox", name="Prompt").or_(b.get_by_role("combobox", name="Prompt")).fill("a hamburger")
    page.keyboard.press("Enter")
    wait_until_drawn(page)
    look(page, 2)
    assert (picture(page, "a") == picture(page, "b")).all()
    look(page, 5)
    assert np.abs(picture(page, "a") - picture(page, "b")).mean() > 1


def test_too_few_steps_are_warned_of_as_in_python(page_at):
    page = page_at(link(scheduler="ddim", steps=2))
    with pytest.warns(UserWarning, match="begins at timestep 501 of 999, where the model expects 27% of the variance of x"):
        make_scheduler("ddim").set_timesteps(2)
    expect(page.locator(".result.lane-a")).to_contain_text("begins at timestep 501, where the U-Net expects 27 % picture")
    page.evaluate("(link) => { location.hash = link; }", link(scheduler="ddim", steps=8))
    expect(page.locator(".result.lane-a")).not_to_contain_text("With so few steps")


def test_the_link_restores_the_whole_state(page_at, open_page):
    page = page_at(link(prompt="an octopus & a cat", scheduler="ddpm", steps=4, guidance=3.5, seed=7))
    page.get_by_role("button", name="U-Net").click()
    look(page, 2)
    page.get_by_role("button", name="Branch here").click()
    page.locator(".controls.lane-b").get_by_role("radio", name="Euler", exact=True).check(force=True)
    wait_until_drawn(page)
    look(page, 3)
    again = open_page(page.evaluate("location.hash.slice(1)"))
    wait_until_drawn(again)
    assert again.evaluate("location.hash") == page.evaluate("location.hash")
    for lane in "ab":
        assert (picture(page, lane) == picture(again, lane)).all()
    expect(again.get_by_role("button", name="U-Net")).to_have_attribute("aria-expanded", "true")


@pytest.mark.parametrize(
    "fragment", ["n=0&g=x&seed=-1&s=heun&step=99&part=none", "%ff%fe=&p=%", "with=branch&at=500", "b.p=1&with=maybe"]
)
def test_a_damaged_link_opens_with_what_is_right_in_it(open_page, fragment):
    page = open_page(fragment + "&n=2")
    wait_until_drawn(page)
    assert page.complaints == []


def test_drawing_is_stopped_at_once_and_settings_stay_live(open_page):
    page = open_page(link(steps=100))
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    page.wait_for_function("document.querySelector('.result canvas').width > 1")
    stop.click()
    expect(page.locator(".status")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Draw again")).to_be_visible()
    page.get_by_role("radio", name="Euler ancestral").check(force=True)  # draws, and is overtaken by the next
    page.evaluate("(link) => { location.hash = link; }", link(steps=2))
    wait_until_drawn(page)
    expect(page.locator(".steps output")).to_have_text("2 of 2")


# ---- when something is wrong


def test_a_file_that_does_not_arrive_is_named(open_page, site):
    site.missing.add("unet.onnx")
    try:
        page = open_page(service_workers="block")
        expect(page.get_by_role("alert")).to_contain_text("unet.onnx did not arrive: the server answered 404")
    finally:
        site.missing.clear()


def test_a_file_that_arrives_damaged_is_named(open_page, site):
    site.damaged.add("vae_decoder.onnx")
    try:
        page = open_page(service_workers="block")
        expect(page.get_by_role("alert")).to_contain_text("vae_decoder.onnx arrived damaged")
    finally:
        site.damaged.clear()


def test_a_runtime_that_does_not_arrive_is_named(open_page, site):
    [program] = [path.name for path in (site.folder / "assets").glob("*.wasm.packed") if "asyncify" not in path.name]
    site.missing.add(program)
    try:
        page = open_page(service_workers="block")
        expect(page.get_by_role("alert")).to_contain_text(f"{program}, the program that runs the networks, did not arrive")
    finally:
        site.missing.clear()


def test_a_browser_without_webassembly_is_told_so(site, browser):
    context = browser.new_context(service_workers="block")  # what it fetches cannot be changed from here
    page = context.new_page()
    page.route(
        "**/worker-*.js",
        lambda route: route.fulfill(body="delete globalThis.WebAssembly;" + route.fetch().text(), content_type="text/javascript"),
    )
    page.goto(site.url)
    expect(page.get_by_role("alert")).to_contain_text("no WebAssembly", timeout=60_000)
    context.close()


def test_after_the_first_visit_it_works_offline_and_with_threads(open_page, keep):
    page = open_page(link(steps=2))
    wait_until_drawn(page)
    before = picture(page)
    page.evaluate("navigator.serviceWorker.ready")
    page.reload()  # through the service worker, which keeps what passes
    wait_until_drawn(page)
    assert page.evaluate("crossOriginIsolated")
    page.context.set_offline(True)
    page.reload()
    wait_until_drawn(page)
    assert np.abs(picture(page) - before).max() <= 1


# ---- for everyone


VIEWS = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "tablet-dark": {"viewport": {"width": 820, "height": 1180}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "reduced_motion": "reduce"},
    "phone-dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_to_complain_about(page_at, keep, view):
    page = page_at(link(steps=3, step=2, **{"b.s": "euler_a", "with": "compare"}), **VIEWS[view])
    page.add_script_tag(path=WEB / "node_modules" / "axe-core" / "axe.min.js")
    for part in ("CLIP text encoder", "U-Net", "Scheduler", "VAE decoder"):
        page.get_by_role("button", name=part).click()
        page.wait_for_timeout(500)
        keep(page, f"{view}-{part.split()[0].lower()}", full_page=True)
        found = page.evaluate("axe.run()")
        assert [(v["id"], [n["html"][:160] for n in v["nodes"]]) for v in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    page.get_by_role("button", name="Tour").click()
    page.wait_for_timeout(500)
    keep(page, f"{view}-tour")
    assert [v["id"] for v in page.evaluate("axe.run()")["violations"]] == []
    page.get_by_role("button", name="End tour").click()


NAME = "((e) => (e.getAttribute('aria-label') || e.textContent || e.type || '').trim())(document.activeElement)"


def test_the_keyboard_reaches_everything(open_page):
    page = open_page(link(steps=2))
    wait_until_drawn(page)
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(NAME))
    for name in ("Draw again", "Compare", "Copy link", "Tour", "One step back", "New noise", "Surprise me", "Dark or light"):
        assert name in reached, f"{name} is not in {reached}"
    assert any(name.startswith("U-Net") for name in reached)


def test_the_chosen_theme_overrides_the_systems(open_page):
    page = open_page(link(steps=1))
    wait_until_drawn(page)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(paper) != light
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(paper) == light
