"""Which certificate authorities servers are verified against: read as Go's crypto/x509 reads them on Linux.

One file (SSL_CERT_FILE, or the first of the system's bundles) and every file of some directories (SSL_CERT_DIR, or the
system's). A certificate that cannot be parsed is left out and the others count. Only where a system has neither bundle
nor directory do Mozilla's authorities count, in the copy that the package certifi brings.
"""

import base64
import binascii
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildkite_connector.model.failure import Failure, Reason, Remedy
from buildkite_connector.model.redactor import Redactor

FILE_VARIABLE = "SSL_CERT_FILE"
DIRECTORY_VARIABLE = "SSL_CERT_DIR"

SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Gentoo, distroless
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL 6
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/pki/tls/cacert.pem",  # OpenELEC
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # CentOS, RHEL 7
    "/etc/ssl/cert.pem",  # Alpine
)
"""The first of these that can be read counts (Go's root_linux.go, as the directories)."""
SYSTEM_DIRECTORIES = ("/etc/ssl/certs", "/etc/pki/tls/certs")

_LONGEST_PATH = 500
"""Characters of a path that are shown."""
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----[ \t]*\r?\n([^-]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Trust:
    """The authorities' certificates in DER, each once. None of them: no server is trusted.

    `sources`: the files and directories they are from, for people. `warnings`: sentences about what was left out.
    """

    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def pem(self) -> bytes:
        """All certificates in PEM, for gRPC."""
        return "".join(map(ssl.DER_cert_to_PEM_cert, self.certificates)).encode()

    def ssl_context(self) -> ssl.SSLContext:
        """A context for one client, as that may change its ALPN protocols. Takes milliseconds of processor time.

        Verifies chains as Go and gRPC do. Python's default context would refuse authorities whose certificate lacks a
        key identifier (since 3.13), as those of many companies do, and would read SSLKEYLOGFILE.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any certificate named here is an anchor
        if self.certificates:
            context.load_verify_locations(cadata=b"".join(self.certificates))
        return context


def parse_trust(*pem: bytes) -> Trust:
    """Parse the certificates of these texts in PEM."""
    parser = _Parser()
    return Trust(tuple(dict.fromkeys(each for text in pem for each in parser.certificates(text))))


def read_trust(
    environment: Mapping[str, str],
    system_files: Sequence[str] = SYSTEM_FILES,
    system_directories: Sequence[str] = SYSTEM_DIRECTORIES,
) -> Trust:
    """Read files and directories once; blocking.

    Raises Failure SPEC_INVALID where a variable names something of which no certificate can be read: Go goes on without
    it, and every connection fails with a sentence that does not name the file.
    """
    file, directory = environment.get(FILE_VARIABLE, ""), environment.get(DIRECTORY_VARIABLE, "")
    parser = _Parser()
    found: dict[bytes, None] = {}
    sources: list[str] = []
    warnings: list[str] = []
    if file:
        named, left_out = _read_named(Path(file), parser)
        found.update(dict.fromkeys(named))
        sources.append(f"{file} ({FILE_VARIABLE})")
        if left_out:
            warnings.append(
                f"{FILE_VARIABLE} names {file}, which has certificates that cannot be read ({left_out} ignored)."
            )
    else:
        for path in system_files:
            data = _read(Path(path))
            if data is not None:
                found.update(dict.fromkeys(parser.certificates(data)))
                sources.append(path)
                break
    listed = [each for each in directory.split(":") if each] if directory else list(system_directories)
    readable = [each for each in listed if _is_directory(each)]
    if directory and not readable:
        raise _unusable(DIRECTORY_VARIABLE, directory, "but no such directory exists")
    for path in readable:
        inside = dict.fromkeys(each for data in _files_of(Path(path)) for each in parser.certificates(data))
        if directory or not inside.keys() <= found.keys():
            sources.append(f"{path} ({DIRECTORY_VARIABLE})" if directory else path)
        found.update(inside)
    if not found:
        if directory:
            raise _unusable(DIRECTORY_VARIABLE, directory, "but no file in it contains a certificate in PEM")
        return _bundled()
    return Trust(tuple(found), tuple(sources), tuple(warnings))


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # such as a name that is too long
        return False


def _bundled() -> Trust:
    """Mozilla's authorities, for an image without any."""
    import certifi  # noqa: PLC0415  (seldom needed)

    trust = parse_trust(Path(certifi.where()).read_bytes())
    return Trust(trust.certificates, ("Mozilla's list from the package certifi",))


def _read_named(path: Path, parser: "_Parser") -> tuple[list[bytes], int]:
    """The certificates of the file that SSL_CERT_FILE names, at least one, and how many cannot be read.

    Raises Failure.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _unusable(FILE_VARIABLE, path, "but no such file exists") from None
    except IsADirectoryError:
        raise _unusable(
            FILE_VARIABLE, path, f"which is a directory: set {DIRECTORY_VARIABLE} for directories"
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a path"
        raise _unusable(FILE_VARIABLE, path, f"which cannot be read ({why})") from None
    certificates = parser.certificates(data)
    if certificates:
        return certificates, data.count(_BEGIN) - len(certificates)
    if not data.strip():
        what = "which is empty"
    elif parser.accepts(data):
        what = f"which is in DER: convert it with `openssl x509 -inform der -in {path} -out FILE.pem`"
    elif _BEGIN in data:
        what = "which is damaged: none of its certificates can be read"
    else:
        what = "which contains no certificate in PEM (-----BEGIN CERTIFICATE-----)"
    raise _unusable(FILE_VARIABLE, path, what)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _files_of(directory: Path) -> Iterator[bytes]:
    """What the files of a directory hold, without the links by hash that lead to others of them."""
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return
    for path in entries:
        try:
            doubled = path.is_symlink() and "/" not in str(path.readlink())
            data = path.read_bytes() if path.is_file() and not doubled else None
        except OSError:
            continue
        if data is not None:
            yield data


class _Parser:
    """Reads certificates from PEM texts; those that OpenSSL cannot parse are left out."""

    def __init__(self) -> None:
        self._scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._accepted: dict[bytes, bool] = {}  # the system's directory repeats what its bundle has

    def certificates(self, pem: bytes) -> list[bytes]:
        """Return the certificates in DER. Text around them is ignored, a byte order mark included."""
        decoded = [_decoded(block[1]) for block in _BLOCK.finditer(pem)]
        return [der for der in decoded if der and self.accepts(der)]

    def accepts(self, der: bytes) -> bool:
        if der not in self._accepted:
            try:
                self._scratch.load_verify_locations(cadata=der)
            except (ssl.SSLError, ValueError):
                self._accepted[der] = False
            else:
                self._accepted[der] = True
        return self._accepted[der]


def _decoded(text: bytes) -> bytes:
    """Empty for what is not base64."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        return b""


def _unusable(variable: str, value: object, what: str) -> Failure:
    named = f"names {Redactor().quote(str(value), _LONGEST_PATH)}, {what}"
    if "-----BEGIN" in str(value):  # whatever it is, it may be a key
        named = "contains PEM itself; it must be the path of a file or directory"
    return Failure(
        Reason.SPEC_INVALID,
        f"{variable} {named}. Correct the variable, or unset it to use the system's authorities.",
        remedy=Remedy.EDIT,
    )
