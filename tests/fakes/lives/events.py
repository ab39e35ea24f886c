"""What can happen in a connector's random life, the frequent things several times.

An event takes a number, from which it draws its details, and gives whether it could happen.
"""

from collections.abc import Callable

from fakes.lives import c1_side, session, surroundings, work
from fakes.lives.life import Life

Event = Callable[[Life, int], bool]


def nothing(life: Life, number: int) -> bool:
    return False


ENDS: tuple[Event, ...] = (
    work.the_check_ends,
    work.the_sync_ends,
    work.a_slot_is_free,
    session.an_upload_ends,
    session.c1_takes_the_end,
    session.c1_is_closed,
)


def something_ends(life: Life, number: int) -> bool:
    """Something that is under way ends; C1 answers Hello; else time passes to the wake time."""
    turn = number % len(ENDS)
    if any(event(life, number) for event in (*ENDS[turn:], *ENDS[:turn])):
        return True
    if work.its_secret_is_read_again(life):
        return True
    return (not life.state.c1.settled and session.c1_answers(life, number)) or surroundings.it_wakes(life, number)


OFTEN: tuple[Event, ...] = (session.c1_asks, surroundings.time_passes)
AT_TIMES: tuple[Event, ...] = (
    surroundings.it_wakes,
    surroundings.it_is_edited,
    surroundings.a_sync_is_requested,
    surroundings.a_shrink_is_accepted,
    surroundings.the_secret_changes,
    surroundings.it_starts_again,
    session.c1_fails,
    session.c1_withdraws,
)
SELDOM: tuple[Event, ...] = (
    surroundings.the_clock_is_set,
    surroundings.another_connector_comes_or_goes,
    work.a_check_breaks,
)
IN_C1: tuple[Event, ...] = (*(6 * (c1_side.a_look_ends,)), *(4 * (c1_side.c1_goes_on,)))
EVENTS = (nothing, *(24 * (something_ends,)), *(5 * OFTEN), *(2 * AT_TIMES), *SELDOM, *IN_C1)
"""The first is what a life is made simpler by."""
