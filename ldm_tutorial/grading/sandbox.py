"""What a student's notebook may not do, as far as the system allows it.

Each function returns whether the system did it. Linux has all of it without special rights, unless a container or a distribution
forbids it; macOS has the limits alone. References: namespaces(7), landlock(7), prctl(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NEW_USER, _NEW_PID, _NEW_NET, _NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on all processors
_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read files, read folders
_SIGKILL = 9


@dataclass(frozen=True)
class Limits:
    """For one notebook. Seconds are those of a clock on the wall; memory, in bytes, is that of all its processes together."""

    cell_seconds: float = 30.0
    notebook_seconds: float = 180.0
    memory: int = 4 * 2**30
    processes: int = 64
    file_size: int = 256 * 2**20


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Processes whose parent has ended become this one's children, so that none gets out of its sight."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cut_off() -> bool:
    """No network, and only its own processes in sight: this process goes into namespaces of its own.

    Returns in a new process, the first of its namespace, with which the kernel ends all others in it.
    """
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(_NEW_USER | _NEW_PID | _NEW_NET | _NEW_IPC) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with suppress(OSError):
            Path(f"/proc/self/{name}").write_text(text)
    child = os.fork()
    if child:  # waits for it, and ends as it does
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    _libc().prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    return True


def set_limits(limits: Limits, own_processes: bool) -> None:
    """Memory for data, size of a file, seconds of computing; the number of processes, if only its own are counted."""
    import resource  # which Windows has not

    wanted = {
        resource.RLIMIT_DATA: limits.memory,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_CPU: int(4 * limits.notebook_seconds) + 1,
        resource.RLIMIT_CORE: 0,
    }
    if own_processes:
        wanted[resource.RLIMIT_NPROC] = limits.processes
    for which, most in wanted.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(which, (most, most))


def confine_files(writable: Path, readable: Iterable[Path]) -> bool:
    """Writing in one folder only, reading there and in a few others. Signals to other processes are forbidden, too."""
    if sys.platform != "linux":
        return False
    libc = _libc()
    abi = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if abi < 1:
        return False
    bits = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)  # how many kinds of access this kernel knows
    all_access = (1 << bits) - 1
    attributes = (ctypes.c_uint64 * 3)(all_access, 0, 0b11 if abi >= 6 else 0)  # files, network, signals and abstract sockets
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(24 if abi >= 6 else 8), 0)
    if ruleset < 0:
        return False
    files_only = _READ | 1 << 1 | 1 << 14 | 1 << 15  # what a rule for a single file may hold
    rules = [(writable, all_access), (Path("/dev/null"), _READ | 1 << 1), *((path, _READ) for path in readable)]
    for path, access in rules:
        with suppress(OSError):
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            access &= all_access & (files_only & ~(1 << 3) if not path.is_dir() else all_access)
            rule = (ctypes.c_uint8 * 12).from_buffer_copy(access.to_bytes(8, "little") + handle.to_bytes(4, "little"))
            libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
            os.close(handle)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return done


def what_python_reads() -> list[Path]:
    """Python, its packages, this package and the system's libraries: no clone with solutions, no home folder."""
    package = Path(__file__).resolve().parent.parent
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/proc", "/sys", "/dev/urandom", "/dev/random", "/dev/zero"]
    own = [Path(sys.prefix), Path(sys.base_prefix), package]
    own += [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != package.parent]
    return [path for path in dict.fromkeys([*map(Path, system), *own]) if path.exists()]
