"""Regenerates the protobuf code beside its `.proto` files; `--check` only tells whether it is current."""

import sys
import tempfile
from pathlib import Path

import google.rpc.status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent / "operator"
PROTO = ROOT / "buildkite_connector" / "proto"
GENERATED = ("baton_pb2.py", "baton_pb2.pyi", "baton_pb2_grpc.py", "connector_pb2.py", "connector_pb2.pyi")


def generate(output: Path) -> None:
    """Write the generated modules below `output`, as a source root."""
    google_protos = Path(google.rpc.status_pb2.__file__).parents[2]
    well_known = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{google_protos}",
            f"-I{well_known}",
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--grpc_python_out={output}",
            *(str(path) for path in sorted(PROTO.glob("*.proto"))),
        ]
    )
    if code:
        sys.exit(f"protoc failed with code {code}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        fresh = {path: (Path(name) / "buildkite_connector" / "proto" / path).read_bytes() for path in GENERATED}
    if "--check" not in sys.argv[1:]:
        for path, content in fresh.items():
            (PROTO / path).write_bytes(content)
        return
    stale = [path for path, content in fresh.items() if (PROTO / path).read_bytes() != content]
    if stale:
        sys.exit(f"not current: {', '.join(stale)} in {PROTO.relative_to(ROOT.parent)}; run `make proto`")


if __name__ == "__main__":
    main()
