"""`token-exchange keys`: a key pair for a token exchange app, as files for Buildkite and for Kubernetes."""

import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from buildkite_connector.buildkite import SigningKey
from buildkite_connector.cli.flags import BY_NAME, TOKEN_EXCHANGE
from buildkite_connector.cli.settings import SettingError

RSA_BITS = 3072
LONGEST_JWKS = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where to write; none of them may exist. `private_key`: for service mode; None where nobody needs it."""

    jwks: Path
    secret: Path
    private_key: Path | None = None


def write_keys(files: KeyFiles, algorithm: str, old_jwks: Path | None, name: str) -> SigningKey:
    """Make a key pair and write it. `old_jwks`: whose keys stay valid beside the new one. `name`: of the Secret.

    Raises SettingError; then nothing is written.
    """
    known = [] if old_jwks is None else _read_jwks(old_jwks)
    private = (
        rsa.generate_private_key(65537, RSA_BITS) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    key = SigningKey.of(private)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    contents = [
        (files.jwks, json.dumps({"keys": [*known, key.public_jwk()]}, indent=2) + "\n"),
        (files.secret, _manifest(pem, name, replaces=old_jwks is not None)),
    ]
    _write_new(contents if files.private_key is None else [(files.private_key, pem), *contents])
    return key


def _write_new(contents: Iterable[tuple[Path, str]]) -> None:
    """All files or none: each is created by this process alone, for its user alone."""
    with ExitStack() as undo:
        for path, text in contents:
            try:
                file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                undo.callback(path.unlink, missing_ok=True)
                with os.fdopen(file, "w", encoding="utf-8") as opened:
                    opened.write(text)
            except FileExistsError:
                raise SettingError(str(path), "it exists already, and is not overwritten: name another file") from None
            except OSError as error:
                raise SettingError(str(path), f"it cannot be written: {error.strerror}") from None
        undo.pop_all()


def _read_jwks(path: Path) -> list[object]:
    """Raises SettingError. Only public keys: a JWKS with a private one must not go to Buildkite."""
    try:
        with path.open(encoding="utf-8") as file:
            document = json.loads(file.read(LONGEST_JWKS))
        keys = list(document["keys"])
        private = any("d" in each for each in keys)
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingError(str(path), "it is not a JWKS: a JSON object with the list `keys`") from None
    if private:
        raise SettingError(str(path), "it has a private key: the JWKS for Buildkite has public keys only")
    return keys


class _Block(str):
    """A text that YAML shows in lines below a |."""


def _as_block(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


def _manifest(pem: str, name: str, *, replaces: bool) -> str:
    """The Secret; to replace a key, a patch of it, which leaves its other values as they are."""

    class Dumper(yaml.SafeDumper):
        """Knows `_Block`."""

    Dumper.add_representer(_Block, _as_block)
    client_id, private_key, subject = (BY_NAME[each].variable for each in TOKEN_EXCHANGE)
    others = ("BATON_CLIENT_ID", "BATON_CLIENT_SECRET", "BATON_ORGANIZATION", client_id, subject)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "stringData": {**({} if replaces else dict.fromkeys(others, "")), private_key: _Block(pem)},
    }
    return yaml.dump(secret, Dumper=Dumper, sort_keys=False)


def next_steps(files: KeyFiles, key: SigningKey, name: str, *, replaces: bool) -> str:
    """What a person does with the files. `replaces`: the app has a key that the new one is to replace."""
    secrets = f"{files.secret}" if files.private_key is None else f"{files.secret} and {files.private_key}"
    delete = f"delete {secrets}, which contain{'s' if files.private_key is None else ''} the private key"
    made = f"The key pair {key.key_id} ({key.algorithm}) is ready.\n"
    if replaces:
        return f"""{made}
1. In Buildkite, open Organization Settings, Integrations, Token Exchange Apps, and replace the app's JWKS with
   {files.jwks}, which contains the old and the new public key. If the app loads its JWKS from a URL, wait an hour.
2. Put the new private key into the Secret, in the connector's namespace:
   kubectl --namespace NAMESPACE patch secret {name} --patch-file {files.secret}
   Then {delete}.
3. Wait a minute: the operator then checks the new key. If the condition CredentialsValid is still True, remove the old
   key from the app's JWKS.
"""
    return f"""{made}
In Buildkite, as an administrator of the organization:
1. Open Organization Settings, Integrations, Token Exchange Apps, and create an app, or edit an existing one.
2. Paste {files.jwks} as its JWKS. It contains public keys only.
3. Grant the scopes read_organizations and read_teams; also read_pipelines and read_clusters for those resource types,
   and write_teams for provisioning.
4. Copy the app's client ID.

In Kubernetes:
5. Fill in the empty values of {files.secret}: C1's client, the organization's slug, the app's client ID, and as the
   subject the e-mail address or UUID of an administrator of the organization, as whom the connector acts.
6. Apply it in the connector's namespace. Then {delete}.
7. If the Secret also has an API token (BATON_API_TOKEN), remove that key: the operator uses the API token otherwise.
"""
