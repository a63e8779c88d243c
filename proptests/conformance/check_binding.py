#!/usr/bin/python3
"""Run python-libvirt's own tests against `momentlog serve`.

    check_binding.py PROGRAM

The source of the installed version is fetched with pip into a directory that is
removed; nothing of it is kept.  In its tests of connection, domain, checkpoint
and snapshot, ``test:///default`` is replaced by the socket of
``PROGRAM -c test:///default serve``.  Exit status 0 if all of them pass, or if
the binding or its source is not to be had: then a line says so.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time

TESTS = ["test_conn", "test_domain", "test_domain_checkpoint", "test_domain_snapshot"]
URI = "test:///default"
START_WAIT = 20         # seconds


def skip(why):
    print(f"skipped: {why}")
    sys.exit(0)


def fetch(directory):
    """The source of the installed binding, unpacked."""
    try:
        import libvirt
    except ImportError:
        skip("python's libvirt is not installed")
    number = libvirt.getVersion()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    fetched = subprocess.run(
        ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--dest", directory, f"libvirt-python=={version}"],
        capture_output=True, text=True)
    archives = [name for name in os.listdir(directory) if name.endswith(".tar.gz")]
    if fetched.returncode or not archives:
        last = fetched.stderr.strip().splitlines()[-1:] or ["pip says nothing"]
        skip(f"the source of libvirt-python {version} cannot be fetched: {last[0]}")
    with tarfile.open(os.path.join(directory, archives[0])) as archive:
        # Names and kinds of an archive are not to be trusted: only the wanted files are read.
        return {os.path.basename(one.name): archive.extractfile(one).read().decode()
                for one in archive if one.isfile() and re.fullmatch(r"[^/]+/tests/test_\w+\.py", one.name)}


def main(program):
    with tempfile.TemporaryDirectory() as directory:
        sources = fetch(directory)
        socket = os.path.join(directory, "sock")
        place = f"test+unix:///default?socket={socket}"
        for name in TESTS:
            source = sources[f"{name}.py"]
            if URI not in source:
                sys.exit(f"{name} does not open {URI}")
            with open(os.path.join(directory, f"{name}.py"), "w", encoding="utf-8") as file:
                file.write(source.replace(URI, place))
        server = subprocess.Popen([program, "-c", URI, "serve", "--socket", socket],
                                  stdout=subprocess.DEVNULL)
        try:
            begun = time.monotonic()
            while not os.path.exists(socket):
                if server.poll() is not None or time.monotonic() - begun > START_WAIT:
                    sys.exit("the server does not start")
                time.sleep(0.01)
            ran = subprocess.run([sys.executable, "-m", "unittest", "-v", *TESTS],
                                 cwd=directory, stderr=subprocess.PIPE, text=True)
        finally:
            server.terminate()
            server.wait()
    print(ran.stderr, end="")
    if ran.returncode or not re.search(r"^Ran [1-9]\d* tests? ", ran.stderr, re.M):
        sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(os.path.abspath(sys.argv[1]))
