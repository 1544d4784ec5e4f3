#!/bin/sh
# Makes /tmp/libkaizenwalk.so of /tmp/walk.c, by the C compiler that /tmp/compiler.txt pins: base images have none.
set -eu
python3 -m venv /tmp/compiler
/tmp/compiler/bin/pip install --no-cache-dir --disable-pip-version-check --no-compile --no-deps --require-hashes \
  -r /tmp/compiler.txt
# As hack/environment.py does; for any processor of this architecture, without fused operations: sums keep their bits.
ZIG_GLOBAL_CACHE_DIR=/tmp/zig /tmp/compiler/bin/python -m ziglang cc -O3 -mcpu=baseline -ffp-contract=off -shared -fPIC \
  -o /tmp/libkaizenwalk.so /tmp/walk.c
rm -rf /tmp/compiler /tmp/zig
