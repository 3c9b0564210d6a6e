#!/bin/bash
# A pretraining run on the GPUs of one machine with torch, a process for each:
#   training/launch/torchrun.sh RECIPE DATA WORKDIR [ARGUMENTS…]
#
# PROCESSES: how many (default: all GPUs, or 1). On several machines start this on each, with
# NODES, NODE_RANK and MASTER (host:port of the first). A killed run is started again and
# resumes from its last checkpoint, at most RESTARTS times.
set -eu

recipe="$1" data="$2" workdir="$3"
shift 3
found=$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')
exec env KERAS_BACKEND=torch torchrun \
    --nnodes "${NODES:-1}" \
    --node-rank "${NODE_RANK:-0}" \
    --rdzv-backend c10d \
    --rdzv-endpoint "${MASTER:-127.0.0.1:29500}" \
    --nproc-per-node "${PROCESSES:-$found}" \
    --max-restarts "${RESTARTS:-3}" \
    -m mimzoo_training.cli pretrain "$recipe" --data "$data" --workdir "$workdir" "$@"
