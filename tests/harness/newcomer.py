"""A reader of the documentation at a shell: runs a page's commands as they stand, in a copy of the repository."""

import asyncio
import os
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.control_plane import ControlPlane
from harness.pages import ROOT

USED = ("charts", "crds", "deploy", "examples")
"""What of the repository the commands name."""
PATIENCE = 120.0


@dataclass(frozen=True)
class Newcomer:
    """`home`: the working directory. PATH has kubectl as it is; `harness.helm_command` takes the place of `helm`."""

    cluster: ControlPlane
    home: Path

    def __post_init__(self) -> None:
        for name in USED:
            shutil.copytree(ROOT / name, self.home / name)
        programs = self.home / "bin"
        programs.mkdir()
        (programs / "kubectl").symlink_to(self.cluster.kubectl_program)
        helm = programs / "helm"
        helm.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "tests"} exec {sys.executable} -m harness.helm_command "$@"\n')
        helm.chmod(helm.stat().st_mode | stat.S_IXUSR)

    async def run(self, *scripts: str) -> str:
        """Runs blocks one after another; gives what they print. AssertionError with it when a command fails."""
        printed = ""
        for script in scripts:
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-euo",
                "pipefail",
                "-c",
                script,
                cwd=self.home,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={
                    "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
                    "HOME": str(self.home),
                    "KUBECONFIG": str(self.cluster.kubeconfig),
                },
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    said, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                raise AssertionError(f"did not end within {PATIENCE} s:\n{script}") from None
            printed += said.decode()
            assert process.returncode == 0, f"{script}\n{printed}"
        return printed
