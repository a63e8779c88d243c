"""A client of libvirt's test driver that makes and deletes snapshots and checkpoints, as its first word says.

    snapshots.py any URI SEED COUNT     calls of all kinds, most of which libvirt takes
    snapshots.py overlap URI ROUNDS     two threads delete overlapping trees at once
    snapshots.py until URI PREFIX       makes and deletes snapshots until the connection ends, and prints what was answered
    snapshots.py list URI               prints what libvirt lists
    snapshots.py cost DIRECT URI COUNT  has COUNT snapshots made by the first URI, and prints how long calls by the second take
    snapshots.py hold URI               prints a line, and keeps the driver's state until it is killed
"""

import json
import os
import random
import signal
import statistics
import sys
import threading
import time

os.environ.setdefault("LIBVIRT_DEBUG", "4")
import libvirt  # noqa: E402

libvirt.registerErrorHandler(lambda *_: None, None)


def snapshot(domain, name, flags=0, parent=None, created=None):
    xml = f"<name>{name}</name>"
    if parent is not None:
        xml += f"<parent><name>{parent}</name></parent>"
    if created is not None:
        inner = domain.XMLDesc(0)
        xml += f"<creationTime>{created}</creationTime><state>running</state>{inner}"
    return domain.snapshotCreateXML(f"<domainsnapshot>{xml}</domainsnapshot>", flags)


def any_calls(uri, seed, count):
    chosen = random.Random(int(seed))
    connection = libvirt.open(uri)
    domain = connection.lookupByName("test")
    for number in range(int(count)):
        names = domain.snapshotListNames()
        points = [one.getName() for one in domain.listAllCheckpoints()]
        some = chosen.choice(names) if names else "none"
        point = chosen.choice(points) if points else "none"
        kind = chosen.randrange(12)
        try:
            if kind < 3:
                snapshot(domain, f"s{number}")
            elif kind == 3:
                domain.snapshotLookupByName(some).delete(chosen.choice([0, 1, 2]))
            elif kind == 4:
                domain.revertToSnapshot(domain.snapshotLookupByName(some))
            elif kind == 5:
                below = chosen.choice(names) if names else None
                snapshot(domain, some, chosen.choice([1, 3]), below, number + 1)
            elif kind < 9:
                xml = f"<domaincheckpoint><name>c{number}</name></domaincheckpoint>"
                domain.checkpointCreateXML(xml, 0)
            elif kind == 9:
                domain.checkpointLookupByName(point).delete(chosen.choice([0, 1, 4]))
            elif kind == 10:
                chosen.choice([domain.destroy, domain.create])()
            else:
                other = chosen.choice(["one", "two"])
                xml = (f"<domain type='test'><name>{other}</name><memory>8192</memory>"
                       "<os><type>hvm</type></os></domain>")
                defined = connection.defineXML(xml)
                if chosen.randrange(2):
                    defined.undefine()
        except libvirt.libvirtError:
            pass
    connection.close()


def overlap(uri, rounds):
    connections = [libvirt.open(uri), libvirt.open(uri)]
    domain = connections[0].lookupByName("test")
    for number in range(int(rounds)):
        for level in range(6):
            snapshot(domain, f"r{number}-{level}")
        gate = threading.Barrier(2)

        def delete(connection, level):
            mine = connection.lookupByName("test")
            found = mine.snapshotLookupByName(f"r{number}-{level}")
            gate.wait()
            try:
                found.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN)
            except libvirt.libvirtError:
                pass

        threads = [threading.Thread(target=delete, args=pair)
                   for pair in zip(connections, [number % 3, 2 + number % 2])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if domain.snapshotNum():
            domain.snapshotCurrent().delete(1)
        while domain.snapshotNum():
            domain.snapshotLookupByName(domain.snapshotListNames()[0]).delete(1)


def until(uri, prefix):
    number = 0
    try:
        domain = libvirt.open(uri).lookupByName("test")
        while True:
            name = f"{prefix}-{number}"
            made = snapshot(domain, name)
            print("created", name, flush=True)
            if number % 2:
                made.delete(0)
                print("deleted", name, flush=True)
            number += 1
    except libvirt.libvirtError:
        pass


def listed(uri):
    def tree(moments):
        found = {}
        for one in moments:
            try:
                found[one.getName()] = one.getParent().getName()
            except libvirt.libvirtError:
                found[one.getName()] = None
        return found

    domains = {}
    for domain in libvirt.open(uri).listAllDomains():
        snapshots = domain.listAllSnapshots()
        current = [one.getName() for one in snapshots if one.isCurrent()]
        domains[domain.name()] = {
            "active": bool(domain.isActive()),
            "snapshots": tree(snapshots),
            "current": current[0] if current else None,
            "checkpoints": tree(domain.listAllCheckpoints()),
        }
    print(json.dumps(domains))


def cost(direct, uri, count):
    filler = libvirt.open(direct).lookupByName("test")
    for number in range(filler.snapshotNum(), int(count)):
        snapshot(filler, f"f{number}")
    domain = libvirt.open(uri).lookupByName("test")
    snapshot(domain, "first").delete(0)
    took = []
    for number in range(20):
        start = time.monotonic()
        made = snapshot(domain, f"t{number}")
        middle = time.monotonic()
        made.delete(0)
        took += [middle - start, time.monotonic() - middle]
    print(f"{count} snapshots: {1000 * statistics.median(took):.1f} ms a call")


def hold(uri):
    connection = libvirt.open(uri)
    print("held", flush=True)
    signal.pause()
    connection.close()


if __name__ == "__main__":
    does = {"any": any_calls, "overlap": overlap, "until": until, "list": listed,
            "cost": cost, "hold": hold}
    does[sys.argv[1]](*sys.argv[2:])
