"""The inputs of the experiments of this directory, in DIR: prepare.py DIR.

Twelve photographs of Debian's opencv-doc, all of one size, and six pages with text.
"""
import os
import shutil
import sys

import cv2
import numpy

PHOTOGRAPHS = "/usr/share/doc/opencv-doc/examples/data"
NAMES = ["aero1", "aloeL", "apple", "baboon", "board", "building", "butterfly", "fruits",
         "graf1", "home", "lena", "messi5", "orange", "rubberwhale1", "starry_night"]
WORDS = "the quick brown fox jumps over the lazy dog while seven sailors watch a storm".split()


def photographs(directory):
    count = 0
    for name in NAMES:
        for extension in (".jpg", ".png"):
            path = os.path.join(PHOTOGRAPHS, name + extension)
            image = cv2.imread(path) if os.path.exists(path) else None
            if image is None or count == 12:
                continue
            count += 1
            target = os.path.join(directory, "%02d.jpg" % count)
            cv2.imwrite(target, cv2.resize(image, (1200, 900), interpolation=cv2.INTER_AREA))
            break
    if count < 12:
        sys.exit("prepare.py: only %d photographs in %s: install opencv-doc" % (count, PHOTOGRAPHS))


def pages(directory):
    for page in range(1, 7):
        image = numpy.full((500, 900, 3), 255, numpy.uint8)
        for line in range(6):
            start = (page * 5 + line * 3) % len(WORDS)
            text = " ".join((WORDS + WORDS)[start:start + 6])
            cv2.putText(image, text, (30, 70 + 70 * line), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
        cv2.imwrite(os.path.join(directory, "page%d.png" % page), image)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: prepare.py DIR")
    target = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    inputs = os.path.join(target, "in")
    os.makedirs(inputs)
    photographs(inputs)
    with open(os.path.join(target, "pairs.txt"), "w") as pairs:
        for i in range(1, 13):
            pairs.write("in/%02d.jpg out/%02d.png\n" % (i, i))
    for name in sorted(os.listdir(here)):
        if name.endswith(".json") or name in ("pool.py", "executor.py"):
            shutil.copy(os.path.join(here, name), target)
    # Apart from the photographs: tesseract's alone.
    pages_in = os.path.join(target, "pages")
    os.makedirs(pages_in)
    pages(pages_in)
    with open(os.path.join(target, "pages.txt"), "w") as names:
        for page in range(1, 7):
            names.write("pages/page%d.png\n" % page)


if __name__ == "__main__":
    main()
