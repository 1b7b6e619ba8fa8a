"""Peer of the formats bench: loads a model and an adapter from their folders, and answers the logits of token ids.

One JSON request a line: `model`, `adapter` (a folder or null), `ids`.
"""

import json
import sys
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

warnings.filterwarnings("ignore")


def answer(request):
    # Every weight must be found in the files, and each file's weights in the model.
    model, loading = AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32, output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading[kind], f"{kind}: {loading[kind]}"
    if request["adapter"] is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(model, request["adapter"])
        missing = [str(each.message) for each in caught if "missing adapter keys" in str(each.message)]
        assert not missing, missing
    ids = torch.tensor(request["ids"])
    with torch.inference_mode():
        logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    # A prompt's positions come first.
    return {"logits": logits[:, -ids.shape[1] :].flatten().tolist()}


print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
