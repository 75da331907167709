"""Reads random pieces of random files below a mount, by pread and through mmap, cold and warm, and compares each with the
same piece of the known content.

usage: random-reads.py KNOWN MOUNTED SEED (COUNT | STOP-FILE)

Prints how many pieces were compared; the first difference or failed read ends it with exit code 1.
"""
import mmap
import os
import random
import sys

known, mounted, seed, until = sys.argv[1:]
count = int(until) if until.isdigit() else None
choose = random.Random(seed)
names = sorted(
    os.path.relpath(os.path.join(directory, name), known)
    for directory, _, files in os.walk(known)
    for name in files
    if os.path.getsize(os.path.join(directory, name)) > 0
)


def piece(size):
    start = choose.randrange(size)
    if choose.random() < 0.3:
        start -= start % 4096
    return start, choose.choice([1, 17, 4095, 4096, 65536, 1 << 20])


def compare(name):
    with open(os.path.join(known, name), "rb") as right, open(os.path.join(mounted, name), "rb") as found:
        size = os.fstat(right.fileno()).st_size
        start, length = piece(size)
        if choose.random() < 0.3:
            os.posix_fadvise(found.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        wanted = os.pread(right.fileno(), length, start)
        if choose.random() < 0.5:
            got, how = os.pread(found.fileno(), length, start), "pread"
        else:
            with mmap.mmap(found.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                got, how = mapped[start : start + length], "mmap"
        if got != wanted:
            sys.exit(f"{how} of {name} at {start}, {length} bytes: differs")


done = 0
while done < count if count is not None else not os.path.exists(until):
    compare(choose.choice(names))
    done += 1
print(done)
