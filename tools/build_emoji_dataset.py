"""Build the emoji data set that ships in `ldm_tutorial/data/emoji`.

    python tools/build_emoji_dataset.py                          # rebuild the data set
    python tools/build_emoji_dataset.py --check                  # rebuild in memory, compare, write nothing
    python tools/build_emoji_dataset.py --contact-sheet PICTURE  # draw an overview of what is there

The pictures and their words come from four npm packages with pinned versions and checksums. Each picture
becomes a lossless WebP file of 64x64 pixels on white. `captions.json` says what they show, `held_out.json`
lists the pairs that are never trained on. The same Pillow and libwebp give the same bytes; both are recorded.

Needs npm and the network (not for --contact-sheet), and Pillow, torch and tqdm as the package itself does.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
from collections import Counter
from pathlib import Path

import PIL
from PIL import Image, ImageDraw, ImageFont, features
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from npm_packages import CACHE, Package, fetch  # noqa: E402

from ldm_tutorial.data.dataset import FOLDER, SIZE, STYLES, EmojiDataset, is_held_out  # noqa: E402

LABELS = Package(
    "emojibase-data", "17.0.0", "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA=="
)
PICTURES = {
    "noto": Package(
        "emoji-datasource-google",
        "16.0.0",
        "sha512-ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    ),
    "twemoji": Package(
        "emoji-datasource-twitter",
        "16.0.0",
        "sha512-7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
    ),
    "fluent": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
}
PICTURE_FOLDERS = {
    "noto": "package/img/google/64/",
    "twemoji": "package/img/twitter/64/",
    "fluent": "package/assets/",
}

# --- 1. Which subjects ------------------------------------------------------------------------------------

LEFT_OUT_GROUPS = {"component", "symbols", "flags"}  # hearts stay: their group is smileys-emotion
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
        subjects.append(
            {"hexcode": hexcode, "label": label, "tags": record.get("tags", []), "group": group, "subgroup": subgroup}
        )
    for subject in subjects:
        subject["tags"] = aliases.get(subject["hexcode"], []) + subject["tags"]
    return clean_tags(subjects)


def neutral_version(hexcode: str, known: dict) -> str | None:
    """The hexcode of the neutral person of whom this one is the man's or the woman's version, or None."""
    for pattern, replacement in ((r"-200D-264[02]$", ""), (r"^1F46[89]-200D", "1F9D1-200D")):
        neutral = re.sub(pattern, replacement, hexcode)
        if neutral != hexcode and neutral in known:
            return neutral
    return None


def plain_hexcode(name: str) -> str:
    """A code point sequence in one spelling: upper case, without the variation selector FE0F."""
    return "-".join(part for part in name.upper().split("-") if part != "FE0F")


# --- 2. Words ---------------------------------------------------------------------------------------------

MAX_SUBJECTS_PER_TAG = 20  # a tag shared by more ("face", "animal") says too little about a picture
STOP_WORDS = set(
    """
    a again all am an and are as at be been before but by can de did do does done du for from get
    getting go going gone got had has have he her here him his how i i'm if in is it its just keep la
    lai large late later last let's like ma'am made make man's maybe me more mrs my no not now of off oh
    ok on one or our out over please put really same so some such than that the them then there these
    they this three to too two up us very was way we were what whatever when where who why with woman's
    worker's yes you your
    absolutely adorbs af as ass aww awk bae bestest bff bffs bruh brr bs cmon cya definitely dope dua
    duh dunno eek ew fleek fml gg gotcha gotta gtg guapi haha hahaha hehe hm hmm huh idk ikr ily jeez
    jel jk legit lit litaf lol lmao luv meh muah mwah nooo nvm nyc omg omw oops pga pissed rofl
    roflcopter roflmao sexy shh smh sms sucks tbt thx tmi totally triste ttfn ttyl twinsies tysm ugh uh
    uhh um waah whoa whoops woah woohoo wow wtf wtv xo xoxo yay yikes yo yolo yup
""".split()
)
# Everyday words that the tags give to too many subjects, for the one picture that people mean by them.
EVERYDAY_WORDS = {"red heart": "heart", "slightly smiling face": "face", "raised hand": "hand", "soccer ball": "ball"}


def clean_label(label: str) -> str:
    """Lower case, a straight apostrophe, and "person: red hair" as a phrase ("person with red hair")."""
    label = label.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if label == "person: bald":
        return "bald person"
    return re.sub(r"^person: ", "person with ", label)


def clean_tags(subjects: list[dict]) -> list[dict]:
    """Keep the tags that say what a picture shows. A label names one subject: no other has it as a tag."""
    labels = {subject["label"] for subject in subjects}
    if len(labels) != len(subjects):
        raise SystemExit("two subjects have the same label")
    for subject in subjects:
        tags = [tag.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for tag in subject["tags"]]
        subject["tags"] = [
            tag
            for tag in dict.fromkeys(tags)
            if len(tag) > 1 and re.fullmatch(r"[^\W\d_]+(?:[ '-][^\W\d_]+)*", tag) and tag not in STOP_WORDS and tag not in labels
        ]
    count = Counter(tag for subject in subjects for tag in subject["tags"])
    for subject in subjects:
        everyday = [EVERYDAY_WORDS[subject["label"]]] if subject["label"] in EVERYDAY_WORDS else []
        subject["tags"] = everyday + [tag for tag in subject["tags"] if count[tag] <= MAX_SUBJECTS_PER_TAG]
    return subjects


# --- 3. Pictures ------------------------------------------------------------------------------------------

# These show trademarks of Microsoft (Clippy, the Windows logo, an Xbox pad): the README of its fluentui-emoji
# says that they are not open source. The npm package has them all the same; the data set does not.
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


# --- 4. The contact sheet ---------------------------------------------------------------------------------

COLUMNS, GAP, MARGIN = 16, 12, 28
CELL, LINE, LINES = SIZE + GAP, 14, 2
# The subjects of the gallery are always shown; the rest of a row is spread evenly over its group.
GALLERY = {"cat", "astronaut", "zombie", "racing car", "chipmunk", "hamburger", "rocket", "octopus"}
INK, FAINT = (32, 33, 36), (110, 115, 122)


def contact_sheet() -> Image.Image:
    """An overview of the data set: a band of sixteen subjects for each group, with a row for each style."""
    dataset = EmojiDataset()
    title, small = ImageFont.load_default(17), ImageFont.load_default(11)
    rows = {(entry.label, entry.style): row for row, entry in enumerate(dataset.entries)}
    groups: dict[str, list[str]] = {}
    for entry in dataset.entries:
        whole = all((entry.label, style) in rows for style in STYLES)
        if whole and entry.style == STYLES[0] and len(wrap(entry.label, small, CELL - 4)) <= LINES:
            groups.setdefault(entry.group, []).append(entry.label)

    left, band = MARGIN + 64, 34 + len(STYLES) * CELL + LINES * LINE + 16
    width, height = left + COLUMNS * CELL - GAP + MARGIN, 2 * MARGIN + len(groups) * band - 16
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (group, labels) in enumerate(groups.items()):
        top = MARGIN + number * band
        draw.text((MARGIN, top), group.replace("-", " and "), INK, title)
        for row, style in enumerate(STYLES):
            y = top + 34 + row * CELL
            draw.text((MARGIN, y + SIZE // 2), style, FAINT, small, anchor="lm")
            for column, label in enumerate(spread(labels, COLUMNS)):
                picture = dataset.pictures[rows[label, style]].permute(1, 2, 0)  # (3, h, w) -> (h, w, 3)
                sheet.paste(Image.fromarray(picture.numpy()), (left + column * CELL, y))
        for column, label in enumerate(spread(labels, COLUMNS)):
            x, y = left + column * CELL + SIZE // 2, top + 34 + len(STYLES) * CELL
            for line in wrap(label, small, CELL - 4):
                draw.text((x, y), line, FAINT, small, anchor="ma")
                y += LINE
    return sheet


def spread(labels: list[str], n: int) -> list[str]:
    """`n` of the labels in their order: those of the gallery, and others at even distances."""
    others = [label for label in labels if label not in GALLERY]
    m = n - (len(labels) - len(others))
    chosen = GALLERY | {others[i * len(others) // m] for i in range(m)}
    return [label for label in labels if label in chosen]


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines that are no wider than `width` pixels, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# --- 5. The whole -----------------------------------------------------------------------------------------


def build(cache: Path) -> dict[str, bytes]:
    """All files of the data set: relative path -> content."""
    with fetch(LABELS, cache) as archive:
        subjects = choose_subjects(archive)

    files: dict[str, bytes] = {}
    styles: dict[str, list[str]] = {subject["hexcode"]: [] for subject in subjects}
    for style in STYLES:
        with fetch(PICTURES[style], cache) as archive:
            pictures = read_pictures(archive, PICTURE_FOLDERS[style])
        seen: set[bytes] = set()  # "grinning cat" and "cat face" are one picture here: the first keeps it
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

    subjects = [subject | {"styles": there} for subject in subjects if (there := styles[subject["hexcode"]])]
    pairs = [(subject["label"], style) for subject in subjects for style in subject["styles"]]
    files["captions.json"] = write_json(
        {
            "sources": {what: f"{package.name}@{package.version}" for what, package in ({"labels": LABELS} | PICTURES).items()},
            "written_with": f"Pillow {PIL.__version__}, libwebp {features.version('webp')}",
            "subjects": subjects,
        },
        "subjects",
    )
    held_out = [f"{label}/{style}" for label, style in pairs if is_held_out(label, style)]
    files["held_out.json"] = (json.dumps(held_out, indent=0, ensure_ascii=False) + "\n").encode()
    return files


def read_json(archive: tarfile.TarFile, name: str):
    return json.load(archive.extractfile(name))


def write_json(record: dict, rows: str) -> bytes:
    """JSON with one line for each of `rows`, so that it is small and a change to one shows as one line."""
    head = {key: value for key, value in record.items() if key != rows}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in record[rows])
    text = json.dumps(head, indent=1, ensure_ascii=False)[:-2] + f',\n "{rows}": [\n{lines}\n ]\n}}\n'
    return text.encode()


def compare(files: dict[str, bytes], folder: Path) -> list[str]:
    """What differs between `files` and the data set in `folder`."""
    there = {
        str(path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".webp", ".json")
    }
    return (
        [f"missing: {name}" for name in sorted(files.keys() - there)]
        + [f"superfluous: {name}" for name in sorted(there - files.keys())]
        + [f"different: {name}" for name in sorted(files.keys() & there) if (folder / name).read_bytes() != files[name]]
    )


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the data set and remove what no longer belongs to it. Unchanged files are not touched."""
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
    parser.add_argument("--output", type=Path, default=FOLDER, help="its folder (default: in the package)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="folder that keeps the npm tarballs, 150 MB (default: %(default)s)",
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail if there is a difference")
    parser.add_argument("--contact-sheet", type=Path, metavar="PICTURE", help="only draw an overview of it")
    arguments = parser.parse_args()

    if arguments.contact_sheet:
        contact_sheet().save(arguments.contact_sheet, quality=92, method=6)
        print(f"{arguments.contact_sheet}: {arguments.contact_sheet.stat().st_size / 1e3:.0f} kB")
        return
    files = build(arguments.cache)
    if arguments.check:
        differences = compare(files, arguments.output)
        if differences:
            count = f"{len(differences)} differences in {arguments.output}"
            raise SystemExit("\n".join([*differences[:20], count]))
        print(f"{len(files)} files in {arguments.output} are what the sources give")
        return
    write(files, arguments.output)
    pictures = [name for name in files if name.endswith(".webp")]
    counts = ", ".join(f"{sum(name.startswith(style) for name in pictures)} {style}" for style in STYLES)
    size = sum(map(len, files.values())) / 1e6
    print(f"{len(pictures)} pictures ({counts}), {size:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    main()
