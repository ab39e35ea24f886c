"""What was promised, beside what was measured. A promise that no measured case concerns is left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.measurement import Measurement, Run

MB = 1e6

EXTRA_REQUESTS = 3
OVER_WINDOWS = 1.05
OVER_MINUTES = 1.02
MINUTE = 60.0
ACCESS = "10k-access-20ms"
LINEAR = 1.3


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """One promise; `measured` says with what it was compared."""

    promise: str
    measured: str
    kept: bool


def verdicts(measured: Mapping[str, Measurement]) -> list[ConditionValue]:
    """Judge by the median of wall times and the worst of everything else. `measured`: by the case's name."""
    everything = list(measured.values())
    found = [*_of_all(everything), *_of_windows(everything)]

    def limit(name: str, promise: str, most: float, value: Callable[[Measurement], float], unit: str) -> None:
        if name in measured:
            amount = value(measured[name])
            found.append(ConditionValue(f"{name}: {promise} ≤ {most:g} {unit}", f"{amount:.3g} {unit}", amount <= most))

    limit("1k", "process start to end", 0.8, lambda case: case.wall, "s")
    limit("10k-20ms", "process start to end", 3.0, lambda case: case.wall, "s")
    limit("10k-20ms", "peak memory", 150, lambda case: case.peak / MB, "MB")
    limit(ACCESS, "process start to end", 25, lambda case: case.wall, "s")
    limit(ACCESS, "peak memory", 150, lambda case: case.peak / MB, "MB")
    limit(ACCESS, "a task's file with expanded grants", 25, lambda case: _expanding(case).wall, "s")
    limit(ACCESS, "peak memory of that", 150, lambda case: _expanding(case).peak / MB, "MB")
    for name in ("10k", "10k-20ms", ACCESS):
        limit(name, "longest stall of the event loop", 50, _stall_milliseconds, "ms")
    for name in ("100k", "100k-20ms"):
        limit(name, "peak memory", 400, lambda case: case.peak / MB, "MB")
    for large, medium in (("100k", "10k"), ("100k-20ms", "10k-20ms")):
        if large in measured and medium in measured:
            found.append(_linear(measured[large], measured[medium]))
    return found


def _of_all(measured: Sequence[Measurement]) -> list[ConditionValue]:
    if not measured:
        return []
    worst = max(measured, key=lambda one: one.excess)
    refused = sum(one.refused for one in measured)
    return [
        ConditionValue(
            f"every case: requests ≤ the minimum + {EXTRA_REQUESTS}",
            f"the minimum + {worst.excess} ({worst.case.name}: {worst.requests:,})",
            0 <= worst.excess <= EXTRA_REQUESTS,
        ),
        ConditionValue("every case: no 429", f"{refused} in {len(measured)} cases", refused == 0),
    ]


def _of_windows(measured: Sequence[Measurement]) -> list[ConditionValue]:
    found = []
    for one in measured:
        if one.case.quota is not None and one.least_seconds is not None:
            most = OVER_MINUTES if one.case.quota.window == MINUTE else OVER_WINDOWS
            ratio = one.exchange / one.least_seconds
            found.append(
                ConditionValue(
                    f"{one.case.name}: time ≤ {most} × what the windows and the share allow",
                    f"{ratio:.3f} × ({one.exchange:.2f} s of {one.least_seconds:.2f} s)",
                    ratio <= most,
                )
            )
    return found


def _linear(large: Measurement, medium: Measurement) -> ConditionValue:
    ratio = _each(large) / _each(medium)
    return ConditionValue(
        f"{large.case.name}: time per membership ≤ {LINEAR} × that of {medium.case.name}",
        f"{ratio:.2f} × ({_each(large) * 1e6:.1f} µs against {_each(medium) * 1e6:.1f} µs)",
        ratio <= LINEAR,
    )


def _stall_milliseconds(one: Measurement) -> float:
    return one.stall.seconds * 1e3 if one.stall else 0.0


def _expanding(one: Measurement) -> Run:
    if one.expansion is None:
        raise ValueError(f"{one.case.name}: no grants were expanded")
    return one.expansion.run


def _each(one: Measurement) -> float:
    return one.wall / one.case.size.memberships
