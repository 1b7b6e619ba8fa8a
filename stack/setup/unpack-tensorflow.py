"""Unpacks the libraries and C headers of TensorFlow's wheel and the files of NVIDIA's: unpack-tensorflow.py WHEELS FOLDER.

TensorFlow looks for the CUDA libraries in ../nvidia/PART/lib, seen from its own.
"""

import os
import shutil
import sys
import zipfile

LIBRARIES = ("tensorflow/libtensorflow_cc.so.2", "tensorflow/libtensorflow_framework.so.2")
HEADERS = ("tensorflow/c/", "tensorflow/core/platform/", "tsl/platform/", "xla/tsl/c/")
# What XLA runs and reads while it compiles for a card.
CUDA_TOOLS = ("nvidia/cuda_nvcc/bin/", "nvidia/cuda_nvcc/nvvm/libdevice/")


def target_of(name: str) -> str | None:
    if name in LIBRARIES:
        return os.path.join("lib", os.path.basename(name))
    include = "tensorflow/include/"
    if name.endswith(".h") and name.startswith(tuple(include + prefix for prefix in HEADERS)):
        return os.path.join("include", name[len(include) :])
    if name.startswith(CUDA_TOOLS) or (name.startswith("nvidia/") and "/lib/" in name):
        return name
    return None


def unpack(wheel: str, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            target = None if entry.is_dir() else target_of(entry.filename)
            if target is None:
                continue
            path = os.path.join(folder, target)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(entry) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if "/bin/" in entry.filename:
                os.chmod(path, 0o755)


def main(wheels: str, folder: str) -> None:
    for name in sorted(os.listdir(wheels)):
        unpack(os.path.join(wheels, name), folder)


main(sys.argv[1], sys.argv[2])
