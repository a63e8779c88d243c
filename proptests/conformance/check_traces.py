#!/usr/bin/env python3
"""Play the recorded traces through python-libvirt, and compare each line.

    check_traces.py URI TRACE...

URI is that of a store that answers as libvirt's test driver, such as
``test+unix:///default?socket=PATH``; each trace is played by a process of its
own, which must find the store as it is at first.  Exit status 0 only if no
line differs.

Not compared: the text of an embedded domain, which is momentlog's own
canonical one; the wording of libxml2, and the C function named after "in
function"; and of a list of names with too little room the number of matches,
which libvirt's protocol does not carry.  A trace ends where a document type
comes, which momentlog refuses: libvirt's later answers build on its own.
"""

import ctypes
import hashlib
import json
import os
import re
import sys
import time

os.environ.setdefault("LIBVIRT_DEBUG", "4")     # keep libvirt's warnings off stderr
import libvirt  # noqa: E402

BASE = 1_000_000_000          # logical clock: op n happens at second BASE + n

SNAP, CHK = "snapshot", "checkpoint"

_lib = ctypes.CDLL("libvirt.so.0")
_libc = ctypes.CDLL(None)
for _n in ("virDomainSnapshotListNames", "virDomainSnapshotListChildrenNames"):
    getattr(_lib, _n).argtypes = [ctypes.c_void_p,
                                  ctypes.POINTER(ctypes.c_void_p),
                                  ctypes.c_int, ctypes.c_uint]
for _n in ("virDomainListAllSnapshots", "virDomainListAllCheckpoints",
           "virDomainSnapshotListAllChildren",
           "virDomainCheckpointListAllChildren"):
    getattr(_lib, _n).argtypes = [ctypes.c_void_p, ctypes.c_void_p,
                                  ctypes.c_uint]
_libc.free.argtypes = [ctypes.c_void_p]

ERR_NAMES = {}
for _k in dir(libvirt):
    if _k.startswith("VIR_ERR_") and _k not in (
            "VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"):
        ERR_NAMES.setdefault(getattr(libvirt, _k), _k)
FROM_NAMES = {getattr(libvirt, k): k for k in dir(libvirt)
              if k.startswith("VIR_FROM_")}

TOPOLOGICAL = {SNAP: libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL,
               CHK: libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL}

# Calls that can change state; the tree is dumped after each of them.
MUTATING = {
    "virDomainDefineXML", "virDomainCreateXML", "virDomainCreate",
    "virDomainSuspend", "virDomainResume", "virDomainDestroy",
    "virDomainShutdown", "virDomainUndefine", "virDomainUndefineFlags",
    "virDomainSnapshotCreateXML", "virDomainSnapshotDelete",
    "virDomainRevertToSnapshot", "virDomainCheckpointCreateXML",
    "virDomainCheckpointDelete",
}

# The subtrees that embed the whole domain sit at two spaces of indent.
_DOMAIN_RE = re.compile(
    r"^  <(domain|inactiveDomain)\b(?:[^>]*/>|.*?^  </\1>)\n", re.S | re.M)
_CTIME_RE = re.compile(r"<creationTime>(\d+)</creationTime>")
_SCHEMA_RE = re.compile(r"/[^\s'\"]*/schemas/")


def text_class(err):
    """How far a message can be compared literally."""
    if err["code_name"] in ("VIR_ERR_XML_DETAIL", "VIR_ERR_XML_INVALID_SCHEMA"):
        return "libxml2"
    if re.search(r"in function [a-z]\w+", err["message"]):
        return "internal-symbol"
    return "stable"


class Player:
    """Makes calls, and normalises what comes back as the recorder did."""

    def __init__(self, uri, state=True):
        libvirt.registerErrorHandler(lambda ctx, err: None, None)
        self.rw = libvirt.open(uri)
        self.ro = libvirt.openReadOnly(uri)
        self.start = int(time.time())
        self.n = 0
        self.want_state = state
        self.doms = {}        # name -> {False: rw handle, True: ro handle}
        self.uuid = {}        # name -> uuid of that handle
        self.handles = {}     # (uuid, kind, moment, ro) -> handle, never dropped
        self.times = {}       # (uuid, kind, moment) -> logical creation time
        self.auto = {}        # real name -> logical name
        self.last_auto = 0
        self.last_state = {}
        self.adopt("test")

    # -- normalisation ----------------------------------------------------

    def norm(self, s):
        """Text from libvirt -> text in the trace."""
        for real, logical in self.auto.items():
            s = re.sub(r"(?<!\d)%s(?!\d)" % real, logical, s)
        return _SCHEMA_RE.sub("@SCHEMADIR@/", s)

    def denorm(self, s):
        """Text in the trace -> text handed to libvirt."""
        for real, logical in self.auto.items():
            s = re.sub(r"(?<!\d)%s(?!\d)" % logical, real, s)
        return s

    def norm_xml(self, xml, key):
        def fix(m):
            if int(m.group(1)) >= self.start - 2 and key in self.times:
                return "<creationTime>%d</creationTime>" % self.times[key]
            return m.group(0)
        return self.norm(_CTIME_RE.sub(fix, xml))

    # -- handles ----------------------------------------------------------

    def adopt(self, name):
        """Take fresh read-write and read-only handles on a domain."""
        try:
            d = self.rw.lookupByName(name)
            self.doms[name] = {False: d, True: self.ro.lookupByName(name)}
            self.uuid[name] = d.UUIDString()
        except libvirt.libvirtError:
            pass

    def handle(self, dom, kind, moment, ro):
        """A client-side handle on a moment, kept even after its deletion.

        The handle is looked up silently the first time it is needed; that has
        no effect on the state.  None when there never was such a moment."""
        key = (self.uuid.get(dom), kind, moment, ro)
        h = self.handles.get(key)
        if h is None:
            d = self.doms[dom][ro]
            try:
                real = self.denorm(moment)
                h = (d.snapshotLookupByName(real) if kind == SNAP
                     else d.checkpointLookupByName(real))
            except libvirt.libvirtError:
                return None
            self.handles[key] = h
        return h

    def grab_all(self, dom):
        """Hold handles on all that exists, so that they can go stale later."""
        for kind in (SNAP, CHK):
            for m in self.names(dom, kind):
                for ro in (False, True):
                    self.handle(dom, kind, m, ro)

    def names(self, dom, kind):
        """Names of the moments which exist now (not recorded)."""
        try:
            d = self.doms[dom][False]
            l = d.listAllSnapshots() if kind == SNAP else d.listAllCheckpoints()
            return sorted(self.norm(x.getName()) for x in l)
        except libvirt.libvirtError:
            return []

    # -- state dump -------------------------------------------------------

    def dump(self, dom):
        d = self.doms[dom][False]
        try:
            st = {"power": list(d.state()), "persistent": d.isPersistent()}
        except libvirt.libvirtError:
            return "absent"
        for kind in (SNAP, CHK):
            l = d.listAllSnapshots() if kind == SNAP else d.listAllCheckpoints()
            parents, kids, kids_seen = {}, {}, {}
            for h in l:
                nm = self.norm(h.getName())
                try:
                    p = self.norm(h.getParent().getName())
                except libvirt.libvirtError:
                    p = None
                parents[nm] = p
                kids.setdefault(p, set()).add(nm)
                kids_seen[nm] = {self.norm(c.getName())
                                 for c in h.listAllChildren()}
            sub = {"parents": dict(sorted(parents.items()))}
            if kind == SNAP:
                try:
                    sub["current"] = self.norm(d.snapshotCurrent().getName())
                except libvirt.libvirtError:
                    sub["current"] = None
            # The children sets follow from the parents; they are written out
            # only where libvirt's two views disagree.
            odd = {k: sorted(v) for k, v in kids_seen.items()
                   if v != kids.get(k, set())}
            if odd:
                sub["children_disagree"] = odd
            st[kind + "s"] = sub
        return st

    # -- recording --------------------------------------------------------

    def call(self, call, domain=None, moment=None, kind=None, ro=False,
             xml=None, flags=0, whole=False, now=None, **extra):
        """Make one call and return its line.

        A call on a moment that never existed has no handle to go by; the
        lookup that would have had to come first is recorded in its place."""
        if moment is not None and not call.endswith("LookupByName") and \
                self.handle(domain, CHK if "Checkpoint" in call else SNAP,
                            moment, ro) is None:
            call = ("virDomainCheckpoint" if "Checkpoint" in call
                    else "virDomainSnapshot") + "LookupByName"
            flags = 0
            extra = {}
        rec = {"n": self.n, "call": call}
        if domain is not None:
            rec["domain"] = domain
        rec["moment"] = moment
        if xml is not None:
            rec["xml"] = xml
        rec["flags"] = flags
        rec["readonly"] = ro
        rec.update(extra)
        logical = BASE + self.n
        if now is not None:
            rec["now"] = logical = now
        try:
            rec["result"] = self._run(call, domain, moment, kind, ro, xml,
                                      flags, whole, logical, extra)
        except libvirt.libvirtError as e:
            code, dom_ = e.get_error_code(), e.get_error_domain()
            err = {"code": code, "code_name": ERR_NAMES.get(code, str(code)),
                   "domain": dom_, "domain_name": FROM_NAMES.get(dom_),
                   "message": self.norm(e.get_error_message() or "")}
            err["text"] = text_class(err)
            rec["error"] = err
        if self.want_state and call in MUTATING and domain in self.doms:
            st = self.dump(domain)
            rec["state"] = "same" if self.last_state.get(domain) == st else st
            self.last_state[domain] = st
            if rec["state"] != "same":
                self.grab_all(domain)
        self.n += 1
        return rec

    def _names(self, fn, ptr, maxnames, flags):
        """Returns (value returned by the call, the names filled in).

        With a short array libvirt returns the number of matches, which can be
        more than it had room for."""
        arr = (ctypes.c_void_p * max(maxnames, 1))()
        n = getattr(_lib, fn)(ptr, arr, maxnames, flags)
        if n < 0:
            raise libvirt.libvirtError(fn + "() failed")
        filled = [p for p in arr[:maxnames] if p]
        names = [ctypes.string_at(p).decode() for p in filled]
        for p in filled:
            _libc.free(p)
        return n, names

    def _list(self, kind, names, flags):
        names = [self.norm(x) for x in names]
        r = {"count": len(names), "names": sorted(names)}
        if flags & TOPOLOGICAL[kind]:
            r["raw"] = names
        return r

    def _run(self, call, domain, moment, kind, ro, xml, flags, whole, logical,
             extra):
        conn = self.ro if ro else self.rw
        if call in ("virDomainDefineXML", "virDomainCreateXML"):
            d = (conn.defineXMLFlags(xml, flags)
                 if call == "virDomainDefineXML" else conn.createXML(xml, flags))
            if extra.get("keep_handles"):
                return {"domain": d.name(), "uuid": d.UUIDString()}
            self.adopt(d.name())
            return {"domain": d.name(), "uuid": d.UUIDString()}
        if call == "virDomainLookupByName":
            d = conn.lookupByName(domain)
            return {"domain": d.name(), "uuid": d.UUIDString()}
        d = self.doms[domain][ro]
        simple = {"virDomainCreate": lambda: d.createWithFlags(flags),
                  "virDomainSuspend": d.suspend, "virDomainResume": d.resume,
                  "virDomainDestroy": d.destroy,
                  "virDomainShutdown": d.shutdown,
                  "virDomainUndefine": d.undefine,
                  "virDomainUndefineFlags": lambda: d.undefineFlags(flags),
                  "virDomainGetState": lambda: list(d.state(flags)),
                  "virDomainIsActive": d.isActive,
                  "virDomainIsPersistent": d.isPersistent}
        if call in simple:
            return simple[call]()

        # Calls on the domain ------------------------------------------------
        if call in ("virDomainSnapshotCreateXML", "virDomainCheckpointCreateXML"):
            kind = SNAP if "Snapshot" in call else CHK
            # In another namespace the name is not seen as one.
            nameless = not re.search(r"<name\s*>[^<]", xml) or "xmlns=" in xml
            if nameless and not extra.get("same_second"):
                # Names made up from the time have a resolution of 1 s.
                while int(time.time()) <= self.last_auto:
                    time.sleep(0.05)
            h = (d.snapshotCreateXML if kind == SNAP
                 else d.checkpointCreateXML)(self.denorm(xml), flags)
            real = h.getName()
            if real.isdigit() and abs(int(real) - time.time()) < 5 \
                    and real not in self.auto:
                self.last_auto = int(real)
                self.auto[real] = str(logical)
            nm = self.norm(real)
            key = (self.uuid[domain], kind, nm)
            self.handles[key + (ro,)] = h
            if not flags & 1:               # REDEFINE is bit 0 for both kinds
                self.times[key] = logical
            return {"moment": nm}
        if call == "virDomainSnapshotNum":
            return d.snapshotNum(flags)
        if call == "virDomainSnapshotListNames":
            mx = extra.get("maxnames", 4096)
            n, names = self._names(call, d.c_pointer(), mx, flags)
            if mx < 4096:                     # which names is unspecified
                return {"count": n, "filled": len(names)}
            return self._list(SNAP, names, flags)
        if call in ("virDomainListAllSnapshots", "virDomainListAllCheckpoints"):
            kind = SNAP if "Snapshot" in call else CHK
            if extra.get("count_only"):
                n = getattr(_lib, call)(d.c_pointer(), None, flags)
                if n < 0:
                    raise libvirt.libvirtError(call)
                return {"count": n}
            l = (d.listAllSnapshots if kind == SNAP
                 else d.listAllCheckpoints)(flags)
            return self._list(kind, [x.getName() for x in l], flags)
        if call == "virDomainSnapshotLookupByName":
            return {"moment": self.norm(d.snapshotLookupByName(
                self.denorm(moment), flags).getName())}
        if call == "virDomainCheckpointLookupByName":
            return {"moment": self.norm(d.checkpointLookupByName(
                self.denorm(moment), flags).getName())}
        if call == "virDomainSnapshotCurrent":
            return {"moment": self.norm(d.snapshotCurrent(flags).getName())}
        if call == "virDomainHasCurrentSnapshot":
            return d.hasCurrentSnapshot(flags)

        # Calls on a moment --------------------------------------------------
        kind = CHK if "Checkpoint" in call else SNAP
        h = self.handle(domain, kind, moment, ro)
        if h is None:
            raise KeyError("no handle on %r" % (moment,))
        m = call.replace("virDomainSnapshot", "").replace(
            "virDomainCheckpoint", "")
        if call == "virDomainRevertToSnapshot":
            return d.revertToSnapshot(h, flags)
        if m == "GetName":
            return self.norm(h.getName())
        if m == "Delete":
            return h.delete(flags)
        if m == "GetParent":
            return {"moment": self.norm(h.getParent(flags).getName())}
        if m == "HasMetadata":
            return h.hasMetadata(flags)
        if m == "IsCurrent":
            return h.isCurrent(flags)
        if m == "NumChildren":
            return h.numChildren(flags)
        if m == "ListChildrenNames":
            mx = extra.get("maxnames", 4096)
            n, names = self._names(call, h.c_pointer(), mx, flags)
            if mx < 4096:
                return {"count": n, "filled": len(names)}
            return self._list(SNAP, names, flags)
        if m == "ListAllChildren":
            if extra.get("count_only"):
                n = getattr(_lib, call)(h.c_pointer(), None, flags)
                if n < 0:
                    raise libvirt.libvirtError(call)
                return {"count": n}
            return self._list(kind, [x.getName()
                                     for x in h.listAllChildren(flags)], flags)
        if m == "GetXMLDesc":
            x = self.norm_xml(h.getXMLDesc(flags),
                              (self.uuid[domain], kind, moment))
            cut = "".join(mm.group(0) for mm in _DOMAIN_RE.finditer(x))
            r = {"xml_stripped": _DOMAIN_RE.sub("", x)}
            if cut:
                r["domain_sha256"] = hashlib.sha256(
                    cut.encode()).hexdigest()[:16]
                if whole:
                    r["xml"] = x
            return r
        raise ValueError(call)


FUNCTION = re.compile(r"in function \w+")


def compared(line):
    """What of a line is compared."""
    line = json.loads(json.dumps(line))
    result, error = line.get("result"), line.get("error")
    if isinstance(result, dict):
        result.pop("domain_sha256", None)
        result.pop("xml", None)
        if "maxnames" in line:
            result.pop("count", None)
    if error and error["text"] == "libxml2":
        del error["message"]
    elif error:
        error["message"] = FUNCTION.sub("in function F", error["message"])
    return line


def check(uri, path):
    """Play a trace.  Returns the number of lines, and those that differ."""
    with open(path, encoding="utf-8") as f:
        _, *lines = [json.loads(line) for line in f]
    player = Player(uri)
    known = {"n", "call", "domain", "moment", "xml", "flags", "readonly", "now",
             "result", "error", "state"}
    count, bad = 0, []
    for want in lines:
        if "note" in want:
            continue
        if "<!DOCTYPE" in (want.get("xml") or ""):
            break
        got = player.call(want["call"], want.get("domain"), want["moment"],
                          ro=want["readonly"], xml=want.get("xml"),
                          flags=want["flags"], now=want.get("now"),
                          **{k: v for k, v in want.items() if k not in known})
        count += 1
        if compared(got) != compared(want):
            bad.append((want, got))
    return count, bad


def main():
    uri, traces = sys.argv[1], sys.argv[2:]
    differ = 0
    for path in traces:
        pid = os.fork()
        if pid == 0:
            count, bad = check(uri, path)
            for want, got in bad[:3]:
                print(path, "\n  want", json.dumps(want)[:600],
                      "\n  got ", json.dumps(got)[:600])
            sys.stdout.flush()
            os._exit(1 if bad or not count else 0)
        differ += os.waitpid(pid, 0)[1] != 0
    print("traces: %d of %d as recorded" % (len(traces) - differ, len(traces)))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
