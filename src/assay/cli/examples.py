"""One command of each verb that could be given as it stands, but for names of files and folders."""

EXAMPLES = {
    "compare": "assay compare transformer++ rwkv6 --size 300k --seeds 3",
    "gate": "assay gate rwkv7 --against transformer++ --budget 8h",
    "train": "assay train mamba2 --size 1M --tokens 200k --lr 1e-3",
    "list": "assay list architectures",
    "describe": "assay describe rwkv6 --size 1M",
    "new": "assay new my_mixer",
    "measure": "assay measure runs/mine --only recall",
    "report": "assay report runs/mine",
    "check": "assay check my_mixer.py",
    "audit": "assay audit my_model.py",
    "generate": "assay generate runs/mine --prompt 'def main' --max-tokens 40",
    "import": "assay import hf:models/gpt2 --out runs/gpt2",
    "export": "assay export runs/mine --to exported",
}
