"""The GraphQL document that an administrator stores in a portal: the operations that `portal` runs, and nothing else.

https://buildkite.com/docs/apis/graphql/portals. A portal's token can run the operations of its document with an
administrator's permissions, so the document asks for what is synced and no more: no IP address, name or e-mail address.
"""

DOCUMENT_VERSION = 1
"""Grows with every change of the operations. Every answer shows the version that is stored (`MARK`)."""

MARK = f"buildkiteConnectorDocument{DOCUMENT_VERSION}"
MEMBERS = "BuildkiteConnectorMembers"
API_TOKENS = "BuildkiteConnectorApiTokens"

_DOCUMENT = """\
# buildkite-connector, portal document {version}

query {members}($organization: ID!, $first: Int!, $after: String) {{
  {mark}: __typename
  organization(slug: $organization) {{
    members(first: $first, after: $after) {{
      edges {{
        node {{
          user {{
            uuid{machine_user}
          }}
          lastSeenAt
          createdAt
          security {{
            twoFactorEnabled
          }}
        }}
      }}
      pageInfo {{
        endCursor
        hasNextPage
      }}
    }}
  }}
}}

query {api_tokens}($organization: ID!, $first: Int!, $after: String) {{
  {mark}: __typename
  organization(slug: $organization) {{
    apiAccessTokens(first: $first, after: $after) {{
      nodes {{
        uuid
        description
        createdAt
        expiresAt
        lastAccessedAt
        scopes
        owner {{
          uuid
        }}
      }}
      pageInfo {{
        endCursor
        hasNextPage
      }}
    }}
  }}
}}
"""


def portal_document(*, machine_users: bool = True) -> str:
    """The document of this version. `machine_users`: False for a schema that does not know `User.machineUser`."""
    return _DOCUMENT.format(
        version=DOCUMENT_VERSION,
        mark=MARK,
        members=MEMBERS,
        api_tokens=API_TOKENS,
        machine_user="\n            machineUser" if machine_users else "",
    )
