#!/usr/bin/env bash
# Installs the peers into an environment of their own: ONNX Runtime, OpenVINO with nncf, CTranslate2, PyTorch and llama.cpp's Python package (built
# from source for this processor). usage: bench/peers/setup.sh DIR
set -euo pipefail
dir=${1:?usage: bench/peers/setup.sh DIR}
python3 -m venv "$dir"
"$dir/bin/pip" install -q numpy onnx onnxruntime openvino nncf ctranslate2 torch gguf tokenizers safetensors
CMAKE_ARGS="-DGGML_NATIVE=ON" "$dir/bin/pip" install -q --no-binary llama-cpp-python llama-cpp-python
