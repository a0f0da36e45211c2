#!/usr/bin/env bash
# One stage of the papers' tables, on one GPU: what it needs it is given, what it leaves lies in OUT.
#
#     benchmarks/gpu/reproduce.sh STAGE [--seed N] [--smoke]
#
# OUT     where rows (gpu-STAGE-seedN.json) and weights (bf16, files of at most 16 MiB) go; required
# IN      what earlier stages left in their OUT; default: OUT
# WHEELS  a folder of wheels to install first, without a network, ours among them; default: nothing
# PYTHON  default: python3
# LIMIT   seconds after which the stage is ended; default: 570
# INTAGLIO_DATA_ROOT  {mnist,fashion_mnist,kmnist_t10k,cifar10,cifar100}.npz; not for --smoke
#
# Stages, in order: {mnist,fashion}-{plain,ini,ini-paper};
# cifar10-{base,ast,base-students,ast-students,standard,composite,small-pools}.
# EPOCHS and CLONE_EPOCHS change how far a stage is shortened; its row says what they were.
# small-pools leaves a result of benchmarks.composite_pools, whose clones have no CLONE_EPOCHS.
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
    sed -n '4,17s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
: "${OUT:?say in OUT where rows and weights go}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if [[ -n ${WHEELS:-} ]]; then
    # --no-deps: with --target pip does not see what is installed, and would look for all of it.
    "$python" -m pip install --quiet --no-index --no-deps --target "$work/site" "$WHEELS"/*.whl
    export PYTHONPATH="$PYTHONPATH:$work/site"
fi
# The server imports under -P, which drops the working directory and keeps PYTHONPATH.
timeout --signal=INT "${LIMIT:-570}" \
    "$python" -P -m benchmarks.gpu.run_stage "$@" --out "$OUT" --in "${IN:-$OUT}" --work "$work"
