"""Who may read what in Zendesk: users, groups, organisations, roles and user segments as groups of members."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from assistant.model import Access, Member
from connectors.http import Http

Row = Mapping[str, Any]

_SCOPES = {
    "all": "all",
    "within-groups-and-public-groups": "public",
    "within-groups": "groups",
    "within-organization": "organization",
    "assigned-only": "assigned",
    "groups": "groups",
    "organization": "organization",
    "assigned": "assigned",
    None: "all",
}
"""what a custom role's `ticket_access` and a user's `ticket_restriction` call the same thing"""


def listing(http: Http, path: str, key: str, *, size: int = 100, **params: str) -> Iterator[Row]:
    """The rows of a list, page by page: https://developer.zendesk.com/api-reference/introduction/pagination."""
    for page in pages(http, path, size=size, **params):
        yield from page[key]


def pages(http: Http, path: str, *, size: int = 100, **params: str) -> Iterator[Row]:
    query = {"page[size]": str(size), **params}
    while True:
        page = http.json("GET", path, params=query)
        yield page
        if not page["meta"]["has_more"]:
            return
        query["page[after]"] = page["meta"]["after_cursor"]


def ticket_access(ticket: Row) -> tuple[Access, Access]:
    """Who may read a ticket, and who of them its internal notes: agents, but not as its requester.

    Nobody, where a field that decides it is missing.
    """
    try:
        group, organization = ticket["group_id"], ticket["organization_id"]
        assignee, requester = ticket["assignee_id"], ticket["requester_id"]
    except KeyError:
        return Access.nobody(), Access.nobody()
    agents = ["all-tickets"]
    if group:
        agents.append(f"group:{group}")
    if organization:
        agents.append(f"organization:{organization}")
    if assignee:
        agents.append(f"agent:{assignee}")
    readers = [*agents, f"shared:{organization}"] if organization else agents
    users = (str(requester),) if requester else ()
    return Access.of(users=users, groups=tuple(readers)), Access.of(groups=tuple(agents))


def members(http: Http, *, help_center: bool) -> Iterator[Member]:
    groups, organizations = _memberships(http, "group"), _memberships(http, "organization")
    shared = {
        row["id"]
        for row in listing(http, "api/v2/organizations", "organizations")
        if row.get("shared_tickets")
    }
    public = {row["id"] for row in listing(http, "api/v2/groups", "groups") if row.get("is_public")}
    roles = _custom_roles(http)
    segments = list(listing(http, "api/v2/help_center/user_segments", "user_segments")) if help_center else []
    for page in pages(http, "api/v2/users", include="identities"):
        emails: dict[int, list[Row]] = defaultdict(list)
        for identity in page["identities"]:
            if identity["type"] == "email" and identity["verified"]:
                emails[identity["user_id"]].append(identity)
        for user in page["users"]:
            if not user["active"] or user["suspended"]:
                continue
            identities = sorted(emails[user["id"]], key=lambda row: not row["primary"])
            mine, orgs = groups[user["id"]], organizations[user["id"]]
            tokens = {"signed-in"}
            if user["role"] in ("agent", "admin"):
                tokens |= _agent_tokens(user, set(mine), public, roles)
            elif user["role"] == "end-user":
                tokens |= _customer_tokens(user, orgs, shared)
            tokens |= {f"segment:{s['id']}" for s in segments if _in_segment(s, user, set(mine), set(orgs))}
            yield Member(
                user=str(user["id"]),
                email=identities[0]["value"] if identities else "",
                name=user["name"] or "",
                groups=frozenset(tokens),
            )


def _memberships(http: Http, what: str) -> dict[int, dict[int, Row]]:
    """User → group or organisation → the membership."""
    found: dict[int, dict[int, Row]] = defaultdict(dict)
    for row in listing(http, f"api/v2/{what}_memberships", f"{what}_memberships"):
        found[row["user_id"]][row[f"{what}_id"]] = row
    return found


def _custom_roles(http: Http) -> dict[int, Row]:
    """Roles by id; plans without custom roles answer 403 or 404, and then no user has one."""
    response = http.request("GET", "api/v2/custom_roles", accept=(403, 404))
    return {} if response.status_code != 200 else {row["id"]: row for row in response.json()["custom_roles"]}


def _agent_tokens(user: Row, groups: set[int], public: set[int], roles: Mapping[int, Row]) -> set[str]:
    """The narrower of what the agent's own restriction and custom role allow; unknown ones allow nothing."""
    if user.get("chat_only"):
        return {"staff"}
    tokens = {"staff", f"agent:{user['id']}"}
    if user["role"] == "admin":
        return tokens | {"all-tickets"}
    scopes = {_SCOPES.get(user.get("ticket_restriction"), "assigned")}
    if user.get("custom_role_id"):
        role = roles.get(user["custom_role_id"], {}).get("configuration", {})
        scopes.add(_SCOPES.get(role.get("ticket_access", "unknown"), "assigned"))
    scopes = scopes - {"all"} or {"all"}
    if scopes == {"groups", "public"}:
        scopes = {"groups"}
    if len(scopes) > 1:  # groups and organisation: both must hold, which no token says
        return tokens
    match scopes.pop():
        case "all":
            return tokens | {"all-tickets"}
        case "public":
            return tokens | {f"group:{group}" for group in groups | public}
        case "groups":
            return tokens | {f"group:{group}" for group in groups}
        case "organization":
            return tokens | {f"organization:{user['organization_id']}"} if user["organization_id"] else tokens
        case _:
            return tokens


def _customer_tokens(user: Row, orgs: Mapping[int, Row], shared: set[int]) -> set[str]:
    """Organisations whose tickets an end user sees: shared ones, and all when the user's setting says so."""
    everywhere = user.get("ticket_restriction") == "organization"
    seen = {
        org
        for org, row in orgs.items()
        if org in shared or (everywhere and row.get("view_tickets") is not False)
    }
    return {f"shared:{org}" for org in seen}


def _in_segment(segment: Row, user: Row, groups: set[int], orgs: set[int]) -> bool:
    """Every criterion that is set must hold; `added_user_ids` are in it whatever else is said."""
    if user["id"] in (segment.get("added_user_ids") or ()):
        return True
    staff = user["role"] in ("agent", "admin")
    if segment["user_type"] != "signed_in_users" and not (segment["user_type"] == "staff" and staff):
        return False
    tags = set(user.get("tags") or ())
    any_of = set(segment.get("or_tags") or ())
    in_groups = set(segment.get("group_ids") or ())
    in_orgs = set(segment.get("organization_ids") or ())
    return (
        set(segment.get("tags") or ()) <= tags
        and (not any_of or bool(any_of & tags))
        and (not in_groups or bool(in_groups & groups))
        and (not in_orgs or bool(in_orgs & orgs))
    )
