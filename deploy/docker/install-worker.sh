#!/bin/sh
# Installs a worker's packages into the virtual environment on PATH: install-worker.sh cpu|cuda REQUIREMENT…
# PACKAGES names its site-packages.
set -eu
torch=$1
shift
if [ "$torch" = cpu ]; then
    # Alone and first, so that the wrong one is refused before gigabytes of CUDA are fetched with it.
    pip install --constraint constraints.txt --no-deps torch
    case $(pip show torch | sed -n 's/^Version: //p') in
        *+cpu) ;;
        *)
            echo "pip found torch's build for CUDA: give it the index of the CPU build, by --build-arg PIP_EXTRA_INDEX_URL=…" >&2
            exit 1
            ;;
    esac
fi
pip install --constraint constraints.txt "$@"
# 0.4 GB for building and testing these libraries, which no part of Lathe does. TorchInductor needs torch's own headers.
rm -rf "$PACKAGES"/tensorflow/include "$PACKAGES"/torch/test "$PACKAGES"/pyarrow/include "$PACKAGES"/pyarrow/tests
