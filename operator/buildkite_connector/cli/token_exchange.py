"""The commands of `token-exchange`. Imports are inside them, as in `app`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from buildkite_connector.cli.exit import one_sentence

# ruff: noqa: PLC0415  (see above)

group = typer.Typer(name="token-exchange", help="Prepare OAuth token exchange with Buildkite.")


@group.callback()
def whole_group() -> None:
    """Makes typer take `keys` for a command of its own, although it is the only one."""


@group.command()
def keys(
    out_dir: Annotated[
        Path | None,
        typer.Option(help="A directory for private-key.pem, jwks.json and secret.yaml, in place of the next three."),
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="The file to write the private key to (PEM).")] = None,
    jwks: Annotated[Path | None, typer.Option(help="The file to write the JWKS for Buildkite to.")] = None,
    secret: Annotated[Path | None, typer.Option(help="The file to write the Secret's manifest to.")] = None,
    old_jwks: Annotated[
        Path | None, typer.Option(help="The app's current JWKS, to replace a key: the new JWKS also has its keys.")
    ] = None,
    name: Annotated[str, typer.Option(help="The name of the Secret.")] = "buildkite-credentials",
    algorithm: Annotated[Literal["ES256", "RS256"], typer.Option(help="EC on P-256, or RSA.")] = "ES256",
) -> None:
    """Create a key pair for a token exchange app: its JWKS for Buildkite, and a Secret with the private key.

    No existing file is overwritten, and each new one is readable by its user only (mode 0600).
    """
    from buildkite_connector.cli.exchange_keys import KeyFiles, next_steps, write_keys

    if out_dir is not None and (private_key or jwks or secret):
        raise typer.BadParameter("it names all files; leave out the others", param_hint="--out-dir")
    if out_dir is not None:
        files = KeyFiles(out_dir / "jwks.json", out_dir / "secret.yaml", out_dir / "private-key.pem")
    elif jwks is not None and secret is not None:
        files = KeyFiles(jwks, secret, private_key)
    else:
        raise typer.BadParameter("name a directory, or both files", param_hint="--out-dir, or --jwks and --secret")
    with one_sentence(1):
        key = write_keys(files, algorithm, old_jwks, name)
        typer.echo(next_steps(files, key, name, replaces=old_jwks is not None), nl=False)


def register(app: typer.Typer) -> None:
    app.add_typer(group)
