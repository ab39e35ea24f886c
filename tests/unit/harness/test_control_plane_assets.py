"""Where the binaries of a real API server are looked for, and what is said when they are missing."""

from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.control_plane import (
    ASSETS_VARIABLE,
    CLUSTER_VARIABLE,
    find_assets,
    find_cluster,
    missing_assets,
)


class TestAssets:
    def test_are_missed_in_a_sentence_that_says_how_to_get_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv(CLUSTER_VARIABLE, raising=False)
        assert find_assets() is None
        assert find_cluster() is None
        sentence = missing_assets()
        assert f"etcd, kube-apiserver, kubectl not found in {tmp_path}" in sentence
        assert "setup-envtest" in sentence
        assert CLUSTER_VARIABLE in sentence

    def test_are_not_needed_for_an_existing_cluster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "kubectl").touch()
        monkeypatch.setenv(ASSETS_VARIABLE, str(tmp_path))
        monkeypatch.setenv(CLUSTER_VARIABLE, str(tmp_path / "kubeconfig"))
        assert missing_assets() == ""
        cluster = find_cluster()
        assert type(cluster) is Cluster
        assert cluster.kubeconfig == tmp_path / "kubeconfig"
