#!/usr/bin/env python3
"""Compare a directory with an expected tree, entry by entry. A process of its own: whoever serves the mount must not read it.

usage: check-tree.py EXPECTED.jsonl DIRECTORY [--readers N] [--skip FIELD,FIELD...]

EXPECTED.jsonl holds one object a line, as tests/support/model.ts describes: strings are byte strings, one character a byte.
Files are read by N threads in a shuffled order: first some places at random, then from start to end; both must agree.
Prints each difference (at most 30) and a closing count; the exit code is 1 if there is any.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import stat
import sys

TYPES = {
    stat.S_IFDIR: "dir",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
PIECE = 1 << 20


def byte_string(raw):
    return raw.decode("latin-1")


def describe(full):
    """Everything but the content."""
    found = os.lstat(full)
    kind = TYPES[stat.S_IFMT(found.st_mode)]
    entry = {
        "type": kind,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": list(divmod(found.st_mtime_ns, 10**9)),
        "xattrs": {
            byte_string(os.fsencode(name)): os.getxattr(full, name, follow_symlinks=False).hex()
            for name in os.listxattr(full, follow_symlinks=False)
        },
    }
    if kind == "file":
        entry.update(size=found.st_size, nlink=found.st_nlink, inode=found.st_ino)
    elif kind == "symlink":
        entry["target"] = byte_string(os.readlink(full))
    elif kind in ("char", "block"):
        entry["rdev"] = [os.major(found.st_rdev), os.minor(found.st_rdev)]
    return entry


def walk(root):
    """Path to description, of everything below root and root itself."""
    found = {}
    waiting = [(b"/", root)]
    while waiting:
        path, full = waiting.pop()
        entry = describe(full)
        found[byte_string(path)] = (entry, full)
        if entry["type"] == "dir":
            for name in os.listdir(full):
                waiting.append((path.rstrip(b"/") + b"/" + name, full + b"/" + name))
    return found


def content_digest(full, size, seed):
    """SHA-256, or a sentence about what went wrong."""
    try:
        file = os.open(full, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    try:
        places = random.Random(seed)
        samples = []
        for _ in range(min(4, size // 5000)):
            offset = places.randrange(size)
            samples.append((offset, os.pread(file, places.randrange(1, 20000), offset)))
        digest = hashlib.sha256()
        offset = 0
        while piece := os.pread(file, PIECE, offset):
            digest.update(piece)
            for at, sample in samples:
                part = piece[max(0, at - offset):at + len(sample) - offset] if at + len(sample) > offset else b""
                start = max(0, offset - at)
                if sample[start:start + len(part)] != part:
                    return f"a read at {at} and one from the start differ"
            offset += len(piece)
        return digest.hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    finally:
        os.close(file)


def read_contents(found, readers):
    """Adds the digest to each file's description."""
    files = [(path, entry, full) for path, (entry, full) in found.items() if entry["type"] == "file"]
    random.Random(len(files)).shuffle(files)
    with concurrent.futures.ThreadPoolExecutor(readers) as pool:
        jobs = [(entry, pool.submit(content_digest, full, entry["size"], path)) for path, entry, full in files]
        for entry, job in jobs:
            entry["sha256"] = job.result()


def differences(wanted, found, skip):
    inodes = {}
    for path in sorted(wanted.keys() | found.keys()):
        if path not in found:
            yield f"missing  {path!r}"
            continue
        if path not in wanted:
            yield f"extra    {path!r}"
            continue
        entry = found[path][0]
        for field, value in wanted[path].items():
            if field in skip or field in ("path", "link") or value is None:
                continue
            if entry.get(field) != value:
                yield f"differs  {path!r} {field}: want {str(value)[:100]} found {str(entry.get(field))[:100]}"
        link = wanted[path].get("link")
        if link is not None and "inode" in entry and "link" not in skip:
            if inodes.setdefault(("name", link), entry["inode"]) != entry["inode"]:
                yield f"differs  {path!r} inode: not the same as {link!r}"
            if inodes.setdefault(("inode", entry["inode"]), link) != link:
                yield f"differs  {path!r} inode: shared with {inodes[('inode', entry['inode'])]!r}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("expected")
    parser.add_argument("directory")
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--skip", default="")
    options = parser.parse_args()
    with open(options.expected, encoding="ascii") as lines:
        wanted = {entry["path"]: entry for entry in map(json.loads, lines)}
    found = walk(os.fsencode(os.path.abspath(options.directory)))
    read_contents(found, options.readers)
    found_differences = list(differences(wanted, found, set(options.skip.split(","))))
    for line in found_differences[:30]:
        print(line)
    print(f"{len(wanted)} entries wanted, {len(found)} found, {len(found_differences)} differences")
    sys.exit(1 if found_differences else 0)


main()
