#!/usr/bin/env python3
"""As reader.py, but without the archive: reads the image at the start of a log, and goes on behind it.

Exit status: 0 verified, also up to a torn tail, which is named last; 1 damaged or not readable; 2 usage.
"""

import hashlib
import os
import struct

import reader
from reader import Body, Moments, State, crc32c, need, number

IMAGE_MAGIC = b"\x8amtimag\n"

class FromImage(reader.Log):
    """A log behind its image. It holds the state that the image holds."""

    def __init__(self, store):
        self.head = reader.mark(os.path.join(store, "head"), reader.HEAD_MAGIC)
        self.start = reader.mark(os.path.join(store, "start"), reader.START_MAGIC)
        need(self.start, f"{store}: it has no start: reader.py reads it")
        self.files = [found for found in reader.segments(store) if found[0] > self.start.seq]
        self.id, self.digests, self.torn = self.start.log, {self.start.seq: self.start.digest}, None
        path = os.path.join(store, f"{self.start.seq:020}.img")
        with open(path, "rb") as file:
            data = file.read()
        try:
            self.image, self.state = hashlib.sha256(data[96:-4]).digest(), self.load(data)
        except (reader.Fault, UnicodeDecodeError) as fault:
            raise reader.Fault(f"{path}: {fault}") from None

    def check_marks(self, bridges):
        super().check_marks(bridges)
        need(bridges[self.start.seq + 1] == self.image, "the bridge names another image")

    def load(self, data):
        need(len(data) >= 100, "the image is cut")
        magic, version, crc, *names, _, _, length = struct.unpack_from("<8sII16sQ32sQQQ", data)
        need(magic == IMAGE_MAGIC and crc == crc32c(data[:12] + data[16:96]), "the header is damaged")
        need(version == 1 and names == [*self.start[3:]], "the image is of another record")
        need(len(data) == 100 + length and crc32c(data[96:-4]) == number(data[-4:]), "the body is damaged")
        state = State()
        body = Body(data[96:-4], state, self.start.seq + 1)
        layout, state.recorded, _, moment, _, _, *counts = body.read("u32 i64 u8 u64 u32" + " u64" * 7)
        texts, domains, definitions, revisions, requests, answers = counts
        need(layout in (1, 2, 3), f"layout {layout} is not known")
        state.next_moment = moment or 1 << 64
        *_, policies = body.read("u64 settings u64")
        state.texts = {tuple(body.read("u64 u32 str")[:2]) for _ in range(texts)}
        attached = [body.read("16 attached")[0] for _ in range(body.read("u64")[0])] if layout > 1 else []
        started = [body.take(16) for _ in range(body.read("u64")[0])] if layout > 2 else []
        for _ in range(domains):
            uuid, name, domain, *_, snapshot, snapshots, checkpoint, checkpoints, jobs, holds = body.read(
                "16 str domain ?( domain ) bool power policy u64 u64 u64 u64 u64 u64")
            need(domain[1] == uuid, "the definition is another domain's")
            state.domains[uuid] = {"name": name, 2: moments(body, "snapshot", snapshots, snapshot),
                                   3: moments(body, "checkpoint", checkpoints, checkpoint)}
            for part in ["job"] * jobs + ["u64 hold"] * holds:
                body.read(part)
        state.meanings = {place: facts for place, facts in (body.read("text facts") for _ in range(definitions))}
        for _ in range(policies):
            body.read("16 policy")
        state.revisions = dict(body.read("16 u64") for _ in range(revisions))
        for _ in range(requests):
            body.read("str u64 32 i64")
        for _ in range(answers):
            body.read("u64 [ u8 ]")
        for _ in range(body.read("u64")[0] if layout > 1 else 0):
            body.read("u64 str")
        need(set(attached) <= set(state.domains), "what is attached is no domain")
        need(set(started) <= set(state.domains) and len(set(started)) == len(started), "what starts is no domain")
        body.whole("")
        ids = [moment for domain in state.domains.values() for group in (2, 3) for moment in domain[group].names]
        need(len(set(ids)) == len(ids) and max(ids, default=0) < state.next_moment, "ids of moments do not fit")
        return state

def moments(body, kind, count, current):
    """Reads a list of moments. Positions count from 1, and 0 is none."""
    definitions = number(body.take(8))
    for _ in range(definitions):
        body.read(kind)
    rows = list(struct.iter_unpack("<QqIIII", body.take(32 * count)))
    names, found = body.take(number(body.take(8))), Moments()
    ids = [0] + [row[0] for row in rows]
    sound = all(max(row[2:4]) <= count and row[4] < definitions for row in rows)
    need(sound and ids == sorted(set(ids)) and current <= count, "a list does not fit")
    before, last = {}, {}  # the sibling before each, and the last child of each
    for position, (moment, _, parent, after, _, length) in enumerate(rows, 1):
        found.names[moment], names = names[:length].decode(), names[length:]
        found.parents[moment], found.children[moment] = ids[parent], {}
        (before if after else last)[after or parent] = position
    for parent, position in last.items():
        while position:
            need(rows[position - 1][2] == parent, "siblings have different parents")
            found.children[ids[parent]][ids[position]] = None
            position = before.get(position, 0)
    found.taken, found.current = set(found.names.values()), ids[current]
    need(not names and len(found.taken) == count == len(list(found.lines())), "a list does not hang together")
    return found

if __name__ == "__main__":
    def from_image(words):
        need(not words.archive, "with an archive, reader.py reads the log")
        log = FromImage(words.store)
        return log, log.state

    reader.main(__doc__, from_image)
