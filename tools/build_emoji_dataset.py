"""Build the emoji data set that ships in `ldm_tutorial/data/emoji`.

    python tools/build_emoji_dataset.py                            # rebuild the data set
    python tools/build_emoji_dataset.py --check                    # rebuild in memory and compare, write nothing
    python tools/build_emoji_dataset.py --contact-sheet sheet.webp # draw an overview of the data set that is there

The pictures come from four npm packages with pinned versions and checksums. Each becomes one lossless WebP file
of 64x64 pixels on white; `captions.json` says what they show and `held_out.json` lists the pairs that are never
trained on. The same Pillow and libwebp give the same bytes; both versions are recorded in `captions.json`.

Needs npm and the network (not for --contact-sheet), and Pillow, torch and tqdm as the package itself does.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import Image, ImageDraw, ImageFont, features
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ldm_tutorial.data.dataset import FOLDER, SIZE, STYLES, is_held_out  # noqa: E402


@dataclass(frozen=True)
class Package:
    """An npm package: its exact version, and the sha512 of its tarball."""

    name: str
    version: str
    sha512: str

    @property
    def tarball(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


LABELS = Package(
    "emojibase-data", "17.0.0",
    "62f81be405a81d588757f82ad6aaf96406ab7018a9f81dbbfd92d1b142646e00"
    "0468b959fdfa1ff60f3cd8b4e9984a728413440b49b6484988b658c7b13ca08c")
PICTURES = {
    "noto": Package(
        "emoji-datasource-google", "16.0.0",
        "6517b17f3b3b315a0b9e6cd998db0ee132a19c0269e43fbe566e8fa54a47fe31"
    "104257a6a7797cf028d9f83a19d9f68cf51e10c5990e3c90a84fc0e53e17d0dc"),
    "twemoji": Package(
        "emoji-datasource-twitter", "16.0.0",
        "ec5fae0ae1c7fbb427adcd793f9b676ef2a483d13ab65ce2e0c9d3dae5b54653"
    "78a4b613cdae9c3ff76cb487d20ccb698c52d6b997b05a0f2305bb8bd9ec842d"),
    "fluent": Package(
        "@lobehub/fluent-emoji-3d", "1.1.0",
        "5a5ab69554ad4e7afc043a48274a449d328ee0bb83c71a931214ef46d0f50cb4"
    "45d267bba207914232a87a10c75ee549d9069e720979c1106feb4954006de1ee"),
}
PICTURE_FOLDERS = {
    "noto": "package/img/google/64/",
    "twemoji": "package/img/twitter/64/",
    "fluent": "package/assets/",
}

# --- 1. Fetch -----------------------------------------------------------------------------------------------------


def fetch(package: Package, cache: Path) -> tarfile.TarFile:
    """Open the package's tarball from `cache`, or fetch it there with `npm pack`; its checksum must be the pinned one."""
    path = cache / package.tarball
    if not path.exists():
        if shutil.which("npm") is None:
            raise SystemExit(f"npm is not installed: it is needed to fetch {package.name}@{package.version}. "
                             f"Install Node.js, or put {package.tarball} into {cache} yourself.")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"{package.name}@{package.version}", "--silent"]
        result = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        if result.returncode or not path.exists():
            raise SystemExit(f"'{' '.join(command)}' failed:\n{result.stderr.strip()}")
    digest = hashlib.sha512(path.read_bytes()).hexdigest()
    if digest != package.sha512:
        raise SystemExit(f"{path} has the sha512 {digest[:16]}..., expected {package.sha512[:16]}...: "
                         f"delete it, so that it is fetched again.")
    return tarfile.open(path)


# --- 2. Which subjects --------------------------------------------------------------------------------------------

LEFT_OUT_GROUPS = {"component", "symbols", "flags"}  # hearts are no symbols here: they live in smileys-emotion
CLOCK_FACE = re.compile(r"o'clock|-thirty")
# A man or a woman of whom a neutral version exists, where the code points do not say so.
GENDERED = {"pregnant man", "pregnant woman"}


def choose_subjects(archive: tarfile.TarFile) -> list[dict]:
    """The subjects to draw: hexcode, label, tags, group, subgroup, in the Unicode order of the emoji."""
    records = read_json(archive, "package/en/data.json")
    names = read_json(archive, "package/meta/groups.json")
    by_hexcode = {plain_hexcode(record["hexcode"]): record for record in records}

    subjects, aliases = [], {}
    for record in sorted(records, key=lambda record: record.get("order", 0)):
        if "group" not in record:
            continue  # the regional indicators, which only make flags
        hexcode, label = record["hexcode"], clean_label(record["label"])
        group, subgroup = names["groups"][str(record["group"])], names["subgroups"][str(record["subgroup"])]
        if group in LEFT_OUT_GROUPS or subgroup == "family" or label.startswith("family"):
            continue
        if CLOCK_FACE.search(label) or "facing right" in label or label in GENDERED:
            continue
        neutral = neutral_version(plain_hexcode(hexcode), by_hexcode)
        if neutral:
            if not re.search(r"\b(wo)?m[ae]n\b", label):  # "mermaid" is a name of the merperson worth keeping
                aliases.setdefault(by_hexcode[neutral]["hexcode"], []).append(label)
            continue
        subjects.append({"hexcode": hexcode, "label": label, "tags": record.get("tags", []),
                         "group": group, "subgroup": subgroup})
    for subject in subjects:
        subject["tags"] = aliases.get(subject["hexcode"], []) + subject["tags"]
    return clean_tags(subjects)


def neutral_version(hexcode: str, known: dict) -> str | None:
    """The hexcode of the neutral person of which this one is the man's or the woman's version, if there is one."""
    for pattern, replacement in ((r"-200D-264[02]$", ""), (r"^1F46[89]-200D", "1F9D1-200D")):
        neutral = re.sub(pattern, replacement, hexcode)
        if neutral != hexcode and neutral in known:
            return neutral
    return None


def plain_hexcode(name: str) -> str:
    """A code point sequence in one spelling: upper case, without the variation selector FE0F."""
    return "-".join(part for part in name.upper().split("-") if part != "FE0F")


# --- 3. Words -----------------------------------------------------------------------------------------------------

MAX_SUBJECTS_PER_TAG = 20  # a tag shared by more ("face", "animal") says too little about a picture
STOP_WORDS = set("""
    a again all am an and are as at be been before but by can de did do does done du for from get getting go going gone
    got had has have he her here him his how i i'm if in is it its just keep la lai large late later last let's like
    ma'am made make man's maybe me more mrs my no not now of off oh ok on one or our out over please put really same so
    some such than that the them then there these they this three to too two up us very was way we were what whatever
    when where who why with woman's worker's yes you your
    absolutely adorbs af as ass aww awk bae bestest bff bffs bruh brr bs cmon cya definitely dope dua duh dunno eek ew
    fleek fml gg gotcha gotta gtg guapi haha hahaha hehe hm hmm huh idk ikr ily jeez jel jk legit lit litaf lol lmao
    luv meh muah mwah nooo nvm nyc omg omw oops pga pissed rofl roflcopter roflmao sexy shh smh sms sucks tbt thx tmi
    totally triste ttfn ttyl twinsies tysm ugh uh uhh um waah whoa whoops woah woohoo wow wtf wtv xo xoxo yay yikes yo
    yolo yup
""".split())
# Everyday words that the tags give to too many subjects, for the one picture that people mean by them.
EVERYDAY_WORDS = {"red heart": "heart", "slightly smiling face": "face", "raised hand": "hand", "soccer ball": "ball"}


def clean_label(label: str) -> str:
    """Lower case, a straight apostrophe, and "person: red hair" as a phrase ("person with red hair")."""
    label = label.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if label == "person: bald":
        return "bald person"
    return re.sub(r"^person: ", "person with ", label)


def clean_tags(subjects: list[dict]) -> list[dict]:
    """Keep the tags that say what a picture shows. A label names one subject only: no other has it as a tag."""
    labels = {subject["label"] for subject in subjects}
    if len(labels) != len(subjects):
        raise SystemExit(f"labels are not unique: {[k for k, n in Counter(s['label'] for s in subjects).items() if n > 1]}")
    for subject in subjects:
        tags = [tag.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for tag in subject["tags"]]
        subject["tags"] = [tag for tag in dict.fromkeys(tags)
                           if len(tag) > 1 and re.fullmatch(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*", tag)
                           and tag not in STOP_WORDS and tag not in labels]
    count = Counter(tag for subject in subjects for tag in subject["tags"])
    for subject in subjects:
        everyday = [EVERYDAY_WORDS[subject["label"]]] if subject["label"] in EVERYDAY_WORDS else []
        subject["tags"] = everyday + [tag for tag in subject["tags"] if count[tag] <= MAX_SUBJECTS_PER_TAG]
    return subjects


# --- 4. Pictures --------------------------------------------------------------------------------------------------


# Microsoft's fluentui-emoji README: these show its trademarks (Clippy, the Windows logo, an Xbox pad) and are not
# under its MIT license. The package has them all the same; the data set does not.
TRADEMARKS = {"fluent": {"paperclip", "technologist", "video game"}}


def read_pictures(archive: tarfile.TarFile, folder: str) -> dict[str, bytes]:
    """Plain hexcode -> encoded picture, for one folder of a package, in one pass through the tarball."""
    pictures: dict[str, bytes] = {}
    for member in archive:
        path = Path(member.name)
        if member.isfile() and path.parent.as_posix() + "/" == folder and path.suffix in (".png", ".webp"):
            pictures[plain_hexcode(path.stem)] = archive.extractfile(member).read()
    return pictures


def draw_on_white(data: bytes) -> Image.Image:
    """Decode a picture with transparency and give it as 64x64 RGB on white.

    White comes before the resizing: a filter must weigh colors by their opacity, or the colors hidden in
    transparent pixels bleed into the outline. On an opaque picture there is nothing left to weigh.
    """
    with Image.open(io.BytesIO(data)) as image:
        image = image.convert("RGBA")
    side = max(image.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
    canvas = canvas.convert("RGB")
    return canvas if side == SIZE else canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def encode(image: Image.Image) -> bytes:
    """The picture as a lossless WebP file. Method 6 would save 1 % of the bytes and take 20 times as long."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()


# --- 5. The whole -------------------------------------------------------------------------------------------------


def build(cache: Path) -> dict[str, bytes]:
    """All files of the data set: relative path -> content."""
    with fetch(LABELS, cache) as archive:
        subjects = choose_subjects(archive)

    files: dict[str, bytes] = {}
    styles: dict[str, list[str]] = {subject["hexcode"]: [] for subject in subjects}
    for style in STYLES:
        with fetch(PICTURES[style], cache) as archive:
            pictures = read_pictures(archive, PICTURE_FOLDERS[style])
        seen: set[bytes] = set()  # one picture for two subjects ("grinning cat", "cat face") is kept for the first
        for subject in tqdm(subjects, desc=style, unit="picture", disable=None):
            data = pictures.get(plain_hexcode(subject["hexcode"]))
            if data is None or subject["label"] in TRADEMARKS.get(style, ()):
                continue
            image = draw_on_white(data)
            if image.tobytes() in seen:
                continue
            seen.add(image.tobytes())
            files[f"{style}/{subject['hexcode']}.webp"] = encode(image)
            styles[subject["hexcode"]].append(style)

    subjects = [subject | {"styles": styles[subject["hexcode"]]} for subject in subjects if styles[subject["hexcode"]]]
    pairs = [(subject["hexcode"], style) for subject in subjects for style in subject["styles"]]
    files["captions.json"] = write_json({
        "sources": {name: f"{package.name}@{package.version}" for name, package in ({"labels": LABELS} | PICTURES).items()},
        "written_with": f"Pillow {PIL.__version__}, libwebp {features.version('webp')}",
        "subjects": subjects,
    }, "subjects")
    held_out = [f"{hexcode}/{style}" for hexcode, style in pairs if is_held_out(hexcode, style)]
    files["held_out.json"] = (json.dumps(held_out, indent=0) + "\n").encode()
    return files


def read_json(archive: tarfile.TarFile, name: str):
    return json.load(archive.extractfile(name))


def write_json(record: dict, rows: str) -> bytes:
    """JSON with one line per row of the list `rows`, so that it is small and a change of one row shows as one line."""
    head = {key: value for key, value in record.items() if key != rows}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in record[rows])
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "{rows}": [\n{lines}\n ]\n}}\n'
    return text.encode()


def compare(files: dict[str, bytes], folder: Path) -> list[str]:
    """What differs between `files` and the data set in `folder`."""
    there = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*")
             if path.is_file() and path.suffix in (".webp", ".json")}
    return ([f"missing: {name}" for name in sorted(files.keys() - there)]
            + [f"superfluous: {name}" for name in sorted(there - files.keys())]
            + [f"different: {name}" for name in sorted(files.keys() & there)
               if (folder / name).read_bytes() != files[name]])


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the data set and remove the pictures that no longer belong to it. Unchanged files are not touched."""
    for style in STYLES:
        (folder / style).mkdir(parents=True, exist_ok=True)
    for line in compare(files, folder):
        kind, name = line.split(": ", 1)
        if kind == "superfluous":
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(files[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the data set (default: in the package)")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ldm_tutorial_npm",
                        help="folder that keeps the npm tarballs, 150 MB (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the data set there differs")
    parser.add_argument("--contact-sheet", type=Path, metavar="PATH", help="only draw an overview of the data set")
    arguments = parser.parse_args()

    files = build(arguments.cache)
    if arguments.check:
        differences = compare(files, arguments.output)
        if differences:
            raise SystemExit("\n".join(differences[:20] + [f"{len(differences)} differences in {arguments.output}"]))
        print(f"{len(files)} files in {arguments.output} are what the sources give")
        return
    write(files, arguments.output)
    pictures = [name for name in files if name.endswith(".webp")]
    counts = ", ".join(f"{sum(name.startswith(style) for name in pictures)} {style}" for style in STYLES)
    print(f"{len(pictures)} pictures ({counts}), {sum(map(len, files.values())) / 1e6:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    main()
