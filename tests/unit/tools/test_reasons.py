"""docs/reasons.md says of each reason what is so and what to do."""

import pytest

import reasons
from buildkite_connector.model.failure import Reason

SOURCE = '''
class Reason(StrEnum):
    """All of them."""

    # The Secret
    KEY_EMPTY = "KeyEmpty"
    """A key of the Secret
    is empty.

    Put the value in."""
'''


def test_a_reason_stands_under_its_heading_with_its_remedy() -> None:
    [found] = reasons.explained(SOURCE)
    assert found == reasons.Explained("The Secret", "KeyEmpty", "A key of the Secret is empty.", "Put the value in.")
    assert reasons.to_page([found]).endswith(
        "## The Secret\n\n### KeyEmpty\n\nA key of the Secret is empty.\n\n**What to do:** Put the value in.\n"
    )


def test_every_reason_is_found_once() -> None:
    assert [each.name for each in reasons.explained(reasons.SOURCE.read_text())] == [each.value for each in Reason]


@pytest.mark.parametrize("text", ['"""One paragraph."""', "", '"""One.\n\n    Two.\n\n    Three."""'])
def test_a_reason_without_both_paragraphs_is_refused(text: str) -> None:
    source = f'class Reason(StrEnum):\n    # The Secret\n    KEY_EMPTY = "KeyEmpty"\n    {text}\n'
    with pytest.raises(ValueError, match="KeyEmpty"):
        list(reasons.explained(source))
