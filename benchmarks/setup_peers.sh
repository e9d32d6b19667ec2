#!/usr/bin/env bash
# Makes the environment of the peers, which the project itself never imports.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m venv .venv-peers
.venv-peers/bin/pip install -q "torch>=2.9,<3" "torchvision>=0.24,<1" "timm>=1.0.20,<2" \
  "safetensors>=0.6,<0.9" "lightly>=1.6,<2"
