"""Kubeconfigs: each field that kubectl honours works for the operator's calls and for kopf, or is refused by name."""

import asyncio
import base64
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from buildkite_connector.kubernetes.access import REREAD_SECONDS
from buildkite_connector.kubernetes.client_config import KubeconfigLogin, User, choose_client_config
from buildkite_connector.model.failure import Failure, Remedy
from buildkite_connector.network import Network, parse_trust
from unit.kubernetes.recording_server import (
    EXEC_EXTENSIONS,
    SECRET_PATH,
    TOKEN,
    Kubeconfig,
    RecordingServer,
    Seen,
    ask,
    base64_of,
    with_plugin,
)

OF_KUBECTL = {
    "Config": ("kind", "apiVersion", "preferences", "clusters", "users", "contexts", "current-context", "extensions"),
    "Cluster": (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority",
        "certificate-authority-data",
        "proxy-url",
        "disable-compression",
        "extensions",
    ),
    "AuthInfo": (
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
        "token",
        "tokenFile",
        "as",
        "as-uid",
        "as-groups",
        "as-user-extra",
        "username",
        "password",
        "auth-provider",
        "exec",
        "extensions",
    ),
    "Context": ("cluster", "user", "namespace", "extensions"),
    "ExecConfig": ("command", "args", "env", "apiVersion", "installHint", "provideClusterInfo", "interactiveMode"),
}
"""Every field of client-go's tools/clientcmd/api/v1/types.go."""


def authorization(value: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.all("authorization") == [value]


def header(name: str, *values: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.all(name) == list(values)


@dataclass(frozen=True)
class Row:
    """What a field does: `file` writes a kubeconfig with it, and then every request is as `seen`.

    Or reading it fails with `refused`, a sentence that begins with the field's name.
    """

    file: Callable[[Kubeconfig], object]
    seen: Callable[[Seen], bool] = lambda _: True
    refused: str = ""


def with_cluster(**fields: Any) -> Callable[[Kubeconfig], object]:
    return lambda kubeconfig: kubeconfig.write({name.replace("_", "-"): value for name, value in fields.items()})


def with_user(fields: Mapping[str, Any]) -> Callable[[Kubeconfig], object]:
    return lambda kubeconfig: kubeconfig.write(user=fields)


def with_top(fields: Mapping[str, Any]) -> Callable[[Kubeconfig], object]:
    return lambda kubeconfig: kubeconfig.write(top=fields)


def with_context(fields: Mapping[str, Any]) -> Callable[[Kubeconfig], object]:
    return with_top({"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", **fields}}]})


def with_client_certificate(*, data: bool) -> Callable[[Kubeconfig], object]:
    def write(kubeconfig: Kubeconfig) -> None:
        certificate, key = kubeconfig.server.client("alice")
        fields = (
            {"client-certificate-data": base64_of(certificate), "client-key-data": base64_of(key)}
            if data
            else {
                "client-certificate": kubeconfig.keep("alice.crt", certificate),
                "client-key": kubeconfig.keep("alice.key", key),
            }
        )
        kubeconfig.write(user={"token": None, **fields})

    return write


def with_authority_file(kubeconfig: Kubeconfig) -> None:
    path = kubeconfig.keep("ca.crt", kubeconfig.server.authority)
    kubeconfig.write({"certificate-authority-data": None, "certificate-authority": path})


def with_token_file(kubeconfig: Kubeconfig) -> None:
    kubeconfig.write(user={"tokenFile": kubeconfig.keep("token", "token-of-another-file\n")})


TABLE = {
    "Config.kind": Row(with_top({"kind": "ConfigMap"}), refused="apiVersion and kind must be v1 and Config"),
    "Config.apiVersion": Row(with_top({"apiVersion": "v2"}), refused="apiVersion and kind must be v1 and Config"),
    "Config.preferences": Row(with_top({"preferences": {"colors": True}})),
    "Config.clusters": Row(with_top({"clusters": []}), refused="names the cluster 'c', which does not exist"),
    "Config.users": Row(with_top({"users": []}), refused="names the user 'u', which does not exist"),
    "Config.contexts": Row(with_top({"contexts": []}), refused="names the context 'x', which does not exist"),
    "Config.current-context": Row(with_top({"current-context": None}), refused="current-context is not set"),
    "Config.extensions": Row(with_top({"extensions": EXEC_EXTENSIONS})),
    "Cluster.server": Row(with_cluster(server=None), refused="cluster 'c': server is not set"),
    "Cluster.tls-server-name": Row(with_cluster(tls_server_name="api.test"), refused="Hostname mismatch"),
    "Cluster.insecure-skip-tls-verify": Row(
        with_cluster(insecure_skip_tls_verify=True, certificate_authority_data=None)
    ),
    "Cluster.certificate-authority": Row(with_authority_file, authorization(f"Bearer {TOKEN}")),
    "Cluster.certificate-authority-data": Row(
        with_cluster(certificate_authority_data=None), refused="TLS with .* failed: .*certificate"
    ),
    "Cluster.proxy-url": Row(with_cluster(proxy_url="socks5://127.0.0.1:1"), refused="proxy-url: socks5 is not supp"),
    "Cluster.disable-compression": Row(with_cluster(disable_compression=True), header("accept-encoding", "identity")),
    "Cluster.extensions": Row(with_cluster(extensions=EXEC_EXTENSIONS)),
    "AuthInfo.client-certificate": Row(with_client_certificate(data=False), lambda seen: seen.client == "alice"),
    "AuthInfo.client-certificate-data": Row(with_client_certificate(data=True), lambda seen: seen.client == "alice"),
    "AuthInfo.client-key": Row(
        with_user({"client-certificate": __file__, "client-key": None}), refused="client-certificate needs client-key"
    ),
    "AuthInfo.client-key-data": Row(with_user({"client-key-data": "§"}), refused="client-key-data: must be base64"),
    "AuthInfo.token": Row(with_user({"token": "another\n"}), authorization("Bearer another")),
    "AuthInfo.tokenFile": Row(with_token_file, authorization("Bearer token-of-another-file")),
    "AuthInfo.as": Row(with_user({"as": "bob"}), header("impersonate-user", "bob")),
    "AuthInfo.as-uid": Row(with_user({"as": "bob", "as-uid": "7"}), header("impersonate-uid", "7")),
    "AuthInfo.as-groups": Row(
        with_user({"as": "bob", "as-groups": ["one", "two"]}), header("impersonate-group", "one", "two")
    ),
    "AuthInfo.as-user-extra": Row(
        with_user({"as": "bob", "as-user-extra": {"acme.com/project": ["one", "two"]}}),
        header("impersonate-extra-acme.com%2fproject", "one", "two"),
    ),
    "AuthInfo.username": Row(
        with_user({"token": None, "username": "alice", "password": "wörd"}),
        authorization(f"Basic {base64.b64encode('alice:wörd'.encode()).decode()}"),
    ),
    "AuthInfo.password": Row(with_user({"password": "word"}), refused="token and username are mutually exclusive"),
    "AuthInfo.auth-provider": Row(with_user({"auth-provider": {"name": "gcp"}}), refused="auth-provider is not supp"),
    "AuthInfo.exec": Row(with_plugin(), authorization("Bearer of-the-plugin")),
    "AuthInfo.extensions": Row(with_user({"extensions": EXEC_EXTENSIONS})),
    "Context.cluster": Row(with_context({"cluster": None}), refused="context 'x' does not name a cluster"),
    "Context.user": Row(with_context({"user": None}), refused="context 'x' does not name a user"),
    "Context.namespace": Row(with_context({"namespace": "elsewhere"}), lambda seen: seen.target == SECRET_PATH),
    "Context.extensions": Row(with_context({"extensions": EXEC_EXTENSIONS})),
    "ExecConfig.command": Row(with_plugin(command=None), refused="exec: command is not set"),
    "ExecConfig.args": Row(with_plugin(args="--one"), refused="exec.args: Input should be a valid list"),
    "ExecConfig.env": Row(with_plugin(env=[{"value": "v"}]), refused="exec: each entry of env needs a name"),
    "ExecConfig.apiVersion": Row(
        with_plugin(apiVersion="client.authentication.k8s.io/v1alpha1"), refused="exec: apiVersion must be one of"
    ),
    "ExecConfig.installHint": Row(
        with_plugin(command="./absent", installHint="brew install\n it"), refused="not found.*: brew install it"
    ),
    "ExecConfig.provideClusterInfo": Row(with_plugin(provideClusterInfo=True), authorization("Bearer of-the-plugin")),
    "ExecConfig.interactiveMode": Row(
        with_plugin(interactiveMode="Always"), refused="interactiveMode Always needs a terminal"
    ),
}


def test_the_table_has_every_field_of_kubectl() -> None:
    assert set(TABLE) == {f"{part}.{name}" for part, names in OF_KUBECTL.items() for name in names}


def test_the_documentation_has_every_field_of_cluster_and_user() -> None:
    text = (Path(__file__).parents[3] / "docs" / "settings.md").read_text().partition("## Kubeconfigs")[2]
    assert [name for part in ("Cluster", "AuthInfo") for name in OF_KUBECTL[part] if f"`{name}`" not in text] == []


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
async def test_a_field_works_for_both_clients_or_is_refused_by_its_name(row: Row, kubeconfig: Kubeconfig) -> None:
    row.file(kubeconfig)
    login = KubeconfigLogin(str(kubeconfig.path))
    if row.refused:
        with pytest.raises(Failure, match=row.refused) as caught:
            await ask(login, kubeconfig.server)
        assert caught.value.remedy is Remedy.RETRY
        assert TOKEN not in str(caught.value)
        assert kubeconfig.server.seen == []
    else:
        seen = await ask(login, kubeconfig.server)
        assert len(seen) == 2
        assert all(map(row.seen, seen)), seen


class TestTrust:
    async def test_tls_server_name_is_asked_for_and_checked(self, tmp_path: Path) -> None:
        async with RecordingServer(names=("api.test",)) as server:
            path = Kubeconfig(server, tmp_path / "config").write({"tls-server-name": "api.test"})
            assert [seen.name for seen in await ask(KubeconfigLogin(str(path)), server)] == ["api.test"] * 2

    async def test_without_an_authority_in_the_file_those_of_the_process_are_trusted(
        self, kubeconfig: Kubeconfig
    ) -> None:
        path = kubeconfig.write({"certificate-authority-data": None})
        network = Network(trust=parse_trust(kubeconfig.server.authority))
        assert len(await ask(KubeconfigLogin(str(path), network), kubeconfig.server)) == 2

    async def test_with_an_authority_in_the_file_those_of_the_process_are_not(self, kubeconfig: Kubeconfig) -> None:
        path = kubeconfig.write({"certificate-authority-data": base64_of(trustme.CA().cert_pem.bytes())})
        network = Network(trust=parse_trust(kubeconfig.server.authority))
        with pytest.raises(Failure, match=r"TLS with .* failed"):
            await ask(KubeconfigLogin(str(path), network), kubeconfig.server)

    async def test_data_goes_before_files(self, kubeconfig: Kubeconfig) -> None:
        certificate, key = kubeconfig.server.client("alice")
        absent = {"client-certificate": "absent.crt", "client-key": "absent.key", "token": None}
        data = {"client-certificate-data": base64_of(certificate), "client-key-data": base64_of(key)}
        path = kubeconfig.write({"certificate-authority": "absent.crt"}, {**absent, **data})
        assert [seen.client for seen in await ask(KubeconfigLogin(str(path)), kubeconfig.server)] == ["alice"] * 2

    async def test_a_line_break_and_a_comment_beside_a_certificate_do_no_harm(self, kubeconfig: Kubeconfig) -> None:
        authority = b"\xef\xbb\xbf# the CA of F\xc3\xbc\r\n" + kubeconfig.server.authority.replace(b"\n", b"\r\n")
        path = kubeconfig.write({"certificate-authority-data": base64_of(authority)})
        assert len(await ask(KubeconfigLogin(str(path)), kubeconfig.server)) == 2


class TestServer:
    async def test_a_path_in_front_is_kept(self, kubeconfig: Kubeconfig) -> None:
        path = kubeconfig.write({"server": f"{kubeconfig.server.url}/k8s/clusters/c-1/?a=b#c"})
        seen = await ask(KubeconfigLogin(str(path)), kubeconfig.server)
        assert {each.target for each in seen} == {f"/k8s/clusters/c-1{SECRET_PATH}"}

    async def test_ipv6(self, tmp_path: Path) -> None:
        async with RecordingServer(host="::1") as server:
            path = Kubeconfig(server, tmp_path / "config").write()
            assert server.url.startswith("https://[::1]:")
            assert len(await ask(KubeconfigLogin(str(path)), server)) == 2

    @pytest.mark.parametrize("scheme", ["", "http://"])
    async def test_over_plain_http_which_is_what_no_scheme_means_no_credentials_are_sent(
        self, tmp_path: Path, scheme: str
    ) -> None:
        async with RecordingServer(ca=None) as server:
            kubeconfig = Kubeconfig(server, tmp_path / "config")
            path = kubeconfig.write({"server": f"{scheme}127.0.0.1:{server.port}"}, {"as": "bob"})
            for seen in await ask(KubeconfigLogin(str(path)), server):
                assert (seen.all("authorization"), seen.all("impersonate-user")) == ([], ["bob"])

    @pytest.mark.parametrize(
        "address", ["ftp://host", "https://", "https://host:0", "https://host:port", "https://[::1", "unix:///socket"]
    )
    async def test_what_is_no_address_is_refused(self, kubeconfig: Kubeconfig, address: str) -> None:
        path = kubeconfig.write({"server": address})
        with pytest.raises(Failure, match="cluster 'c': server must be like https://host:6443"):
            await KubeconfigLogin(str(path)).load()

    async def test_a_password_in_it_is_refused_and_not_shown(self, kubeconfig: Kubeconfig) -> None:
        path = kubeconfig.write({"server": "https://me:hunter2@host"})
        with pytest.raises(Failure, match="server must not contain a user name") as caught:
            await KubeconfigLogin(str(path)).load()
        assert "hunter2" not in str(caught.value)


class TestFiles:
    async def test_the_first_file_that_has_a_name_wins_and_paths_start_at_their_own_file(
        self, kubeconfig: Kubeconfig, tmp_path: Path
    ) -> None:
        first, second = tmp_path / "one", tmp_path / "two"
        for folder in (first, second):
            folder.mkdir()
            (folder / "token").write_text(f"token-of-{folder.name}")
        (first / "config").write_text("users: [{name: u, user: {tokenFile: token}}]\ncurrent-context: ''\n")
        Kubeconfig(kubeconfig.server, second / "config").write(user={"tokenFile": "token"})
        paths = f":{tmp_path / 'absent'}:{first / 'config'}:{second / 'config'}:{second / 'config'}"
        seen = await ask(KubeconfigLogin(paths), kubeconfig.server)
        assert [each.one("authorization") for each in seen] == ["Bearer token-of-one"] * 2

    async def test_the_context_that_is_current_counts_among_several(self, kubeconfig: Kubeconfig) -> None:
        users = [{"name": name, "user": {"token": f"token-of-{name}"}} for name in ("u", "v")]
        contexts = [{"name": name, "context": {"cluster": "c", "user": name}} for name in ("u", "v")]
        path = kubeconfig.write(top={"users": users, "contexts": contexts, "current-context": "v"})
        seen = await ask(KubeconfigLogin(str(path)), kubeconfig.server)
        assert [each.one("authorization") for each in seen] == ["Bearer token-of-v"] * 2

    @pytest.mark.parametrize(
        ("content", "refused"),
        [
            (None, "the file does not exist"),
            ("", "current-context is not set"),
            ("{", r"is not YAML \(line 1, column 2\)"),
            ("users: [{name: u, user: {token: *hunter2}}]", r"is not YAML \(line 1"),
            ("token: hunter2\n  x: [", r"is not YAML \(line 2"),
            ("\x00", "is not YAML"),
            ("[hunter2]", "does not contain a mapping"),
            ("clusters: hunter2", "clusters in .* must be a list"),
            ("users: [hunter2]", "users in .*: each must have a name"),
            ("users: [{name: u}, {name: u}]", "the name 'u' is used twice"),
            ("current-context: [hunter2]", "current-context in .* must be a string"),
            ('users: [{name: u, user: {username: "hunter2\\ud800"}}]', r"is not YAML \(line 1, column 36\)"),
            ('users: [{name: u, user: {as-user-extra: {"hunter2\\udfff": [a]}}}]', r"is not YAML \(line 1"),
        ],
    )
    async def test_a_file_that_cannot_be_used_is_named_and_not_quoted(
        self, tmp_path: Path, content: str | None, refused: str
    ) -> None:
        path = tmp_path / "config"
        if content is not None:
            path.write_text(content)
        with pytest.raises(Failure, match=refused) as caught:
            await KubeconfigLogin(str(path)).load()
        assert f"the kubeconfig {path}" in caught.value.message
        assert "Set KUBECONFIG to a usable file" in caught.value.message
        assert "hunter2" not in caught.value.message

    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("~nosuchuser/config", "no usable path, or no home directory for its ~"),
            ("a" * 300, "File name too long"),
        ],
    )
    async def test_a_path_that_cannot_be_looked_up_is_named(self, path: str, why: str) -> None:
        with pytest.raises(Failure, match=f"{re.escape(path)} cannot be read \\({why}\\)"):
            await KubeconfigLogin(f"absent:{path}").load()

    async def test_a_home_directory_that_is_not_known_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "expanduser", no_home)  # as of a user ID that the image does not know
        with pytest.raises(Failure, match=r"~/\.kube/config cannot be read \(no usable path, or no home"):
            await choose_client_config({}, Network()).load()

    async def test_a_directory_that_may_not_be_read_is_named(self, kubeconfig: Kubeconfig) -> None:
        """In a process of its own, as the suite may run as root."""
        kubeconfig.write()
        code = (
            "import asyncio, os, sys\n"
            "from buildkite_connector.kubernetes.client_config import KubeconfigLogin\n"
            "from buildkite_connector.model.failure import Failure\n"
            "os.chmod(os.path.dirname(sys.argv[1]), 0)\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "try: asyncio.run(KubeconfigLogin(sys.argv[1]).load())\n"
            "except Failure as failure: print(failure.message)\n"
        )
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, kubeconfig.path, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await process.communicate()
        finally:
            kubeconfig.folder.chmod(0o700)
        assert f"{kubeconfig.path} cannot be read (Permission denied)" in said.decode()

    @pytest.mark.parametrize("value", [7, ["hunter2"], {"a": "hunter2"}, True])
    async def test_a_value_of_another_type_is_refused_by_its_field_and_not_quoted(
        self, kubeconfig: Kubeconfig, value: object
    ) -> None:
        path = kubeconfig.write(user={"token": value})
        with pytest.raises(Failure, match="user 'u': token: Input should be a valid string") as caught:
            await KubeconfigLogin(str(path)).load()
        assert "hunter2" not in caught.value.message


class TestUser:
    @pytest.mark.parametrize(
        ("fields", "refused"),
        [
            ({"token": None}, "user 'u': has no credentials"),
            ({"token": None, "tokenfile": "token"}, "user 'u': has no credentials"),
            ({"token": "hun\nter2"}, "user 'u': token contains a line break"),
            ({"as": "hun\nter2"}, "user 'u': the value of Impersonate-User contains a line break"),
            ({"as-groups": ["hunter2"]}, "need the field as"),
            ({"as-uid": "hunter2"}, "need the field as"),
            ({"as-user-extra": {"a": ["hunter2"]}}, "need the field as"),
            ({"token": None, "tokenFile": "absent"}, "user 'u': tokenFile: .*absent cannot be read"),
            ({"token": None, "tokenFile": "empty"}, "user 'u': tokenFile: .*empty is empty"),
            ({"token": None, "tokenFile": "binary"}, "user 'u': tokenFile: .*binary does not contain a token"),
            ({"client-certificate": "absent"}, "absent cannot be read"),
            ({"client-certificate": "junk", "client-key": "junk"}, "do not match, or are not in PEM"),
            ({"client-certificate": "alice.crt", "client-key": "bob.key"}, "do not match"),
            ({"client-certificate": "alice.crt", "client-key": "locked.key"}, "the client key is encrypted"),
        ],
    )
    async def test_credentials_that_cannot_be_used_are_refused_and_not_shown(
        self, kubeconfig: Kubeconfig, fields: dict[str, Any], refused: str
    ) -> None:
        kubeconfig.keep("empty", "\n")
        kubeconfig.keep("binary", b"\xffhunter2")
        kubeconfig.keep("junk", "hunter2")
        kubeconfig.keep("alice.crt", kubeconfig.server.client("alice")[0])
        kubeconfig.keep("bob.key", kubeconfig.server.client("bob")[1])
        kubeconfig.keep("locked.key", locked(kubeconfig.server.client("alice")[1]))
        path = kubeconfig.write(user=fields)
        with pytest.raises(Failure, match=refused) as caught:
            await KubeconfigLogin(str(path)).load()
        assert "hunter2" not in caught.value.message
        assert "ter2" not in caught.value.message

    async def test_a_token_counts_while_its_file_cannot_be_read(self, kubeconfig: Kubeconfig) -> None:
        login = KubeconfigLogin(str(kubeconfig.write(user={"tokenFile": "token"})))
        before = await login.load()
        kubeconfig.keep("token", "token-of-another-file")
        after = await login.load()
        assert (before.secrets, after.secrets) == ((TOKEN,), ("token-of-another-file",))
        assert (before.renew_after, after.renew_after) == (REREAD_SECONDS, REREAD_SECONDS)

    async def test_what_files_hold_is_read_again_every_minute_and_what_the_kubeconfig_holds_is_not(
        self, kubeconfig: Kubeconfig
    ) -> None:
        login = KubeconfigLogin(str(kubeconfig.path))
        kubeconfig.write()
        assert (await login.load()).renew_after is None
        for write in (with_token_file, with_authority_file, with_client_certificate(data=False)):
            write(kubeconfig)
            assert (await login.load()).renew_after == REREAD_SECONDS

    async def test_nothing_that_must_not_be_shown_is_in_a_repr(self, kubeconfig: Kubeconfig) -> None:
        certificate, key = kubeconfig.server.client("alice")
        data = {"client-certificate-data": base64_of(certificate), "client-key-data": base64_of(key), "as": "bob"}
        path = kubeconfig.write({"proxy-url": "http://me:hunter2@proxy:1"}, data)
        shown = repr(await KubeconfigLogin(str(path)).load())
        assert not any(secret in shown for secret in (TOKEN, "hunter2", "PRIVATE KEY", key.decode()[40:60]))


def no_home(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def locked(key: bytes) -> bytes:
    """The key, with a password."""
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


def test_the_repr_of_a_user_shows_none_of_its_credentials() -> None:
    plugin = {"command": "login", "args": ["hunter2"], "env": [{"name": "PASSWORD", "value": "hunter2"}]}
    assert "hunter2" not in repr(User.model_validate({"token": "hunter2", "password": "hunter2", "exec": plugin}))
