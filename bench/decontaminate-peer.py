"""Peer of the decontamination benchmark: pydivsufsort finds the common substrings of two files, by the byte.

Answers a request for a folder with the processor time that it took and the number of places in the corpus."""

import json
import resource
import sys
import time

from pydivsufsort import common_substrings

print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    with open(f"{request['folder']}/corpus.txt", "rb") as file:
        corpus = file.read()
    with open(f"{request['folder']}/references.txt", "rb") as file:
        references = file.read()
    started = time.process_time()
    found = common_substrings(corpus, references, limit=request["bytes"])
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "found": len({start for start, _, _ in found})}), flush=True)
