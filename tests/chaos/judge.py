"""The driver's record against what Postgres committed and what Kafka holds.

Counts, all of which must be 0:
    lost        events that an acknowledged answer counts, or that the table has, and that are not in the table or not in Kafka
    reordered   events that came into Kafka for the first time after a later one of their aggregate
    invented    events that nobody asked for, or that were refused; records that are no event of the table
    doubled     actions that took effect twice
    halved      actions without a known outcome of which only a part took effect
    differing   repeats in Kafka with other bytes"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lib.invariants import read_events
from lib.util import PROJECT

from .record import DONE, OPEN, REFUSED, UNKNOWN

KINDS = ("lost", "reordered", "invented", "doubled", "halved", "differing")

# First events of actions, by what of them tells one action from another; all other events only come along with these.
IDENTS = {
    "user.signed_up": ("email",),
    "user.verified": ("user_id",),
    "reward.earned": ("user_id", "reward_id"),
    "campaign.updated": ("name",),
    "reward.created": ("name",),
    "campaign.created": ("name",),
}

# Rows that come and go with events of a type: a query of the ids that should have one, and the member of data that names it.
STATES = {
    "user.signed_up": ("user_id", "select id::text from tidings.users"),
    "user.verified": ("user_id", "select u.id::text from tidings.verifications v join tidings.users u using (campaign, place)"),
    "referral.created": ("referral_id", "select id::text from tidings.referrals"),
    "referral.verified": ("referred_id", "select u.id::text from tidings.verified_referrals v join tidings.users u"
                                         " on u.campaign = v.campaign and u.place = v.referred"),
    "reward.earned": ("user_reward_id", "select id::text from tidings.user_rewards"),
    "reward.created": ("reward_id", "select id::text from tidings.rewards"),
    "reward.delivered": ("user_reward_id", "select user_reward_id::text from tidings.sagas where state = 'confirmed'"),
    "reward.released": ("user_reward_id", "select user_reward_id::text from tidings.sagas where state = 'released'"),
}

# Events of the service's own, which no answer counts; their rows tell whether there is a reason for them.
UNASKED = ("reward.delivered", "reward.released")


@dataclass
class Verdict:
    counts: Counter = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))
    notes: list = field(default_factory=list)  # a line for each
    repeats: int = 0     # records that came again with the same bytes: not wrong
    events: int = 0

    def blame(self, kind, note, count=1):
        self.counts[kind] += count
        self.notes.append(f"{kind}: {note}")


def ident_of(event):
    """What its action would have as ident, if it were an action's first event; else None."""
    members = IDENTS.get(event.name)
    if not members:
        return None
    campaign = None if event.name == "campaign.created" else event.campaign_id
    return (event.name, campaign, *(event.members.get(m) for m in members))


def type_names():
    """{number in the table: type}, by the contract table."""
    text = (PROJECT / "src/domain/event.h").read_text()
    return {int(number): name for number, name in re.findall(r'^ *X\(EVENT_\w+, *(\d+), "([^"]+)"', text, re.M)}


def read_table(connection):
    """{campaign: {version: event}}, each with .name and .members."""
    names, table = type_names(), defaultdict(dict)
    for event in read_events(connection)[0]:
        event.name, event.members = names[event.type], json.loads(event.data)
        table[event.aggregate][event.version] = event
    return table


# --- the record against the table -------------------------------------------------------------------------------------


def judge_record(verdict, record, table):
    owners = claim_versions(verdict, record, table)
    judge_loose(verdict, record, table, owners)
    for action in record.in_state(OPEN):
        verdict.blame("halved", f"{name(action)}: it has a key, and yet its outcome was never told")


def name(action):
    return f"{action.method} {action.path} {action.body.decode()[:120]}"


def claim_versions(verdict, record, table):
    """Each acknowledged action owns the versions that its answer counts, and they are its events. The owners, by campaign and
    version."""
    owners = {}
    for action in record.in_state(DONE):
        answer = action.answer
        campaign = action.campaign or answer["campaign_id"]
        versions = range(answer["version"] - answer["events"] + 1, answer["version"] + 1)
        missing = [v for v in versions if v not in table[campaign]]
        if missing:
            verdict.blame("lost", f"{name(action)}: answered {action.status}, but {campaign} has no versions {missing}",
                          len(missing))
            continue
        for version in versions:
            if table[campaign][version].name in UNASKED:
                verdict.blame("doubled", f"version {version} of {campaign} is no action's, and {name(action)} claims it")
            if (campaign, version) in owners:
                verdict.blame("doubled", f"version {version} of {campaign} is claimed by {name(action)} and by "
                                         f"{name(owners[campaign, version])}")
            owners[campaign, version] = action
        events = [table[campaign][v] for v in versions]
        if events and action.ident not in [ident_of(e) for e in events]:
            verdict.blame("lost", f"{name(action)}: versions {list(versions)} of {campaign} are not its own: {events}")
        judge_companions(verdict, action, events)
    return owners


def judge_companions(verdict, action, events):
    missing = set(action.companions) - {e.name for e in events}
    if missing:
        verdict.blame("halved", f"{name(action)}: without {sorted(missing)}")


def judge_loose(verdict, record, table, owners):
    """What no answer counts was left by actions whose outcome is not known: each of them wholly, or not at all."""
    unknown = {a.ident: a for a in record.in_state(UNKNOWN, OPEN)}
    others = {a.ident: a for a in record.in_state(DONE, REFUSED)}
    for campaign, events in table.items():
        action, found = None, []
        for version in sorted(events):
            event = events[version]
            if event.name in UNASKED:
                continue
            if (campaign, version) in owners:
                close_loose(verdict, action, found)
                action, found = None, []
                continue
            ident = ident_of(event)
            if ident in unknown:
                close_loose(verdict, action, found)
                action, found = unknown.pop(ident), [event]
            elif ident in others and others[ident].state == DONE:
                verdict.blame("doubled", f"{event}: {name(others[ident])} was answered for other events")
            elif ident in others:
                refused = others[ident]
                verdict.blame("invented", f"{event}: {name(refused)} was refused with {refused.status} {refused.problem}")
            elif action:
                found.append(event)
            else:
                verdict.blame("invented", f"{event}, {event.name}: nobody asked for it")
        close_loose(verdict, action, found)


def close_loose(verdict, action, found):
    if action:
        judge_companions(verdict, action, found)


def judge_state(verdict, connection, table):
    """Events and the rows that they tell of were committed together."""
    told = defaultdict(Counter)
    for events in table.values():
        for event in events.values():
            if event.name in STATES:
                told[event.name][event.members[STATES[event.name][0]]] += 1
    for kind, (_, query) in STATES.items():
        rows = Counter(row[0] for row in connection.execute(query))
        for thing in rows - told[kind]:
            verdict.blame("lost", f"{thing} is in the tables, without an event {kind}")
        for thing in told[kind] - rows:
            known = thing in rows
            verdict.blame("doubled" if known else "halved", f"event {kind} of {thing}: " + ("twice" if known else "no row"))


# --- the table against Kafka ------------------------------------------------------------------------------------------


def judge_records(verdict, table, records):
    """Every event of the table is there, first in its order; repeats have the same bytes."""
    first, highest = {}, Counter()
    for record in sorted(records, key=lambda r: (r.partition, r.offset)):
        where = f"record {record.partition}/{record.offset}"
        try:
            value = json.loads(record.value)
            key, version = record.key.decode(), value["version"]
        except (TypeError, ValueError, KeyError, AttributeError):
            verdict.blame("invented", f"{where} cannot be read: {record.value!r:.200}")
            continue
        event = table.get(key, {}).get(version)
        if not event or value.get("id") != event.id:
            verdict.blame("invented", f"{where} is no event of the table: {record.value!r:.300}")
        elif (key, version) in first:
            verdict.repeats += 1
            if first[key, version] != (record.key, record.value):
                verdict.blame("differing", f"{where} repeats {event} with other bytes")
        else:
            first[key, version] = (record.key, record.value)
            if version < highest[key]:
                verdict.blame("reordered", f"{where}: {event} came after version {highest[key]}")
            highest[key] = max(highest[key], version)
    for key, events in table.items():
        verdict.events += len(events)
        for version in sorted(set(events) - {v for k, v in first if k == key}):
            verdict.blame("lost", f"{events[version]} is not in Kafka")
