"""Which lines of the services no run has reached.

Only what is in functions counts: the rest runs when a module is read. A function that was reached whole is not looked
at again, so this costs least where runs reach much.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

SOURCE = Path(__file__).parents[1]
PACKAGES = ("exchange", "exposure", "jet", "ledger", "maker", "wire")
OUTSIDE = ("__main__.py", "api.py", "repair.py")
"""What a simulation does not run: programs, HTTP, and tools of the operator. `jet/api.py` is none of these."""


class Reach:
    """What was reached so far: by file and by function, which lines were not."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, int, str], set[int]] = {}
        self._all = 0
        for path in chain.from_iterable(sorted((SOURCE / package).rglob("*.py")) for package in PACKAGES):
            if path.name not in OUTSIDE or path.parent.name == "jet":
                for code in _functions(compile(path.read_text(), str(path), "exec")):
                    lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
                    self._left[str(path), code.co_firstlineno, code.co_name] = lines
                    self._all += len(lines)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is reached within the block."""
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        del event
        code = frame.f_code
        left = self._left.get((code.co_filename, code.co_firstlineno, code.co_name))
        if not left:
            return None

        def line(inner: FrameType, what: str, _: Any) -> Any:
            if what == "line":
                left.discard(inner.f_lineno)
            return line if left else None

        left.discard(frame.f_lineno)
        return line

    def report(self) -> Iterator[str]:
        """What was not reached, by file, and how much that is."""
        missed = sum(map(len, self._left.values()))
        yield f"{self._all - missed} of {self._all} lines of functions are reached"
        by_file: dict[str, set[int]] = {}
        for (file, _, _), lines in self._left.items():
            by_file.setdefault(file, set()).update(lines)
        for file, lines in by_file.items():
            text = Path(file).read_text().splitlines()
            for number in sorted(lines):
                yield f"{Path(file).relative_to(SOURCE)}:{number}: {text[number - 1].strip()}"


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 0x2:  # a function, and no body of a class
                yield constant
            yield from _functions(constant)
