"""The command that the page runs: it prints one quote's story as JSON."""

from pathlib import Path

import msgspec
import pytest

from process.settings import SettingsError
from recorded import __main__ as command
from recorded.command import CANNOT, PRINTED, UNKNOWN_QUOTE
from recorded.explain import UnknownQuote
from recorded.story import Story
from recorded.streams import CannotRead


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (Story(quote_id="AAA-v1-a1"), PRINTED),
        (UnknownQuote("no quote AAA-v1-a1"), UNKNOWN_QUOTE),
        (CannotRead("there is no stream"), CANNOT),
        (SettingsError("no such setting"), CANNOT),
    ],
)
def test_it_prints_the_story_or_why_there_is_none(
    found: Story | Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(quote_id: str) -> Story:
        assert quote_id == "AAA-v1-a1"
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(command, "_story", story)
    assert command.main(["AAA-v1-a1"]) == code
    printed = capsys.readouterr()
    if isinstance(found, Story):
        assert msgspec.json.decode(printed.out, type=Story) == found
    else:
        assert (printed.out, printed.err) == ("", f"{found}\n")


def test_it_ignores_the_settings_of_the_page_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It inherits the environment of the page. No broker is running."""
    monkeypatch.setenv("QS_UI_NOTICES", "notices")
    monkeypatch.setenv("QS_UI_PORT", "8000")
    monkeypatch.setenv("QS_STACK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    assert command.main(["AAA-v1-a1"]) == CANNOT
    assert "no NATS server answers at nats://127.0.0.1:1" in capsys.readouterr().err
