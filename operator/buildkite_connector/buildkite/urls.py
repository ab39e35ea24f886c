"""URLs that Buildkite sends and C1 gets: of a pipeline's repository, and of pages. Nothing is ever asked of them."""

import re

LONGEST_URL = 2048
"""Characters of a URL that is kept."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/]*)@)?((?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?)(/[^@]*)?")
"""Scheme, user info, host and port, path. A URL with an `@` in its path may be one with a slash in its password."""
_SCP_LIKE = re.compile(r"(?:[\w.-]{1,32}@)?[\w.-]+:[^@]*")
_LOCAL_PATH = re.compile(r"[^@:]*")
_EXTRAS = re.compile("[?#;]")
_ESCAPED_MARK = re.compile("%(?:23|3b|3f|40|5c)", re.I)
_SSH = frozenset({"ssh", "git+ssh", "ssh+git", "svn+ssh"})
_SSH_USER = re.compile(r"[\w.-]{1,32}")


def without_credentials(url: str | None) -> str:
    """A URL without user info, query and fragment: each may be somebody's credential. SSH keeps a plain user name.

    Empty where it is not certain which part is which: a password may hold each of the marks that separate parts.
    """
    text = (url or "").strip()
    if len(text) > LONGEST_URL or not text.isprintable() or " " in text or "\\" in text:
        return ""
    bare = _EXTRAS.split(text, maxsplit=1)[0]
    if "@" in text[len(bare) :]:
        return ""
    if found := _URL.fullmatch(bare):
        scheme, user_info, host, path = found.groups(default="")
        user = user_info.partition(":")[0] if scheme.lower() in _SSH else ""
        bare = f"{scheme}://{user + '@' if _SSH_USER.fullmatch(user) else ''}{host}{path}"
    elif "://" in bare or not (_SCP_LIKE.fullmatch(bare) or _LOCAL_PATH.fullmatch(bare)):
        return ""
    return "" if _ESCAPED_MARK.search(bare) else bare


def web_url(url: str | None) -> str:
    """The address of a page, in the same way. Empty where it is none."""
    found = without_credentials(url)
    return found if found.lower().startswith(("http://", "https://")) else ""
