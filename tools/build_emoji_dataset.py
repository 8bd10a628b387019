"""Build the emoji data set that ships in `ldm_tutorial/data/emoji`.

    python tools/build_emoji_dataset.py                          # rebuild the data set
    python tools/build_emoji_dataset.py --check                  # rebuild in memory, compare, write nothing
    python tools/build_emoji_dataset.py --contact-sheet PICTURE  # draw an overview of what is there

The pictures and their words come from eight npm packages with pinned versions and checksums. Six of them hold vector
drawings, which resvg renders; the seventh style, fluent, comes as pictures. Each style becomes one uncompressed zip file of
WebP pictures of 128x128 pixels, with transparency. `captions.json` says what they show, `held_out.json` lists the pairs that
are never trained on. The same resvg, Pillow and libwebp give the same bytes; all three are recorded.

Needs npm, the network and the package `resvg-py` (none of them for --contact-sheet), and what the package itself needs.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
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
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "fluent": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
    "flat": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "blob": Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "emojione": Package(
        "@iconify-json/emojione",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "firefox": Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
}

# --- 1. Which subjects ------------------------------------------------------------------------------------

LATEST_UNICODE = 16  # what is newer has a drawing in one or two styles only
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
        if CLOCK_FACE.search(label) or "facing right" in label or label in GENDERED or record["version"] > LATEST_UNICODE:
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
# says that they are not open source. The npm packages have them all the same; the data set does not.
TRADEMARKS = {"fluent": {"paperclip", "technologist", "video game"}, "flat": {"paperclip", "technologist", "video game"}}

# Drawings of the Firefox OS set whose name is neither the label of their subject nor its name in Unicode: label, name.
FIREFOX_NAMES = """
    grinning face: grin; grinning face with big eyes: grinwide; grinning face with smiling eyes: grinwideeyes;
    beaming face with smiling eyes: grineyes; grinning squinting face: grinsquint; grinning face with sweat: grinsweat;
    face with tears of joy: grintears; slightly smiling face: smallsmile; winking face: winking;
    smiling face with smiling eyes: smileeyes; smiling face with halo: halo; smiling face with heart-eyes: hearteyes;
    face blowing a kiss: kissing; kissing face: kiss; kissing face with closed eyes: kissclosedeyes;
    kissing face with smiling eyes: kisseyes; face savoring food: smiletongue; face with tongue: tongueout;
    winking face with tongue: tongueoutwink; neutral face: neutral; expressionless face: expressionless;
    face without mouth: nomouth; smirking face: smirk; unamused face: unamused; grimacing face: grimacing;
    relieved face: relieved; pensive face: pensive; sleepy face: sleepy; sleeping face: sleeping;
    face with medical mask: medicalmask; smiling face with sunglasses: sunglasses; confused face: confused;
    worried face: worried; slightly frowning face: smallfrown; frowning face with open mouth: frownmouth;
    face with open mouth: openmouth; hushed face: hushed; flushed face: flushed; anguished face: anguish; fearful face: fearful;
    anxious face with sweat: coldsweat; sad but relieved face: dissapointedrelief; crying face: crying;
    loudly crying face: loudlycrying; face screaming in fear: screamfear; confounded face: confounded;
    persevering face: perservere; disappointed face: disappointed; downcast face with sweat: sweat; weary face: weary;
    tired face: tired; face with steam from nose: triumph; enraged face: pouting; angry face: angry;
    smiling face with horns: devilhorns; skull and crossbones: blackskullcrossbones; pile of poo: poo;
    goblin: japaneseangrymask; see-no-evil monkey: monkeysee; hear-no-evil monkey: monkeyhear;
    speak-no-evil monkey: monkeyspeak; heart with arrow: heartarrow; heart with ribbon: heartribbon; two hearts: 2hearts;
    yellow heart: heartyellow; green heart: heartgreen; purple heart: heartpurple; anger symbol: anger;
    sweat droplets: sweatsplash; dashing away: dash; speech balloon: speechbubble; thought balloon: thoughtbaloon;
    waving hand: waving; hand with fingers splayed: raisedhandsfingerssplayed; raised hand: hand;
    vulcan salute: raisedhandpartfingers; ok hand: aok; backhand index pointing left: left;
    backhand index pointing right: right; backhand index pointing up: up; backhand index pointing down: down;
    index pointing up: index; oncoming fist: fistedhand; clapping hands: clap; raising hands: high5; open hands: hands;
    folded hands: pray; writing hand: leftwritinghand; flexed biceps: flexbicep; person with blond hair: blonde; old man: gpa;
    old woman: gma; person frowning: frown; person pouting: pout; person gesturing no: nogesture;
    person gesturing ok: okgesture; person tipping hand: waitress; person raising hand: handup; person bowing: bowing;
    police officer: cop; detective: sleuthspy; construction worker: construct; person wearing turban: turban;
    person with skullcap: guapimao; person with veil: bride; person getting massage: headmassage; person walking: walking;
    person running: running; people with bunny ears: bunny-ears; person swimming: swimming; bust in silhouette: contact;
    busts in silhouette: contact2; dog face: dog; dog: dogside; cat face: cat; cat: catside; tiger face: tiger;
    tiger: tigerside; leopard: leopardside; mouse face: mouse; mouse: mouseside; pig face: pig; pig: pigside;
    pig nose: pigsnout; rabbit face: bunny; rabbit: bunnyside; hamster: hampster; dragon face: dragonhead; dragon: dragonside;
    front-facing baby chick: frontfacingchick; spouting whale: spurtingwhale; evergreen tree: evergreen;
    fallen leaf: fallingleaf; leaf fluttering in wind: leaffluttering; hot pepper: chilipepper;
    fish cake with swirl: fishcakeswirl; fork and knife with plate: forkknife; globe showing europe-africa: europeafricaglobe;
    globe showing americas: americasglobe; globe showing asia-australia: asiaaustraliaglobe;
    globe with meridians: meridianglobe; map of japan: silhouetteohjapan; snow-capped mountain: snowmountains;
    beach with umbrella: beachumbrella; building construction: construction; tokyo tower: toykotower;
    bullet train: highspeedtrainbulletnose; racing car: racecar; hourglass not done: hourglassflowingsand;
    mantelpiece clock: manltepiececlock; waning gibbous moon: waningbibbousmoon; sun: sunrays; glowing star: star;
    cloud with lightning: stormcloud; sun behind small cloud: whitesunsmallcloud; sun behind rain cloud: sunraincloud;
    cloud with rain: raincloud; cloud with snow: snowcloud; high voltage: bolt; water wave: wave; confetti ball: confetti;
    ribbon: bow; wrapped gift: present; reminder ribbon: reminder; necktie: tie; t-shirt: mansshirt;
    woman's clothes: womansshirt; purse: pinkwallet; clutch bag: makeupbag; man's shoe: mensshoe; running shoe: mensrunner;
    high-heeled shoe: heels; woman's sandal: sandals; woman's boot: boot; gem stone: gem; muted speaker: speakercancellation;
    speaker medium volume: speakeronesoundwave; speaker high volume: rightspeaker3soundwaves; bell with slash: bellcancellation;
    studio microphone: studiomic; control knobs: controlknob; mobile phone: cellphone; telephone receiver: telephonereceiver2;
    floppy disk: floppydisk2; video camera: handheldvideocamera; videocassette: videocasette;
    magnifying glass tilted left: leftmagnifyingglass; magnifying glass tilted right: rightmagnifyingglass;
    notebook with decorative cover: notebookdecorativecover; bookmark tabs: bookmarktab; yen banknote: banknoteyen;
    dollar banknote: banknotedollar; euro banknote: banknoteeuro; pound banknote: banknotepound; outbox tray: outbox;
    closed mailbox with raised flag: closedmailboxraised; closed mailbox with lowered flag: closedmailboxlowered;
    open mailbox with raised flag: openmailboxraised; open mailbox with lowered flag: openmailboxlowered;
    chart increasing: chartupwardstrend; chart decreasing: chartdownwardstrend; chart increasing with yen: chartupwardstrendyen;
    locked with key: lockandkey; tennis: tennisball
"""
# Drawings that would match by name and show something else, or came out damaged.
FIREFOX_LEFT_OUT = {"star", "game die", "flower playing cards", "tram car", "fog", "left speech bubble", "wind chime"}


class Drawings:
    """The vector drawings of one package of the Iconify collection: `icons.json`, and `chars.json` where there is one.

    Some icons are another one mirrored or turned, an alias with `hFlip`, `vFlip` or `rotate`; an alias without is a second name.
    """

    def __init__(self, archive: tarfile.TarFile):
        self.icons = read_json(archive, "package/icons.json")
        self.aliases = self.icons.get("aliases", {})
        self.names = {plain_hexcode(code): name for code, name in read_json(archive, "package/chars.json").items()}

    def __contains__(self, name: str) -> bool:
        return name in self.icons["icons"] or name in self.aliases

    def synonyms(self, name: str) -> set[str]:
        """All names of the same drawing."""

        def first(name: str) -> str:
            alias = self.aliases.get(name, {})
            return name if not alias or {"hFlip", "vFlip", "rotate"} & alias.keys() else alias["parent"]

        return {other for other in (*self.icons["icons"], *self.aliases) if first(other) == first(name)}

    def render(self, name: str) -> Image.Image:
        """SIZE x SIZE pixels, RGBA."""
        from resvg_py import svg_to_bytes

        change = self.aliases.get(name, {})
        icon = self.icons["icons"][change.get("parent", name)]
        w, h = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {w} {h}">{icon["body"]}</svg>'
        )
        image = Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))))
        image = centered(image.convert("RGBA"))
        if change.get("hFlip"):
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if change.get("vFlip"):
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return image.rotate(-90 * change.get("rotate", 0))


def centered(image: Image.Image) -> Image.Image:
    """In the middle of a transparent square of SIZE x SIZE, not stretched.

    A filter must weigh colors by their opacity, or those hidden in transparent pixels bleed into the outline: "RGBa" is weighed.
    """
    side = max(image.size)
    canvas = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    if side != SIZE:
        canvas = canvas.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.LANCZOS).convert("RGBA")
    return canvas


def slug(text: str) -> str:
    """ "Piñata", "man's shoe" -> "pinata", "mans-shoe": as the packages write names."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("'", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def find_by_name(subjects: list[dict], drawings: Drawings, known: list[Drawings]) -> dict[str, str]:
    """Label -> name of its drawing, where a package does not say which character it draws: by any name that others give it.

    Where there is no neutral person, the woman stands for the profession.
    """
    found = {}
    for subject in subjects:
        code = plain_hexcode(subject["hexcode"])
        names = [slug(subject["label"])]
        names += sorted(set().union(*(other.synonyms(other.names[code]) for other in known if code in other.names)) - set(names))
        if code.startswith("1F9D1-200D"):
            names += [f"woman-{slug(subject['label'])}"]
        name = next((name for name in names if name in drawings), None)
        if name and subject["label"] != "cricket":  # in both sets "cricket" is the game, not the insect
            found[subject["label"]] = name
    return found


def find_firefox(subjects: list[dict], drawings: Drawings) -> dict[str, str]:
    """The same for the Firefox OS set, whose names are those of Unicode without spaces, or its own (`FIREFOX_NAMES`)."""

    def squeeze(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())

    own = dict(line.strip().split(": ") for line in FIREFOX_NAMES.split(";"))
    icons, found, taken = {squeeze(name): name for name in drawings.icons["icons"]}, {}, set(own.values())
    for subject in subjects:
        label, code = subject["label"], plain_hexcode(subject["hexcode"])
        character = unicodedata.name(chr(int(code, 16)), "") if "-" not in code else ""
        names = [icons.get(squeeze(name)) for name in (character, label) if name]
        name = own.get(label) or next((name for name in names if name and name not in taken), None)
        if name and label not in FIREFOX_LEFT_OUT:
            found[label] = name
    return found


def read_pictures(archive: tarfile.TarFile) -> dict[str, Image.Image]:
    """Plain hexcode -> picture, for a package that holds pictures, in one pass through the tarball."""
    pictures: dict[str, Image.Image] = {}
    for member in archive:
        path = Path(member.name)
        if member.isfile() and path.parent.as_posix() == "package/assets" and path.suffix == ".webp":
            pictures[plain_hexcode(path.stem)] = Image.open(io.BytesIO(archive.extractfile(member).read()))
    return pictures


def sources(subjects: list[dict], cache: Path) -> Iterable[tuple[str, Callable[[dict], Image.Image | None]]]:
    """For each style, what gives the picture of a subject, RGBA, or None."""
    drawings = {}
    for style in STYLES:
        with fetch(PICTURES[style], cache) as archive:
            if style == "fluent":
                pictures = read_pictures(archive)
            else:
                drawings[style] = Drawings(archive)
    for style in STYLES:
        if style == "fluent":

            def picture(subject: dict) -> Image.Image | None:
                found = pictures.get(plain_hexcode(subject["hexcode"]))
                return centered(found.convert("RGBA")) if found else None
        else:
            own = drawings[style]
            if style == "firefox":
                names = find_firefox(subjects, own)
            elif own.names:
                names = {s["label"]: own.names.get(plain_hexcode(s["hexcode"])) for s in subjects}
            else:
                names = find_by_name(subjects, own, [d for d in drawings.values() if d.names])

            def picture(subject: dict, own: Drawings = own, names: dict = names) -> Image.Image | None:
                name = names.get(subject["label"])
                return own.render(name) if name else None

        yield style, picture


def encode(image: Image.Image, style: str) -> bytes:
    """The picture as a WebP file: lossless, or where its source was lossy, too (fluent), at 95 of 100."""
    buffer = io.BytesIO()
    if style == "fluent":
        image.save(buffer, "WEBP", quality=95, alpha_quality=100, method=4)
    else:
        image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()


def pack(pictures: dict[str, bytes]) -> bytes:
    """A zip file that stores its members as they are, in their order and without dates: the same every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in pictures.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


# --- 4. The contact sheet ---------------------------------------------------------------------------------

COLUMNS, GAP, MARGIN = 16, 12, 28
SHOWN = 64  # pixels of a picture
CELL, LINE, LINES = SHOWN + GAP, 14, 2
# The subjects of the gallery are always shown; the rest of a row is spread evenly over its group.
GALLERY = {"cat", "astronaut", "zombie", "racing car", "chipmunk", "hamburger", "rocket", "octopus"}
INK, FAINT = (32, 33, 36), (110, 115, 122)


def contact_sheet() -> Image.Image:
    """An overview of the data set: a band of sixteen subjects for each group, with a row for each style."""
    dataset = EmojiDataset(size=SHOWN)
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
            draw.text((MARGIN, y + SHOWN // 2), style, FAINT, small, anchor="lm")
            for column, label in enumerate(spread(labels, COLUMNS)):
                picture = dataset.pictures[rows[label, style]].permute(1, 2, 0)  # (3, h, w) -> (h, w, 3)
                sheet.paste(Image.fromarray(picture.numpy()), (left + column * CELL, y))
        for column, label in enumerate(spread(labels, COLUMNS)):
            x, y = left + column * CELL + SHOWN // 2, top + 34 + len(STYLES) * CELL
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

    packed: dict[str, dict[str, bytes]] = {style: {} for style in STYLES}
    styles: dict[str, list[str]] = {subject["hexcode"]: [] for subject in subjects}
    for style, picture in sources(subjects, cache):
        seen: set[bytes] = set()  # "grinning cat" and "cat face" are one picture in fluent: the first keeps it
        for subject in tqdm(subjects, desc=style, unit="picture", disable=None):
            image = None if subject["label"] in TRADEMARKS.get(style, ()) else picture(subject)
            if image is None or image.tobytes() in seen:
                continue
            seen.add(image.tobytes())
            packed[style][f"{subject['hexcode']}.webp"] = encode(image, style)
            styles[subject["hexcode"]].append(style)
    files = {f"{style}.zip": pack(pictures) for style, pictures in packed.items()}

    subjects = [subject | {"styles": there} for subject in subjects if (there := styles[subject["hexcode"]])]
    pairs = [(subject["label"], style) for subject in subjects for style in subject["styles"]]
    files["captions.json"] = write_json(
        {
            "sources": {what: f"{package.name}@{package.version}" for what, package in ({"labels": LABELS} | PICTURES).items()},
            "written_with": f"resvg-py {version('resvg-py')}, Pillow {PIL.__version__}, libwebp {features.version('webp')}",
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
        if path.is_file() and path.suffix in (".webp", ".zip", ".json")
    }
    return (
        [f"missing: {name}" for name in sorted(files.keys() - there)]
        + [f"superfluous: {name}" for name in sorted(there - files.keys())]
        + [f"different: {name}" for name in sorted(files.keys() & there) if (folder / name).read_bytes() != files[name]]
    )


def write(files: dict[str, bytes], folder: Path) -> None:
    """Write the data set and remove what no longer belongs to it. Unchanged files are not touched."""
    folder.mkdir(parents=True, exist_ok=True)
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
        help="folder that keeps the npm tarballs, 31 MB (default: %(default)s)",
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
    subjects = json.loads(files["captions.json"])["subjects"]
    counts = Counter(style for subject in subjects for style in subject["styles"])
    size = sum(map(len, files.values())) / 1e6
    print(f"{counts.total()} pictures ({dict(counts)}), {size:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    main()
