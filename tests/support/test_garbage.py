"""A garbage collection while a test parses source code does not fail that test."""

import ast
import gc

SOURCE = "\n".join(f"def f{number}(a, b):\n    return [a + b * {number} for _ in range(9)]" for number in range(200))


class _Parses:
    """A reference cycle whose finalizer parses source code, deeper in the stack than the code that it interrupts."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        self._parse(20)

    def _parse(self, depth: int) -> None:
        if depth:
            self._parse(depth - 1)
        else:
            ast.parse("a + b")


def test_a_finalizer_that_parses_does_not_disturb_a_parser() -> None:
    before = gc.get_threshold()
    gc.set_threshold(50)
    try:
        for _ in range(100):
            _Parses()
        assert len(ast.parse(SOURCE).body) == 200
    finally:
        gc.set_threshold(*before)
