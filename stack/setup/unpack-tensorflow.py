"""Unpacks the shared libraries and the C headers of a TensorFlow wheel: unpack-tensorflow.py WHEEL FOLDER."""

import os
import shutil
import sys
import zipfile

LIBRARIES = ("tensorflow/libtensorflow_cc.so.2", "tensorflow/libtensorflow_framework.so.2")
HEADERS = ("tensorflow/c/", "tensorflow/core/platform/", "tsl/platform/", "xla/tsl/c/")


def target_of(name: str) -> str | None:
    if name in LIBRARIES:
        return os.path.join("lib", os.path.basename(name))
    include = "tensorflow/include/"
    if name.endswith(".h") and name.startswith(tuple(include + prefix for prefix in HEADERS)):
        return os.path.join("include", name[len(include) :])
    return None


def main(wheel: str, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            target = target_of(name)
            if target is None:
                continue
            path = os.path.join(folder, target)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


main(sys.argv[1], sys.argv[2])
