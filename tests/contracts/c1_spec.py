"""What of `spec.c1` is refused, and with which words: by the API server's CEL, and by the operator when it reads.

`tests/unit/kubernetes/test_c1_access.py` asks the operator, `tests/e2e/test_crd_refusals.py` kube-apiserver.
"""

from typing import Any

PAIR = {"appID": "2app", "connectorID": "2connector"}
SECRET_REF = {"secretRef": {"name": "c1-api"}}
WORKLOAD = "brave-otter-12345@acme.conductor.one/wfe"

AUTH = {"auth": SECRET_REF}
CREATE = {"appName": "Buildkite"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no auth": (PAIR, "spec.c1.auth is required"),
    "no way to authenticate": ({**PAIR, "auth": {}}, "spec.c1.auth must have exactly one of"),
    "two ways to authenticate": (
        {**PAIR, "auth": {**SECRET_REF, "workloadIdentity": {"clientID": WORKLOAD}}},
        "spec.c1.auth must have exactly one of",
    ),
    "no ID": (AUTH, "spec.c1.appID and spec.c1.connectorID are both required"),
    "no app": ({"connectorID": "2c", **AUTH}, "spec.c1.appID and spec.c1.connectorID are both required"),
    "no connector": ({"appID": "2a", **AUTH}, "spec.c1.appID and spec.c1.connectorID are both required"),
    "an address for an ID": ({**PAIR, "appID": "https://x/2a", **AUTH}, "spec.c1.appID must be an ID"),
    "an empty ID": ({**PAIR, "connectorID": "", **AUTH}, "spec.c1.connectorID must be an ID"),
    "IDs and create": ({**PAIR, "create": CREATE, **AUTH}, "spec.c1.create cannot be combined with spec.c1.appID or"),
    "an ID and create": (
        {"appID": "2a", "create": CREATE, **AUTH},
        "spec.c1.create cannot be combined with spec.c1.appID or",
    ),
    "an app twice": ({"create": {**CREATE, "appID": "2a"}, **AUTH}, "spec.c1.create must have exactly one of"),
    "an app neither way": ({"create": {}, **AUTH}, "spec.c1.create must have exactly one of"),
    "an owner's e-mail": ({"create": {**CREATE, "owners": ["a@b.c"]}, **AUTH}, "spec.c1.create.owners must contain"),
    "no name for a Secret": ({"create": {**CREATE, "secretName": "A"}, **AUTH}, "spec.c1.create.secretName must be"),
    "another policy": ({"create": {**CREATE, "deletionPolicy": "Delete"}, **AUTH}, "spec.c1.create.deletionPolicy"),
    "a Secret without a name": ({**PAIR, "auth": {"secretRef": {"name": ""}}}, "spec.c1.auth.secretRef.name must be"),
    "one key twice": (
        {**PAIR, "auth": {"secretRef": {"name": "s", "keys": {"clientID": "C1_CLIENT_SECRET"}}}},
        "spec.c1.auth.secretRef.keys uses one key of the Secret twice",
    ),
    "no key": (
        {**PAIR, "auth": {"secretRef": {"name": "s", "keys": {"clientID": "a b"}}}},
        "spec.c1.auth.secretRef.keys.clientID must be a key of a Secret",
    ),
    **{
        f"no workload identity: {client_id}": (
            {**PAIR, "auth": {"workloadIdentity": {"clientID": client_id}}},
            "spec.c1.auth.workloadIdentity.clientID must have the form NAME@HOST/wfe",
        )
        for client_id in ("", "brave-otter@acme.conductor.one/spc", "acme.conductor.one/wfe", f"{WORKLOAD}/x")
    },
}

ACCEPTED: list[dict[str, Any]] = [
    {**PAIR, **AUTH},
    {**PAIR, "forceSync": False, "auth": {"workloadIdentity": {"clientID": WORKLOAD}}},
    {**PAIR, "auth": {"workloadIdentity": {"clientID": "a.b_c+d~e@localhost:8443/wfe"}}},
    {**PAIR, "auth": {"secretRef": {"name": "s", "keys": {"clientID": "BATON_CLIENT_ID", "clientSecret": "x"}}}},
    {"create": CREATE, **AUTH},
    {"create": {"appID": "2a_b-C", "owners": ["2u", "2v"], "secretName": "own.secret-1"}, **AUTH},
]
