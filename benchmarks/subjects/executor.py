"""Thumbnails by concurrent.futures.ProcessPoolExecutor: executor.py IN OUT."""
import concurrent.futures
import os
import sys

import cv2


def thumbnail(name):
    image = cv2.imread(os.path.join(sys.argv[1], name))
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(os.path.join(sys.argv[2], name[:-4] + ".png"), small)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        list(executor.map(thumbnail, sorted(os.listdir(sys.argv[1]))))
