#!/usr/bin/env bash
# Brings cuBLAS's headers into build/cublas/include, for test/cuda/api/blas_api_test.cpp. They come out of
# NVIDIA's package for Python, which is 400 MB for its libraries; nothing of it is kept or published.
set -euo pipefail
version=13.1.1.3
folder="$(cd "$(dirname "$0")/.." && pwd)/build/cublas"
[ ! -e "$folder/include/cublasLt.h" ] || exit 0
mkdir -p "$folder/include"
trap 'rm -f "$folder"/*.whl' EXIT
python3 -m pip download --quiet --retries 1 --no-deps --dest "$folder" "nvidia-cublas==$version"
python3 - "$folder" << 'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(folder.glob('*.whl'))) as wheel:
    for name in wheel.namelist():
        if '/include/cublas' in name:
            (folder / 'include' / pathlib.Path(name).name).write_bytes(wheel.read(name))
PYTHON
