"""How often reading and generating are timed: document 004's protocol, and a smaller one that says so."""

from assay.records.inference import InferenceProtocol

DOCUMENT_004 = InferenceProtocol(
    name="document 004",
    prefill_tokens=1024,
    prefill_repeats=100,
    generated_tokens=256,
    generation_repeats=10,
    contexts=[256, 512, 1024, 2048, 4096, 8192],
    context_repeats=5,
    step_tokens=8,
    training_batch=8,
)
"""The document asks for contexts to 2,048, and elsewhere for 8K; how often each is read it leaves open."""
QUICK = InferenceProtocol(
    name="quick",
    prefill_tokens=128,
    prefill_repeats=5,
    generated_tokens=16,
    generation_repeats=3,
    contexts=[32, 64, 128, 256],
    context_repeats=3,
    step_tokens=4,
    training_batch=8,
)
