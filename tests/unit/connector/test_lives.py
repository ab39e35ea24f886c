"""Random lives of a connector: whatever happens, in whatever order, the core keeps its promises."""

from collections.abc import Iterator

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from buildkite_connector.connector.state import DesiredState
from buildkite_connector.model.spec import ConnectorSpec
from fakes.c1_rest import C1_SPEC
from fakes.lives.account import Unread
from fakes.lives.events import EVENTS, Event
from fakes.lives.life import Life
from fakes.lives.promises import bring_up, check_it_settles, check_promises
from harness.examples import examples

LONGEST = 50
"""Events in a life, beside those that bring a connector up."""
LUCK = (0.0, 0.5, 1.0)


def live(life: Life, story: bytes) -> None:
    """Two bytes an event: which one, and its details."""
    try:
        if story[0] % 4:
            bring_up(life)
        for what, details in _pairs(story):
            _let_happen(life, EVENTS[what % len(EVENTS)], details)
        check_it_settles(life)
    except Exception as error:
        error.add_note("\n".join(f"{what} {details!r}" for what, details in life.log))
        raise


def _pairs(story: bytes) -> Iterator[tuple[int, int]]:
    return zip(story[::2], story[1::2], strict=True)


def _let_happen(life: Life, event: Event, details: int) -> None:
    life.luck = LUCK[details % 3]
    life.log.append((event.__name__, details))
    if event(life, details):
        check_promises(life)
    else:
        life.log.pop()


stories = st.integers(1, LONGEST).flatmap(lambda events: st.binary(min_size=2 * events, max_size=2 * events))


@settings(max_examples=examples(700), suppress_health_check=list(HealthCheck))
@given(stories)
@example(bytes.fromhex("27e201ee0000240100000100280200000100000000000000000000000000010000001900"))
def test_a_connector_keeps_its_promises_in_every_life(story: bytes) -> None:
    live(Life(), story)


@settings(max_examples=examples(700), suppress_health_check=list(HealthCheck))
@given(stories)
@example(bytes.fromhex("36e12c47" + "00" * 40 + "24a4"))
def test_a_connector_that_c1_is_asked_for_keeps_its_promises_in_every_life(story: bytes) -> None:
    spec = ConnectorSpec(host_id="default.acme", c1=C1_SPEC)
    live(Life(desired=DesiredState(1, spec, Unread())), story)
