"""Whom servers are verified against: files and directories as Go reads them, and a sentence where none can be read."""

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from buildkite_connector.model.failure import Failure, Reason
from buildkite_connector.network import Trust, parse_trust, read_trust

CAS = [trustme.CA(organization_name=f"authority {number}") for number in range(3)]
ONE, TWO, THREE = (ca.cert_pem.bytes() for ca in CAS)


def names(trust: Trust) -> set[str]:
    """Of the authorities that a client's context knows."""
    certificates: Any = trust.ssl_context().get_ca_certs()
    found = {value for each in certificates for ((key, value),) in each["subject"] if key == "organizationName"}
    return {each for each in found if each.startswith("authority")}


def write(path: Path, *texts: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(texts))
    return str(path)


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


@pytest.fixture
def system(tmp_path: Path) -> tuple[list[str], list[str]]:
    """A system with authority 0 in its second bundle, and an empty directory."""
    (tmp_path / "certs").mkdir()
    bundles = [str(tmp_path / "missing.crt"), write(tmp_path / "bundle.crt", ONE), write(tmp_path / "last.crt", THREE)]
    return bundles, [str(tmp_path / "nowhere"), str(tmp_path / "certs")]


def test_the_first_bundle_of_the_system_counts(system: tuple[list[str], list[str]]) -> None:
    trust = read_trust({}, *system)
    assert names(trust) == {"authority 0"}
    assert trust.sources == (system[0][1],)


def test_the_file_takes_the_place_of_the_bundle(system: tuple[list[str], list[str]], tmp_path: Path) -> None:
    file = write(tmp_path / "ca.pem", TWO)
    trust = read_trust({"SSL_CERT_FILE": file}, *system)
    assert names(trust) == {"authority 1"}
    assert trust.sources == (f"{file} (SSL_CERT_FILE)",)
    assert trust.warnings == ()


def test_the_directories_of_the_system_count_beside_either(system: tuple[list[str], list[str]], tmp_path: Path) -> None:
    write(tmp_path / "certs" / "three.pem", THREE)
    assert names(read_trust({}, *system)) == {"authority 0", "authority 2"}
    file = write(tmp_path / "ca.pem", TWO)
    assert names(read_trust({"SSL_CERT_FILE": file}, *system)) == {"authority 1", "authority 2"}


def test_directories_that_are_named_take_the_place_of_those_of_the_system(
    system: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    write(tmp_path / "certs" / "one.pem", ONE)
    write(tmp_path / "a" / "two.pem", TWO)
    write(tmp_path / "b" / "three.crt", THREE)
    named = f"{tmp_path / 'a'}:{tmp_path / 'missing'}:{tmp_path / 'b'}:"
    trust = read_trust({"SSL_CERT_DIR": named}, [], system[1])
    assert names(trust) == {"authority 1", "authority 2"}
    assert trust.sources == (f"{tmp_path / 'a'} (SSL_CERT_DIR)", f"{tmp_path / 'b'} (SSL_CERT_DIR)")
    assert names(read_trust({"SSL_CERT_DIR": str(tmp_path / "a")}, *system)) == {"authority 0", "authority 1"}


def test_an_empty_directory_beside_a_file_leaves_the_file_alone(
    system: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    write(tmp_path / "certs" / "one.pem", ONE)
    (tmp_path / "empty").mkdir()
    environment = {"SSL_CERT_FILE": write(tmp_path / "ca.pem", TWO), "SSL_CERT_DIR": str(tmp_path / "empty")}
    assert names(read_trust(environment, *system)) == {"authority 1"}


def test_everything_in_a_directory_that_is_no_certificate_is_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    write(directory / "two.pem", TWO)
    write(directory / "notes.txt", b"none here")
    write(directory / "inner" / "three.pem", THREE)
    write(directory / "one.der", der(ONE))
    (directory / "dangling.0").symlink_to("nothing")
    (directory / "2.0").symlink_to("two.pem")
    (directory / "elsewhere.pem").symlink_to(write(tmp_path / "elsewhere" / "one.pem", ONE))
    os.mkfifo(directory / "pipe")
    assert names(read_trust({"SSL_CERT_DIR": str(directory)}, [], [])) == {"authority 0", "authority 1"}


def test_an_image_without_any_trusts_the_list_that_certifi_has(tmp_path: Path) -> None:
    trust = read_trust({}, [str(tmp_path / "no.crt")], [str(tmp_path / "nowhere")])
    assert len(trust.certificates) > 50
    assert "certifi" in trust.sources[0]


BROKEN = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "broken",
    [
        BROKEN % b"bm90IGEgY2VydGlmaWNhdGU=",
        BROKEN % b"*** not base64 ***",
        BROKEN % b"Proc-Type: 4,ENCRYPTED\n\nbm90IGEgY2VydGlmaWNhdGU=",
        BROKEN % ONE.splitlines()[1],
        b"\n".join(ONE.splitlines()[:-1]) + b"\n",
    ],
    ids=["no DER", "no base64", "with headers", "cut off", "without an end"],
)
def test_a_broken_certificate_among_good_ones_is_left_out_and_warned_of(broken: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "ca.pem", TWO, broken, THREE)
    trust = read_trust({"SSL_CERT_FILE": file}, [], [])
    assert names(trust) == {"authority 1", "authority 2"}
    assert trust.pem.count(b"BEGIN") == 2
    (warning,) = trust.warnings
    assert warning.startswith(f"SSL_CERT_FILE names {file}, which has certificates that cannot be read (1 ignored)")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xef\xbb\xbf", b""),
        (b"# Corporate CA\n", b"\n\n"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b""),
    ],
    ids=["a mark of the byte order", "comments", "a key"],
)
def test_what_stands_around_a_certificate_does_not_matter(before: bytes, after: bytes, tmp_path: Path) -> None:
    trust = read_trust({"SSL_CERT_FILE": write(tmp_path / "ca.pem", before, TWO, after)}, [], [])
    assert names(trust) == {"authority 1"}
    assert trust.warnings == ()


def test_line_breaks_of_windows_do_not_matter_and_a_certificate_counts_once(tmp_path: Path) -> None:
    trust = read_trust({"SSL_CERT_FILE": write(tmp_path / "ca.pem", TWO.replace(b"\n", b"\r\n"), TWO)}, [], [])
    assert len(trust.certificates) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "but no such file exists"),
        (b"", "which is empty"),
        (b"\n \n", "which is empty"),
        (der(TWO), "which is in DER: convert it with `openssl x509"),
        (b"\xef\xbb\xbf", "which contains no certificate in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "which contains no certificate in PEM"),
        (TWO.decode().encode("utf-16"), "which contains no certificate in PEM"),
        (BROKEN % b"bm90IGEgY2VydGlmaWNhdGU=", "which is damaged: none of its certificates"),
    ],
)
def test_a_file_without_a_certificate_is_one_sentence_with_variable_and_file(
    content: bytes | None, said: str, tmp_path: Path, system: tuple[list[str], list[str]]
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Failure) as caught:
        read_trust({"SSL_CERT_FILE": str(file)}, *system)
    assert caught.value.reason is Reason.SPEC_INVALID
    assert str(caught.value).startswith(f"SSL_CERT_FILE names {file}, {said}")
    assert caught.value.__cause__ is None


def test_a_directory_in_place_of_the_file_is_told_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=rf"^SSL_CERT_FILE names {tmp_path}, which is a directory.*SSL_CERT_DIR"):
        read_trust({"SSL_CERT_FILE": str(tmp_path)})


@pytest.mark.parametrize("text", ["/proc/self/mem", "ca\0.pem"])
def test_a_file_that_cannot_be_read_is_a_sentence(text: str) -> None:
    with pytest.raises(Failure, match=r"^SSL_CERT_FILE names .*, which cannot be read \("):
        read_trust({"SSL_CERT_FILE": text})


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_pem_in_place_of_a_path_is_not_shown(variable: str) -> None:
    with pytest.raises(Failure, match=f"^{variable} contains PEM itself; it must be the path of a file") as caught:
        read_trust({variable: ONE.decode()}, [], [])
    assert "BEGIN" not in str(caught.value)


def test_a_path_is_shown_on_one_line() -> None:
    with pytest.raises(Failure) as caught:
        read_trust({"SSL_CERT_FILE": "a\nb" + "c" * 5000})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_directories_of_which_none_is_there_are_a_sentence(tmp_path: Path, system: tuple[list[str], list[str]]) -> None:
    with pytest.raises(Failure, match=rf"^SSL_CERT_DIR names {tmp_path}/x:{tmp_path}/y, but no such directory exists"):
        read_trust({"SSL_CERT_DIR": f"{tmp_path}/x:{tmp_path}/y"}, *system)


def test_directories_without_a_certificate_are_a_sentence_where_there_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    with pytest.raises(Failure, match=r"^SSL_CERT_DIR names .*, but no file in it contains a certificate in PEM"):
        read_trust({"SSL_CERT_DIR": str(tmp_path / "certs")}, [], [])


def test_a_client_may_change_its_context_without_another_noticing() -> None:
    trust = parse_trust(ONE, TWO)
    assert trust.ssl_context() is not trust.ssl_context()
    assert names(trust) == {"authority 0", "authority 1"}


def test_nobody_is_trusted_where_nothing_was_read() -> None:
    assert Trust().ssl_context().get_ca_certs() == []


def test_a_context_checks_names_and_takes_any_anchor_but_is_no_stricter_than_go() -> None:
    context = parse_trust(ONE).ssl_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
