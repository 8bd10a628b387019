"""The checks of notebook 13 name the mistake in every wrong answer."""

import pytest

from ldm_tutorial.exercises import verdict
from tests.exercises.answers import answer, assert_named

PAIR = '(entry["dtype"], tuple(entry["shape"]))'
NAMES = ' for name, entry in entries.items() if name != "__metadata__"}'
ALL_NAMES = " for name, entry in entries.items()}"
RESULT = "attention_weights(q[:, :, part], k) @ v"
LOOP = "    for start in range(0, q.shape[2], rows):\n"
FILL = f"out[:, :, part] = {RESULT}"
KEEP = "made.append((name, output.detach().clone()))"
DIFFERS = "(a - b).abs().max() > 1e-4 * b.abs().max()"
KEYS_CUT = "    return sum(attention_weights(q, a) @ b for a, b in zip(k.chunk(slices, 2), v.chunk(slices, 2)))\n" + LOOP
PARTS = "q[:, :, i * rows : i * rows + rows] for i in range(slices)"
REST_LOST = f"    rows = q.shape[2] // slices; return torch.cat([attention_weights(x, k) @ v for x in [{PARTS}]], 2)\n" + LOOP
MAPS_KEPT = "    return torch.cat([w @ v for w in [attention_weights(x, k) for x in q.split(rows, 2)]], 2)\n" + LOOP
ONE_HEAD = "attention_weights(q[:, j], k[:, j]) @ v[:, j] for j in range(q.shape[1])"
HEADS_CUT = f"    return torch.stack([{ONE_HEAD}], 1)\n" + LOOP
PAIRS = "zip(record(ours), record(theirs))"
WEIGHTS = "    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters()):\n        name = name[:-7]\n"
WALK = "    for (name, a), (_, b) in zip(record(ours), record(theirs)):\n"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("13.1", '"little"', '"big"', "is no JSON"),
        ("13.1", "json.loads(file.read(length))", "json.loads(file.read())", "begins at byte 8 and has as many bytes"),
        ("13.1", 'file.read(8), "little")', 'file.read(8), "little"); file.seek(0)', "is no JSON"),
        ("13.1", NAMES, ALL_NAMES, "the entry __metadata__ has no 'dtype'"),
        ("13.1", PAIR + NAMES, '(entry.get("dtype"), entry.get("shape"))' + ALL_NAMES, "__metadata__ is no tensor"),
        ("13.1", PAIR, "entry", "(type, shape) only"),
        ("13.1", PAIR, '(tuple(entry["shape"]), entry["dtype"])', "first the type"),
        ("13.1", PAIR, '(entry["dtype"], entry["data_offsets"])', "the shape should be (3, 5)"),
        ("13.1", PAIR, '(entry["dtype"].lower(), entry["shape"])', "the type should be 'F32'"),
        ("13.1", PAIR, 'entry["dtype"]', "must be a pair"),
        ("13.1", "return {name: " + PAIR, "return {name[2:]: " + PAIR, "has the tensors"),
        ("13.1", "return {", "return list(entries) and [1] or {", "must be a dict"),
        ("13.2", RESULT, "torch.softmax(q[:, :, part] @ k.mT, -1) @ v", "root of the channels"),
        ("13.2", LOOP, KEYS_CUT, "cannot be cut there"),
        ("13.2", LOOP, REST_LOST, "1 rows are missing at the end"),
        ("13.2", LOOP, "    return attention_weights(q, k) @ v\n" + LOOP, "keep its result and not its map"),
        ("13.2", LOOP, MAPS_KEPT, "times the memory"),
        ("13.2", LOOP, HEADS_CUT, "times the memory"),
        ("13.2", FILL, f"q[:, :, part] = {RESULT}; out = q", "changes its inputs"),
        ("13.2", "range(0, q.shape[2], rows)", "range(0, q.shape[2] - rows, rows)", "does each row of q come in one slice?"),
        ("13.2", "return out", "return out.flatten(2)", "must have the shape of q"),
        ("13.2", "return out", "return 2 * out", "other numbers"),
        ("13.2", "return out", "return [out]", "must be a tensor"),
        ("13.3", PAIRS, f"sorted({PAIRS}, key=lambda pair: pair[0][0])", "in the order in which they finish"),
        ("13.3", WALK, WEIGHTS, "not their weights"),
        ("13.3", DIFFERS, "not torch.equal(a, b)", "do not compare exactly"),
        ("13.3", "hook.remove()", "pass", "hooks are still there"),
        ("13.3", PAIRS, f"list({PAIRS})[-2::-1]", "which differs, but finishes later"),
        ("13.3", "network.named_modules()", "network.named_children()", "yours is 'out', which differs, but finishes later"),
        ("13.3", "            return name\n", "            return 'inside'\n", "it should be 'block.norm'; yours is 'inside'"),
        ("13.3", "    return None\n", "    return ''\n", "there is none"),
        ("13.3", DIFFERS, DIFFERS + " and name != 'inside'", "asked is the first, 'inside'"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_finding_only_some_is_no_stub():
    some = answer("13.3", (DIFFERS, DIFFERS + " and name in ('inside', 'block.norm')"))
    assert "for block.conv and out.2 changed it should be 'block.conv'; yours is None" in verdict("13.3", some)
