"""Buildkite's GraphQL schema, reduced to what a portal is asked for here and what a test of its limits needs.

Written from facts/buildkite-credentials.md, section 4, nullability included: members have no `nodes`, and their
`pageInfo` may be null.
"""

_SCOPES = """
DELETE_PACKAGES DELETE_REGISTRIES GRAPHQL READ_AGENTS READ_ARTIFACTS READ_AUDIT_EVENTS READ_BUILDS READ_BUILD_LOGS
READ_CLUSTERS READ_DEPLOYABLES READ_EVENTS READ_JOB_ENV READ_NOTIFICATION_SERVICES READ_ORGANIZATIONS
READ_ORGANIZATION_INVITATIONS READ_ORGANIZATION_REPOSITORY_CONNECTIONS READ_ORGANIZATION_SETTINGS READ_PACKAGES
READ_PIPELINES READ_PIPELINE_TEMPLATES READ_PORTALS READ_REGISTRIES READ_RULES READ_SECRETS_DETAILS READ_SUITES
READ_TEAMS READ_TEST_PLAN READ_TEST_POOL READ_USER WRITE_AGENTS WRITE_ARTIFACTS WRITE_BUILDS WRITE_BUILD_LOGS
WRITE_CLUSTERS WRITE_DEPLOYABLES WRITE_NOTIFICATION_SERVICES WRITE_ORGANIZATIONS WRITE_ORGANIZATION_INVITATIONS
WRITE_ORGANIZATION_SETTINGS WRITE_PACKAGES WRITE_PIPELINES WRITE_PIPELINE_TEMPLATES WRITE_PORTALS WRITE_REGISTRIES
WRITE_RULES WRITE_SECRETS WRITE_SUITES WRITE_TEAMS WRITE_TEST_PLAN
"""
SCOPES = tuple(_SCOPES.split())
"""Every scope of an API access token."""

LARGEST_PAGE = 500
"""Of a connection. So many count where an operation names no number."""

MACHINE_USER = "machineUser: Boolean!"
"""The field that a schema older than 2026-08-11 lacks."""

SDL = f"""
type Query {{
  organization(slug: ID, uuid: ID): Organization
}}

type Organization {{
  id: ID!
  uuid: String!
  slug: String!
  name: String!
  members(after: String, before: String, first: Int, last: Int): OrganizationMemberConnection
  apiAccessTokens(after: String, before: String, first: Int, last: Int): OrganizationAPIAccessTokenConnection!
}}

type PageInfo {{
  endCursor: String
  hasNextPage: Boolean!
  hasPreviousPage: Boolean!
  startCursor: String
}}

scalar DateTime

type OrganizationMemberConnection {{
  count: Int!
  edges: [OrganizationMemberEdge]
  pageInfo: PageInfo
}}

type OrganizationMemberEdge {{
  cursor: String!
  node: OrganizationMember
}}

type OrganizationMember {{
  id: ID!
  uuid: String!
  organization: Organization!
  user: User!
  role: OrganizationMemberRole!
  createdAt: DateTime!
  lastSeenAt: DateTime
  security: OrganizationMemberSecurity!
}}

enum OrganizationMemberRole {{ ADMIN MEMBER }}

type OrganizationMemberSecurity {{
  passwordProtected: Boolean!
  twoFactorEnabled: Boolean!
}}

type User {{
  id: ID!
  uuid: String!
  name: String!
  email: String!
  bot: Boolean!
  {MACHINE_USER}
}}

type OrganizationAPIAccessTokenConnection {{
  edges: [OrganizationAPIAccessTokenEdge]
  nodes: [OrganizationAPIAccessToken]
  pageInfo: PageInfo!
}}

type OrganizationAPIAccessTokenEdge {{
  cursor: String!
  node: OrganizationAPIAccessToken
}}

type OrganizationAPIAccessToken {{
  id: ID!
  uuid: ID!
  description: String
  createdAt: DateTime!
  expiresAt: DateTime
  lastAccessedAt: DateTime
  ipAddress: String
  owner: User
  scopes: [APIAccessTokenScopes!]!
}}

enum APIAccessTokenScopes {{ {" ".join(SCOPES)} }}
"""
