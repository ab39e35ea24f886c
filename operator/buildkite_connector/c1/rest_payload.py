"""The answers of C1's REST API, as far as they are used.

A text or time that is absent, null or of another type is read as empty: only what a caller needs is demanded.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_ITEMS = 1000
"""Items of one page, of which 50 are asked for; pydantic stops there."""
LONGEST_PAGE_TOKEN = 4096
LONGEST_TIME = 64
LONGEST_LINE = 4096
"""Characters of a text that is shown: far more than are shown of it, and few enough to be kept for each connector."""

_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _line(value: object) -> str:
    return _text(value)[:LONGEST_LINE]


def _texts(value: object) -> dict[str, str]:
    return {key: _text(text) for key, text in value.items()} if isinstance(value, dict) else {}


def _moment(value: object) -> datetime | None:
    """In UTC; None for what is not a time, and for one without a time zone."""
    try:
        moment = _DATETIME.validate_python(_text(value)[:LONGEST_TIME])
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValidationError, OverflowError):
        return None


def _second(value: object) -> datetime | None:
    """In whole seconds, as the status keeps it: after a restart the same time must not look like another."""
    moment = _moment(value)
    return moment.replace(microsecond=0) if moment is not None else None


def _object(value: object) -> object:
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
Line = Annotated[str, BeforeValidator(_line)]
Moment = Annotated[datetime | None, BeforeValidator(_moment)]
Second = Annotated[datetime | None, BeforeValidator(_second)]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", hide_input_in_errors=True)


class Nothing(_Model):
    """The answer to a command: an empty object."""


class Problem(_Model):
    """An error, as google.rpc.Status; C1 does not document its form."""

    message: Text = ""


class _Lasting(_Model):
    id: Text = ""
    created_at: Moment = None
    deleted_at: Any = None

    @property
    def deleted(self) -> bool:
        return bool(self.deleted_at)


class SyncStatus(_Model):
    status: Text = ""
    started_at: Second = None
    completed_at: Second = None
    last_error: Line = ""


class Cron(_Model):
    cron_spec: Line = ""
    timezone: Line = ""


class Connector(_Lasting):
    catalog_id: Text = ""
    description: Text = ""
    status: Annotated[SyncStatus, BeforeValidator(_object)] = SyncStatus()
    sync_disabled_at: Second = None
    sync_disabled_category: Line = ""
    sync_disabled_reason: Line = ""
    connector_sync_cron_schedule: Annotated[Cron, BeforeValidator(_object)] = Cron()


class ConnectorView(_Model):
    connector: Annotated[Connector, BeforeValidator(_object)] = Connector()


class ConnectorAnswer(_Model):
    connector_view: Annotated[ConnectorView, BeforeValidator(_object)] = ConnectorView()


class App(_Lasting):
    annotations: Annotated[dict[str, str], BeforeValidator(_texts)] = {}


class AppAnswer(_Model):
    app: Annotated[App, BeforeValidator(_object)] = App()


class Credential(_Lasting):
    client_id: Text = Field(default="", repr=False)
    client_secret: Text = Field(default="", repr=False)
    expires_time: Moment = None
    last_used_at: Moment = None


class CredentialAnswer(_Model):
    credential: Annotated[Credential, BeforeValidator(_object)] = Credential()


class Page(_Model):
    """`items` must be there, if only as null: an answer without them is not an empty list."""

    next_page_token: Annotated[Text, Field(max_length=LONGEST_PAGE_TOKEN)] = ""


class AppPage(Page):
    items: Annotated[list[App], Field(max_length=MOST_ITEMS)] | None = Field(alias="list")


class ConnectorPage(Page):
    items: Annotated[list[ConnectorView], Field(max_length=MOST_ITEMS)] | None = Field(alias="list")
