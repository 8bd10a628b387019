"""How many cores are ours, what others leave of them, and that the user's own settings stand."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ldm_tutorial import threads

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc and control groups are Linux'")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def after_import(first: str = "", **variables: str) -> dict:
    """The variables, and what was noted, in a new process that has imported ldm_tutorial."""
    code = f"""
import json, os, sys
{first}
import ldm_tutorial
seen = {{name: os.environ.get(name) for name in {VARIABLES}}}
print(json.dumps(seen | {{"late": ldm_tutorial.threads._late, "torch": "torch" in sys.modules}}))
"""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES} | variables
    return json.loads(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)


def test_threads_are_set_to_wait_briefly_before_pytorch_is_imported():
    seen = after_import()
    assert seen["GOMP_SPINCOUNT"] == str(threads.SPINS)
    assert not seen["late"]
    assert not seen["torch"]


@pytest.mark.parametrize("variable", [{"GOMP_SPINCOUNT": "77"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_how_threads_wait_is_left_to_who_has_set_it(variable):
    assert after_import(**variable).items() >= variable.items()
    assert after_import(**variable)["GOMP_SPINCOUNT"] == variable.get("GOMP_SPINCOUNT")


def test_a_pytorch_that_was_imported_first_is_noticed():
    assert after_import("import torch")["late"]


@pytest.fixture
def control_groups(monkeypatch, tmp_path):
    """A function that writes /proc/self/cgroup and the files of control groups."""
    monkeypatch.setattr(threads, "PROC", tmp_path / "proc")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")

    def write(groups: str, files: dict[str, str]) -> None:
        (tmp_path / "proc" / "self").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
        for name, text in files.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(text)

    return write


V1_GROUPS = "9:name=systemd:/\n4:memory:/docker/a\n1:cpu,cpuacct:/docker/a\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "share"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/not/seen/from/inside\n", {"cpu.max": "100000 100000\n"}, 1.0),
        (V1_GROUPS, {"cpu/docker/a/cpu.cfs_quota_us": "300000\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, 3.0),
        (V1_GROUPS, {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"}, 2.0),
        (V1_GROUPS, {"cpu/docker/a/cpu.cfs_quota_us": "-1\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ],
)
def test_a_containers_share_is_read_from_its_control_group(control_groups, groups, files, share):
    control_groups(groups, files)
    assert threads.container_share() == share


def test_without_control_groups_there_is_no_limit(control_groups):
    assert threads.container_share() is None


@pytest.mark.parametrize(("share", "ours"), [("25000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 64)])
def test_a_container_on_a_large_machine_gets_no_more_threads_than_cores_of_its_own(control_groups, monkeypatch, share, ours):
    control_groups("0::/\n", {"cpu.max": share})
    monkeypatch.setattr(threads, "affinity", lambda: 64)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("_asked", "_late"):
        monkeypatch.setattr(threads, name, False)
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    threads.prepare()
    assert os.environ.get("OMP_NUM_THREADS") == (str(ours) if ours < 64 else None)
    assert chosen == ([ours] if ours < 64 else [])  # PyTorch is here already, so the variable alone would come too late


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that sets cores, PyTorch's threads and how many other threads are at work; returns the numbers chosen since."""
    chosen = []
    monkeypatch.setattr(threads, "PROC", tmp_path)
    (tmp_path / "self" / "task" / "1").mkdir(parents=True)
    (tmp_path / "self" / "task" / "1" / "stat").write_text("1 (a) name)) R 0 0")
    monkeypatch.setattr(threads, "_asked", False)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)

    def make(cores: int, others: int, pytorch: int | None = None) -> list[int]:
        monkeypatch.setattr(threads, "cores", lambda: cores)
        monkeypatch.setattr(os, "cpu_count", lambda: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda: chosen[-1] if chosen else pytorch or cores)
        monkeypatch.setattr(threads, "_known", (float("-inf"), 0))
        (tmp_path / "loadavg").write_text(f"0.00 0.00 0.00 {1 + others}/99 12345\n")
        return chosen

    return make


@pytest.mark.parametrize(("others", "free"), [(0, 4), (1, 3), (3, 1), (4, 1), (40, 1)])
def test_a_step_leaves_out_the_cores_that_others_keep_busy(machine, others, free):
    chosen = machine(4, others)
    with threads.sharing():
        assert torch.get_num_threads() == free
    assert chosen == ([free, 4] if free < 4 else [])


def test_pytorchs_number_is_put_back_after_an_error(machine):
    chosen = machine(2, 5)
    with pytest.raises(ZeroDivisionError), threads.sharing():
        _ = 1 / 0
    assert chosen == [1, 2]


def test_a_number_of_threads_that_was_asked_for_stands(machine, monkeypatch):
    machine(8, 8, pytorch=3)  # torch.set_num_threads(3)
    assert threads.free_threads() == 3
    machine(8, 8)
    monkeypatch.setattr(threads, "_asked", True)  # OMP_NUM_THREADS=8
    assert threads.free_threads() == 8


def test_where_the_system_does_not_tell_all_threads_draw(machine, tmp_path):
    machine(4, 4)
    (tmp_path / "loadavg").unlink()
    assert threads.free_threads() == 4


def test_others_are_looked_for_twice_a_second_and_not_at_every_step(machine, monkeypatch):
    machine(4, 0)
    clock, looks = [100.0], []
    monkeypatch.setattr(threads.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(threads, "busy_elsewhere", lambda: looks.append(clock[0]) or 0)
    for clock[0] in (100.0, 100.1, 100.4, 100.6, 100.7, 101.2):
        threads.free_threads()
    assert looks == [100.0, 100.6, 101.2]


@LINUX
def test_a_busy_program_is_seen():
    burner = subprocess.Popen([sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        burner.stdout.readline()
        assert max(threads.busy_elsewhere() for _ in range(20)) >= 1
    finally:
        burner.kill()
        burner.communicate()


@pytest.mark.parametrize(
    ("cores", "there", "others", "words"),
    [
        (2, 64, 0, "2 of 64 cores are ours, 2 threads"),
        (4, 4, 0, "4 cores, 4 threads"),
        (4, 4, 3, "4 cores, 4 threads, only 1 of them at work while other programs are busy"),
        (1, 1, 1, "1 core, 1 thread"),
    ],
)
def test_what_was_found_is_said_in_one_line(machine, monkeypatch, cores, there, others, words):
    machine(cores, others)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    monkeypatch.setattr(threads, "_late", False)
    assert threads.cores_and_threads() == words


def test_a_pytorch_that_came_first_is_named(machine, monkeypatch):
    machine(2, 0)
    monkeypatch.setattr(threads, "_late", True)
    assert threads.cores_and_threads().endswith("PyTorch was imported before ldm_tutorial, so its threads spin while they wait")
