#!/usr/bin/env python3
"""Verifies a log and prints its trees at any record. Knows only docs/format.md.

Nobody may write the store meanwhile. A log whose beginning was archived needs the archive, or image.py.
Exit status: 0 verified, also up to a torn tail, which is named last; 1 damaged or not readable; 2 usage.
"""

import argparse
import collections
import functools
import hashlib
import os
import re
import struct
import sys

FRAME_MAGIC, HEAD_MAGIC, START_MAGIC = b"\x8amoment\n", b"\x8amthead\n", b"\x8amtstrt\n"
FRAME_MAX, SEGMENT_MAX, SEARCH_MAX = 64 << 20, 16 << 20, 256 << 20
GENESIS, COMMAND, BRIDGE, STORE_COMMAND = 1, 2, 3, 5
KINDS = {2: "snapshots", 3: "checkpoints"}

# Bodies, as the page lists them: ?( an option ), [ a list ], a number of bytes, or another body.
BODIES = {
    "genesis": "u8 str",
    "provenance": "str text u16 u32 ?( text ) ?( str 32 ) u64",
    "bridge": "u64 u64 32 32 32 ?( text )",
    "power": "u8 u8 ?( u32 )",
    "facts": "str 16 u64 [ str u8 ?( str ) bool ?( str ) bool ?( u8 ) ]",
    "snapshot": "u8 u8 ?( str ) ?( text ) [ str ?( u8 ) u8 ?( str ) ?( str ) ?( text ) ]"
                " ?( domain ) ?( domain ) ?( text ) ?( text )",
    "checkpoint": "?( text ) [ str u8 ?( str ) ] ?( domain )",
    "deleted": "u8 [ u64 u64 ] u64 u64",
    "job": "u64 u16 u8 u16 u32 ?( text ) ?( u32 u64 16 ) [ str u8 str str ?( str ) bool ?( str ) ] [ str str ]"
           " [ u64 u8 [ u64 u64 ] ] [ u64 bool str i64 snapshot ] [ u64 bool str i64 checkpoint ]",
    "outcome": "u64 u8 text [ str str ]",
    "attached": "str str bool",
    "seen": "[ str u8 ]",
    "hold": "str i64 str",
    "settings": "policy u32",
}
# Of each kind of event its body, and which of moment and parent it names; all have version 1.
EVENTS = {
    0x0101: ("domain policy bool", ""), 0x0102: ("power", ""), 0x0103: ("", ""), 0x0104: ("", ""),
    0x0105: ("policy", ""), 0x0106: ("domain", ""), 0x0107: ("bool", ""), 0x0206: ("power", "m"),
    0x0401: ("job", ""), 0x0402: ("outcome", ""),
    0x0403: ("outcome", ""), 0x0404: ("attached", ""), 0x0405: ("", ""), 0x0406: ("seen", "m"),
    0x0501: ("hold", "m"), 0x0502: ("str", "m"), 0x0601: ("settings", ""),
}
for group, body in (0x0200, "snapshot"), (0x0300, "checkpoint"):
    EVENTS[group + 1] = (f"bool str i64 {body}", "mp")
    EVENTS[group + 2] = (f"bool i64 {body}", "mp")
    EVENTS[group + 3] = ("deleted", "m")
    EVENTS[group + 4] = ("", "mp")
    EVENTS[group + 5] = ("", "p")

class Fault(Exception):
    """What is wrong, and where."""

class Bad(Fault):
    """Bytes that are no frame, or not the next one: a torn tail or damage."""

def need(holds, what, fault=Fault):
    if not holds:
        raise fault(what)

TABLE = list(range(256))
for _ in range(8):
    TABLE = [entry >> 1 ^ (0x82F63B78 if entry & 1 else 0) for entry in TABLE]

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF

def shown(name):
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in name)

def number(data):
    return int.from_bytes(data, "little")

# Files, frames, and the chain.
Mark = collections.namedtuple("Mark", "magic version crc log seq digest")
Header = collections.namedtuple("Header", "magic version crc log seq previous durable facts count texts zero")

def read_file(path, most):
    with open(path, "rb") as file:
        return file.read(most + 1)

def mark(path, magic):
    """Returns what `head` or `start` names; None if it is not there, or says nothing yet."""
    data = read_file(path, 72) if os.path.lexists(path) else b""
    if not any(data) and (magic == HEAD_MAGIC or not os.path.lexists(path)):
        return None
    need(len(data) == 72, f"{path}: torn or damaged")
    mark = Mark(*struct.unpack("<8sII16sQ32s", data))
    need(mark.magic == magic and mark.crc == crc32c(data[:12] + data[16:]), f"{path}: torn or damaged")
    need(mark.version == 1, f"{path}: format version {mark.version} is not known")
    return mark

def segments(directory):
    """Yields the first seqs and the contents of the segments, and their paths."""
    for name in sorted(name for name in os.listdir(directory) if name.endswith(".seg")):
        path = os.path.join(directory, name)
        need(re.fullmatch(r"[0-9]{20}\.seg", name) and 0 < int(name[:20]) < 1 << 64, f"{path}: not a segment's name")
        yield int(name[:20]), read_file(path, FRAME_MAX), path

def header(data, at):
    """Returns the header of the frame that begins here, and the frame's length."""
    need(data[at : at + 8] == FRAME_MAGIC and len(data) >= at + 96, "no frame begins here", Bad)
    head = Header(*struct.unpack_from("<8sII16sQ32sQIIII", data, at))
    need(crc32c(data[at : at + 12] + data[at + 16 : at + 96]) == head.crc, "the header's checksum is wrong", Bad)
    need(head.version == 1, f"format version {head.version} is not known")
    length = (96 + head.facts + head.texts + 4 + 7) // 8 * 8
    need(length <= FRAME_MAX and head.seq and not head.zero, "the header makes no sense", Bad)
    return head, length

def frame(data, at, first, head, length):
    """Returns the facts and the texts of the frame with this header."""
    body = data[at : at + length]
    need(len(body) == length, "the frame is cut", Bad)
    place = head.log + struct.pack("<QQ", first, at)
    need(crc32c(place + body[:-4]) == number(body[-4:]), "the frame's checksum is wrong", Bad)
    end = 96 + head.facts + head.texts
    need(not any(body[end:-4]), "the padding is not zero", Bad)
    return body[96 : 96 + head.facts], texts_of(body[96 + head.facts : end], head.count)

def texts_of(raw, count):
    """Returns of each text whether it is erased, its commitment, and its bytes; none of an erased one."""
    texts, at = [], 0
    for _ in range(count):
        need(len(raw) >= at + 40, "a text is cut", Bad)
        kind, length = raw[at], number(raw[at + 4 : at + 8])
        salt, data = raw[at + 8 : at + 40], raw[at + 40 : at + 40 + length]
        sound = kind <= 1 and len(data) == length and not any(raw[at + 1 : at + 4]) and not (kind and any(data))
        need(sound, "a text is malformed", Bad)
        hashed = b"momentlog text v1" + salt + struct.pack("<Q", length) + data
        texts.append((True, salt, None) if kind else (False, hashlib.sha256(hashed).digest(), data))
        at += 40 + length
    need(at == len(raw), "bytes behind the texts", Bad)
    return texts

class Log:
    """The files of a log: those of the store, and those of its archive if there is one."""

    def __init__(self, store, archive):
        self.head = mark(os.path.join(store, "head"), HEAD_MAGIC)
        self.start = mark(os.path.join(store, "start"), START_MAGIC)
        archived = {first: (first, data, path) for first, data, path in segments(archive)} if archive else {}
        files = dict(archived)
        for first, data, path in segments(store):
            # Both have a segment if an archiving was stopped; if it was stopped early, the archive's is the beginning.
            copied = archived[first][1].rstrip(b"\0") if first in archived else b""
            moved = first in archived and self.start and first <= self.start.seq
            need(data.rstrip(b"\0") == copied if moved else data.startswith(copied), f"{path}: not as in the archive")
            files[first] = (first, data, path)
        need(files, f"{store}: no segment")
        need(1 in files or not self.start, f"{store}: its beginning was archived: give --archive")
        self.files = sorted(files.values())
        self.id, self.digests, self.torn = None, {0: bytes(32)}, None

    def records(self):
        """Yields seq, digest of the record before, facts and texts of every record, verified, and where it stands."""
        seq = max(self.digests) + 1
        for index, (first, data, path) in enumerate(self.files):
            at, longest = 0, SEGMENT_MAX
            try:
                need(first == seq, f"begins with record {first}, and {seq} comes next", Bad)
                while data[at : at + 96].strip(b"\0"):
                    head, length = header(data, at)
                    longest = max(longest, length) if at == 0 else longest
                    need(self.id in (None, head.log), "the frame is of another log", Bad)
                    facts, texts = frame(data, at, first, head, length)
                    follows = head.seq == seq and head.previous == self.digests[seq - 1]
                    need(follows, f"record {head.seq} does not follow record {seq - 1}", Bad)
                    self.id = head.log
                    hashed = b"momentlog record v1" + self.id + struct.pack("<Q", seq) + head.previous
                    hashed += struct.pack("<Q", len(facts)) + facts + b"".join(text[1] for text in texts)
                    self.digests[seq] = hashlib.sha256(hashed).digest()
                    yield seq, head.previous, facts, texts, f"{path} at offset {at}"
                    seq, at = seq + 1, at + length
                need(not data[at:].strip(b"\0"), "bytes that belong to no record", Bad)
                need(len(data) <= longest, "the file is longer than a segment can be")
            except Fault as fault:
                self.torn = f"{path} at offset {at}: {fault}"
                need(isinstance(fault, Bad) and len(data) <= longest, self.torn)
                at += 8 if first <= seq else 0
                need(not self.proves(index, at, seq), f"{self.torn}; but a later frame says that it was durable")
                break
        if self.head and self.head.seq >= seq:
            raise Fault(f"{self.torn or 'the log ends'}; but head names record {self.head.seq}")

    def proves(self, index, at, seq):
        """Whether a valid frame from here on says that record seq was durable, or there is too much to look at."""
        left = SEARCH_MAX
        for first, data, _ in self.files[index:]:
            for at in [found.start() for found in re.finditer(FRAME_MAGIC, data) if found.start() >= at]:
                try:
                    head, length = header(data, at)
                    if at % 8 == 0 and head.durable >= seq and self.id in (None, head.log):
                        left -= length
                        return left < 0 or bool(frame(data, at, first, head, length))
                except Fault:
                    pass
            at = 0
        return False

    def check_marks(self, bridges):
        for name, mark in ("head", self.head), ("start", self.start):
            if mark:
                same = mark.log == self.id and mark.seq and self.digests.get(mark.seq) == mark.digest
                need(same, f"{name}: names record {mark.seq} of another log")
        if self.start:
            begins = bridges.keys() & {first for first, *_ in self.files}
            need(self.start.seq + 1 in begins, f"start: no bridge follows record {self.start.seq}")

# Bodies, in bincode's legacy layout.
@functools.cache
def parsed(shape):
    def group(words):
        fields = []
        for word in words:
            if word in (")", "]"):
                break
            fields.append((word, group(words)) if word in ("?(", "[") else word)
        return fields
    return group(iter(shape.split()))

class Body:
    def __init__(self, data, state, seq):
        self.data, self.at, self.state, self.seq = data, 0, state, seq

    def take(self, length):
        part = self.data[self.at : self.at + length]
        need(len(part) == length, "a body is cut")
        self.at += length
        return part

    def read(self, shape):
        """Returns the values of these fields."""
        return [self.field(field) for field in parsed(shape)]

    def whole(self, shape):
        """Returns the values of these fields, which are all that there is."""
        values = self.read(shape)
        need(self.at == len(self.data), "bytes behind a body")
        return values

    def group(self, fields):
        values = [self.field(field) for field in fields]
        return values[0] if len(values) == 1 else values

    def field(self, field):
        if isinstance(field, tuple):
            mark, fields = field
            if mark == "?(":
                return self.group(fields) if self.field("bool") else None
            count = number(self.take(8))
            need(count <= len(self.data), f"a list of {count} in {len(self.data)} bytes")
            return [self.group(fields) for _ in range(count)]
        if field.isdigit():
            return self.take(int(field))
        if field[0] in "ui":
            return int.from_bytes(self.take(int(field[1:]) // 8), "little", signed=field[0] == "i")
        if field == "bool":
            value = number(self.take(1))
            need(value <= 1, f"{value} is neither 0 nor 1")
            return value
        if field == "str":
            return self.take(number(self.take(8))).decode()
        if field == "policy":
            rules = self.read("[ u16 ]")[0]
            need(rules == sorted(set(rules) & {1, 2, 3, 4, 5}), "a policy that is not known")
            return rules
        if field == "text":
            seq, index = self.read("u64 u32")
            place = (seq or self.seq, index)
            need(place in self.state.texts, f"text {index} of record {place[0]} is not there")
            return place
        if field == "domain":
            place, facts = self.read("text ?( facts )")
            if facts:
                self.state.meanings[place] = facts
            need(place in self.state.meanings, f"text {place[1]} of record {place[0]} means no domain")
            return [*self.state.meanings[place], place]
        return self.read(BODIES[field])

class Moments:
    """The moments of one kind and domain. Below each, and below 0, its children, the newest link last."""

    def __init__(self):
        self.names, self.parents, self.children, self.current = {}, {}, {0: {}}, 0
        self.taken = set()

    def add(self, moment, parent, name):
        need(name and name not in self.taken, f"the name '{shown(name)}' does not fit")
        self.hang(moment, parent)
        self.names[moment], self.children[moment] = name, {}
        self.taken.add(name)

    def hang(self, moment, parent):
        need(parent in self.children and parent != moment, f"moment {moment} cannot hang below {parent}")
        self.parents[moment] = parent
        self.children[parent][moment] = None

    def move(self, moment, parent):
        at = parent
        while at and self.children[moment] and self.parents[moment] != parent:
            need(at != moment, f"moment {moment} cannot hang below itself")
            at = self.parents.get(at, 0)
        del self.children[self.parents[moment]][moment]
        self.hang(moment, parent)

    def below(self, moment):
        found = list(self.children[moment])
        for child in found:
            found += self.children[child]
        return found

    def delete(self, moment, extent, runs, moved, current):
        need(extent <= 2 and moment in self.names, f"moment {moment} is not there")
        gone = (self.below(moment) if extent else []) + [moment] * (extent < 2)
        short = sum(length for _, length in runs) == len(gone)
        listed = [first + n for first, length in runs for n in range(length)] if short else None
        need(listed == sorted(gone), "a deletion removes something else")
        children = [] if extent else list(self.children[moment])
        need(moved == len(children), "a deletion moves other children")
        for child in children:
            del self.children[moment][child]
            self.hang(child, self.parents[moment])
        for one in gone:
            del self.children[self.parents[one]][one]
        for one in gone:
            self.taken.discard(self.names.pop(one))
            del self.parents[one], self.children[one]
        self.current = current

    def lines(self):
        waiting = [(root, 2) for root in self.children[0]]
        while waiting:
            moment, depth = waiting.pop()
            yield "  " * depth + shown(self.names[moment]) + (" *" if moment == self.current else "")
            waiting += [(child, depth + 1) for child in self.children[moment]]

class State:
    """What the records up to one have made."""

    def __init__(self):
        self.domains = {}  # by uuid: name, and moments by group
        self.texts, self.meanings = set(), {}  # by record and index; of those that mean a domain, its facts
        self.revisions, self.bridges = {}, {}  # seqs by uuid; of each bridge the digest of its image
        self.next_moment, self.recorded = 1, -1 << 63
        self.told = None  # of the last record its kind, domain, the record before about that, and its provenance

    def replay(self, seq, before, facts, texts):
        facts = Body(facts, self, seq)
        kind, layout, count, recorded, uuid, previous, length, zero = facts.read("u16 u16 u32 i64 16 u64 u32 u32")
        need(kind in (GENESIS, COMMAND, BRIDGE, STORE_COMMAND) and layout == 1, f"record kind {kind} is not known")
        sound = (kind == GENESIS) == (seq == 1) and recorded >= self.recorded and not zero
        sound = sound and (kind == COMMAND or not any(uuid)) and (kind in (COMMAND, STORE_COMMAND) or not count)
        expected = self.revisions.get(uuid, 0) if kind == COMMAND else 0
        need(sound and previous == expected, "the facts make no sense")
        self.recorded = recorded
        self.texts |= {(seq, index) for index in range(len(texts))}
        provenance = Body(facts.take(length), self, seq)
        asked, *bridge = provenance.whole({GENESIS: "genesis", BRIDGE: "provenance bridge"}.get(kind, "provenance"))
        if kind != GENESIS:
            *_, reason, request, undoes = asked
            need(undoes < seq and not (bridge and request), "the provenance makes no sense")
            self.texts.discard(reason)
            for first, last, digest, root, image, _ in bridge:
                sound = 1 <= first <= last == seq - 1 and digest == before and not any(root)
                need(sound, "the bridge names another record")
                self.bridges[seq] = image
        if kind == COMMAND:
            self.revisions[uuid] = seq
        self.told = kind, uuid, previous, asked, bridge
        for _ in range(count):
            event, version, moment, parent, length, zero = facts.read("u16 u16 u64 u64 u32 u32")
            need(event in EVENTS and version == 1, f"event kind {event:#06x} in version {version} is not known")
            shape, names = EVENTS[event]
            named = bool(moment) == ("m" in names) and (not parent or "p" in names)
            need(named and not zero and (event == 0x0601) == (kind == STORE_COMMAND), "the event makes no sense")
            values = Body(facts.take(length), self, seq).whole(shape)
            self.apply(event, uuid, moment, parent, values)
        facts.whole("")

    def apply(self, event, uuid, moment, parent, values):
        if event == 0x0601:
            return
        if event == 0x0101:
            name, of, *_ = values[0]
            taken = any(domain["name"] == name for domain in self.domains.values())
            need(of == uuid and (uuid in self.domains or not taken), "the definition is another domain's")
            self.domains.setdefault(uuid, {"name": name, 2: Moments(), 3: Moments()})
            return
        need(uuid in self.domains, f"domain {uuid.hex()} is not there")
        if event == 0x0104:
            del self.domains[uuid]
        if event == 0x0106:
            name, of, *_ = values[0]
            taken = any(domain["name"] == name for domain in self.domains.values())
            need(of == uuid and not taken, "the definition is another domain's")
            self.domains[uuid]["name"] = name
        if event >> 8 not in KINDS:
            return  # Names, run state, policies, jobs and holds change no tree.
        moments, change = self.domains[uuid][event >> 8], event & 0xFF
        need(change == 1 or not moment or moment in moments.names, f"moment {moment} is not there")
        if change == 1:
            need(moment == self.next_moment, f"moment {moment} is not next: that is {self.next_moment}")
            moments.add(moment, parent, values[1])
            self.next_moment += 1
        elif change in (2, 4):
            moments.move(moment, parent)
        elif change == 3:
            moments.delete(moment, *values[0])
        if change in (5, 6) or change <= 2 and values[0]:
            moments.current = parent if change == 5 else moment
        need(moments.current in moments.children, f"moment {moments.current} cannot be current: it is not there")

    def text(self):
        lines = []
        for domain in sorted(self.domains.values(), key=lambda domain: domain["name"]):
            lines.append(shown(domain["name"]))
            for group, kind in KINDS.items():
                lines += [f"  {kind}", *domain[group].lines()]
        return "".join(line + "\n" for line in lines)

def tell(log, state, at):
    erased, trees = 0, None
    for seq, before, facts, texts, where in log.records():
        erased += sum(text[0] for text in texts)
        try:
            state.replay(seq, before, facts, texts)
        except (Fault, UnicodeDecodeError) as fault:
            raise Fault(f"{where}: {fault}") from None
        trees = state.text() if seq == at else trees
    last, count = max(log.digests), len(log.digests) - 1
    need(count, f"no record; {log.torn or 'only zeros'}")
    log.check_marks(state.bridges)
    trees = state.text() if at is None else trees
    need(trees is not None, f"there is no record {at}; the last one is {last}")
    print(f"log {log.id.hex()}: {count} records verified, {erased} texts erased, head {log.digests[last].hex()}")
    print(f"record {at or last}\n{trees}" + (f"torn tail: {log.torn}\n" if log.torn else ""), end="")

def main(doc, begin):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--archive")
    parser.add_argument("--at", type=int, metavar="SEQ")
    words = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        tell(*begin(words), words.at)
    except (Fault, OSError) as fault:
        sys.exit(f"{parser.prog}: {fault}")

if __name__ == "__main__":
    main(__doc__, lambda words: (Log(words.store, words.archive), State()))
