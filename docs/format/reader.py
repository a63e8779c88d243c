#!/usr/bin/env python3
"""Verifies a log and prints its trees at any record. Knows only docs/format.md.

usage: reader.py STORE [--archive DIR] [--at SEQ]

A log whose beginning was archived needs the archive. Exit status: 0 verified, 1 damaged or not readable, 2 usage.
"""

import hashlib
import os
import struct
import sys

FRAME_MAGIC = b"\x8amoment\n"
HEAD_MAGIC = b"\x8amthead\n"
FRAME_MAX = 64 << 20
GENESIS, COMMAND, BRIDGE, STORE_COMMAND = 1, 2, 3, 5
KINDS = {2: "snapshots", 3: "checkpoints"}


class Fault(Exception):
    """What is wrong, and where."""


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def shown(name):
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in name)


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


# Files, frames, and the chain.


def segments(directory):
    names = [name for name in os.listdir(directory) if name.endswith(".seg")]
    for name in names:
        if len(name) != 24 or not name[:20].isdigit():
            raise Fault(f"{directory}/{name}: not the name of a segment")
    return [(int(name[:20]), os.path.join(directory, name)) for name in sorted(names)]


def frame(data, at, first, path):
    """Returns one frame's fields, or None at the end of the segment's data."""
    where = f"{path} at offset {at}"
    if not any(data[at : at + 96]):
        if any(data[at:]):
            raise Fault(f"{where}: bytes that belong to no record")
        return None
    header = data[at : at + 96]
    if len(header) < 96 or header[:8] != FRAME_MAGIC:
        raise Fault(f"{where}: no frame begins here")
    if crc32c(header[:12] + header[16:]) != u32(header, 12):
        raise Fault(f"{where}: the header's checksum is wrong")
    if u32(header, 8) != 1:
        raise Fault(f"{where}: format version {u32(header, 8)} is not known")
    facts_len, count, texts_len = u32(header, 80), u32(header, 84), u32(header, 88)
    length = (96 + facts_len + texts_len + 4 + 7) // 8 * 8
    body = data[at : at + length]
    if length > FRAME_MAX or len(body) < length:
        raise Fault(f"{where}: the frame is cut")
    log, seq = header[16:32], u64(header, 32)
    place = log + struct.pack("<QQ", first, at)
    if crc32c(place + body[:-4]) != u32(body, length - 4):
        raise Fault(f"{where}: the frame's checksum is wrong")
    facts = body[96 : 96 + facts_len]
    texts = body[96 + facts_len : 96 + facts_len + texts_len]
    return log, seq, header[40:72], facts, count, texts, length, where


def texts_of(raw, count, where):
    """Returns each text, None for an erased one, and its commitment."""
    texts, at = [], 0
    for _ in range(count):
        if len(raw) < at + 40:
            raise Fault(f"{where}: a text is cut")
        kind, length = raw[at], u32(raw, at + 4)
        salt, data = raw[at + 8 : at + 40], raw[at + 40 : at + 40 + length]
        if kind > 1 or len(data) != length or any(raw[at + 1 : at + 4]):
            raise Fault(f"{where}: a text is malformed")
        if kind == 1:
            texts.append((None, salt))
        else:
            hashed = b"momentlog text v1" + salt + struct.pack("<Q", length) + data
            texts.append((data, hashlib.sha256(hashed).digest()))
        at += 40 + length
    if at != len(raw):
        raise Fault(f"{where}: bytes behind the texts")
    return texts


def records(directories):
    """Yields (seq, digest, log, facts, texts, where) of every record, verified, from record 1 on."""
    files = sorted(found for directory in directories for found in segments(directory))
    if not files:
        raise Fault(f"{directories[0]}: no segment")
    log, expected, digest = None, 1, bytes(32)
    for first, path in files:
        if first != expected:
            hint = "" if expected > 1 else "; its beginning was archived: give --archive"
            raise Fault(f"{path}: begins with record {first}, and {expected} comes next{hint}")
        with open(path, "rb") as file:
            data = file.read()
        at = 0
        while at < len(data):
            found = frame(data, at, first, path)
            if found is None:
                break
            of, seq, previous, facts, count, raw, length, where = found
            log = log or of
            if of != log or seq != expected or previous != digest:
                raise Fault(f"{where}: record {seq} does not follow record {expected - 1}")
            texts = texts_of(raw, count, where)
            digest = hashlib.sha256(
                b"momentlog record v1" + log + struct.pack("<Q", seq) + digest
                + struct.pack("<Q", len(facts)) + facts + b"".join(text[1] for text in texts)
            ).digest()
            yield seq, digest, log, facts, texts, where
            expected, at = expected + 1, at + length


def check_head(directory, log, digests):
    path = os.path.join(directory, "head")
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        head = file.read(72)
    if not any(head):
        return
    if len(head) < 72 or head[:8] != HEAD_MAGIC or crc32c(head[:12] + head[16:]) != u32(head, 12):
        raise Fault(f"{path}: torn or damaged")
    if head[16:32] != log:
        raise Fault(f"{path}: of another log")
    if digests.get(u64(head, 32)) != head[40:72]:
        raise Fault(f"{path}: names record {u64(head, 32)} with another digest, or one that is missing")


# Bodies, in bincode's legacy layout.


class Body:
    def __init__(self, data, where):
        self.data, self.at, self.where = data, 0, where

    def take(self, length):
        part = self.data[self.at : self.at + length]
        if len(part) != length:
            raise Fault(f"{self.where}: a body is cut")
        self.at += length
        return part

    def number(self, length):
        return int.from_bytes(self.take(length), "little")

    def text(self):
        try:
            return self.take(self.number(8)).decode()
        except UnicodeDecodeError:
            raise Fault(f"{self.where}: a name is not UTF-8") from None

    def option(self, read):
        tag = self.number(1)
        if tag > 1:
            raise Fault(f"{self.where}: {tag} is no option")
        return read() if tag else None

    def list(self, read):
        count = self.number(8)
        if count > len(self.data):
            raise Fault(f"{self.where}: a list of {count} in {len(self.data)} bytes")
        return [read() for _ in range(count)]


class State:
    """Domains by uuid: name, and for each kind of moment its moments by id and the current id."""

    def __init__(self):
        self.domains = {}
        self.names = {}  # of the domain that a text means, by (seq, index)

    def domain(self, body, seq):
        """Reads a domain, and returns its name."""
        at, index = body.number(8), body.number(4)
        place = (at or seq, index)

        def facts():
            name = body.text()
            body.take(16 + 8)
            body.list(lambda: (body.text(), body.number(1), body.option(body.text), body.number(1),
                               body.option(body.text), body.number(1),
                               body.option(lambda: body.number(1))))
            return name

        name = body.option(facts)
        if name is not None:
            self.names[place] = name
        if place not in self.names:
            raise Fault(f"{body.where}: text {index} of record {place[0]} means no domain")
        return self.names[place]

    def apply(self, kind, version, uuid, moment, parent, body, seq):
        if version != 1:
            raise Fault(f"{body.where}: event kind {kind:#06x} in version {version} is not known")
        if kind == 0x0101:
            name = self.domain(body, seq)
            new = {"name": name, 2: ({}, None), 3: ({}, None)}
            self.domains.setdefault(uuid, new)
            return
        if kind == 0x0104:
            del self.domains[uuid]
            return
        group, change = kind >> 8, kind & 0xFF
        if group not in KINDS:
            return  # Run state, policies, jobs, holds and settings change no tree.
        moments, current = self.domains[uuid][group]
        if change in (1, 2):
            becomes_current = body.number(1)
            name = body.text() if change == 1 else moments[moment][0]
            if parent and parent not in moments:
                raise Fault(f"{body.where}: moment {parent} is not there")
            moments[moment] = (name, parent)
            current = moment if becomes_current else current
            self.learn(group, body, seq)
        elif change == 3:
            extent = body.number(1)
            runs = body.list(lambda: (body.number(8), body.number(8)))
            body.number(8)
            current = body.number(8) or None
            gone = {first + n for first, length in runs for n in range(length) if first + n in moments}
            if sum(length for _, length in runs) != len(gone):
                raise Fault(f"{body.where}: a deletion removes what is not there")
            above = moments[moment][1]
            for child, (name, of) in list(moments.items()):
                if extent == 0 and of == moment:
                    moments[child] = (name, above)
            for removed in gone:
                del moments[removed]
        elif change == 4:
            moments[moment] = (moments[moment][0], parent)
        elif change == 5:
            current = parent or None
        elif change == 6:
            current = moment
        self.domains[uuid][group] = (moments, current)

    def learn(self, group, body, seq):
        """Reads the definition of a moment, for the domains in it."""
        body.take(8)
        place = lambda: body.take(12)
        if group == 2:
            body.take(2)
            body.option(body.text)
            body.option(place)
            body.list(lambda: (body.text(), body.option(lambda: body.number(1)), body.number(1),
                               body.option(body.text), body.option(body.text), body.option(place)))
            body.option(lambda: self.domain(body, seq))
            body.option(lambda: self.domain(body, seq))
            body.option(place)
            body.option(place)
        else:
            body.option(place)
            body.list(lambda: (body.text(), body.number(1), body.option(body.text)))
            body.option(lambda: self.domain(body, seq))

    def replay(self, seq, facts, where):
        if len(facts) < 48:
            raise Fault(f"{where}: the facts are cut")
        kind, layout, count = struct.unpack_from("<HHI", facts)
        if kind not in (GENESIS, COMMAND, BRIDGE, STORE_COMMAND) or layout != 1:
            raise Fault(f"{where}: record kind {kind} in layout {layout} is not known")
        uuid, at = facts[16:32], 48 + u32(facts, 40)
        for _ in range(count):
            if len(facts) < at + 28:
                raise Fault(f"{where}: an event is cut")
            event, version, moment, parent, length = struct.unpack_from("<HHQQI", facts, at)
            body = Body(facts[at + 28 : at + 28 + length], where)
            if len(body.data) != length:
                raise Fault(f"{where}: an event is cut")
            try:
                self.apply(event, version, uuid, moment, parent, body, seq)
            except KeyError as missing:
                raise Fault(f"{where}: {missing} is not there") from None
            at += 28 + length
        if at != len(facts):
            raise Fault(f"{where}: bytes behind the events")

    def print(self):
        for uuid, domain in sorted(self.domains.items(), key=lambda item: item[1]["name"]):
            print(shown(domain["name"]))
            for group, kind in KINDS.items():
                moments, current = domain[group]
                print(f"  {kind}")
                children = {}
                for moment, (_, parent) in sorted(moments.items(), reverse=True):
                    children.setdefault(parent, []).append(moment)
                waiting = [(root, 2) for root in children.get(0, [])]
                while waiting:
                    moment, depth = waiting.pop()
                    mark = " *" if moment == current else ""
                    print(f"{'  ' * depth}{shown(moments[moment][0])}{mark}")
                    waiting += [(child, depth + 1) for child in children.get(moment, [])]


def main(words):
    options = {"--archive": None, "--at": None}
    plain = []
    while words:
        word = words.pop(0)
        if word in options and words:
            options[word] = words.pop(0)
        else:
            plain.append(word)
    if len(plain) != 1 or plain[0].startswith("-") or not (options["--at"] or "1").isdigit():
        print(__doc__.strip(), file=sys.stderr)
        return 2
    at = int(options["--at"]) if options["--at"] else None
    state, digests, log, erased = State(), {}, None, 0
    for seq, digest, log, facts, texts, where in records([*filter(None, [options["--archive"]]), plain[0]]):
        digests[seq] = digest
        erased += sum(1 for text in texts if text[0] is None)
        if at is None or seq <= at:
            state.replay(seq, facts, where)
    check_head(plain[0], log, digests)
    last = max(digests)
    if at is not None and not 1 <= at <= last:
        raise Fault(f"{plain[0]}: there is no record {at}; the last one is {last}")
    print(f"log {log.hex()}: {last} records verified, {erased} texts erased, head {digests[last].hex()}")
    print(f"record {at or last}")
    state.print()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (Fault, OSError) as fault:
        print(f"reader.py: {fault}", file=sys.stderr)
        sys.exit(1)
