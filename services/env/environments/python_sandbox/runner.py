"""The process in which an agent's code runs: it gives up what it could reach, then executes the code.

    python -P -s -S -B runner.py < {"code": ..., "tests": ..., "word": ..., "cpu_s": ..., "memory_bytes": ...}

Imports the standard library alone. What the code prints and its error go to stdout; stderr gets a sign before that, and
the word once the tests are passed. The kernel holds the limits (man seccomp, landlock, setrlimit), whatever the code
does: no network, no other process, no signals, no files but Python's own for reading, nothing written.
"""

import ast
import ctypes
import json
import os
import platform
import random
import resource
import signal
import struct
import sys
import traceback

SOURCE = "<code>"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""AUDIT_ARCH_* of <linux/audit.h>."""
DENIED = {
    # name: number on x86_64, on aarch64; None: not there. <asm/unistd.h>
    "socket": (41, 198), "socketpair": (53, 199), "fork": (57, None), "vfork": (58, None), "execve": (59, 221),
    "execveat": (322, 281), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "prlimit64": (302, 261), "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "sched_setparam": (142, 118), "ioprio_set": (251, 30), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97),
    "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "setuid": (105, 146), "setresuid": (117, 147), "setsid": (112, 157), "setpgid": (109, 154),
    "memfd_create": (319, 279), "inotify_init1": (294, 26), "setitimer": (38, 103), "prctl": (157, 167),
}  # fmt: skip
CLONE, CLONE3 = (56, 220), 435
CLONE_THREAD = 0x10000
X32 = 0x40000000
"""System calls of x86_64's other numbering start here."""
SECCOMP, FILTER, NO_NEW_PRIVILEGES, DEATH_SIGNAL = 22, 2, 38, 1  # <linux/prctl.h>, <linux/seccomp.h>
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_*
LOAD, EQUAL, AT_LEAST, BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # <linux/bpf_common.h>
EPERM, ENOSYS = 1, 38
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock, the same numbers everywhere
FILE_RIGHTS = (1 << 13) - 1
"""Landlock's first version: to run, write, read and list files, to make and remove them."""
READ = 1 << 2 | 1 << 3
READY = b"+"
"""Goes to stderr before the code is run."""
LIBC = ctypes.CDLL(None, use_errno=True)


class Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint))


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(Instruction)))


def missing_here() -> str:
    """Why no code can be confined on this machine; empty: it can be."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return f"code is confined on Linux on {' and '.join(ARCHITECTURES)} only"
    if LIBC.syscall(CREATE_RULESET, None, 0, 1) < 1:
        return "the kernel has no Landlock (Linux 5.13 and later, and not switched off)"
    return ""


def confine(cpu_s: int, memory_bytes: int) -> None:
    """Give up everything but computing, for good. OSError: the kernel did not agree."""
    LIBC.prctl(DEATH_SIGNAL, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # SIGXCPU tells the worker why it ended
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(limit, (value, value))
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _agreed(LIBC.capset(header, bytes(24)))  # root's powers, where it has any
    _agreed(LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _allow_reading([os.path.dirname(os.__file__), "/lib", "/lib64", "/usr/lib", "/usr/share/zoneinfo"])
    _forbid_calls()


def _agreed(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def _allow_reading(folders: list[str]) -> None:
    """Landlock: these folders may be read, and no other file is reached in any way."""
    ruleset = _agreed(LIBC.syscall(CREATE_RULESET, struct.pack("Q", FILE_RIGHTS), 8, 0))
    for folder in folders:
        if os.path.isdir(folder):
            there = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            _agreed(LIBC.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", READ, there), 0))
            os.close(there)
    _agreed(LIBC.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _forbid_calls() -> None:
    """Seccomp: the denied calls fail with EPERM; a new process counts as one, a new thread does not."""
    machine = platform.machine()
    column = list(ARCHITECTURES).index(machine)
    steps = [
        Instruction(LOAD, 0, 0, 4),  # the architecture
        Instruction(EQUAL, 1, 0, ARCHITECTURES[machine]),
        Instruction(RETURN, 0, 0, KILL),
        Instruction(LOAD, 0, 0, 0),  # the number of the call
        Instruction(AT_LEAST, 0, 1, X32),
        Instruction(RETURN, 0, 0, KILL),
        Instruction(EQUAL, 0, 1, CLONE3),  # its flags cannot be read: libraries fall back to clone
        Instruction(RETURN, 0, 0, REFUSE | ENOSYS),
    ]
    for number in (numbers[column] for numbers in DENIED.values()):
        if number is not None:
            steps += [Instruction(EQUAL, 0, 1, number), Instruction(RETURN, 0, 0, REFUSE | EPERM)]
    steps += [
        Instruction(EQUAL, 0, 3, CLONE[column]),
        Instruction(LOAD, 0, 0, 16),  # its first argument: the flags
        Instruction(BITS, 1, 0, CLONE_THREAD),
        Instruction(RETURN, 0, 0, REFUSE | EPERM),
        Instruction(RETURN, 0, 0, ALLOW),
    ]
    program = Program(len(steps), (Instruction * len(steps))(*steps))
    _agreed(LIBC.prctl(SECCOMP, FILTER, ctypes.byref(program), 0, 0))


def execute(code: str, names: dict[str, object]) -> bool:
    """Run code; the value of a last line that is an expression is printed, as an interpreter does. False: it failed,
    which is printed in one line."""
    try:
        tree = ast.parse(code, SOURCE)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, SOURCE, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), SOURCE, "eval"), names)
            if value is not None:
                sys.stdout.write(f"{value!r}\n")
    except BaseException as error:  # noqa: BLE001 - SystemExit too: the code does not decide how it ended
        sys.stdout.write(f"{_where(error)}{''.join(traceback.format_exception_only(error)).splitlines()[-1]}\n")
        return False
    finally:
        sys.stdout.flush()
    return True


def _where(error: BaseException) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == SOURCE]
    if isinstance(error, SyntaxError) and error.filename == SOURCE:
        lines.append(error.lineno)
    return f"line {lines[-1]}: " if lines else ""


def main() -> None:
    """Read what is to be done, confine this process, do it."""
    task = json.load(sys.stdin)
    confine(task["cpu_s"], task["memory_bytes"])
    random.seed(0)
    verdict = os.dup(2)
    os.write(verdict, READY)
    os.dup2(1, 2)  # warnings of the code are part of what it says
    os.close(0)
    names: dict[str, object] = {"__name__": "__main__"}
    passed = execute(task["code"], names) and (not task["tests"] or execute(task["tests"], names))
    if passed:
        os.write(verdict, task["word"].encode())
    os._exit(0)


if __name__ == "__main__":
    main()
