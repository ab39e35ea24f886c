"""What parsing Buildkite's JSON has in common, over REST (`payload`) and through a portal (`portal_payload`)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from buildkite_connector.buildkite.body import has_too_many_values
from buildkite_connector.model.redactor import Redactor

T = TypeVar("T")

IDENTIFIER = r"^[0-9A-Za-z_][0-9A-Za-z_.:=~@+-]{0,199}$"
"""Ids and slugs become parts of paths and stand in sentences. Buildkite's are UUIDs, and words with dashes."""

MOST_TEXT = 1_000_000
"""Characters of names, descriptions and URLs in a page: looking for credentials in them takes time. 100 pipelines with
the longest texts have about 800,000."""

LONGEST_TEXT = 2048
"""Characters of a name or description that are kept; C1 takes less (`c1z.messages`)."""

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
Word = Annotated[str, StringConstraints(max_length=200)]

MOST_MESSAGES = 3
"""Errors of GraphQL of one answer that are quoted."""

_LONGEST_NOTE = 100
"""Characters of a text that only informs."""


def note(value: object) -> str | None:
    """One line of printable text, or None. Interned: few different ones come, in every account or team."""
    if not isinstance(value, str):
        return None
    text = value[:_LONGEST_NOTE]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return intern(text.strip()) or None


@dataclass(frozen=True, slots=True)
class Informs:
    """Marks a field that takes `otherwise` in place of a value of another type."""

    otherwise: str | int | None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=self.otherwise, on_error="default")


class Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class _Said(Payload):
    message: Annotated[str, Informs("")] = ""


class _Complaint(_Said):
    errors: Annotated[tuple[_Said, ...] | None, Informs(None)] = None
    """As GraphQL has them."""


class PayloadError(Exception):
    """An answer's body is not what was expected. `broken`: it is not even JSON, as when cut short.

    `absent`: the place of a field that is not there at all; else empty.
    """

    def __init__(self, message: str, *, broken: bool, absent: str = "") -> None:
        super().__init__(message)
        self.broken = broken
        self.absent = absent


def check_size(body: bytes, most: int) -> None:
    """Raises PayloadError when parsing the body would take more memory than there is for it."""
    if has_too_many_values(body, most):
        raise PayloadError(f"body: expected at most {most:,} values", broken=False)


def text_filter(
    items: Iterable[Payload], fields: Iterable[str], redactor: Redactor, longest: int = LONGEST_TEXT
) -> Callable[[str | None], str]:
    """What cuts a text of these fields to `longest` characters, and takes the Secret's credentials out.

    Raises PayloadError for more text than a page can have.
    """
    values = (getattr(each, field) for each in items for field in fields)
    texts = [value[: 2 * longest] for value in values if isinstance(value, str)]
    if sum(map(len, texts)) > MOST_TEXT:
        raise PayloadError(f"body: expected at most {MOST_TEXT:,} characters of names and URLs", broken=False)
    held = redactor.holds_secret("|".join(texts))  # one look at all of them takes a tenth of the time

    def kept(text: str | None) -> str:
        whole = (text or "")[: 2 * longest]
        return (redactor.redact(whole) if held and redactor.holds_secret(whole) else whole)[:longest]

    return kept


def complaint(body: bytes) -> str:
    """What an error's body says, as it came and not yet fit to be shown: its `message`, or those of GraphQL's `errors`.
    Empty when there is none."""
    try:
        found = _Complaint.model_validate_json(body)
    except ValidationError:
        return ""
    return found.message or "; ".join(filter(None, (each.message for each in (found.errors or ())[:MOST_MESSAGES])))


def check_words(words: Iterable[str], redactor: Redactor) -> None:
    """Raises PayloadError when a credential is among ids and slugs that will stand in sentences."""
    joined = "|".join(words)
    if redactor.holds_secret(joined):
        raise PayloadError("body: expected ids and slugs, but a credential is among them", broken=False)


def moment(text: object) -> datetime:
    """`2025-07-23 06:07:42 UTC`, or ISO 8601 with a zone, in UTC and whole seconds. Raises ValueError."""
    try:
        found = datetime.fromisoformat(re.sub(" ?UTC$", "Z", text)) if isinstance(text, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a time like 2025-07-23 06:07:42 UTC")


Moment = Annotated[datetime, PlainValidator(moment)]


def parse(adapter: TypeAdapter[T], body: bytes) -> T:
    """Raises PayloadError that names the field."""
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise _payload_error(error) from None


def parse_value(adapter: TypeAdapter[T], value: object) -> T:
    """The same for a part of JSON that was parsed before."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise _payload_error(error) from None


def _payload_error(error: ValidationError) -> PayloadError:
    first: Any = error.errors(include_url=False, include_input=False)[0]
    broken = first["type"] == "json_invalid"
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    told = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        told = "expected 1 to 200 letters, digits, or characters of _.:=~@+-, of which the first is a letter or digit"
    place = place.lstrip(".")
    return PayloadError(f"{place or 'body'}: {told}{more}", broken=broken, absent=place * (first["type"] == "missing"))
