"""What the groups did: each event's effect is there once, and what went out is what the tables say.

    undone      events without their effect, or with one that is not finished
    redone      effects that went out as something new: under an id that is not the event's, or with another content
    given up    records in dead_letters"""

import json
from collections import Counter, defaultdict

from .stack import ACCOUNT_PATH, REWARD_PATH

KINDS = ("undone", "redone", "given up")
MAILED = ("user.signed_up", "user.verified", "referral.verified", "reward.earned", "campaign.milestone_reached",
          "user.verification_requested", "reward.released")
POSITIONED = ("referral.verified", "campaign.updated")
SUBSCRIBED = ["user.verified", "referral.verified", "reward.earned", "campaign.updated"]  # by the account's webhook

LEADERBOARD = """
    with counted as (
        select r.campaign, r.referrer as place, max(r.n) as verified from tidings.verified_referrals r group by 1, 2),
    wanted as (
        select c.campaign, c.place, c.verified, greatest(1, c.place - c.verified * k.points_per_referral) as position
        from counted c join tidings.campaigns k on k.no = c.campaign)
    select w.campaign, w.place, w.verified, w.position, l.verified, l.position
    from wanted w full join tidings.leaderboard l using (campaign, place)
    where (w.verified, w.position) is distinct from (l.verified, l.position)"""


def judge_effects(verdict, connection, table, stack):
    """verdict gets the counts of KINDS, and .external: what went out, and how much of it more than once."""
    for kind in KINDS:
        verdict.counts[kind] = 0
    events = [e for of_one in table.values() for e in of_one.values()]
    mails, resent = judge_mails(verdict, connection, events, stack)
    rewards, recalled = judge_webhooks(verdict, connection, events, stack)
    told, told_again = judge_account_webhook(verdict, connection, events, stack)
    judge_positions(verdict, connection, events)
    for row in connection.execute("select grp, type, reason from tidings.dead_letters"):
        verdict.blame("given up", f"{row}")
    verdict.external = {"mails": mails, "mails sent again": resent, "webhooks": rewards + told, "webhooks called again": recalled + told_again}


def judge_rows(verdict, kind, wanted, found, good):
    """found: {id: status} of a table that should have a row for each of `wanted`."""
    for one in wanted - found.keys():
        verdict.blame("undone", f"no {kind} of {one}")
    for one in found.keys() - wanted:
        verdict.blame("redone", f"{kind} of {one}: there is no such event")
    for one, status in found.items():
        if one in wanted and status != good:
            verdict.blame("undone", f"{kind} of {one} is {status}")


def judge_mails(verdict, connection, events, stack):
    rows = connection.execute("select event_id::text, status, message_id, lower(recipient) from tidings.mails").fetchall()
    judge_rows(verdict, "mail", {e.id for e in events if e.name in MAILED}, {r[0]: r[1] for r in rows}, "sent")
    host = rows[0][2].rsplit("@", 1)[1] if rows else ""
    known = {f"<{r[2]}>": (r[3], r[1] == "sent") for r in rows}
    known |= {f"<{id}.reward@{host}>": (target, status == "delivered") for id, target, status in connection.execute(
        "select user_reward_id::text, lower(target), status from tidings.deliveries where kind = 'email'")}
    with stack.smtp._lock:
        received = list(stack.smtp.mails)
    seen = Counter()
    for mail in received:
        seen[mail.message_id] += 1
        if known.get(mail.message_id, (None,))[0] not in mail.rcpt_tos:
            verdict.blame("redone", f"a mail to {mail.rcpt_tos} with Message-ID {mail.message_id}, which is nobody's")
    for message_id in {m for m, (_, sent) in known.items() if sent} - seen.keys():
        verdict.blame("undone", f"mail {message_id} is said to be sent, and never arrived")
    return len(seen), sum(seen.values()) - len(seen)


def judge_webhooks(verdict, connection, events, stack):
    rows = connection.execute("select user_reward_id::text, status, kind from tidings.deliveries").fetchall()
    judge_rows(verdict, "delivery", {e.members["user_reward_id"] for e in events if e.name == "reward.earned"},
               {r[0]: r[1] for r in rows}, "delivered")
    known = {f"msg_{r[0]}": r[1] == "delivered" for r in rows if r[2] == "webhook"}
    return judge_calls(verdict, stack, REWARD_PATH, known, lambda body: body["data"]["user_reward_id"])


def judge_account_webhook(verdict, connection, events, stack):
    rows = dict(connection.execute("select event_id::text, status from tidings.webhook_deliveries").fetchall())
    judge_rows(verdict, "webhook", {e.id for e in events if e.name in SUBSCRIBED}, rows, "delivered")
    return judge_calls(verdict, stack, ACCOUNT_PATH, {f"msg_{id}": status == "delivered" for id, status in rows.items()},
                       lambda body: body["event_id"])


def judge_calls(verdict, stack, path, known, id_in):
    """known: whether what goes by an id is said to be delivered. The numbers of ids that were called, and of calls beyond that."""
    bodies = defaultdict(list)
    for call in stack.target.to(path):
        bodies[call.id].append(call.body)
    for id, calls in bodies.items():
        if id not in known or id_in(json.loads(calls[0])) != id.removeprefix("msg_"):
            verdict.blame("redone", f"a webhook with id {id}, which is nobody's")
        if len(set(calls)) > 1:
            verdict.blame("redone", f"webhook {id} was called again with another body")
    for id in {i for i, delivered in known.items() if delivered} - bodies.keys():
        verdict.blame("undone", f"webhook {id} never arrived")
    return len(bodies), sum(map(len, bodies.values())) - len(bodies)


def judge_positions(verdict, connection, events):
    rows = connection.execute("select event_id::text from tidings.handled where grp = 'position-workers'")
    judge_rows(verdict, "position", {e.id for e in events if e.name in POSITIONED}, {r[0]: "done" for r in rows}, "done")
    for row in connection.execute(LEADERBOARD):
        verdict.blame("undone", f"leaderboard: campaign, place, verified and position due, as they are: {row}")
