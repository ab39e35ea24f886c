"""Builds the operator's image without a container engine: `make image`, as root on Debian.

The root is Debian's python3 and what it needs, without shell or package manager; the dependencies are the pinned
ones; every platform is an image of one index. Writes an OCI archive. The Dockerfile does the same with an engine.
Needs the packages buildah and mmdebstrap.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUITE, PYTHON = "trixie", "3.13"
PACKAGES = "base-files,python3,libstdc++6,ca-certificates,tzdata"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
ENVIRONMENT = {
    "PYTHONPATH": "/app",
    # No code from where the pod's user may write: neither the working directory nor the home is searched for modules.
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "BUILDKITE_CONNECTOR_DATA_DIR": "/data",
    "HOME": "/",  # libraries ask for it, and /etc/passwd does not have the user
}
ENTRYPOINT = ("/usr/bin/python3", "-m", "buildkite_connector")
WORKING_DIRECTORY = "/"
WRITABLE = ("data", "tmp")
PACKAGE_RECORDS = "var/lib/dpkg/status.d"
"""Where scanners and SBOM tools look for packages in an image without dpkg."""
NEVER_USED = (
    *("etc/hostname", "etc/resolv.conf", "etc/apt"),  # of the machine that builds
    *("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bug"),
    *("usr/share/perl5", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/aarch64-linux-gnu/perl-base"),
    *("usr/lib/python3/dist-packages/*", "usr/lib/python3.13/test", "usr/lib/python3.13/idlelib"),
    *(
        "var/cache",
        "var/lib",
        "usr/lib/python3.13/pydoc_data",
        "usr/lib/python3.13/tkinter",
        "usr/lib/python3.13/ensurepip",
    ),
    *("usr/share/zoneinfo/right", "usr/share/zoneinfo/posix", "usr/lib/*-linux-gnu/gconv", "usr/sbin/*"),
)
KEPT = {"usr/bin": "python3*", "usr/share/doc/*": "copyright"}
"""Of these folders, nothing else stays."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", action="append", choices=MACHINES, help="default: all")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "image.tar", help="an OCI archive")
    parser.add_argument("--root", type=Path, help="keep the first platform's root file system there")
    chosen = parser.parse_args()
    for tool in ("mmdebstrap", "buildah"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is needed: apt-get install buildah mmdebstrap, or use the Dockerfile")
    os.environ.setdefault("STORAGE_DRIVER", "vfs")
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="image-") as work:
        os.environ["BUILDAH_ISOLATION"] = "chroot"
        storage = ["--root", f"{work}/storage", "--runroot", f"{work}/run"]
        wheel = build_wheel(Path(work))
        _run("buildah", *storage, "manifest", "create", "buildkite-connector")
        for platform in chosen.platform or MACHINES:
            root = Path(work) / platform
            make_root(root, platform, wheel)
            name = add_image(root, platform, storage)
            _run("buildah", *storage, "manifest", "add", "buildkite-connector", name)
            if chosen.root is not None and not chosen.root.exists():
                shutil.copytree(root, chosen.root, symlinks=True)
        chosen.output.unlink(missing_ok=True)
        _run("buildah", *storage, "manifest", "push", "--all", "buildkite-connector", f"oci-archive:{chosen.output}")
    print(f"{chosen.output}: {chosen.output.stat().st_size / 1e6:.0f} MB")


def build_wheel(folder: Path) -> Path:
    """The project's own wheel."""
    _pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    return next(folder.glob("*.whl"))


def make_root(root: Path, platform: str, wheel: Path) -> None:
    """A file system with Python, the dependencies and the package, for one platform."""
    _run(
        *("mmdebstrap", "--quiet", "--variant=extract", "--mode=root"),
        *(f"--architectures={platform}", f"--include={PACKAGES}", "--skip=cleanup/apt/cache", SUITE, str(root)),
    )
    packages = installed_packages(root)
    for each in (root / "dev").iterdir():  # a container has its own; a copy of /dev/zero has no end
        _remove(each)
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(b"".join(each.read_bytes() for each in certificates))
    app = root / "app"
    wheels = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    for tag in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014"):
        wheels += ["--platform", f"{tag}_{MACHINES[platform]}"]
    pinned = str(ROOT / "requirements" / "runtime.txt")
    _pip("install", "--require-hashes", "--no-compile", "--target", str(app), *wheels, "--requirement", pinned)
    _pip("install", "--no-deps", "--no-index", "--no-compile", "--target", str(app), str(wheel))
    _run(sys.executable, str(ROOT / "tools" / "prune_image.py"), str(app))
    remove_unused(root)
    for name, fields in packages.items():
        record = root / PACKAGE_RECORDS / name
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(fields)
    for writable in WRITABLE:
        (root / writable).mkdir(exist_ok=True)
        (root / writable).chmod(0o1777)


def installed_packages(root: Path) -> dict[str, str]:
    """Debian's packages in the root, with their control fields. mmdebstrap extracts them, and dpkg records none."""
    archives = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    return {each.name.partition("_")[0]: _run("dpkg-deb", "--field", str(each)) for each in archives}


def remove_unused(root: Path) -> None:
    """What the operator does not need, and what the image is not to show of the machine that built it."""
    for pattern in NEVER_USED:
        for each in root.glob(pattern):
            _remove(each)
    for pattern, kept in KEPT.items():
        # A link may lead out of the root.
        for folder in (each for each in root.glob(pattern) if not each.is_symlink()):
            for each in folder.iterdir():
                if not each.match(kept):
                    _remove(each)


def add_image(root: Path, platform: str, storage: Sequence[str]) -> str:
    """Commits the root as one layer; gives the image's name."""
    container = _run("buildah", *storage, "from", "--arch", platform, "scratch").strip()
    _run("buildah", *storage, "add", "--quiet", container, str(root), "/")
    settings = [part for name, value in ENVIRONMENT.items() for part in ("--env", f"{name}={value}")]
    _run(
        *("buildah", *storage, "config", *settings, "--arch", platform, "--user", "65532:65532"),
        *("--entrypoint", json.dumps(ENTRYPOINT)),
        *("--workingdir", WORKING_DIRECTORY, container),
    )
    name = f"buildkite-connector-{platform}"
    epoch = _run("git", "-C", str(ROOT), "log", "-1", "--format=%ct").strip()
    _run("buildah", *storage, "commit", "--quiet", "--rm", "--timestamp", epoch, container, name)
    return name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _pip(*arguments: str) -> None:
    _run(sys.executable, "-m", "pip", *arguments[:1], "--quiet", "--disable-pip-version-check", *arguments[1:])


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:3])} ended with {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
