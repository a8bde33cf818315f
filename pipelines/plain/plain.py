#!/usr/bin/python3
"""plain.py: a pipeline as a script, with no thought of faults.

  plain.py IN OUT [ROUNDS [PAUSE_MS]]

Each file of IN is read, inverted, written beside its name in OUT and renamed; around each item a
child is made, which ends at once. What a call refuses is told on stderr by its errno's name, and the
program goes on with the next item; then it ends with 1.
"""
import errno
import mmap
import os
import sys
import time

INVERTED = bytes(255 - i for i in range(256))


def process(source, target, name):
    with open(os.path.join(source, name), "rb") as file:
        data = file.read()
    room = bytearray(1 << 20)
    pages = mmap.mmap(-1, 1 << 20)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    part = os.path.join(target, f".{name}.part")
    with open(part, "wb", buffering=0) as file:
        file.write(data.translate(INVERTED))
    os.rename(part, os.path.join(target, name))
    del room
    pages.close()


def main(arguments):
    if len(arguments) < 2:
        print(__doc__.splitlines()[2].strip(), file=sys.stderr)
        return 64
    source, target = arguments[:2]
    rounds = int(arguments[2]) if len(arguments) > 2 else 1
    pause = int(arguments[3]) / 1000 if len(arguments) > 3 else 0
    done = errors = 0
    for _ in range(rounds):
        for name in sorted(os.listdir(source)):
            try:
                process(source, target, name)
                done += 1
            except (OSError, MemoryError) as error:
                errors += 1
                number = getattr(error, "errno", None)
                what = errno.errorcode.get(number, type(error).__name__)
                print(f"plain: {name}: {what}", file=sys.stderr, flush=True)
            time.sleep(pause)
    print(f"{done} done, {errors} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
