#!/usr/bin/env python3
"""Says what `log`, `why`, `log --moment` and `diff` must say of a log: as reader.py, and by docs/json.md.

Prints every record as `log --format json` does, without its summary. With --answers it compares a file of answers, one JSON
array a line: ["log", entry], ["why", uuid, id or name, [life, …]], ["log --moment", uuid, id or name, [seq, …]],
["diff", diff] and ["diff --domain", uuid, diff].
Exit status: 0 no difference; 1 differences, damaged or not readable; 2 usage.
"""

import argparse
import collections
import datetime
import json
import sys
import uuid as uuids

from reader import BRIDGE, COMMAND, GENESIS, Fault, Log, State

RULES = {1: "exclusive", 2: "chain", 3: "active", 4: "suffix", 5: "overlays"}
PROFILES = {1: [1, 3], 2: [1, 2, 4, 5]}
WINDOW = 2_592_000
STATES = {0: "nostate", 1: "running", 2: "blocked", 3: "paused", 4: "shutdown", 5: "shutoff", 6: "crashed",
          7: "pmsuspended", 8: "disk-snapshot"}
DISKS = ["file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa"]
LOCATIONS = ["no", "internal", "external", "manual"]
MEMORY = ["not kept", "internal", "external, {}"]
SEEN = ["unknown", "disk-gone", "lost", "broken", "inconsistent", "stopped", "temporary", "ok"]
JOBS = [None, "create checkpoint", "delete checkpoint", "create snapshot", "delete snapshot", "backup", "repair", "forward call"]
EXTENTS = ["one", "subtree", "children_only"]
OFF = 5
KINDS = {2: "snapshot", 3: "checkpoint"}
CALLS = {
    0: "unknown", 9: "virDomainCreate", 10: "virDomainCreateXML", 11: "virDomainDefineXML", 12: "virDomainDestroy",
    27: "virDomainReboot", 28: "virDomainResume", 29: "virDomainSetAutostart", 33: "virDomainShutdown",
    34: "virDomainSuspend", 35: "virDomainUndefine", 164: "virDomainAbortJob",
    185: "virDomainSnapshotCreateXML", 192: "virDomainRevertToSnapshot", 193: "virDomainSnapshotDelete",
    196: "virDomainCreateWithFlags", 231: "virDomainUndefineFlags", 234: "virDomainDestroyFlags", 245: "virDomainReset",
    258: "virDomainShutdownFlags", 350: "virDomainDefineXMLFlags", 358: "virDomainRename", 411: "virDomainCheckpointCreateXML", 417: "virDomainCheckpointDelete",
    421: "virDomainBackupBegin", 0x8000: "built-in domain", 0x8001: "execute", 0x8002: "set policy",
    0x8003: "set settings", 0x8004: "archive", 0x8005: "restore moments", 0x8006: "attach", 0x8007: "detach",
    0x8008: "observe", 0x8009: "settle", 0x800A: "reconcile", 0x800B: "hold", 0x800C: "release", 0x800D: "undelete",
    13: "virDomainDetachDevice", 161: "virDomainDetachDeviceFlags", 174: "virDomainUpdateDeviceFlags", 237: "virDomainBlockJobAbort", 240: "virDomainBlockPull", 251: "virDomainBlockResize",
    266: "virDomainBlockRebase", 290: "virDomainBlockCommit", 345: "virDomainBlockCopy", 392: "virDomainDetachDeviceAlias", 442: "virDomainAbortJobFlags", 0x800E: "monitor command",
}

def time(micros, claimed=False):
    try:
        when = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
    except OverflowError:
        return None
    return when.isoformat(timespec="seconds" if claimed else "microseconds") + "Z"

def claimed(seconds):
    return time(seconds * 1_000_000, True)

def rules(numbers):
    return [RULES[number] for number in numbers]

def changes(before, after):
    """The fields that differ: in the order of what is, then those that are there no more."""
    names = [*after, *(name for name in before if name not in after)]
    return [{"field": name, "from": before.get(name), "to": after.get(name)}
            for name in names if before.get(name) != after.get(name)]

Record = collections.namedtuple("Record", "seq uuid words mentioned")
# An event about moments of one kind: `list` is as it is now; `was`, `above` and `children` are the current moment, the
# parent and the children before, newest link first, and `now` is the current moment.
Change = collections.namedtuple("Change", "kind domain list moment parent values was above children now")

class Domain:
    """A domain while it is there: its definition in force and the next one, and what its moments are defined as."""

    def __init__(self, name):
        self.name, self.definition, self.next, self.policy, self.power = name, None, None, [], OFF
        self.moments = {}  # by id: the creation time, the fields of the definition, and those of its domain
        self.persistent, self.autostart = True, False

    def define(self, fields, live):
        """A definition of a guest that runs is for its next start, and so is the one that a live one takes the place of."""
        if live:
            self.next = (self.next or self.definition) if self.persistent else None
            self.definition = fields
        elif self.power == OFF:
            self.definition = fields
        else:
            self.next = fields
        self.persistent = self.persistent or not live

    def rename(self, name, fields):
        """The definition with the name is that of the next start, if there is one."""
        self.name = name
        if self.next is None:
            self.definition = fields
        else:
            self.next = fields

    def switch(self, power):
        """A guest that goes off leaves the definition of its next start."""
        self.power = power
        if power == OFF and self.next is not None:
            self.definition, self.next = self.next, None

class Audit(State):
    def __init__(self, points=()):
        super().__init__()
        self.contents, self.alive, self.names, self.named = {}, {}, {}, {}
        self.settings, self.called = [None, WINDOW], collections.defaultdict(list)
        self.entries, self.records, self.lives, self.points, self.at = [], [], {}, set(points), {}

    # What a record says, by docs/json.md.
    def text(self, place):
        content = None if place is None else self.contents[place]
        return {"erased": True} if place is not None and content is None else content

    def moment(self, number):
        return {"id": number, "name": self.named[number]} if number else None

    def replay(self, seq, before, facts, texts):
        for index, (_, _, content) in enumerate(texts):
            self.contents[seq, index] = None if content is None else content.decode()
        self.seq, self.events, self.mentioned, self.words, self.turned = seq, [], set(), [], []
        super().replay(seq, before, facts, texts)
        kind, uuid, previous, asked, bridge = self.told
        if kind == GENESIS:
            self.settings[0] = PROFILES[asked[0]]
            actor, agent, call, flags, reason, request, undoes = asked[1], None, None, None, None, None, 0
            self.events.append({"type": "log_begun"})
        else:
            actor, agent, call, flags, reason, request, undoes = asked
        for first, last, _, _, _, to in bridge:
            self.events.append({"type": "records_archived", "first": first, "last": last, "to": self.text(to)})
        self.head = {"seq": seq, "time": time(self.recorded), "actor": actor, "reason": self.text(reason)}
        self.entries.append({
            "schema": "momentlog.entry/1", "seq": seq, "time": time(self.recorded),
            "kind": {GENESIS: "genesis", BRIDGE: "bridge"}.get(kind, "command"), "actor": actor, "agent": self.text(agent),
            "call": None if call is None else CALLS.get(call, str(call)), "flags": flags, "reason": self.text(reason),
            "request_id": request and request[0], "undoes": undoes or None,
            "domain": {"name": self.names.get(uuid), "uuid": str(uuids.UUID(bytes=uuid))} if kind == COMMAND else None,
            "previous": previous or None, "events": self.events})
        for life, turn in self.turned:
            self.lives[life]["turns"].append({**self.head, **turn})
        self.put_back(undoes)
        mentioned = self.mentioned | {moment for moment, _ in self.turned}
        self.records.append(Record(seq, uuid if kind == COMMAND else None, self.words, mentioned))
        if seq in self.points:
            self.at[seq] = self.picture()

    def event(self, what, **more):
        self.events.append({"type": what, **more})

    def mention(self, *moments):
        self.mentioned.update(moment for moment in moments if moment)

    def turn(self, moment, what, **more):
        self.turned.append((moment, {"what": what, **more}))

    def apply(self, event, uuid, moment, parent, values):
        domain, lists, kind = self.alive.get(uuid), self.domains.get(uuid), KINDS.get(event >> 8)
        self.group = event >> 8
        self.mention(moment)
        if not kind or not lists:
            gone = {group: sorted(lists[group].names) for group in KINDS} if lists else {}
            super().apply(event, uuid, moment, parent, values)
            self.other(event, uuid, domain, moment, values, gone)
            return
        found = lists[self.group]
        was, above, children = found.current, found.parents.get(moment, 0), list(found.children.get(moment, ()))[::-1]
        super().apply(event, uuid, moment, parent, values)
        change = Change(kind, domain, found, moment, parent, values, was, above, children, found.current)
        [self.created, self.redefined, self.deleted, self.moved, self.current_set, self.reverted][(event & 15) - 1](change)

    def other(self, event, uuid, domain, moment, values, gone):
        if event == 0x0101:
            definition, policy, live = values
            fields = self.fields_of_domain(definition)
            new = domain is None
            if new:
                domain = self.alive[uuid] = Domain(definition[0])
                domain.policy, before = policy, fields
                self.names[uuid] = domain.name
                self.called[uuid].append((self.seq, domain.name))
                self.words.append(("domain made", None))
                domain.definition, domain.persistent = fields, not live
            else:
                before = domain.definition
                domain.define(fields, live)
            self.event("domain_defined", live=bool(live), new=new, fields=changes(before, fields))
        elif event == 0x0102:
            before = domain.power
            domain.switch(values[0][0])
            self.event("state_changed", **{"from": STATES[before], "to": STATES[values[0][0]]})
        elif event == 0x0103:
            self.event("made_transient")
            domain.next, domain.persistent = None, False
        elif event == 0x0104:
            del self.alive[uuid]
            self.words.append(("domain gone", None))
            self.event("domain_removed", snapshots=[self.moment(one) for one in gone[2]],
                       checkpoints=[self.moment(one) for one in gone[3]])
            for one in gone[2] + gone[3]:
                self.turn(one, "deleted", because=self.cause("domain_removed"), moved_children=[])
                self.group = next(group for group in KINDS if one in gone[group])
                self.end(one)
        elif event == 0x0105:
            self.words.append(("policy", None, domain.policy, values[0]))
            self.event("policy_set", **{"from": rules(domain.policy), "to": rules(values[0])})
            domain.policy = values[0]
        elif event == 0x0106:
            domain.rename(values[0][0], self.fields_of_domain(values[0]))
            self.event("domain_renamed", **{"from": self.names[uuid], "to": domain.name})
            self.names[uuid] = domain.name
            self.called[uuid].append((self.seq, domain.name))
        elif event == 0x0107:
            self.event("autostart_set", **{"from": domain.autostart, "to": bool(values[0])})
            domain.autostart = bool(values[0])
        elif event == 0x0401:
            number, kind, length, _, _, _, _, effects, _, deletions, *_ = values[0]
            deletes = [first + n for _, _, runs in deletions for first, length in runs for n in range(length)]
            self.mention(*deletes)
            self.event("job_begun", job=number, kind=JOBS[kind], length=[None, "short", "long"][length],
                       deletes=[self.moment(one) for one in deletes], disks=[effect[0] for effect in effects])
        elif event in (0x0402, 0x0403):
            number, by, agent, seen = values[0]
            self.event("job_ended" if event == 0x0402 else "job_failed", job=number, settled_later=by == 2,
                       agent=self.text(agent), seen=[{"thing": thing, "found": found} for thing, found in seen])
        elif event == 0x0404:
            driver, socket, look_only = values[0]
            self.event("hypervisor_attached", driver=driver, socket=socket, look_only=bool(look_only))
        elif event == 0x0405:
            self.event("hypervisor_detached")
        elif event == 0x0406:
            disks = [{"disk": disk, "state": SEEN[state]} for disk, state in values[0][0]]
            self.event("checkpoint_seen", moment=self.moment(moment), disks=disks)
            self.turn(moment, "seen", disks=disks)
        elif event == 0x0501:
            tag, since, by = values[0]
            kind = self.lives[moment]["kind"]
            self.event(f"{kind}_held", moment=self.moment(moment), tag=tag, by=by, since=claimed(since))
            self.turn(moment, "held", tag=tag)
        elif event == 0x0502:
            kind = self.lives[moment]["kind"]
            self.event(f"{kind}_released", moment=self.moment(moment), tag=values[0])
            self.turn(moment, "released", tag=values[0])
        elif event == 0x0601:
            doc = lambda policy, window: {"policy": rules(policy), "request_window_s": window}
            self.event("settings_set", **{"from": doc(*self.settings), "to": doc(*values[0])})
            self.settings = values[0]

    # What becomes of moments.
    def cause(self, word, moment=0):
        return {"cause": word, "moment": self.moment(moment)}

    def became_current(self, change, cause):
        """Another moment may be current, because of the one that the event is about; what is gone is not current either."""
        if change.was == change.now:
            return
        self.mention(change.was, change.now)
        because = lambda one: self.cause("asked") if change.moment in (0, one) else self.cause(cause, change.moment)
        if change.was in change.list.names:
            self.turn(change.was, "not_current", because=because(change.was))
        if change.now:
            self.turn(change.now, "current", because=because(change.now))

    def created(self, change):
        _, name, made, body = change.values
        moment, self.named[change.moment] = change.moment, name
        change.domain.moments[moment] = [made, self.fields(change.kind, body), self.domain_of(change.kind, body)]
        self.words.append(("made", self.group, moment))
        self.lives[moment] = {"kind": change.kind, "uuid": self.told[1], "created": made, "turns": [], "by": self.seq,
                              "gone_by": None, "restored": None}
        place = {"below": self.moment(change.parent), "current": change.now == moment}
        self.event(f"{change.kind}_created", moment=self.moment(moment), **place)
        self.turn(moment, "created", **place)
        if change.was and change.now != change.was:
            self.turn(change.was, "not_current", because=self.cause("created", moment))

    def redefined(self, change):
        _, made, body = change.values
        moment, found, below = change.moment, change.domain.moments[change.moment], self.moment(change.parent)
        before, after = {"creation time": claimed(found[0]), **found[1]}, self.fields(change.kind, body)
        fields = changes(before, {"creation time": claimed(made), **after})
        found[:] = made, after, self.domain_of(change.kind, body)
        self.lives[moment]["created"] = made
        self.words.append(("redefined", self.group, moment))
        move = {"from": self.moment(change.above), "to": below}
        moved = [{"moment": self.moment(moment), **move}] if change.parent != change.above else []
        self.event(f"{change.kind}_redefined", moment=self.moment(moment), below=below, fields=fields, moved=moved,
                   current=change.was != change.now == moment)
        self.turn(moment, "redefined", below=below, fields=fields)
        if moved:
            self.hang(moment, move, 0, self.cause("asked"))
        self.became_current(change, "redefined")

    def deleted(self, change):
        extent, runs, _, _ = change.values[0]
        removed = [first + n for first, length in runs for n in range(length)]
        move = {"from": self.moment(change.moment), "to": self.moment(change.above)}
        children = [] if extent else change.children
        other = change.was != change.now
        self.event(f"{change.kind}_deleted", moment=self.moment(change.moment), extent=EXTENTS[extent],
                   removed=[self.moment(one) for one in removed],
                   moved=[{"moment": self.moment(child), **move} for child in children],
                   current={"changed": other, "from": self.moment(change.was) if other else None,
                            "to": self.moment(change.now) if other else None})
        word = ["deleted", "deleted_with_children", "children_deleted"][extent]
        for one in removed:
            asked = one == change.moment
            self.turn(one, "deleted", because=self.cause("asked") if asked else self.cause(word, change.moment),
                      moved_children=[self.moment(child) for child in children] if asked else [])
            self.end(one)
        for child in children:
            self.hang(child, move, change.moment, self.cause(word, change.moment))
        self.became_current(change, word)

    def moved(self, change):
        move = {"from": self.moment(change.above), "to": self.moment(change.parent)}
        self.event(f"{change.kind}_moved", moment=self.moment(change.moment), **move)
        if change.parent != change.above:
            self.hang(change.moment, move, 0, self.cause("asked"))

    def hang(self, moment, move, deleted, because):
        self.words.append(("hung", self.group, moment, deleted))
        self.turn(moment, "moved", **move, because=because)

    def current_set(self, change):
        self.mention(change.now)
        self.event(f"{change.kind}_current_set", **{"from": self.moment(change.was), "to": self.moment(change.now)})
        self.became_current(change, None)

    def reverted(self, change):
        domain, (power,) = change.domain, change.values
        self.event("snapshot_reverted", moment=self.moment(change.moment), state=STATES[power[0]])
        self.turn(change.moment, "reverted")
        self.became_current(change, "reverted")
        domain.definition, domain.next = domain.moments[change.moment][2], None
        domain.switch(power[0])

    def end(self, moment):
        self.words.append(("gone", self.group, moment))
        self.lives[moment]["gone_by"] = self.seq

    def put_back(self, undoes):
        """Which moments stand for those that the deletion took which this record takes back."""
        if not undoes:
            return
        gone = [one for one, life in self.lives.items() if life["gone_by"] == undoes]
        made = [one for one, life in self.lives.items() if life["by"] == self.seq]
        for one in made:
            kind, name = self.lives[one]["kind"], self.named[one]
            same = [old for old in gone if (self.lives[old]["kind"], self.named[old]) == (kind, name)]
            for old in same or gone[:1]:
                self.lives[old]["restored"] = one

    # Definitions, field by field.
    def fields_of_domain(self, definition):
        name, _, memory, disks, place = definition
        fields = {"name": name, "memory": memory}
        for target, kind, source, _, disk_format, readonly, _ in disks:
            fields[f"disk {target}"] = (f"{DISKS[kind]} {source or 'no source'}, {disk_format or 'no format'}"
                                        + (", read-only" if readonly else ""))
        return {**fields, "domain XML": self.text(place)}

    def domain_of(self, kind, body):
        """The fields of a snapshot's domain, to which a domain goes back."""
        return self.fields_of_domain(body[5]) if kind == "snapshot" and body[5] else None

    def fields(self, kind, body):
        if kind == "checkpoint":
            description, disks, domain = body
            fields = {"description": description and self.text(description)}
            for name, tracking, bitmap in disks:
                fields[f"disk {name}"] = ["not tracked", "bitmap of its own name", f"bitmap {bitmap}"][tracking]
            fields["domain XML"] = domain and self.text(domain[4])
        else:
            state, memory, file, description, disks, domain, inactive, revert, other = body
            fields = {"state": STATES[state], "description": description and self.text(description),
                      "memory": MEMORY[memory].format(file)}
            for name, location, disk, driver, source, xml in disks:
                fields[f"disk {name}"] = (("no location" if location is None else LOCATIONS[location])
                                          + (f", {DISKS[disk]} {source}" if source else "")
                                          + (f", {driver}" if driver else ""))
                fields[f"XML of disk {name}"] = xml and self.text(xml)
            fields.update({"domain XML": domain and self.text(domain[4]),
                           "inactive domain XML": inactive and self.text(inactive[4]),
                           "revert disks": revert and self.text(revert), "other XML": other and self.text(other)})
        return {name: value for name, value in fields.items() if value is not None}

    # The answers.
    def life(self, moment):
        life = self.lives[moment]
        uuid, kind, gone = life["uuid"], life["kind"], life["gone_by"]
        group = next(group for group in KINDS if KINDS[group] == kind)
        list_ = None if gone else self.domains[uuid][group]
        return {
            "schema": "momentlog.life/1", "domain": {"name": self.names[uuid], "uuid": str(uuids.UUID(bytes=uuid))},
            "kind": kind, "moment": self.moment(moment), "state": "gone" if gone else "alive",
            "below": self.moment(list_.parents[moment]) if list_ else None,
            "current": bool(list_ and list_.current == moment), "gone_by": gone, "restored_as": self.moment(life["restored"]),
            "claimed": claimed(life["created"]), "claimed_s": life["created"], "turns": life["turns"]}

    def picture(self):
        """What there is of each domain."""
        return {uuid: {"policy": domain.policy, "power": domain.power, "autostart": domain.autostart,
                       "definition": domain.definition,
                       **{group: self.pictured(domain, self.domains[uuid][group]) for group in KINDS}}
                for uuid, domain in self.alive.items()}

    def pictured(self, domain, list_):
        moments = {one: (parent, *domain.moments[one][:2]) for one, parent in list_.parents.items()}
        return {"current": list_.current, "moments": moments}

    def diff(self, start, end, only=None):
        before, after = self.at[start], self.at[end]
        between = [record for record in self.records[start:end] if record.uuid]
        found = []
        for uuid in sorted(self.names, key=lambda uuid: (self.name_at(uuid, end), uuid)):
            if only in (None, uuid):
                records = [record for record in between if record.uuid == uuid]
                found += self.diff_of(uuid, before.get(uuid), after.get(uuid), records, end)
        point = lambda seq: {"seq": seq, "time": self.entries[seq - 1]["time"]}
        return {"schema": "momentlog.diff/1", "from": point(start), "to": point(end), "domains": found}

    def diff_of(self, uuid, before, after, records, end):
        if not records:
            return []
        words = [(record.seq, *word) for record in records for word in record.words]
        made = [seq for seq, word, *_ in words if word == "domain made"]
        gone = [seq for seq, word, *_ in words if word == "domain gone"]
        existence, by = (("both", None) if before and after else ("gone", gone[-1]) if before else
                         ("new", made[-1]) if after else ("between", None))
        both = before and after
        differs = lambda key: both and before[key] != after[key]
        change = lambda one, other: {"from": one, "to": other}
        doc = {
            "domain": {"name": self.name_at(uuid, end), "uuid": str(uuids.UUID(bytes=uuid))},
            "existence": existence, "by": by,
            "policy": change(rules(before["policy"]), rules(after["policy"])) if differs("policy") else None,
            "power": change(STATES[before["power"]], STATES[after["power"]]) if differs("power") else None,
            "autostart": change(before["autostart"], after["autostart"]) if differs("autostart") else None,
            "definition": changes(before["definition"], after["definition"]) if both else [],
            "policies": [{"by": seq, "from": rules(one), "to": rules(other)}
                         for seq, word, _, *more in words if word == "policy" for one, other in [more] if one != other],
            **{f"{KINDS[group]}s": self.diff_of_lists(before and before[group], after and after[group],
                                                      [word for word in words if word[2] == group]) for group in KINDS}}
        empty = existence == "both" and not any(list(doc.values())[3:])
        return [] if empty else [doc]

    def diff_of_lists(self, before, after, words):
        before, after = before or {"current": 0, "moments": {}}, after or {"current": 0, "moments": {}}
        old, new = before["moments"], after["moments"]
        last = lambda wanted, one: [word for word in words if word[1] == wanted and word[3] == one]
        changed = []
        for one in sorted(old.keys() & new.keys()):
            (above, made, fields), (above_now, made_now, fields_now) = old[one], new[one]
            moved = redefined = None
            if above != above_now:
                seq, _, _, _, because = last("hung", one)[-1]
                moved = {"from": self.moment(above), "to": self.moment(above_now), "by": seq,
                         "because": self.moment(because)}
            differing = changes({"creation time": claimed(made), **fields}, {"creation time": claimed(made_now), **fields_now})
            if differing:
                redefined = {"by": [seq for seq, *_ in last("redefined", one)], "fields": differing}
            if moved or redefined:
                changed.append({"moment": self.moment(one), "moved": moved, "redefined": redefined})
        came = [word[3] for word in words if word[1] == "made"]
        doc = {
            "current": {"from": self.moment(before["current"]), "to": self.moment(after["current"])}
            if before["current"] != after["current"] else None,
            "removed": [{"moment": self.moment(one), "by": last("gone", one)[-1][0]} for one in sorted(old.keys() - new.keys())],
            "added": [{"moment": self.moment(one), "below": self.moment(new[one][0]), "by": last("made", one)[-1][0]}
                      for one in sorted(new.keys() - old.keys())],
            "changed": changed,
            "transient": [{"moment": self.moment(one), "created": last("made", one)[-1][0], "deleted": last("gone", one)[-1][0]}
                          for one in sorted(came) if one not in new]}
        return doc if any(doc.values()) else None

    def name_at(self, uuid, seq):
        return [name for at, name in self.called[uuid] if at <= seq or at == self.called[uuid][0][0]][-1]

def differing(state, digests, answer):
    kind, *asked, said = answer
    if kind == "log":
        mine = state.entries[said["seq"] - 1]
        said.pop("summary")
        mine = {**mine, "digest": digests[said["seq"]].hex()}
    elif kind in ("why", "log --moment"):
        uuid, moment = uuids.UUID(asked[0]).bytes, asked[1]
        wanted = [one for one, life in state.lives.items() if life["uuid"] == uuid and moment in (one, state.named[one])]
        if kind == "why":
            mine = [state.life(one) for one in wanted]
        else:
            mine = [record.seq for record in state.records if record.uuid == uuid and record.mentioned & set(wanted)]
    else:
        only = uuids.UUID(asked[0]).bytes if asked else None
        mine = state.diff(said["from"]["seq"], said["to"]["seq"], only)
    return None if json.dumps(mine) == json.dumps(said) else (kind, asked, mine, said)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--archive")
    parser.add_argument("--answers", metavar="FILE")
    words = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")
    answers = []
    if words.answers:
        with open(words.answers, encoding="utf-8") as file:
            answers = [json.loads(line) for line in file]
    points = {answer[-1][end]["seq"] for answer in answers if answer[0].startswith("diff") for end in ("from", "to")}
    try:
        state, digests = tell(words, points)
    except (Fault, OSError, UnicodeDecodeError) as fault:
        sys.exit(f"{parser.prog}: {fault}")
    if not words.answers:
        for entry in state.entries:
            print(json.dumps({**entry, "digest": digests[entry["seq"]].hex()}, ensure_ascii=False))
        return
    found = [found for answer in answers if (found := differing(state, digests, answer))]
    for kind, asked, mine, said in found[:20]:
        print(f"{kind} {asked}\n  model    {json.dumps(mine)}\n  library  {json.dumps(said)}")
    print(f"{len(answers)} answers, {len(found)} differences")
    sys.exit(bool(found))

def tell(words, points):
    log, state = Log(words.store, words.archive), Audit(points)
    for seq, before, facts, texts, where in log.records():
        try:
            state.replay(seq, before, facts, texts)
        except Fault as fault:
            raise Fault(f"{where}: {fault}") from None
    log.check_marks(state.bridges)
    return state, log.digests

if __name__ == "__main__":
    main()
