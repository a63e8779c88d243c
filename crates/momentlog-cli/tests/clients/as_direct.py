"""Two ends of libvirt's protocol, of which one may be another user's, as the first word says.

    as_direct.py libvirt URI      a stream, events and keepalive with libvirt's test driver; prints what came
    as_direct.py serve PATH       answers one client's call: the same descriptors, and a long reply behind them
    as_direct.py ask PATH         calls it with 32 descriptors, and prints what came back, and as whom it was seen
"""

import hashlib
import os
import socket
import struct
import sys
import tempfile
import threading
import time

DESCRIPTORS = 32
LONG = 20 << 20
REPLY, CALL_WITH_FDS, REPLY_WITH_FDS = 1, 4, 5


def libvirt_client(uri):
    # libvirt notes each answer to a ping there.
    notes = tempfile.NamedTemporaryFile()
    os.environ["LIBVIRT_LOG_FILTERS"] = "1:rpc.keepalive"
    os.environ["LIBVIRT_LOG_OUTPUTS"] = f"1:file:{notes.name}"
    import libvirt

    libvirt.virEventRegisterDefaultImpl()

    def loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()
    connection = libvirt.open(uri)
    print("keepalive:", connection.setKeepAlive(1, 30))
    domain = connection.lookupByName("test")
    stream = connection.newStream(0)
    kind = domain.screenshot(stream, 0, 0)
    image = b""
    while piece := stream.recv(1 << 16):
        image += piece
    stream.finish()
    print("stream:", kind, len(image), hashlib.sha256(image).hexdigest())
    came = threading.Semaphore(0)
    events = []

    def note(_connection, domain, event, detail, _opaque):
        events.append((domain.name(), event, detail))
        came.release()

    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, note, None)
    for change in [domain.suspend, domain.resume, domain.destroy, domain.create]:
        change()
        came.acquire(timeout=60)
    print("events:", events)
    # Without answers, libvirt hangs up after 30 pings.
    while connection.isAlive() and notes.read().count(b"Got keepalive response") < 3:
        notes.seek(0)
        time.sleep(0.1)
    print("alive:", connection.isAlive())
    notes.close()
    sys.stdout.flush()
    os._exit(0)


def read(end, length):
    data = b""
    while len(data) < length:
        piece = end.recv(min(1 << 20, length - len(data)))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(end):
    """Returns the header and the payload of a message, and the files that come with it."""
    (length,) = struct.unpack(">I", read(end, 4))
    header = struct.unpack(">IIiiII", read(end, 24))
    payload = read(end, length - 28)
    files = []
    if header[3] in (CALL_WITH_FDS, REPLY_WITH_FDS):
        (count,) = struct.unpack(">I", payload[:4])
        for _ in range(count):
            _, [one], _, _ = socket.recv_fds(end, 1, 1)
            files.append(one)
    return header, payload, files


def send(end, kind, payload, files=()):
    header = struct.pack(">IIiiII", 0x20008086, 1, 4711, kind, 1, 0)
    end.sendall(struct.pack(">I", 28 + len(payload)) + header + payload)
    for one in files:
        socket.send_fds(end, [b"\0"], [one])


def content(files):
    return [os.pread(one, 100, 0).decode() for one in files]


def serve(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    print("serving", flush=True)
    end, _ = listener.accept()
    _, uid, gid = struct.unpack("iii", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    _, payload, files = receive(end)
    send(end, REPLY_WITH_FDS, payload, files)
    send(end, REPLY, f"{uid} {gid} ".encode() + b"x" * LONG)
    end.recv(1)


def ask(path):
    end = socket.socket(socket.AF_UNIX)
    end.connect(path)
    files = []
    for number in range(DESCRIPTORS):
        file = tempfile.TemporaryFile(buffering=0)
        file.write(f"file {number}".encode())
        files.append(file)
    send(end, CALL_WITH_FDS, struct.pack(">I", DESCRIPTORS), [file.fileno() for file in files])
    _, _, back = receive(end)
    print("descriptors:", len(back), content(back) == content([file.fileno() for file in files]))
    _, payload, _ = receive(end)
    uid, gid, rest = payload.split(b" ", 2)
    print("reply:", len(rest), rest.strip(b"x") == b"")
    print("seen as:", uid.decode(), gid.decode())


{"libvirt": libvirt_client, "serve": serve, "ask": ask}[sys.argv[1]](sys.argv[2])
