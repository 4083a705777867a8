"""Loaded by schemathesis (tests/e2e/test_openapi.py): a request that is good by the document is not refused as a bad one,
but for what a schema cannot say."""

import schemathesis

# Whether these are good is in the database, or in a secret.
SLUGS = {"unknown-referral-code", "self-referral", "bad-token", "token-expired", "idempotency-key-reused"}
# Fields with rules beyond their schemas: ascending, each once, not with one another, bytes counted, what comes from a page,
# placeholders.
DETAILS = ("too big integer", "must be an integer",  # 1.0 is an integer for schemas
           "\\u0000 is not allowed", "NUL byte in object key")
FIELDS = {"milestones", "reward_rules", "search", "metadata", "cursor", "email", "url", "subject", "text", "html"}


@schemathesis.check
def good_requests_are_taken(ctx, response, case):
    if not case.meta or not case.meta.generation.mode.is_positive or response.status_code not in (400, 413, 415, 422):
        return
    if "json" not in response.headers.get("content-type", [""])[0]:
        return  # a page: there is one token that is good
    problem = response.json()
    slug = problem["type"].rsplit(":", 1)[1]
    beyond = slug in SLUGS or problem.get("field") in FIELDS or any(d in problem.get("detail", "") for d in DETAILS)
    assert beyond, f"a good request is refused: {problem}"
