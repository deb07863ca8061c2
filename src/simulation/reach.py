"""Line coverage: which lines of the services no run has reached.

Only lines in functions count, because the others run at import. A function whose lines were all reached is not traced
again, so this costs least where runs reach much.
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
"""Modules that a simulation does not run: programs, HTTP routes, operators' tools. `jet/api.py` is none of these."""
REPLACED = ("jet/frames.py", "jet/link.py")
"""Modules that the simulated client replaces."""
ELSEWHERE = ("jet/reader.py",)
"""Modules that no service runs but the page, which is not simulated."""


class Reach:
    """Records which lines were not reached so far, by file and function."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, int, str], set[int]] = {}
        self._all = 0
        for path in chain.from_iterable(sorted((SOURCE / package).rglob("*.py")) for package in PACKAGES):
            if str(path.relative_to(SOURCE)) in REPLACED + ELSEWHERE:
                continue
            if path.name not in OUTSIDE or path.parent.name == "jet":
                for code in _functions(compile(path.read_text(), str(path), "exec")):
                    lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
                    self._left[str(path), code.co_firstlineno, code.co_name] = lines
                    self._all += len(lines)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what is reached within the block."""
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
        """Yield a summary, and then each line that was not reached, by file."""
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
            if constant.co_flags & 0x2:  # a function, not the body of a class
                yield constant
            yield from _functions(constant)
