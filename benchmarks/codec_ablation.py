"""What discriminator, balancer and spectral loss are worth to EQcodec: the same weights trained on under one budget of steps.

    python benchmarks/codec_ablation.py --data DIR[,DIR] --init-from RUN/best.safetensors --out OUT [--steps 400]

Prints a Markdown table: SNR in dB on the validation windows (records of the `dev` split) at levels 1, 2, 4 and 8, and the time a
step took. Runs that were interrupted go on where they stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from seislatent import training

JUDGED = {"real": 1.0, "fake": 1.0, "fool": 0.3, "features": 0.3}
VARIANTS = {
    "waveform": {},
    "waveform, spectrum": {"weights.spectrum": 0.1},
    "waveform, spectrum, balancer": {"weights.spectrum": 0.1, "balanced": True},
    "waveform, spectrum, discriminator": {"weights.spectrum": 0.1, **{f"weights.{k}": v for k, v in JUDGED.items()}},
    "waveform, spectrum, discriminator, balancer": {
        "weights.spectrum": 0.1,
        **{f"weights.{k}": v for k, v in JUDGED.items()},
        "balanced": True,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--init-from", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    rows = []
    for name, system in VARIANTS.items():
        folder = args.out / name.replace(", ", "-")
        recipe = {"steps": args.steps, "validate_every": args.steps, "warmup_steps": 100, "monitor": "snr_db"}
        recipe |= {"rates.encoder": 1e-4, "rates.decoder": 2e-4}
        if "weights.real" in system:
            recipe["rates.discriminator"] = 3e-4
        training.train(
            "codec/eqcodec_small", args.data.split(","), folder, system=system, recipe=recipe, init_from=args.init_from
        )
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        judged = [line for line in lines if line["group"] == "validation"][-1]
        pace = [line["steps_per_second"] for line in lines if line["group"] == "train"]
        rows.append([name, *(f"{judged[f'snr_db/{k}']:.2f}" for k in (1, 2, 4, 8)), f"{1000 / sorted(pace)[len(pace) // 2]:.0f}"])
    print("| terms | level 1 | level 2 | level 4 | level 8 | ms a step |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
